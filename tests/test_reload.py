"""Settings read again while a service runs: what counts at once, what later, what not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from sides import MasterProgram, SlaveSide, chain, large, served, store_of
from twisted.internet.address import IPv4Address
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tarfailover.bandwidth import LEAST_RATE
from tarfailover.config import MasterConfig, SlaveConfig, settings
from tarfailover.errors import ConfigError
from tarfailover.master.service import MasterService
from tarfailover.reload import MASTER_LIVE, SLAVE_LIVE, Reload
from tarfailover.slave import status

SAMPLES = chain(4)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged, line by line."""
    lines: list[str] = []

    def keep(event: LogEvent) -> None:
        lines.append(f"{event['log_level'].name} {formatEvent(event)}")

    globalLogPublisher.addObserver(keep)
    yield lines
    globalLogPublisher.removeObserver(keep)


class Service:
    """A service that keeps what it was told."""

    def __init__(self) -> None:
        self.config = SlaveConfig(store=Path("copy"))
        self.fault: Exception | None = None

    def reconfigure(self, config: SlaveConfig) -> None:
        if self.fault is not None:
            raise self.fault
        self.config = config


def read_again(service: Any, **changed: Any) -> None:
    live = MASTER_LIVE if isinstance(service, MasterService) else SLAVE_LIVE
    Reload(service, lambda: dataclasses.replace(service.config, **changed), live)()


def test_what_can_be_changed_is_and_the_rest_waits_for_a_restart(log: list[str]) -> None:
    service = Service()
    read_again(service, interval=1.0, port=9000, master_host="oak2")
    assert service.config == SlaveConfig(store=Path("copy"), interval=1.0)
    assert log == [
        "warn master.host: 'oak2' counts after a restart; until then it is '127.0.0.1'",
        "warn port: 9000 counts after a restart; until then it is 8023",
        "info interval: 1.0, was 5.0",
    ]


def test_nothing_new(log: list[str]) -> None:
    read_again(Service())
    assert log == ["info settings were read again: nothing is new"]


def test_a_bad_file_changes_nothing(log: list[str]) -> None:
    service = Service()
    before = service.config

    def load() -> SlaveConfig:
        raise ConfigError("slave.config, line 3: unknown property")

    Reload(service, load, SLAVE_LIVE)()
    assert service.config is before
    assert log == ["error slave.config, line 3: unknown property; all settings stay as they were"]


@pytest.mark.parametrize("fault", [ConfigError("no"), RuntimeError("a bug")])
def test_a_fault_in_between_ends_nothing(log: list[str], fault: Exception) -> None:
    service = Service()
    service.fault = fault
    read_again(service, interval=1.0)
    assert service.config.interval == 5.0
    assert len(log) == 1


@pytest.mark.parametrize(("kind", "live"), [(MasterConfig, MASTER_LIVE), (SlaveConfig, SLAVE_LIVE)])
def test_what_is_live_exists_and_is_nobodys_identity(kind: Any, live: frozenset[str]) -> None:
    names = {row.field for row in settings(kind)}
    assert live <= names
    assert {each for each in names if each.startswith("deadline_")} <= live
    never = {"store", "port", "repository", "master_host", "accept_new_history", "endpoint"}
    assert not live & (never | {each for each in names if each.startswith(("tls_", "allow_"))})


# the slave


def test_a_slave_asks_as_often_as_it_is_told_meanwhile(rig: Rig, tmp_path: Path) -> None:
    master = served(rig, store_of(tmp_path / "store", SAMPLES))
    slave = SlaveSide(rig, tmp_path / "copy", poll_wait=0.0, interval=3600.0).start()
    told = slave.service.status
    rig.pass_time(10, step=1)
    cycles = told.cycles
    assert cycles <= 2
    read_again(slave.service, interval=2.0)
    rig.pass_time(20, step=1)
    assert 9 <= told.cycles - cycles <= 11
    read_again(slave.service, poll_wait=20.0)
    rig.pass_time(5, step=1)
    cycles = told.cycles
    rig.pass_time(60, step=1)
    assert 2 <= told.cycles - cycles <= 4
    assert len(rig.links) == 1
    slave.stop()
    master.close()
    assert not rig.delayed


def test_deadlines_and_pauses_of_a_slave_count_from_the_next_attempt_on(
    rig: Rig, tmp_path: Path
) -> None:
    rig.answers = False
    slave = SlaveSide(rig, tmp_path / "copy").start()
    read_again(slave.service, deadline_connect=1.0, retry_initial=2.0, retry_max=2.0)
    rig.pass_time(10.1)
    assert slave.state == status.STALLED
    rig.pass_time(30)
    pauses = [b - a for a, b in zip(rig.attempts[1:], rig.attempts[2:], strict=False)]
    assert len(pauses) > 7
    assert all(2.9 < each < 3.2 for each in pauses[2:]), "2 seconds, and 1 for the attempt"
    slave.stop()


def test_the_watchdog_takes_its_deadline_at_once(rig: Rig, tmp_path: Path) -> None:
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.work.held = True
    slave.start()
    read_again(slave.service, deadline_progress=5.0)
    rig.pass_time(7, step=1)
    assert slave.state == status.STALLED
    slave.work.held = False
    rig.settle()
    slave.stop()


# the master


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> Iterator[MasterProgram]:
    program = MasterProgram(rig, store_of(tmp_path / "store", SAMPLES)).start()
    yield program
    program.stop()
    assert not rig.delayed


def test_limits_of_clients_count_at_once(rig: Rig, master: MasterProgram, tmp_path: Path) -> None:
    first = SlaveSide(rig, tmp_path / "first").start()
    read_again(master.service, max_clients=1)
    second = SlaveSide(rig, tmp_path / "second").start()
    assert (first.state, second.state) == (status.IN_SYNC, status.REFUSED)
    read_again(master.service, max_clients=2)
    rig.pass_time(5)
    assert second.state == status.IN_SYNC
    first.stop()
    second.stop()


def test_who_may_connect_counts_from_the_next_connection_on(
    rig: Rig, master: MasterProgram
) -> None:
    gate = master.service.gate
    assert gate is not None

    def allowed(host: str) -> bool:
        made = gate.buildProtocol(IPv4Address("TCP", host, 40_000))
        if made is None:
            return False
        gate.left(made)
        return True

    assert allowed("10.0.0.1") and allowed("10.0.0.2")
    read_again(master.service, allowed_client_ip_ranges="10.0.0.2")
    rig.settle()
    assert not allowed("10.0.0.1")
    assert allowed("10.0.0.2")
    read_again(master.service, connect_rate=1.0, connect_burst=1)
    assert [allowed("10.0.0.2") for _ in range(3)].count(True) <= 1


def test_the_store_is_looked_at_as_often_as_told(rig: Rig, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", SAMPLES)
    master = MasterProgram(rig, store, scan_interval=3600.0).start()
    rig.pass_time(10, step=1)
    assert master.service.looks == 0
    read_again(master.service, scan_interval=1.0)
    rig.pass_time(10, step=1)
    assert 9 <= master.service.looks <= 10
    master.stop()


def test_a_master_that_has_not_begun_is_told_too(rig: Rig, tmp_path: Path) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES))
    master.work.held = True
    master.start()
    read_again(master.service, max_clients=1, allowed_client_ip_ranges="10.0.0.2")
    master.work.held = False
    rig.settle()
    assert master.service.factory is not None and master.service.factory.room.clients == 1
    master.stop()


# rates


def test_a_rate_counts_in_the_middle_of_a_transfer(rig: Rig, tmp_path: Path) -> None:
    """On both sides: 8 MB take two minutes at the least rate, and no time without a limit."""
    store = store_of(tmp_path / "s", large(40))
    for side in ("slave", "master"):
        slow = {"rate_limit": LEAST_RATE}
        master = MasterProgram(rig, store, **(slow if side == "master" else {})).start()
        slave = SlaveSide(rig, tmp_path / side, **(slow if side == "slave" else {})).start()
        rig.pass_time(20, step=0.5)
        assert slave.state == status.SYNCING, side
        read_again(slave.service if side == "slave" else master.service, rate_limit=0)
        rig.pass_time(60, step=0.5)
        assert slave.state == status.IN_SYNC, side
        assert len(slave.service.status.kinds) == 0
        slave.stop()
        master.stop()
