"""SIGHUP: real processes read their file again, and go on whatever it says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from daemons import Daemon
from sides import chain, store_of

pytestmark = pytest.mark.load

SIDES = ("master", "slave")


def written(path: Path, side: str, **values: str) -> Path:
    lines = [f'mode="{side}"', *(f'{name}="{value}"' for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_read_again(tmp_path: Path) -> None:
    store_of(tmp_path / "store", chain(3))
    files = {side: tmp_path / f"{side}.config" for side in SIDES}
    written(files["master"], "master", store=str(tmp_path / "store"))
    written(files["slave"], "slave", store=str(tmp_path / "copy"))
    with (
        Daemon("tarfailover-master", "--config", files["master"], "--port", 0) as master,
        Daemon("tarfailover-slave", "--config", files["slave"], "--port", master.port) as slave,
    ):
        slave.expect("in sync")
        live = {"master": {"max.clients": "7"}, "slave": {"poll.wait": "1"}}
        for side, daemon in (("master", master), ("slave", slave)):
            values = {"store": str(tmp_path / "elsewhere"), **live[side]}
            written(files[side], side, **values)
            daemon.signal(signal.SIGHUP)
            daemon.expect(r"store: .*elsewhere.* counts after a restart")
            (name,) = live[side]
            daemon.expect(rf"{name}: {live[side][name]}.*, was ")
            files[side].write_text("nonsense")
            daemon.signal(signal.SIGHUP)
            daemon.expect(rf"{side}\.config.*all settings stay as they were")
        slave.stop()
        master.stop()


def test_without_a_file_nothing_is_new(tmp_path: Path) -> None:
    with Daemon.master(store_of(tmp_path / "store", chain(3))) as master:
        assert master.port
        for _ in range(3):
            master.signal(signal.SIGHUP)
            master.expect("settings were read again: nothing is new")
        master.stop()
