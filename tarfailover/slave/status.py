"""What a slave is doing, in words that an operator can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.logger import Logger

from tarfailover.errors import (
    ConnectionLostError,
    DeadlineError,
    DivergedError,
    LinkError,
    PeerError,
    TarFailoverError,
)
from tarfailover.sync import Progress
from tarfailover.wire.messages import ErrorCode

CONNECTING = "connecting"
SYNCING = "syncing"
IN_SYNC = "in sync"
STALLED = "stalled"
REFUSED = "refused"
DIVERGED = "diverged"
FAILED = "failed"

_REFUSALS = (ErrorCode.NOT_READY, ErrorCode.BUSY, ErrorCode.VERSION)
_ANSWERS = (ErrorCode.NOT_READY, ErrorCode.HEAD_GONE)
_PASSING = (ErrorCode.GOING_AWAY, ErrorCode.HEAD_GONE, ErrorCode.SEGMENT_GONE, ErrorCode.DEADLINE)


def outcome(error: TarFailoverError) -> str:
    """The state in which `error` leaves a slave."""
    if isinstance(error, DivergedError):
        return DIVERGED
    if isinstance(error, PeerError) and error.code in _REFUSALS:
        return REFUSED
    if isinstance(error, (ConnectionLostError, DeadlineError)):
        return STALLED
    if isinstance(error, PeerError) and error.code in _PASSING:
        return STALLED
    return FAILED


@dataclass
class Status:
    """The state of a slave; every change is logged, a repetition is not."""

    state: str = CONNECTING
    why: str = ""
    cycles: int = 0
    failures: int = 0
    watchers: list[Callable[[], None]] = field(default_factory=list, repr=False)
    """Called after every change."""

    log = Logger()

    def become(self, state: str, why: str = "") -> None:
        """Be in `state` from now on."""
        if (state, why) == (self.state, self.why):
            return
        self.state, self.why = state, why
        tell = self.log.warn if state in (STALLED, REFUSED) else self.log.info
        tell = self.log.error if state in (DIVERGED, FAILED) else tell
        tell("{state}{why}", state=state, why=f": {why}" if why else "")
        for watcher in list(self.watchers):
            watcher()

    def fail(self, error: TarFailoverError) -> None:
        """Count a cycle that failed."""
        self.failures += 1
        self.become(outcome(error), str(error))

    @staticmethod
    def needs_new_connection(error: TarFailoverError) -> bool:
        """Whether more was lost than the answer to one question."""
        return not (isinstance(error, PeerError) and error.code in _ANSWERS)

    @staticmethod
    def needs_new_store(error: TarFailoverError) -> bool:
        """Whether the store must be opened anew: it is at fault, or nobody knows what is."""
        return not isinstance(error, LinkError)


def progress_line(progress: Progress, seconds: float) -> str:
    """One line on how far a transfer is; `seconds` since it began."""
    total = progress.size + progress.size_left
    share = 100 * progress.size // total if total else 100
    rate = progress.size / seconds if seconds else 0.0
    left = progress.size_left / rate if rate else 0.0
    mib = 1024 * 1024
    return (
        f"{share} %: {progress.size / mib:.1f} of {total / mib:.1f} MiB, "
        f"{progress.segments} segments, {rate / mib:.1f} MiB/s, {left:.0f} s left"
    )
