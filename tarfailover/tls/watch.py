"""A look at the certificates once a day, also while no connection is made."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from tarfailover.tls.contexts import Contexts

EVERY = 86400.0
"""Seconds between two looks."""


class Watch:
    """Tells of certificates that end soon, at the start and then daily; `clock` is the reactor."""

    def __init__(self, contexts: Contexts, clock: Any) -> None:
        self._contexts = contexts
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def start(self) -> None:
        """Look now, and go on looking."""
        self._looking.start(EVERY)

    def stop(self) -> None:
        """Look no more; harmless if it does not."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        self._contexts.refresh()
        self._contexts.tell_ends()
