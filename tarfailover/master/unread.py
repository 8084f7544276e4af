"""Short answers that a client lets lie: it asks and asks, and does not read.

Streamed answers wait until the client takes them (`Sender`). A short one is written at once,
so a client that sends a question of nine bytes for ever would fill the master's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LOOK_EVERY = 1.0
"""Seconds between two looks at whether a client reads again."""


class Unread:
    """Counts what is written, and what the client's kernel has confirmed meanwhile.

    `taken` tells how many bytes that is since the connection began, 0 if nobody knows.
    Beyond `limit` bytes `stop` is called, and `go` once the client has taken half of them.
    """

    def __init__(
        self,
        clock: Any,
        limit: int,
        taken: Callable[[], int],
        stop: Callable[[], None],
        go: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._taken = taken
        self._stop = stop
        self._go = go
        self._lies = 0
        self._from = 0
        self._look: Any = None

    def wrote(self, size: int) -> None:
        """One more short answer of `size` bytes was written."""
        self._lies += size
        if self._lies > self._limit and self._look is None and self._left() > self._limit:
            self._stop()
            self._look = self._clock.callLater(LOOK_EVERY, self._again)

    def _left(self) -> int:
        """Bytes that lie there; some fewer are counted where streams were taken meanwhile."""
        before, self._from = self._from, self._taken()
        moved = self._from - before if self._from else self._lies
        self._lies = max(0, self._lies - moved)
        return self._lies

    def _again(self) -> None:
        if self._left() <= self._limit // 2:
            self._look = None
            self._go()
        else:
            self._look = self._clock.callLater(LOOK_EVERY, self._again)

    def end(self) -> None:
        """Look no more."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
