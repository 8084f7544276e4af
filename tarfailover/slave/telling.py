"""A transfer for those who watch it: a line in the log every few seconds, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tarfailover.slave.status import progress_line
from tarfailover.sync import Progress

EVERY = 5.0
"""Seconds between two lines on a long copy."""


class Telling:
    """Tells how far a transfer is, as long as its block lasts; `clock` is the reactor."""

    log = Logger()

    def __init__(self, clock: Any, progress: Callable[[], Progress]) -> None:
        self.progress = progress
        self._clock = clock
        self._began: float = clock.seconds()
        self._telling = LoopingCall(self._tell)
        self._telling.clock = clock

    @property
    def seconds(self) -> float:
        """How long it takes already."""
        return float(self._clock.seconds()) - self._began

    def line(self) -> str:
        """One line on how far it is."""
        return progress_line(self.progress(), self.seconds)

    def _tell(self) -> None:
        self.log.info("{line}", line=self.line())

    def __enter__(self) -> Telling:
        self._telling.start(EVERY, now=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._telling.stop()
