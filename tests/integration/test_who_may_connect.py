"""Allowed addresses between a real master and real slaves, in plain text and with TLS."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from services import Master, until
from sides import chain, store_of
from tls_made import Certs

from tarfailover.access import names
from tarfailover.access.ranges import address
from tarfailover.slave import status

Settings = dict[str, Any]
ALLOWED = [
    "127.0.0.1",
    "::1,localhost",
    "127.0.0.0-127.0.0.2",
    "126.0.0.1,127.0.0.0/8",
]
QUIET = {"retry_initial": 60.0, "retry_max": 60.0}


@pytest.fixture(params=["plain", "tls"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Settings, Settings]:
    """The settings of both sides."""
    if request.param == "plain":
        return {}, {}
    certs = Certs(tmp_path / "certs")
    return dict(certs.shows("good/master")), {"tls_ca": certs.path("good/ca.pem")}


@pytest.mark.parametrize("allowed", ALLOWED)
@pytest_twisted.ensureDeferred
async def test_who_is_allowed_is_served(tmp_path: Path, allowed: str) -> None:
    store = store_of(tmp_path / "original", chain(3))
    async with (
        Master(store, allowed_client_ip_ranges=allowed) as master,
        master.slave(tmp_path / "copy") as slave,
    ):
        await slave.in_sync()


@pytest_twisted.ensureDeferred
async def test_who_is_not_allowed_is_cut_off_before_tls_and_hears_what_it_may_be(
    tmp_path: Path, link: tuple[Settings, Settings]
) -> None:
    store = store_of(tmp_path / "original", chain(3))
    ours, theirs = link
    async with (
        Master(store, allowed_client_ip_ranges="127.0.0.2,::1,fd00::/8", **ours) as master,
        master.slave(tmp_path / "copy", **QUIET, **theirs) as slave,
    ):
        await slave.in_state(status.STALLED)
        assert "is not among its allowed_client_ip_ranges" in slave.service.status.why
        assert master.service.gate is not None
        assert master.service.gate.refused == {"address": 1}
        assert not master.service.gate.protocols


@pytest_twisted.ensureDeferred
async def test_a_name_that_gets_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a slave's does that moves; until then it is refused, without a restart of either."""
    found = {"oak2": "10.0.0.1"}
    looked: Callable[[str], object] = lambda name: frozenset([address(found[name])])  # noqa: E731
    monkeypatch.setattr(names, "look_up", looked)
    store = store_of(tmp_path / "original", chain(3))
    async with (
        Master(store, allowed_client_ip_ranges="oak2", names_refresh=0.05) as master,
        master.slave(tmp_path / "copy", retry_max=0.05) as slave,
    ):
        gate = master.service.gate
        assert gate is not None
        await until(lambda: gate.refused["address"] > 1, "refusals")
        found["oak2"] = "127.0.0.1"
        await slave.in_sync()


def looking() -> list[str]:
    """The threads that look up names."""
    return [each.name for each in threading.enumerate() if "tarfailover-names" in each.name]


@pytest_twisted.ensureDeferred
async def test_a_resolver_that_hangs_holds_up_neither_start_nor_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    over = threading.Event()
    monkeypatch.setattr(names, "look_up", lambda _: over.wait(30) and frozenset())
    store = store_of(tmp_path / "original", chain(3))
    settings: Settings = {"allowed_client_ip_ranges": "oak2,127.0.0.1", "deadline_names": 0.1}
    async with (
        Master(store, **settings) as master,
        master.slave(tmp_path / "copy") as slave,
    ):
        await slave.in_sync()
    assert "warn a look-up of a host name still hangs; it is left behind" in log
    over.set()
    await until(lambda: not looking(), "the threads' end")


@pytest_twisted.ensureDeferred
async def test_another_list_while_the_names_of_the_first_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    """Settings read again at the wrong moment do not keep the master from listening."""
    over = threading.Event()
    monkeypatch.setattr(names, "look_up", lambda _: over.wait(30) and frozenset())
    master = Master(store_of(tmp_path / "s", chain(3)), allowed_client_ip_ranges="oak2")
    service = master.service
    service.startService()
    await until(lambda: service.gate is not None, "the look-ups")
    assert service.port is None
    service.reconfigure(dataclasses.replace(service.config, allowed_client_ip_ranges="127.2"))
    await until(lambda: service.port is not None, "listening")
    over.set()
    async with master.slave(tmp_path / "copy", retry_max=0.05) as slave:
        await slave.in_state(status.STALLED)
        config = dataclasses.replace(service.config, allowed_client_ip_ranges="127.0.0.1")
        service.reconfigure(config)
        await slave.in_sync()
    await service.stopService()
    assert any("127.2 is read as 127.0.0.2, as Oak reads it" in line for line in log)
    await until(lambda: not looking(), "the threads' end")


def has_ipv6() -> bool:
    """Whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest_twisted.ensureDeferred
async def test_over_ipv6(tmp_path: Path) -> None:
    store = store_of(tmp_path / "original", chain(3))
    settings: Settings = {"interface": "::1", "allowed_client_ip_ranges": "::1-::2"}
    async with (
        Master(store, **settings) as master,
        master.slave(tmp_path / "copy", master_host="::1") as slave,
    ):
        await slave.in_sync()
        assert master.service.factory is not None
        assert len(master.service.factory.served) == 1
