"""The same memory for whoever copies.

A virtual machine gives freed memory back to its host, and has to ask for it again: filling the
page cache with a GiB of a copy then takes 2 to 3 seconds in place of 0.3, whoever copies, and a
program that needs longer to start finds less of what was freed before it. So the memory that a
copy will take is held by a file, and let go just when the copy begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NAME = "ballast"
PIECE = 4 * 1024 * 1024
MORE = 1.2
"""Of the store: a copy also needs buffers."""


class Ballast:
    """A file whose `size` bytes lie in memory until `drop`."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    @staticmethod
    def remove(directory: Path) -> None:
        """Remove the file; harmless if there is none."""
        (directory / NAME).unlink(missing_ok=True)

    @classmethod
    @contextlib.contextmanager
    def held(cls, directory: Path, size: int) -> Iterator[Ballast]:
        """Memory for a copy of `size` bytes, held by a file in `directory`, for `remove`."""
        fd = os.open(directory / NAME, os.O_RDWR | os.O_CREAT)
        ballast = cls(fd, int(size * MORE))
        try:
            ballast._grow()
            ballast.fill()
            yield ballast
        finally:
            ballast.drop()
            os.close(fd)

    def _grow(self) -> None:
        """Written, not only made longer: a hole is not read. Synced, or it could not be dropped."""
        have = os.fstat(self._fd).st_size
        for at in range(have, self._size, PIECE):
            os.pwrite(self._fd, bytes(PIECE), at)
        if have < self._size:
            os.fsync(self._fd)

    def fill(self) -> None:
        """Have it in memory, all of it."""
        for at in range(0, self._size, PIECE):
            os.pread(self._fd, PIECE, at)

    def drop(self) -> None:
        """Give the memory to whoever asks next; takes a few milliseconds."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
