"""Watches a service from outside: that whatever it waits for gets on.

It has its own timer and looks at the service as it is, so it depends on none of the
Deferreds whose loss it is to notice. What gets on is told by a mark: whatever changes
with every sign of progress. A mark that stays for too long is what nobody foresaw, or a
thread that hangs in the disk; every other wait has a shorter deadline of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

EVERY = 1.0
"""Seconds between two looks."""


@dataclass(frozen=True)
class Wait:
    """What the service waits for at this moment."""

    what: str
    mark: object
    """Another one after every sign of progress."""
    seconds: float
    """How long the mark may stay the same."""
    thread: bool = False
    """Whether it is a thread, which nobody can stop."""


class Watchdog:
    """Calls `look` every second; `stuck` with the wait and its length, again and again.

    `going` is called once what was stuck goes on. `clock` is the reactor.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        look: Callable[[], Wait],
        stuck: Callable[[Wait, float], None],
        going: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._look = look
        self._stuck = stuck
        self._going = going
        self._mark: object = None
        self._since = 0.0
        self._told = 0.0
        self._looking = LoopingCall(self._total)
        self._looking.clock = clock

    def start(self) -> None:
        """Begin to watch."""
        self._looking.start(EVERY)

    def stop(self) -> None:
        """Watch no more; harmless if it does not."""
        if self._looking.running:
            self._looking.stop()

    def _total(self) -> None:
        """A watchdog that raised would be none."""
        try:
            self._watch()
        except Exception:  # noqa: BLE001 - logged whole, and the next look comes
            self.log.failure("the watchdog failed")

    def _watch(self) -> None:
        wait, now = self._look(), self._clock.seconds()
        if wait.mark != self._mark:
            was_stuck = self._told > self._since
            self._mark, self._since, self._told = wait.mark, now, now
            if was_stuck:
                self._going()
        elif now - self._told >= wait.seconds:
            self._told = now
            self._stuck(wait, now - self._since)
