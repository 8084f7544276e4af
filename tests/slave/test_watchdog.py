"""A slave that stopped to get on, whatever it was at: noticed, named, and begun anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from sides import TAR, MasterSide, SlaveSide, chain, served
from stores import head_in, make_store
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from tarfailover.errors import DeadlineError
from tarfailover.slave import status
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.pull import Pull
from tarfailover.watchdog import Wait, Watchdog

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)
SECONDS = 10.0
"""The watchdog's deadline here."""
SETTINGS = {"deadline_progress": SECONDS, "interval": 2.0, "poll_wait": 5.0}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", {TAR: SAMPLES}, [HEAD.segment])


def finish(slave: SlaveSide, *masters: MasterSide) -> None:
    slave.stop()
    for master in masters:
        master.close()
    assert not slave.rig.delayed


class Whys(list[str]):
    """All that a slave said of itself."""

    def __init__(self, slave: SlaveSide) -> None:
        super().__init__()
        told = slave.service.status
        told.watchers.append(lambda: self.append(f"{told.state}: {told.why}"))

    def stuck(self) -> list[str]:
        """What the watchdog found."""
        return [each for each in self if each.startswith("stalled: deadline progress")]


# the watchdog alone


class Watched:
    """What the tested watchdog looks at."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.mark: object = 0
        self.stuck: list[tuple[str, float]] = []
        self.gone_on = 0
        self.fault: Exception | None = None
        self.dog = Watchdog(self.clock, self._look, self._stuck, self._going)

    def _look(self) -> Wait:
        if self.fault is not None:
            raise self.fault
        return Wait("a miracle", self.mark, SECONDS)

    def _stuck(self, wait: Wait, seconds: float) -> None:
        self.stuck.append((wait.what, seconds))

    def _going(self) -> None:
        self.gone_on += 1

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)


def test_it_tells_again_and_again_until_it_goes_on() -> None:
    watched = Watched()
    watched.dog.start()
    watched.pass_time(9)
    assert not watched.stuck
    watched.pass_time(21)
    assert watched.stuck == [("a miracle", 10), ("a miracle", 20), ("a miracle", 30)]
    assert watched.gone_on == 0
    watched.mark = 1
    watched.pass_time(9)
    assert (len(watched.stuck), watched.gone_on) == (3, 1)
    watched.pass_time(2)
    assert watched.stuck[-1] == ("a miracle", 10)
    watched.dog.stop()
    watched.dog.stop()
    assert not watched.clock.getDelayedCalls()


def test_whatever_gets_on_is_left_alone() -> None:
    watched = Watched()
    watched.dog.start()
    for turn in range(10):
        watched.pass_time(9)
        watched.mark = turn + 1
    assert (watched.stuck, watched.gone_on) == ([], 0)
    watched.dog.stop()


def test_a_fault_of_its_own_does_not_end_it() -> None:
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(seen.append)
    watched = Watched()
    watched.fault = RuntimeError("blind")
    watched.dog.start()
    watched.pass_time(2)
    watched.fault = None
    watched.pass_time(12)
    globalLogPublisher.removeObserver(seen.append)
    assert len(watched.stuck) == 1
    assert len([each for each in seen if "log_failure" in each]) == 3
    watched.dog.stop()


# a Deferred that never fires, in every wait of a cycle

Plant = Callable[[SlaveSide, pytest.MonkeyPatch], None]


def in_thread(name: str, *, done: bool) -> Plant:
    """The next call of `name` in the thread is not heard of again; whether it is `done`."""

    def plant(slave: SlaveSide, _: pytest.MonkeyPatch) -> None:
        run, lost = slave.service._in_thread, list[object]()

        def losing(function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
            if function.__name__ != name or lost:
                return run(function, *args, **named)
            lost.append(run(function, *args, **named) if done else None)
            return Deferred()

        slave.service._in_thread = losing

    return plant


def in_link(kind: type, name: str) -> Plant:
    """The next call of `kind`'s `name` gives what never fires."""

    def plant(_: SlaveSide, patch: pytest.MonkeyPatch) -> None:
        real, lost = getattr(kind, name), list[object]()

        def losing(self: object, *args: Any) -> Deferred[Any]:
            if lost:
                answer: Deferred[Any] = real(self, *args)
                return answer
            lost.append(None)
            return Deferred()

        patch.setattr(kind, name, losing)

    return plant


PLANTS: dict[str, tuple[Plant, str]] = {
    "meet": (in_thread("meet", done=False), "what is known of the master to be kept"),
    "meet done": (in_thread("meet", done=True), "what is known of the master to be kept"),
    "head": (in_link(SlaveProtocol, "head"), "the answer to HEAD"),
    "pull": (in_link(Pull, "start"), f"the segments of {HEAD}"),
    "list": (in_link(SlaveProtocol, "list"), f"the segments of {HEAD}"),
    "get": (in_link(SlaveProtocol, "get"), f"the segments of {HEAD}"),
    "take": (in_thread("_take", done=False), f"the segments of {HEAD}"),
    "take done": (in_thread("_take", done=True), f"the segments of {HEAD}"),
    "check": (in_thread("_check", done=False), f"the segments of {HEAD}"),
    "commit": (in_thread("commit", done=False), f"{HEAD} to be committed"),
    "commit done": (in_thread("commit", done=True), f"{HEAD} to be committed"),
}


@pytest.mark.parametrize("case", PLANTS)
def test_an_answer_that_never_comes(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    plant, what = PLANTS[case]
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    plant(slave, monkeypatch)
    whys = Whys(slave)
    slave.start()
    rig.pass_time(SECONDS - 1, step=1)
    assert slave.state not in (status.STALLED, status.IN_SYNC)
    rig.pass_time(3, step=1)
    (found,) = whys.stuck()
    assert found == f"stalled: deadline progress of 10 s passed while waiting for {what}"
    rig.pass_time(3, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == HEAD
    assert slave.service.status.kinds["DeadlineError.progress"] == 1
    finish(slave, master)


@pytest.mark.parametrize(
    ("name", "done", "what"),
    [
        ("close", False, "the store to be closed"),
        ("close", True, "the store to be closed"),
        ("open", False, "the store to be opened"),
        ("open", True, "the store to be opened"),
    ],
)
def test_a_store_whose_end_or_beginning_is_never_heard_of(
    rig: Rig, store: Path, tmp_path: Path, name: str, done: bool, what: str
) -> None:
    """No lock stays behind on a store that nobody knows to be open."""
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS).start()
    assert slave.head == HEAD
    in_thread(name, done=done)(slave, pytest.MonkeyPatch())
    whys = Whys(slave)
    slave.service._cycles.cancel()
    rig.pass_time(SECONDS + 3, step=1)
    assert whys.stuck() == [f"stalled: deadline progress of 10 s passed while waiting for {what}"]
    rig.pass_time(5, step=1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


@pytest.mark.parametrize("done", [False, True])
def test_a_start_whose_end_is_never_heard_of(
    rig: Rig, store: Path, tmp_path: Path, done: bool
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    in_thread("open", done=done)(slave, pytest.MonkeyPatch())
    whys = Whys(slave)
    slave.start()
    assert slave.state == status.CONNECTING and not rig.attempts
    rig.pass_time(SECONDS + 2, step=1)
    (found,) = whys.stuck()
    assert found.endswith("while waiting for the store to be opened")
    assert slave.state == status.IN_SYNC
    assert len(rig.attempts) == 1
    finish(slave, master)


def test_a_long_poll_is_no_standstill(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", deadline_progress=3.0, poll_wait=60.0).start()
    rig.pass_time(600, step=1)
    assert slave.history == [status.SYNCING, status.IN_SYNC]
    finish(slave, master)


def test_a_connection_that_nobody_makes(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    whys = Whys(slave)
    with monkeypatch.context() as patched:
        patched.setattr(slave.service._factory, "retry", lambda *_: None)
        slave.start()
        assert not rig.delayed or len(rig.attempts) == 1
    master = served(rig, store)
    rig.pass_time(150, step=1)
    assert not whys.stuck()
    rig.pass_time(20, step=1)
    (found,) = whys.stuck()
    assert found.endswith("while waiting for a connection")
    assert slave.state == status.IN_SYNC
    finish(slave, master)


def test_a_connection_whose_beginning_is_never_heard_of(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    master = served(rig, store)
    with monkeypatch.context() as patched:
        patched.setattr(slave.service._factory, "_ready", lambda *_: None)
        slave.start()
    assert slave.state == status.CONNECTING
    rig.pass_time(175, step=1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


def test_a_tick_that_never_comes(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(
        rig, tmp_path / "copy", deadline_progress=SECONDS, interval=2.0, poll_wait=0.0
    ).start()
    whys = Whys(slave)
    slave.service._ticking.stop()
    cycles = slave.service.status.cycles
    rig.pass_time(11, step=1)
    assert slave.service.status.cycles == cycles
    rig.pass_time(10, step=1)
    (found,) = whys.stuck()
    assert found.endswith("while waiting for the next cycle")
    assert slave.state == status.IN_SYNC
    assert slave.service.status.cycles > cycles + 2
    finish(slave, master)


# a thread that hangs


def hang_in_take(slave: SlaveSide) -> None:
    """The thread hangs as soon as it has segments to store."""
    run = slave.service._in_thread

    def hanging(function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        slave.work.held = slave.work.held or function.__name__ == "_take"
        return run(function, *args, **named)

    slave.service._in_thread = hanging


def test_a_disk_that_hangs_is_told_of_until_it_goes_on(
    rig: Rig, store: Path, tmp_path: Path
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    whys = Whys(slave)
    hang_in_take(slave)
    slave.start()
    rig.pass_time(35, step=1)
    what = "the store's thread, at take"
    assert whys.stuck() == [
        f"stalled: {DeadlineError('progress', seconds, what)}" for seconds in (10, 20, 30)
    ]
    assert slave.state == status.STALLED
    slave.work.held = False
    assert slave.work.turn()
    slave.work.held = True
    rig.pass_time(2, step=1)
    assert slave.state == status.SYNCING
    slave.work.held = False
    rig.settle()
    assert slave.state == status.IN_SYNC
    assert len(rig.links) == 1, "the cycle went on where it was"
    finish(slave, master)


def test_a_disk_that_hangs_for_so_long_that_the_connection_ends(
    rig: Rig, store: Path, tmp_path: Path
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    hang_in_take(slave)
    slave.start()
    rig.link.cut()
    rig.pass_time(100, step=1)
    assert slave.state == status.STALLED
    assert "thread" in slave.service.status.why
    slave.work.held = False
    rig.pass_time(5, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == HEAD
    finish(slave, master)


def test_a_disk_that_hangs_at_the_start(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", **SETTINGS)
    slave.work.held = True
    slave.start()
    assert slave.state == status.CONNECTING
    rig.pass_time(12, step=1)
    assert slave.state == status.STALLED
    assert "the store's thread, at open" in slave.service.status.why
    slave.work.held = False
    rig.pass_time(2, step=1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)
