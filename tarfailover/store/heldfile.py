"""An open file that stays readable as long as somebody holds it, whatever becomes of its name."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from tarfailover.store.durable import told

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
"""Reads only what the kernel has in memory; since Linux 4.14."""


class HeldFile:
    """The file `path`, open for reading as `fd`, which the last holder closes."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._holders = 1
        self._guard = threading.Lock()
        self.status = os.fstat(fd)

    def acquire(self) -> None:
        """Count one more holder."""
        with self._guard:
            self._holders += 1

    def release(self) -> None:
        """Count one holder less; the last one closes the file."""
        with self._guard:
            self._holders -= 1
            last = self._holders == 0
        if last:
            # The number may soon name another file, so nobody must read through it.
            fd, self._fd = self._fd, -1
            os.close(fd)

    def fileno(self) -> int:
        """The descriptor, open for reading."""
        return self._fd

    def size(self) -> int:
        """The file's length now, in bytes."""
        with told("look at", self.path):
            return os.fstat(self._fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer only at the end of the file."""
        with told("read", self.path):
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        return data

    def read_cached(self, offset: int, size: int) -> memoryview | None:
        """As `read`, but None where that would wait for the disk, or might."""
        if _NOWAIT is None:
            return None
        room = np.empty(size, "u1").data
        try:
            read = os.preadv(self._fd, [room], offset, _NOWAIT)
        except OSError:  # not in memory, or worse: whoever reads it patiently is told
            return None
        return room if read == size else None

    def forget_cached(self, offset: int, size: int) -> None:
        """Have the next `read` of these bytes come from the disk itself, as far as that goes.

        What another process maps into its memory, and what is not written out yet, stays.
        """
        with told("read", self.path):
            os.posix_fadvise(self._fd, offset, size, os.POSIX_FADV_DONTNEED)
