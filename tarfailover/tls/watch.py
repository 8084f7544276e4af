"""Looks at the files of TLS while no connection is made, and tells daily of what ends soon.

A list that revokes the certificate of an open connection is seen by these looks.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from tarfailover.tls.contexts import Contexts

TELL_EVERY = 86400.0
"""Seconds between two times that the log tells of what ends soon."""


class Watch:
    """Looks every `every` seconds; tells at the start and then daily. `clock` is the reactor."""

    def __init__(self, contexts: Contexts, clock: Any, every: float) -> None:
        self._contexts = contexts
        self._clock = clock
        self._every = every
        self._told = 0.0
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        """Look now, and go on looking."""
        self._told = self._clock.seconds()
        self._contexts.tell_ends()
        self._looking.start(self._every, now=False)

    def stop(self) -> None:
        """Look no more; harmless if it does not."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        self._contexts.refresh()
        now = self._clock.seconds()
        if now - self._told >= TELL_EVERY:
            self._told = now
            self._contexts.tell_ends()
