"""Named deadlines on the reactor's clock.

Nothing waits for ever: whoever waits holds a `Deadline`, starts it, restarts it with
every sign of progress, and stops it when what was waited for has come.

A transfer has no deadline for its whole, however thin the line: it is judged by the
bytes that move within one. Fewer than `LEAST_PROGRESS` are none, or one byte a minute
would hold a connection for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tarfailover.errors import DeadlineError

LEAST_PROGRESS = 1024
"""Bytes that must have moved within a deadline, where moving bytes are progress."""


class Deadline:
    """Calls `passed` once if `seconds` pass while waiting for `what`; `name` is its name.

    With `moved`, which counts bytes from the beginning of a connection on, it does not
    pass but begins anew if enough bytes have moved meanwhile. Whoever sees them move calls
    `moving`, so that silence has no more than `seconds`; else it may have twice as many.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        seconds: float,
        what: str,
        passed: Callable[[DeadlineError], None],
        moved: Callable[[], int] | None = None,
    ) -> None:
        self._clock = clock
        self._error = DeadlineError(name, seconds, what)
        self._passed = passed
        self._moved = moved
        self._from = 0
        self._call: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether it may still pass."""
        return self._call is not None

    def start(self) -> None:
        """Run from now on, whether it ran before or not."""
        if self._moved is not None:
            self._from = self._moved()
        if self._call is None:
            self._call = self._clock.callLater(self._error.seconds, self._pass)
        else:
            self._call.reset(self._error.seconds)

    def progress(self) -> None:
        """Begin anew if it runs."""
        if self._call is not None:
            self.start()

    def moving(self) -> None:
        """Bytes moved just now: begin anew if it runs and they are enough."""
        if self._call is not None and self._enough():
            self.start()

    def stop(self) -> None:
        """Run no more; harmless if it does not run."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _pass(self) -> None:
        self._call = None
        if self._enough():
            self.start()
        else:
            self._passed(self._error)

    def _enough(self) -> bool:
        return self._moved is not None and self._moved() - self._from >= LEAST_PROGRESS
