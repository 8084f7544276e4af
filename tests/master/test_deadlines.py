"""The master's deadlines: judged by bytes where bytes move, and none missing on its disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from links import BUFFER, KERNEL, Link, Rig
from sides import MasterProgram, MasterSide, RawSlave, SlaveSide, chain, large, store_of
from stores import add_heads, head_in, leaf, tar_bytes
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tarfailover.errors import StoreIOError
from tarfailover.master.listings import LISTING_PATIENCE
from tarfailover.slave import status
from tarfailover.store.follower import Follower
from tarfailover.wire import messages as m

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged, line by line."""
    lines: list[str] = []

    def keep(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    yield lines
    globalLogPublisher.removeObserver(keep)


def asked(rig: Rig, tmp_path: Path) -> tuple[MasterSide, RawSlave, Link]:
    """A client that takes nothing of the 8 MB that it asked for, but what a test delivers."""
    samples = large(40)
    master = MasterSide(rig, store_of(tmp_path / "s", samples))
    slave, link = master.welcome()
    link.master.held = True
    slave.ask(m.Get(tuple(each.segment for each in samples)))
    rig.settle()
    assert len(link.master.wire) == KERNEL and len(link.master.pending) > BUFFER
    return master, slave, link


# a slow reader


def test_a_thin_line_is_no_slow_reader(rig: Rig, tmp_path: Path) -> None:
    """20 bytes a second: the kernel alone holds hours of that."""
    master, _, link = asked(rig, tmp_path)
    for _ in range(100):
        rig.pass_time(59, step=59)
        link.master.deliver(1200)
    assert link.alive
    link.cut()
    master.close()


def test_a_byte_a_minute_is_a_slow_reader(rig: Rig, tmp_path: Path) -> None:
    master, _, link = asked(rig, tmp_path)
    for _ in range(59):
        rig.pass_time(1, step=1)
        link.master.deliver(17)
    assert link.alive
    rig.pass_time(2, step=1)
    assert not link.alive
    master.close()


# an unfinished request


def begun(rig: Rig, tmp_path: Path) -> tuple[MasterSide, RawSlave, Link]:
    """A client whose longest request, 64 KB, comes as slowly as a test delivers it."""
    master = MasterSide(rig, store_of(tmp_path / "s", SAMPLES))
    slave, link = master.welcome()
    link.slave.held = True
    slave.ask(m.Get((HEAD.segment,) * m.MAX_IDS))
    rig.settle()
    return master, slave, link


def test_a_request_over_a_thin_line_arrives(rig: Rig, tmp_path: Path) -> None:
    master, slave, link = begun(rig, tmp_path)
    while link.slave.wire:
        rig.pass_time(29, step=29)
        link.slave.deliver(1500)
    rig.settle()
    assert isinstance(slave.take()[-1], m.End)
    link.cut()
    master.close()


def test_a_request_that_trickles_is_given_up(rig: Rig, tmp_path: Path) -> None:
    master, slave, link = begun(rig, tmp_path)
    for _ in range(29):
        rig.pass_time(1, step=1)
        link.slave.deliver(30)
    assert link.alive
    rig.pass_time(3, step=1)
    assert "deadline request of 30 s" in slave.error().text
    assert not link.alive
    master.close()


# the disk


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [(m.Get((HEAD.segment,)), 60), (m.List(HEAD.segment), LISTING_PATIENCE + 60)],
)
def test_a_disk_that_hangs_is_told(
    rig: Rig, tmp_path: Path, request_: m.Request, seconds: float
) -> None:
    master = MasterSide(rig, store_of(tmp_path / "s", SAMPLES))
    slave, link = master.welcome()
    master.work.held = True
    slave.ask(request_)
    rig.pass_time(seconds - 6, step=1)
    assert link.alive
    slave.take()
    rig.pass_time(7, step=1)
    error = slave.take()[-1]
    assert isinstance(error, m.Error)
    assert error == m.Error(
        m.ErrorCode.DEADLINE, "deadline disk of 60 s passed while waiting for the disk of the store"
    )
    assert not link.alive
    master.work.held = False
    master.close()


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "fails"])
def test_a_head_that_may_have_moved_unseen_is_not_served_as_the_head(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """And is served again, without a restart, as soon as the store can be looked at."""
    store = store_of(tmp_path / "s", SAMPLES)
    master = MasterProgram(rig, store, scan_interval=1.0).start()
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.IN_SYNC
    with monkeypatch.context() as patched:
        if hangs:
            master.work.held = True
        else:

            def fails(_: object) -> None:
                raise StoreIOError("data00000a.tar: cannot read: Input/output error")

            patched.setattr(Follower, "refresh", fails)
        rig.pass_time(59, step=1)
        assert slave.state == status.IN_SYNC
        rig.pass_time(5, step=1)
        assert slave.state == status.REFUSED
        why = "the disk does not answer" if hangs else "Input/output error"
        assert "deadline disk of" in slave.service.status.why
        assert why in slave.service.status.why
        new = leaf(50, [HEAD.segment])
        (store / "data00001a.tar").write_bytes(tar_bytes("data00001a.tar", [new]))
        add_heads(store, new.segment)
        master.work.held = False
    rig.pass_time(8, step=0.5)
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(new.segment)
    assert len(rig.links) == 1
    slave.stop()
    master.stop()
    assert not rig.delayed and not master.fatal


def test_a_disk_that_hangs_at_the_start_is_told(rig: Rig, tmp_path: Path, log: list[str]) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES))
    master.work.held = True
    master.start()
    rig.pass_time(62, step=1)
    assert any("while waiting for the store to be opened" in line for line in log)
    master.work.held = False
    rig.settle()
    assert rig.master is not None
    master.stop()


@pytest.mark.parametrize("name", ["_open", "refresh"])
def test_a_look_whose_end_is_never_heard_of(rig: Rig, tmp_path: Path, name: str) -> None:
    """The loop would wait for it for ever."""
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES), scan_interval=1.0)
    run, lost = master.work.run, list[object]()

    def losing(function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        if function.__name__ != name or lost:
            return run(function, *args, **named)
        lost.append(None)
        return Deferred()

    master.service._in_thread = losing
    master.start()
    if master.service.factory is not None:
        master.service.factory.in_thread = losing
    slave = SlaveSide(rig, tmp_path / "copy").start()
    rig.pass_time(59, step=1)
    assert lost
    rig.pass_time(30, step=1)
    assert slave.state == status.IN_SYNC
    assert master.service.looks > 5
    assert master.service.factory is not None and not master.service.factory.blind
    slave.stop()
    master.stop()
    assert not rig.delayed


def test_a_port_that_does_not_close_does_not_keep_the_process(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES)).start()
    monkeypatch.setattr(master.service.port, "stopListening", Deferred)
    master.service.stopService().addBoth(master.stopped.append)
    rig.pass_time(4, step=1)
    assert not master.stopped
    rig.pass_time(1, step=0.5)
    assert master.stopped
    assert not rig.delayed
