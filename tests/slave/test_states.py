"""Whatever fails, a slave is in one named state, tries again with pauses, and gets there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from sides import TAR, MasterSide, SlaveSide, chain, in_trouble, served
from stores import head_in, make_store
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.error import DNSLookupError, NoRouteError
from twisted.internet.error import TimeoutError as LateError

from tarfailover import errors
from tarfailover.errors import TarFailoverError
from tarfailover.master.protocol import MasterProtocol
from tarfailover.slave import pull, status
from tarfailover.slave.copy import Copy
from tarfailover.slave.pauses import Pauses
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.status import kind
from tarfailover.wire import messages as m

pytestmark = pytest.mark.load

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)
MADE: dict[type[TarFailoverError], tuple[Callable[[], TarFailoverError], str]] = {
    errors.TarFailoverError: (lambda: TarFailoverError("why"), status.FAILED),
    errors.ConfigError: (lambda: errors.ConfigError("why"), status.FAILED),
    errors.FormatError: (lambda: errors.FormatError("why", 7, "a file"), status.FAILED),
    errors.ContentError: (lambda: errors.ContentError("why"), status.FAILED),
    errors.ConflictError: (lambda: errors.ConflictError("/a", "why", "b"), status.FAILED),
    errors.NotFoundError: (lambda: errors.NotFoundError("why"), status.FAILED),
    errors.StoreError: (lambda: errors.StoreError("why"), status.FAILED),
    errors.NotAStoreError: (lambda: errors.NotAStoreError("why"), status.FAILED),
    errors.UnsupportedStoreError: (lambda: errors.UnsupportedStoreError("why"), status.FAILED),
    errors.DamagedStoreError: (lambda: errors.DamagedStoreError("why"), status.FAILED),
    errors.NoHeadError: (lambda: errors.NoHeadError("why"), status.FAILED),
    errors.StoreLockedError: (lambda: errors.StoreLockedError("why"), status.FAILED),
    errors.SegmentMissingError: (lambda: errors.SegmentMissingError("why"), status.FAILED),
    errors.StoreIOError: (lambda: errors.StoreIOError("why"), status.FAILED),
    errors.BlobMissingError: (lambda: errors.BlobMissingError("why"), status.FAILED),
    errors.LinkError: (lambda: errors.LinkError("why"), status.FAILED),
    errors.ProtocolError: (lambda: errors.ProtocolError("why"), status.FAILED),
    errors.PeerError: (lambda: errors.PeerError(4711, "why"), status.FAILED),
    errors.DeadlineError: (lambda: errors.DeadlineError("idle", 30, "why"), status.STALLED),
    errors.ConnectionLostError: (lambda: errors.ConnectionLostError("why"), status.STALLED),
    errors.DivergedError: (lambda: errors.DivergedError("why"), status.DIVERGED),
    errors.TlsError: (lambda: errors.TlsError("why"), status.FAILED),
}

CODES = {
    m.ErrorCode.PROTOCOL: status.FAILED,
    m.ErrorCode.VERSION: status.REFUSED,
    m.ErrorCode.NOT_ALLOWED: status.REFUSED,
    m.ErrorCode.UNKNOWN_TYPE: status.FAILED,
    m.ErrorCode.TOO_LARGE: status.FAILED,
    m.ErrorCode.NOT_READY: status.REFUSED,
    m.ErrorCode.HEAD_GONE: status.STALLED,
    m.ErrorCode.SEGMENT_GONE: status.STALLED,
    m.ErrorCode.DAMAGED: status.FAILED,
    m.ErrorCode.BUSY: status.REFUSED,
    m.ErrorCode.GOING_AWAY: status.STALLED,
    m.ErrorCode.DEADLINE: status.STALLED,
    m.ErrorCode.INTERNAL: status.FAILED,
    m.ErrorCode.BLOB_GONE: status.FAILED,
    m.ErrorCode.NO_BLOBS: status.REFUSED,
    4711: status.FAILED,
    65535: status.FAILED,
}


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> MasterSide:
    return served(rig, make_store(tmp_path / "store", {TAR: SAMPLES}, [HEAD.segment]))


@pytest.fixture
def slave(rig: Rig, tmp_path: Path) -> SlaveSide:
    return SlaveSide(rig, tmp_path / "copy")


def all_errors(root: type[TarFailoverError] = TarFailoverError) -> Iterator[type[Any]]:
    yield root
    for each in root.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from all_errors(each)


def test_no_error_is_left_out() -> None:
    assert set(MADE) == set(all_errors())
    assert set(CODES) > set(m.ErrorCode)


def gets_there(slave: SlaveSide, master: MasterSide) -> None:
    """Without a restart, within the longest pause."""
    slave.rig.pass_time(61, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == HEAD
    assert not slave.fatal
    slave.stop()
    master.close()
    assert not slave.rig.delayed


@pytest.mark.parametrize("error", MADE)
@pytest.mark.parametrize("where", ["head", "commit"])
def test_each_error_of_a_cycle(
    slave: SlaveSide,
    master: MasterSide,
    monkeypatch: pytest.MonkeyPatch,
    error: type[TarFailoverError],
    where: str,
) -> None:
    made, state = MADE[error]

    def failing(*_: object) -> Deferred[Any]:
        if where == "head":
            return fail(made())
        raise made()

    with monkeypatch.context() as patched:
        patched.setattr(SlaveProtocol if where == "head" else Copy, where, failing)
        if where == "commit":
            failing.__name__ = where
        slave.start()
        in_trouble(slave, state, "why")
        assert slave.service.status.kinds[kind(made())] == slave.service.status.failures
    gets_there(slave, master)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("question", ["_on_hello", "_on_head", "_on_list", "_on_get"])
def test_each_error_that_a_master_answers(
    slave: SlaveSide,
    master: MasterSide,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    question: str,
) -> None:
    def refusing(self: MasterProtocol, request: int, _: object) -> None:
        self._answer(request, m.Error(code, "no"))

    with monkeypatch.context() as patched:
        patched.setattr(MasterProtocol, question, refusing)
        slave.start()
        in_trouble(slave, CODES[code], "no (error ")
    gets_there(slave, master)


@pytest.mark.parametrize(
    "error", [RefusedError(), DNSLookupError("no such name"), LateError(), NoRouteError()]
)
def test_each_way_in_which_no_connection_is_made(
    rig: Rig,
    slave: SlaveSide,
    master: MasterSide,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rig, "_answer", lambda connector: connector._failed(error))
        slave.start()
        in_trouble(slave, status.STALLED, "no connection to 127.0.0.1:8023")
    gets_there(slave, master)


FAULTS = [RuntimeError("can't start new thread"), MemoryError(), AttributeError("a bug")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("name", ["meet", "lacking", "_take", "_check", "commit"])
def test_a_fault_of_a_thread_or_of_its_pool(
    slave: SlaveSide, master: MasterSide, fault: Exception, name: str
) -> None:
    run = slave.service._in_thread

    def failing(function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        if function.__name__ == name:
            return fail(fault)
        return run(function, *args, **named)

    slave.service._in_thread = failing
    slave.start()
    in_trouble(slave, status.FAILED, type(fault).__name__)
    slave.service._in_thread = run
    gets_there(slave, master)


def test_a_fault_while_an_answer_is_worked_on(
    slave: SlaveSide, master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as what it is, and not as a connection that was lost."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(pull.Pull, "_item", broken)
        slave.start()
        in_trouble(slave, status.FAILED, "RuntimeError: a bug")
    gets_there(slave, master)


def test_pauses_grow_to_the_longest_and_begin_anew() -> None:
    exact = Pauses(0.5, 3.0, lambda seconds: seconds)
    assert [exact.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    exact.reset()
    assert exact.next() == 0.5
    assert Pauses(8.0, 3.0, lambda seconds: seconds).next() == 3


def test_no_two_pauses_are_the_same() -> None:
    found = [Pauses(1.0, 3.0).next() for _ in range(100)]
    assert len(set(found)) == 100
    assert all(0 <= each < 2 for each in found)


# what is shown between two attempts


def test_connecting_is_shown_while_a_connection_is_made(rig: Rig, slave: SlaveSide) -> None:
    rig.answers = False
    slave.start()
    assert (slave.state, slave.service.status.why) == (status.CONNECTING, "")
    rig.pass_time(10.1)
    assert slave.state == status.STALLED
    rig.pass_time(1.1)  # Twisted 22.10 doubles even the first pause
    assert slave.state == status.CONNECTING
    assert slave.service.status.why.startswith("again, after no connection to 127.0.0.1:8023")
    rig.pass_time(10)
    assert slave.state == status.STALLED
    slave.stop()


def test_connecting_is_shown_until_the_master_has_answered(
    rig: Rig, slave: SlaveSide, master: MasterSide
) -> None:
    slave.service.startService()
    rig.until(lambda: bool(rig.links), "a connection")
    rig.link.master.held = True
    rig.settle()
    assert slave.state == status.CONNECTING
    rig.link.master.held = False
    gets_there(slave, master)


@pytest.mark.parametrize("error", [errors.DivergedError("why"), errors.TlsError("why")])
def test_what_a_connection_does_not_mend_is_shown_on(
    rig: Rig,
    slave: SlaveSide,
    master: MasterSide,
    monkeypatch: pytest.MonkeyPatch,
    error: TarFailoverError,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SlaveProtocol, "head", lambda *_: fail(error))
        slave.start()
        rig.pass_time(60)
        assert len(rig.attempts) > 3
        assert len(slave.history) == 1
    gets_there(slave, master)


def test_a_long_poll_that_is_lost_does_not_hide(
    rig: Rig, slave: SlaveSide, master: MasterSide
) -> None:
    """Half open: no byte comes any more, and nobody says so."""
    slave.start()
    rig.pass_time(1)
    assert slave.state == status.IN_SYNC
    rig.link.master.held = rig.link.slave.held = True
    rig.answers = False
    rig.pass_time(51, step=1)
    assert slave.state in (status.STALLED, status.CONNECTING)
    assert "deadline answer of 50 s" in slave.service.status.trouble
    rig.answers = True
    gets_there(slave, master)


def test_a_master_that_is_not_ready_is_asked_again_soon(
    rig: Rig, slave: SlaveSide, master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def not_ready(self: MasterProtocol, request: int, _: object) -> None:
        asked.append(rig.seconds())
        self._answer(request, m.Error(m.ErrorCode.NOT_READY, "no head"))

    with monkeypatch.context() as patched:
        patched.setattr(MasterProtocol, "_on_head", not_ready)
        slave.start()
        rig.pass_time(60)
    pauses = [b - a for a, b in pairwise(asked)]
    assert 0.2 < pauses[0] < 1
    assert pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) < 5.2
    assert len(asked) < 25
    assert len(rig.links) == 1
    gets_there(slave, master)


# an end in the middle


def test_stopped_with_an_attempt_planned_after_a_cycle_that_went_well(
    rig: Rig, slave: SlaveSide, master: MasterSide
) -> None:
    """The connection was lost while the head was committed: no attempt outlives the slave."""
    slave.service.startService()
    rig.until(lambda: slave.state == status.SYNCING, "syncing")
    rig.until(lambda: any(job[1].__name__ == "commit" for job in slave.work._jobs), "the commit")
    rig.link.cut()
    rig.settle()
    assert slave.head == HEAD
    slave.stop()
    assert not rig.delayed
    master.close()


def test_stopped_in_a_pause(
    rig: Rig, slave: SlaveSide, master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            SlaveProtocol, "head", lambda *_: fail(errors.PeerError(m.ErrorCode.NOT_READY, "no"))
        )
        slave.start()
        slave.stop()
    assert not rig.delayed
    master.close()
