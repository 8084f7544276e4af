"""Named deadlines on the reactor's clock.

Nothing waits for ever: whoever waits holds a `Deadline`, starts it, restarts it with
every sign of progress, and stops it when what was waited for has come.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tarfailover.errors import DeadlineError


class Deadline:
    """Calls `passed` once if `seconds` pass while waiting for `what`; `name` is its name."""

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        seconds: float,
        what: str,
        passed: Callable[[DeadlineError], None],
    ) -> None:
        self._clock = clock
        self._error = DeadlineError(name, seconds, what)
        self._passed = passed
        self._call: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether it may still pass."""
        return self._call is not None

    def start(self) -> None:
        """Run from now on, whether it ran before or not."""
        if self._call is None:
            self._call = self._clock.callLater(self._error.seconds, self._pass)
        else:
            self._call.reset(self._error.seconds)

    def progress(self) -> None:
        """Begin anew if it runs."""
        if self._call is not None:
            self._call.reset(self._error.seconds)

    def stop(self) -> None:
        """Run no more; harmless if it does not run."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _pass(self) -> None:
        self._call = None
        self._passed(self._error)
