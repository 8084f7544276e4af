"""Blocks of commits go on side by side; a compaction wants to be alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tarfailover.errors import TarFailoverError

PATIENCE = 60.0
"""Seconds that a compaction waits for the blocks that are open; new ones wait behind it."""
LONGEST = 6 * 3600.0
"""Seconds that a block waits for a compaction: a disk may hang under it."""


class _Own(threading.local):
    """How many blocks the thread itself has open."""

    depth = 0


class Gate:
    """Counts blocks, of any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blocks = 0
        self._wanted = False
        self._own = _Own()

    @contextmanager
    def block(self) -> Iterator[None]:
        """One block; waits while somebody is alone, or wants to be, unless it is an inner one.

        Raises TarFailoverError after `LONGEST`.
        """
        with self._changed:
            if not self._own.depth and not self._changed.wait_for(self._is_free, LONGEST):
                raise TarFailoverError(
                    f"a compaction in another thread did not end within {LONGEST:g} s; nothing "
                    "was committed: look at the disk, or wait for it and try again"
                )
            self._blocks += 1
            self._own.depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._blocks -= 1
                self._own.depth -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no block is open; none begins before the end.

        Raises TarFailoverError if one of this thread itself is open, if somebody else is
        alone, or after `PATIENCE`.
        """
        if self._own.depth:
            raise TarFailoverError("this thread has a block of a commit open: end it first")
        with self._changed:
            if self._wanted:
                raise TarFailoverError("another thread is at it already")
            self._wanted = True
            self._changed.notify_all()
            ended = self._changed.wait_for(lambda: not self._blocks, PATIENCE)
            if not ended:
                self._free()
                raise TarFailoverError(
                    f"blocks of commits were open for {PATIENCE:g} s, and a compaction has to be "
                    "alone: end them, and try again"
                )
        try:
            yield
        finally:
            with self._changed:
                self._free()

    def _is_free(self) -> bool:
        return not self._wanted

    def _free(self) -> None:
        self._wanted = False
        self._changed.notify_all()
