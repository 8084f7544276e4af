"""The addresses of host names, looked up in threads and looked up again.

A look-up that takes longer than its deadline counts as failed; the answer is taken all
the same when it comes. What failed leaves the last answer in force, except where the
answer is that there is no such name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.access.ranges import Address, address
from tarfailover.deadline import Deadline
from tarfailover.errors import DeadlineError
from tarfailover.workers import Workers

_NONE_SUCH = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

THREADS = 4
"""Threads that look names up."""
STOP_SECONDS = 0.5
"""For these threads to end."""

InThread = Callable[..., "Deferred[Any]"]
"""Runs a function in a thread."""


def look_up(name: str) -> frozenset[Address]:
    """All addresses of `name`; blocking. Raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return frozenset(address(str(each[4][0])) for each in found)


class _Name:
    """One name, and what is known of it."""

    log = Logger()

    def __init__(
        self,
        name: str,
        clock: Any,
        in_thread: InThread,
        seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self.addresses: frozenset[Address] = frozenset()
        self._changed = changed
        self._name = name
        self._in_thread = in_thread
        self._busy = False
        self._told = ""
        self._waiting: Deferred[None] | None = None
        self._deadline = Deadline(clock, "names", seconds, f"the addresses of {name}", self._late)

    def refresh(self) -> Deferred[None]:
        """Look it up, unless that is under way; fires at the answer or at the deadline."""
        self._answer()  # a look-up that takes longer than from one to the next
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        self._deadline.start()
        if not self._busy:
            self._busy = True
            looked = self._in_thread(look_up, self._name)
            looked.addCallbacks(self._found, self._failed)
            looked.addErrback(self._unforeseen)
        return waiting

    def stop(self) -> None:
        """Wait no more; whoever waits for it goes on without an answer."""
        self._deadline.stop()
        self._answer()

    def _done(self) -> None:
        self._busy = False
        self._deadline.stop()
        self._answer()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _late(self, error: DeadlineError) -> None:
        self._tell(str(error))
        self._answer()

    def _found(self, found: frozenset[Address]) -> None:
        self._told = ""
        self._has(found)
        self._done()

    def _has(self, addresses: frozenset[Address]) -> None:
        self.addresses = addresses
        self._changed()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, (OSError, UnicodeError)):
            failure.raiseException()
        if isinstance(error, socket.gaierror) and error.errno in _NONE_SUCH:
            self._has(frozenset())
        self._tell(f"{self._name} cannot be looked up: {error}")
        self._done()

    def _unforeseen(self, failure: Failure) -> None:
        self.log.failure("looking up {name} failed", failure, name=self._name)
        self._done()

    def _tell(self, why: str) -> None:
        """Log what is wrong once, until it is another thing."""
        if why != self._told:
            self._told = why
            known = ", ".join(map(str, self.addresses)) or "none"
            self.log.warn("{why}; addresses allowed for it: {known}", why=why, known=known)


class Names:
    """Keeps the addresses of `names` fresh: looks them up every `every` seconds.

    A look-up may take `seconds`. `clock` is the reactor; `workers` are threads of its own,
    so that a resolver that hangs holds nobody else up.
    """

    log = Logger()

    def __init__(
        self, names: Iterable[str], clock: Any, workers: Workers, every: float, seconds: float
    ) -> None:
        self.addresses: frozenset[Address] = frozenset()
        """All addresses that any of the names has."""
        run, changed = workers.run, self._collect
        self._names = [_Name(name, clock, run, seconds, changed) for name in names]
        self._clock = clock
        self._workers = workers
        self._every = every
        self._next: Any = None

    def _collect(self) -> None:
        self.addresses = frozenset().union(*(each.addresses for each in self._names))

    def start(self) -> Deferred[Any]:
        """Look all up, now and from now on; fires when each was answered, or is late."""
        if not self._names:
            return succeed(None)
        self._workers.start()
        return self._look()

    def _look(self) -> Deferred[Any]:
        self._next = self._clock.callLater(self._every, self._look)
        return DeferredList([each.refresh() for each in self._names])

    def stop(self) -> Deferred[None]:
        """Look up no more; a thread that hangs is left to the end of the process."""
        if self._next is None:
            return succeed(None)
        if self._next.active():
            self._next.cancel()
        for each in self._names:
            each.stop()
        return self._workers.stop(STOP_SECONDS).addErrback(_left_behind)


def _left_behind(failure: Failure) -> None:
    failure.trap(DeadlineError)
    Names.log.warn("a look-up of a host name still hangs; it is left behind")
