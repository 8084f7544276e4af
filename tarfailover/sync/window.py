"""How much is asked for ahead of what has come, and how far all of it is."""

from __future__ import annotations

from dataclasses import dataclass

REQUEST_BYTES = 4 * 1024 * 1024
"""Bytes that one GET asks for."""
WINDOW_FLOOR = 32 * 1024 * 1024
"""Bytes asked for and not yet come, at the least: 5 Gbit/s at 50 ms. Only ids wait in the
master meanwhile, and what comes too fast is not read, so it costs no memory."""


class Window:
    """How many bytes may be asked for ahead: bandwidth × delay, with room to grow.

    Doubles whenever a whole window came in without the pipe running dry of requests, so
    it reaches any link's product in a few round trips; `limit` bounds it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = min(WINDOW_FLOOR, limit)
        self._came = 0

    @property
    def request(self) -> int:
        """Bytes to ask for in one GET."""
        return min(REQUEST_BYTES, self.size)

    def came(self, size: int) -> None:
        """Count `size` bytes that came while the window was full."""
        self._came += size
        if self._came >= self.size:
            self._came = 0
            self.size = min(2 * self.size, self.limit)


@dataclass(frozen=True)
class Progress:
    """How far a transfer is."""

    segments: int
    """Segments that came."""
    size: int
    """Bytes of these."""
    segments_left: int
    size_left: int
    blobs: int = 0
    """External binaries that came."""
    blob_size: int = 0
    """Bytes of these, and of those on their way."""
    blobs_left: int = 0
    blob_size_left: int = 0
