"""What a slave is doing, in words that an operator can act on.

It is in exactly one state at any time. `connecting`, `syncing` and `in sync` say what
it does; `stalled`, `refused`, `diverged` and `failed` how its last cycle or attempt to
connect ended. A new attempt turns only `stalled` into `connecting`: of the other three
a mere connection mends nothing, so they stay until a cycle ends otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.errors import (
    BlobMissingError,
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

_REFUSALS = (
    ErrorCode.NOT_READY,
    ErrorCode.BUSY,
    ErrorCode.VERSION,
    ErrorCode.NOT_ALLOWED,
    ErrorCode.NO_BLOBS,
)
_ANSWERS = (ErrorCode.NOT_READY, ErrorCode.HEAD_GONE, ErrorCode.NO_BLOBS)
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


def kind(error: TarFailoverError) -> str:
    """What a failure is counted as: its class, with the code or the deadline if it has one."""
    name = type(error).__name__
    if isinstance(error, DeadlineError):
        return f"{name}.{error.name}"
    if isinstance(error, PeerError):
        known = error.code in ErrorCode.__members__.values()
        return f"{name}.{ErrorCode(error.code).name if known else error.code}"
    return name


def _no_time() -> float:
    return 0.0


@dataclass
class Status:
    """The state of a slave; every change is logged, a repetition is not."""

    state: str = CONNECTING
    why: str = ""
    cycles: int = 0
    failures: int = 0
    cleanups: int = 0
    """Cleanups that were complete."""
    cleanup_failures: int = 0
    """Cleanups that left something for the next one, or could do nothing."""
    watchers: list[Callable[[], None]] = field(default_factory=list, repr=False)
    """Called after every change."""
    seconds: Callable[[], float] = field(default=_no_time, repr=False)
    """The time, in seconds since 1970."""
    since: float = 0.0
    """When it came into this state."""
    kinds: Counter[str] = field(default_factory=Counter, repr=False)
    """Failures by `kind`."""
    trouble: str = field(default="", repr=False)
    """The last failure, also after it has passed."""

    log = Logger()

    def __post_init__(self) -> None:
        self.since = self.seconds()
        self._told = self._before = (self.state, self.why)
        self._hangs = ""

    def become(self, state: str, why: str = "") -> None:
        """Be in `state` from now on."""
        if (state, why) == (self.state, self.why):
            return
        if state != self.state:
            self.since = self.seconds()
        self.state, self.why = state, why
        self._tell()
        for watcher in list(self.watchers):
            watcher()

    def _tell(self) -> None:
        """A connection that fails again and again for the same reason is told of once."""
        state, why = self.state, self.why
        if state == CONNECTING or self._told == (state, why):
            return
        self._told = state, why
        tell = self.log.warn if state in (STALLED, REFUSED) else self.log.info
        tell = self.log.error if state in (DIVERGED, FAILED) else tell
        tell("{state}{why}", state=state, why=f": {why}" if why else "")

    def connecting(self) -> None:
        """A connection is being made."""
        if self.state in (IN_SYNC, SYNCING):
            self.become(CONNECTING, "again")
        elif self.state == STALLED:
            self.become(CONNECTING, f"again, after {self.why}")

    def fail(self, error: TarFailoverError) -> None:
        """Count a cycle, or an attempt to connect, that failed."""
        self.failures += 1
        self.kinds[kind(error)] += 1
        self.trouble = str(error)
        self.become(outcome(error), str(error))

    def hang(self, error: TarFailoverError) -> None:
        """Something hangs that nobody can stop, in the middle of whatever this was at."""
        if not self._hangs:
            self._before = self.state, self.why
        self.fail(error)
        self._hangs = self.why

    def go_on(self) -> None:
        """If something hung, it does so no more; what this was at goes on."""
        hung, self._hangs = self._hangs, ""
        if hung and (self.state, self.why) == (STALLED, hung):
            self.become(*self._before)

    @staticmethod
    def needs_new_connection(error: TarFailoverError) -> bool:
        """Whether more was lost than the answer to one question."""
        answer = isinstance(error, PeerError) and error.code in _ANSWERS
        return not (answer or isinstance(error, BlobMissingError))

    @staticmethod
    def needs_new_store(error: TarFailoverError) -> bool:
        """Whether the store must be opened anew: it is at fault, or nobody knows what is."""
        return not isinstance(error, (LinkError, BlobMissingError))


def progress_line(progress: Progress, seconds: float) -> str:
    """One line on how far a transfer is; `seconds` since it began."""
    came = progress.size + progress.blob_size
    total = came + progress.size_left + progress.blob_size_left
    share = 100 * came // total if total else 100
    rate = came / seconds if seconds else 0.0
    left = (total - came) / rate if rate else 0.0
    mib = 1024 * 1024
    blobs = progress.blobs + progress.blobs_left
    binaries = f", {progress.blobs} of {blobs} binaries" if blobs else ""
    return (
        f"{share} %: {came / mib:.1f} of {total / mib:.1f} MiB, "
        f"{progress.segments} segments{binaries}, {rate / mib:.1f} MiB/s, {left:.0f} s left"
    )


def told(failure: Failure, log: Logger) -> TarFailoverError:
    """What a user is told of `failure`; what nobody foresaw goes into the log whole."""
    error = failure.value
    if isinstance(error, TarFailoverError):
        return error
    log.failure("something unforeseen", failure)
    return TarFailoverError(f"{type(error).__name__}: {failure.getErrorMessage()}")
