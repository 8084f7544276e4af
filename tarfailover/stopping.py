"""A stop in steps: each is taken, whatever became of the others.

A stop that ended at the first exception would leave sockets, threads and files behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure


def take(log: Logger, *steps: Callable[[], object]) -> Deferred[Any]:
    """Begin all `steps`, in their order; fires, and never fails, when the last has ended.

    A step may return a Deferred. One that raises or fails is logged whole.
    """
    return DeferredList([_taken(log, step) for step in steps])


def _taken(log: Logger, step: Callable[[], object]) -> Deferred[Any]:
    def failed(failure: Failure) -> None:
        if not failure.check(CancelledError):  # whoever waited was told that it is late
            log.failure("a step of the stop failed; the others are taken", failure)

    taken: Deferred[Any] = maybeDeferred(step)
    return taken.addErrback(failed)
