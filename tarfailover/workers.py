"""Threads for blocking work, beside a reactor that never waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from tarfailover.errors import DeadlineError


@dataclass(frozen=True, eq=False)
class Job:
    """A call that a thread is at; each is another one."""

    name: str
    since: float
    """On the reactor's clock, in seconds."""


class Workers:
    """`size` threads; with one, work is done in the order in which it was given.

    The threads are daemons: one that hangs in a system call of a dead disk must not
    keep the process from ending.
    """

    def __init__(self, reactor: Any, size: int, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._pool = ThreadPool(min(1, size), size, name)
        self._pool.threadFactory = _daemon  # type: ignore[assignment]
        self._guard = threading.Lock()
        self._jobs: dict[Job, None] = {}
        """What the threads are at, the oldest first."""
        self.done = 0
        """Calls of `run` that came back."""

    def start(self) -> None:
        """Take work on."""
        self._pool.start()

    def run(self, function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        """Call `function` in a thread; its result, or what it raised."""
        # A pool that cannot start a thread raises here; to the caller that is a failed call.
        return maybeDeferred(
            deferToThreadPool, self._reactor, self._pool, self._work, function, args, named
        )

    def aside(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """As `run`, for what goes on beside the real work: that it gets on is not counted."""
        return maybeDeferred(
            deferToThreadPool, self._reactor, self._pool, self._work, function, args, {}, count=0
        )

    def _work(self, function: Callable[..., Any], args: Any, named: Any, count: int = 1) -> Any:
        job = Job(getattr(function, "__name__", str(function)).strip("_"), self._reactor.seconds())
        with self._guard:
            self._jobs[job] = None
        try:
            return function(*args, **named)
        finally:
            with self._guard:
                del self._jobs[job]
                self.done += count

    def longest(self) -> Job | None:
        """What a thread has been at for the longest time; None if all are idle."""
        with self._guard:
            return next(iter(self._jobs), None)

    def stop(self, seconds: float) -> Deferred[None]:
        """Let the threads finish what they have; fails with DeadlineError after `seconds`."""
        stopped: Deferred[None] = Deferred()
        error = DeadlineError("drain", seconds, "the disk")
        late = self._reactor.callLater(seconds, lambda: stopped.errback(Failure(error)))

        def ended() -> None:
            # It has just said its last word: nobody finds a thread when all is stopped.
            stopper.join(1.0)
            if late.active():
                late.cancel()
                stopped.callback(None)

        def join() -> None:
            self._pool.stop()
            self._reactor.callFromThread(ended)

        stopper = _daemon(target=join, name=f"{self._name}-stop")
        stopper.start()
        return stopped


def _daemon(**named: Any) -> threading.Thread:
    return threading.Thread(**named, daemon=True)
