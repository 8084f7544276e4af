"""Who gets through to the master: addresses, rates, and strangers beside clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Link, Rig
from sides import HELLO, MasterSide, RawSlave, chain, store_of
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tarfailover.access import room as rooms
from tarfailover.access.names import Names
from tarfailover.access.ranges import address
from tarfailover.access.room import LEAVING
from tarfailover.master.gate import Gate
from tarfailover.wire import messages as m

SAMPLES = chain(3)


class Gated(MasterSide):
    """A master behind its gate."""

    def __init__(self, rig: Rig, store: Path, **settings: Any) -> None:
        super().__init__(rig, store, **settings)
        self.names = Names((), rig.clock, rig.work(), 60.0, 5.0)  # type: ignore[arg-type]
        self.gate = Gate(self.factory, self.factory.config, self.names, self.factory)

    def come(self, host: str) -> tuple[RawSlave, Link] | None:
        """A connection from `host`; None if it was refused."""
        peer = IPv6Address("TCP", host, 9) if ":" in host else IPv4Address("TCP", host, 9)
        protocol: Any = self.gate.buildProtocol(peer if host else UNIXAddress(None))
        if protocol is None:
            return None
        slave = RawSlave()
        return slave, self.rig.join(slave, protocol)

    def client(self, host: str) -> tuple[RawSlave, Link]:
        """A client from `host`."""
        came = self.come(host)
        assert came is not None
        came[0].ask(HELLO)
        self.rig.settle()
        return came

    def settled(self) -> bool:
        """Whether nothing is counted any more."""
        counted = len(self.gate.strangers), +self.gate._clients, self.gate._leaving
        return counted == (0, {}, 0) and not self.gate.protocols and not self.factory.served


Make = Callable[..., Gated]


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Make]:
    made: list[Gated] = []
    store = store_of(tmp_path / "store", SAMPLES)

    def make(**settings: Any) -> Gated:
        made.append(Gated(Rig(), store, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
        assert each.settled()


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.0.0.1", False),
        ("fd00::1", True),
        ("fd00::2%eth0", False),
        ("192.168.0.7", True),
        ("", True),
    ],
)
def test_only_the_addresses_allowed(
    gated: Make, log: list[str], monkeypatch: pytest.MonkeyPatch, host: str, allowed: bool
) -> None:
    master = gated(allowed_client_ip_ranges="10.0.0.0/8,fd00::1,oak2")
    named = frozenset({address("192.168.0.7")})
    monkeypatch.setattr(master.names, "addresses", named)
    came = master.come(host)
    assert (came is not None) is allowed
    assert master.gate.refused == ({} if allowed else {"address": 1})
    told = f"warn {host.partition('%')[0]} is not in allowed_client_ip_ranges; refused"
    assert (told in log) is not allowed


def test_too_often_from_one_address(gated: Make, log: list[str]) -> None:
    master = gated(connect_rate=2, connect_burst=3)
    assert [master.come("10.0.0.1") is not None for _ in range(5)] == [True] * 3 + [False] * 2
    assert master.come("10.0.0.2") is not None
    assert all(master.come("") is not None for _ in range(5)), "a Unix socket has no address"
    master.rig.pass_time(1.01)
    assert [master.come("10.0.0.1") is not None for _ in range(3)] == [True, True, False]
    assert master.gate.refused == {"rate": 3}
    assert any("10.0.0.1 connects too often (connect_rate, connect_burst)" in line for line in log)


def test_strangers_never_take_the_place_of_clients(gated: Make) -> None:
    master = gated(max_clients=2, max_strangers=3)
    _, first = master.client("10.0.0.1")
    for each in range(20):
        assert master.come(f"10.0.1.{each}") is not None
        master.rig.settle()
    assert len(master.gate.strangers) == 3
    assert master.gate.refused == {"crowd": 17}
    slave, second = master.client("10.0.0.2")
    assert isinstance(slave.take()[0], m.Welcome)
    assert first.alive and second.alive
    third, link = master.client("10.0.0.3")
    assert third.error().code == m.ErrorCode.BUSY and not link.alive
    first.cut()
    assert isinstance(master.client("10.0.0.3")[0].take()[0], m.Welcome)


def test_a_slow_slave_outlives_a_flood_from_few_addresses(gated: Make) -> None:
    """It needs a while between its connection and its HELLO, as over a long line with TLS."""
    master = gated(max_strangers=10)
    came = master.come("10.0.0.1")
    assert came is not None
    for each in range(200):
        assert master.come(f"10.0.1.{each % 5}") is not None
        master.rig.settle()
    came[0].ask(HELLO)
    master.rig.settle()
    assert isinstance(came[0].take()[0], m.Welcome)


def test_a_slave_of_before_outlives_a_flood_from_many_addresses(gated: Make) -> None:
    master = gated(max_strangers=10)
    _, link = master.client("10.0.0.1")
    link.cut()
    came = master.come("10.0.0.1")
    assert came is not None
    for each in range(200):
        master.come(f"10.0.{1 + each // 250}.{each % 250}")
        master.rig.settle()
    came[0].ask(HELLO)
    master.rig.settle()
    assert isinstance(came[0].take()[0], m.Welcome)


def test_no_more_are_cut_off_at_a_time_than_files_are_kept_for(gated: Make) -> None:
    master = gated(max_strangers=5)
    came = [master.come(f"10.0.{n // 250}.{n % 250}") is not None for n in range(5 + 2 * LEAVING)]
    assert came == [True] * (5 + LEAVING) + [False] * LEAVING
    master.rig.settle()
    assert master.come("10.0.0.1") is not None


def test_clients_of_one_address(gated: Make) -> None:
    master = gated(max_clients_per_address=2)
    (_, first), _ = master.client("fd00::1"), master.client("fd00::2")
    slave, link = master.client("fd00::3")
    error = slave.error()
    assert error.code == m.ErrorCode.BUSY and not link.alive
    assert error.text == "2 clients from this address are connected, more are not allowed"
    assert isinstance(master.client("fd00:0:0:1::1")[0].take()[0], m.Welcome)
    assert isinstance(master.client("")[0].take()[0], m.Welcome)
    first.cut()
    assert isinstance(master.client("fd00::3")[0].take()[0], m.Welcome)


def test_a_flood_of_garbage_is_told_seldom(gated: Make, log: list[str]) -> None:
    master = gated(connect_burst=1000)
    for each in range(300):
        came = master.come(f"10.0.0.{each % 250}")
        assert came is not None
        came[0].transport.write(b"GET / HTTP/1.1\r\n\r\n")
        master.rig.settle()
        assert came[0].error().code == m.ErrorCode.TOO_LARGE
    assert master.factory.errors == {m.ErrorCode.TOO_LARGE: 300}
    assert sum("a frame of" in line for line in log) <= 20


def test_few_files_leave_few_places(
    gated: Make, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    del log
    limit = rooms.RESERVED + LEAVING + 2 + 8
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    master = gated()
    assert master.factory.fit() == (6, 2)
    for each in range(6):
        assert isinstance(master.client(f"10.0.0.{each}")[0].take()[0], m.Welcome)
    slave, _ = master.client("10.0.0.6")
    assert slave.error().text == "6 clients are connected, more are not allowed"
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))
    assert master.factory.fit() == (1000, 500), "no limit"
