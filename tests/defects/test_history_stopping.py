"""Oak's history of bugs in stopping: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from leaks import Leftovers
from links import Port, Rig
from planted import BOTH, found
from services import Master, until
from sides import MasterProgram, RawSlave, SlaveSide, chain, large, raw_masters, served, store_of
from standbys import RawStandby
from stores import head_in
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ReconnectingClientFactory

from tarfailover.access.names import Names
from tarfailover.master import service as master_service
from tarfailover.master.oak import OakConnection
from tarfailover.master.service import MasterService
from tarfailover.slave import service as slave_service
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.scrubbing import Scrubbing
from tarfailover.watchdog import Watchdog
from tarfailover.wire.oak.requests import GetHead, GetSegment
from tarfailover.workers import Workers

pytestmark = pytest.mark.load

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


def through(rig: Rig) -> tuple[RawStandby, Any]:
    """A standby that came in by the door."""
    assert rig.master is not None
    peer = RawStandby()
    link = rig.join(peer, rig.master())
    peer.ask(GetHead())
    rig.settle()
    return peer, link


# OAK-4058, 4083: hangs and races


@BOTH
def test_oak_4058_a_stop_waits_for_no_client(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not read holds it up for `deadline.drain`, and no longer."""
    if planted:
        monkeypatch.setattr(MasterService, "_abort", lambda *_: None)
    samples = large(40)
    program = MasterProgram(rig, store_of(tmp_path / "s", samples)).start()
    peer, link = through(rig)
    link.master.held = True
    peer.ask(*(GetSegment(each.segment) for each in samples))
    rig.settle()
    program.service.stopService().addBoth(program.stopped.append)
    rig.pass_time(program.service.config.deadline_drain + 0.1)
    with found(planted):
        assert program.stopped and not link.alive
    link.cut()
    rig.pass_time(5)
    assert not rig.delayed


@BOTH
@pytest.mark.parametrize("moment", ["connecting", "between two attempts", "in a cycle"])
def test_oak_4083_nothing_begins_after_a_stop(
    planted: bool, moment: str, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be reconnected went on beside what took it down."""
    if planted:
        monkeypatch.setattr(SlaveFactory, "stop", lambda self: self._connector.disconnect())
    masters = raw_masters(rig)
    if moment == "connecting":
        rig.answers = False
    elif moment == "between two attempts":
        rig.master = None
    slave = SlaveSide(rig, tmp_path / "copy", retry_initial=1.0).start()
    if moment == "in a cycle":
        masters[0].welcome()
        rig.settle()
        assert slave.service._busy
    slave.stop()
    attempts = len(rig.attempts)
    rig.pass_time(30, step=1)
    with found(planted):
        assert len(rig.attempts) == attempts
        assert not rig.delayed
    ReconnectingClientFactory.stopTrying(slave.service._factory)


# OAK-4737, 4884, 5106: what a stop left behind


async def _is_reached(port: int) -> bool:
    try:
        made = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), RawSlave())
    except ConnectError:
        return False
    made.transport.abortConnection()
    await until(lambda: made.lost is not None, "the end of the connection")
    return True


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_4737_a_port_is_free_when_the_stop_is_over(
    planted: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-4737, 4884: a stop had begun when it said that it was over, and the socket stayed."""
    master = Master(store)
    async with master:
        number, port = master.port, master.service.port
        assert port is not None and await _is_reached(number)
        if planted:
            monkeypatch.setattr(port, "stopListening", lambda: succeed(None), raising=False)
    with found(planted):
        assert not await _is_reached(number)
    monkeypatch.undo()
    await maybeDeferred(port.stopListening)


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_5106_no_thread_is_left_when_the_stop_is_over(
    planted: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On either side."""
    left: list[Workers] = []
    if planted:

        def forget(self: Workers, _: float) -> Deferred[None]:
            left.append(self)
            return succeed(None)

        monkeypatch.setattr(Workers, "stop", forget)
    before = Leftovers.now().threads
    async with Master(store) as master, master.slave(store.parent / "copy") as slave:
        await slave.in_sync(HEAD)
    with found(planted):
        assert Leftovers.now().threads <= before
    monkeypatch.undo()
    for each in left:
        await each.stop(5.0)


# OAK-5522: a stop ended at the first exception


def _raises(*_: object) -> None:
    raise RuntimeError("what nobody foresaw")


def _until_one_raises(_: object, *steps: Callable[[], Any]) -> Deferred[Any]:
    begun = [step() for step in steps]
    return DeferredList([each for each in begun if isinstance(each, Deferred)])


MASTER: dict[str, tuple[Any, str]] = {
    "watchdog": (Watchdog, "stop"),
    "client": (OakConnection, "end"),
    "names": (Names, "stop"),
    "port": (Port, "stopListening"),
}


@BOTH
@pytest.mark.parametrize("part", MASTER)
def test_oak_5522_a_master_stops_all_of_its_parts(
    planted: bool,
    part: str,
    rig: Rig,
    store: Path,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if planted:
        monkeypatch.setattr(master_service, "take", _until_one_raises)
    before = Leftovers.now()
    program = MasterProgram(rig, store).start()
    others = [through(rig)[1], through(rig)[1]]
    kind, name = MASTER[part]
    monkeypatch.setattr(kind, name, _raises)
    follower = program.service._follower
    assert follower is not None
    with contextlib.suppress(RuntimeError):
        program.service.stopService().addBoth(program.stopped.append)
    rig.pass_time(5)
    with found(planted):
        assert program.stopped
        assert not any(link.alive for link in others)
        assert follower._closed
        assert part == "port" or rig.master is None
        assert any(line.startswith("critical a step of the stop failed") for line in log)
    monkeypatch.undo()
    for link in others:
        link.cut()
    rig.settle()
    follower.close()
    program.service.factory.snapshot.release()  # type: ignore[union-attr]
    assert not Leftovers.now().left_since(before)


SLAVE: dict[str, tuple[Any, str]] = {
    "watchdog": (Watchdog, "stop"),
    "connection": (SlaveFactory, "stop"),
    "scrubbing": (Scrubbing, "stop"),
}


@BOTH
@pytest.mark.parametrize("part", SLAVE)
def test_oak_5522_a_slave_stops_all_of_its_parts(
    planted: bool,
    part: str,
    rig: Rig,
    store: Path,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if planted:
        monkeypatch.setattr(slave_service, "take", _until_one_raises)
    before = Leftovers.now()
    master = served(rig, store)
    slave = SlaveSide(rig, store.parent / "copy").start()
    kind, name = SLAVE[part]
    monkeypatch.setattr(kind, name, _raises)
    slave.begin_to_stop()
    rig.settle()
    with found(planted):
        assert slave.stopped and not slave.fatal
        assert slave.service.copy is None
        assert any(line.startswith("critical a step of the stop failed") for line in log)
    monkeypatch.undo()
    ReconnectingClientFactory.stopTrying(slave.service._factory)
    slave.service._keeper.close()
    master.factory.snapshot.release()
    master.follower.close()
    assert not Leftovers.now().left_since(before)
