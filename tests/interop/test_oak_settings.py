"""What real Oak declares of its own service: none of its properties is unknown here."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from daemons import Daemon
from oak_build import Built
from oak_content import digest_of
from oak_links import has, oak_primary
from oak_peer import Peer

from tarfailover import config
from tarfailover.config import MasterConfig, SlaveConfig

pytestmark = pytest.mark.interop

DECLARED = (
    "OSGI-INF/metatype/"
    "org.apache.jackrabbit.oak.segment.standby.store.StandbyStoreService$Configuration.xml"
)
VALUES = {"Boolean": lambda text: text == "true", "Integer": int, "Long": int}
"""How the default of a property is read; all others are texts."""
LEAST = 9
"""Properties that the oldest release has."""


def declared(built: Built) -> dict[str, Any]:
    """Each property that this release declares, with its default."""
    lib = Path(built.class_path.rpartition(os.pathsep)[2]).parent
    (jar,) = lib.glob("oak-segment-tar-*.jar")
    with zipfile.ZipFile(jar) as archive:
        found = ET.fromstring(archive.read(DECLARED)).iter("AD")
    values = {}
    for each in found:
        value: Any = VALUES.get(each.get("type", ""), str)(each.get("default", ""))
        values[each.get("id", "")] = [value] if "cardinality" in each.keys() else value  # noqa: SIM118
    return values


@pytest.mark.cell("each property that Oak's StandbyStoreService declares: taken by both")
@pytest.mark.parametrize(("kind", "mode"), [(MasterConfig, "primary"), (SlaveConfig, "standby")])
def test_every_property_that_oak_declares(
    oak_built: Built, tmp_path: Path, kind: Any, mode: str
) -> None:
    """A file with all of them, as somebody has it who saved the form without a change."""
    values = declared(oak_built)
    assert len(values) >= LEAST and values["port"] == 8023
    path = tmp_path / "StandbyStoreService.cfg.json"
    path.write_text(json.dumps({**values, "mode": mode}))
    found = config.load(kind, {}, {"config": str(path), "store": "/s"})
    assert (found.mode, found.port) == (mode, 8023)


@pytest.mark.cell("a StandbyStoreService file starts our slave of an Oak primary as it is")
@pytest.mark.parametrize("form", [".config", ".cfg.json"])
def test_a_file_of_a_standby_starts_a_slave(
    oak_built: Built, peer: Peer, tmp_path: Path, form: str
) -> None:
    """All properties are in it, beside those that differ on each machine; Oak speaks TLS."""
    copy, path = tmp_path / "copy", tmp_path / f"StandbyStoreService{form}"
    with peer.open(tmp_path / "store") as live:
        live.fill(seed=1, nodes=20)
        with oak_primary(live, secure="true") as port:
            mine = {"mode": "standby", "port": port, "interval": 1, "secure": True}
            values = {**declared(oak_built), **mine, "standby.autoclean": False}
            written = json.dumps(values) if form == ".cfg.json" else in_felix_form(values)
            path.write_text(written)
            with Daemon("tarfailover-slave", "--config", path, "--store", copy) as slave:
                slave.expect("its certificate is not verified")
                has(slave, live.head())
                slave.stop()
        assert digest_of(copy) == live.digest()


def in_felix_form(values: dict[str, Any]) -> str:
    """As the framework of Oak writes it into a file."""
    letters = {bool: "B", int: "I", str: ""}

    def written(value: Any) -> str:
        if isinstance(value, list):
            return "[ \\\n" + "".join(f'  "{each}", \\\n' for each in value) + "  ]"
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'{letters[type(value)]}"{text}"'

    return "".join(f"{name}={written(value)}\n" for name, value in values.items())
