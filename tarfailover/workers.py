"""Threads for blocking work, beside a reactor that never waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from tarfailover.errors import DeadlineError


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

    def start(self) -> None:
        """Take work on."""
        self._pool.start()

    def run(self, function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        """Call `function` in a thread; its result, or what it raised."""
        return deferToThreadPool(self._reactor, self._pool, function, *args, **named)

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
