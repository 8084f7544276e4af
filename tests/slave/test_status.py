"""What a slave says of itself: the state for each error, each change told once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from tarfailover.errors import (
    ConnectionLostError,
    DamagedStoreError,
    DeadlineError,
    DivergedError,
    PeerError,
    ProtocolError,
    StoreIOError,
    TarFailoverError,
)
from tarfailover.slave import status
from tarfailover.slave.status import Status, outcome, progress_line
from tarfailover.sync import Progress
from tarfailover.wire.messages import ErrorCode

MIB = 1024 * 1024
DEADLINE = DeadlineError("idle", 30, "the head")


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DivergedError("another"), status.DIVERGED),
        (ConnectionLostError("gone"), status.STALLED),
        (DEADLINE, status.STALLED),
        (ProtocolError("nonsense"), status.FAILED),
        (StoreIOError("full"), status.FAILED),
        (DamagedStoreError("torn"), status.FAILED),
        (TarFailoverError("unforeseen"), status.FAILED),
        (PeerError(99, "of a newer master"), status.FAILED),
    ],
)
def test_each_error_leaves_a_state(error: TarFailoverError, state: str) -> None:
    assert outcome(error) == state


CODES = {
    ErrorCode.PROTOCOL: status.FAILED,
    ErrorCode.VERSION: status.REFUSED,
    ErrorCode.NOT_ALLOWED: status.REFUSED,
    ErrorCode.UNKNOWN_TYPE: status.FAILED,
    ErrorCode.TOO_LARGE: status.FAILED,
    ErrorCode.NOT_READY: status.REFUSED,
    ErrorCode.HEAD_GONE: status.STALLED,
    ErrorCode.SEGMENT_GONE: status.STALLED,
    ErrorCode.DAMAGED: status.FAILED,
    ErrorCode.BUSY: status.REFUSED,
    ErrorCode.GOING_AWAY: status.STALLED,
    ErrorCode.DEADLINE: status.STALLED,
    ErrorCode.INTERNAL: status.FAILED,
    ErrorCode.BLOB_GONE: status.FAILED,
    ErrorCode.NO_BLOBS: status.REFUSED,
}


@pytest.mark.parametrize("code", ErrorCode)
def test_each_answer_of_a_master_leaves_a_state(code: ErrorCode) -> None:
    assert outcome(PeerError(code, "no")) == CODES[code]


def test_a_change_is_told_once_with_the_level_it_deserves(events: list[LogEvent]) -> None:
    told = Status()
    changes: list[str] = []
    told.watchers.append(lambda: changes.append(told.state))
    for _ in range(2):
        told.become(status.SYNCING, "head 7")
        told.become(status.SYNCING, "head 7")
        told.become(status.IN_SYNC)
    for error in (PeerError(ErrorCode.BUSY, "full"), DEADLINE, DEADLINE, DivergedError("another")):
        told.fail(error)
    told.fail(ProtocolError("nonsense"))
    assert [(formatEvent(each), each["log_level"]) for each in events] == [
        ("syncing: head 7", LogLevel.info),
        ("in sync", LogLevel.info),
        ("syncing: head 7", LogLevel.info),
        ("in sync", LogLevel.info),
        ("refused: full (error 9)", LogLevel.warn),
        (f"stalled: {DEADLINE}", LogLevel.warn),
        ("diverged: another", LogLevel.error),
        ("failed: nonsense", LogLevel.error),
    ]
    assert changes == [formatEvent(each).split(":")[0] for each in events]
    assert (told.state, told.why, told.failures) == (status.FAILED, "nonsense", 5)


def test_a_watcher_may_go_while_it_is_called() -> None:
    told = Status()
    calls = []

    def once() -> None:
        calls.append(told.state)
        told.watchers.remove(once)

    told.watchers += [once, lambda: calls.append("other")]
    told.become(status.IN_SYNC)
    told.become(status.SYNCING)
    assert calls == [status.IN_SYNC, "other", "other"]


@pytest.mark.parametrize(
    ("error", "store", "connection"),
    [
        (StoreIOError("full"), True, True),
        (TarFailoverError("unforeseen"), True, True),
        (ProtocolError("nonsense"), False, True),
        (DEADLINE, False, True),
        (PeerError(ErrorCode.SEGMENT_GONE, "gone"), False, True),
        (PeerError(ErrorCode.NOT_READY, "no head"), False, False),
        (PeerError(ErrorCode.HEAD_GONE, "gone"), False, False),
    ],
)
def test_what_begins_anew_after_an_error(
    error: TarFailoverError, store: bool, connection: bool
) -> None:
    assert Status.needs_new_store(error) is store
    assert Status.needs_new_connection(error) is connection


@pytest.mark.parametrize(
    ("progress", "seconds", "line"),
    [
        (Progress(0, 0, 0, 0), 0.0, "100 %: 0.0 of 0.0 MiB, 0 segments, 0.0 MiB/s, 0 s left"),
        (
            Progress(0, 0, 9, 8 * MIB),
            0.0,
            "0 %: 0.0 of 8.0 MiB, 0 segments, 0.0 MiB/s, 0 s left",
        ),
        (
            Progress(5, 3 * MIB, 9, 9 * MIB),
            2.0,
            "25 %: 3.0 of 12.0 MiB, 5 segments, 1.5 MiB/s, 6 s left",
        ),
        (
            Progress(5, 999, 1, 1),
            2.0,
            "99 %: 0.0 of 0.0 MiB, 5 segments, 0.0 MiB/s, 0 s left",
        ),
    ],
)
def test_progress_is_one_line(progress: Progress, seconds: float, line: str) -> None:
    assert progress_line(progress, seconds) == line
