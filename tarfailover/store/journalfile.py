"""The journal of a store that is written: heads are appended to it durably.

Facts: storage format, sections 1.3 and 8. After a crash the last line may be torn; a
line glued to it would be lost, so the end is looked at before the first append.
"""

from __future__ import annotations

import os
from pathlib import Path

from tarfailover.errors import DamagedStoreError
from tarfailover.format.journal import JournalLine
from tarfailover.ids import RecordId
from tarfailover.store.durable import Disk, told


class JournalFile:
    """Appends to ``journal.log``; created with the first append."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._fd = -1
        self._end = 0
        self._torn = False

    def settle(self) -> None:
        """Make durable what is there: it may come from a process that died before its sync."""
        if self._path.exists():
            self._disk.sync(self._open(), self._path)

    def append(self, head: RecordId, time_ms: int) -> None:
        """Write and sync the line of `head`; raises StoreIOError."""
        fd = self._open()
        line = (b"\n" if self._torn else b"") + JournalLine(head, time_ms).encode()
        end = self._disk.write(fd, self._path, [line], self._end)
        self._disk.sync(fd, self._path)
        self._end, self._torn = end, False

    def intruder(self) -> str:
        """What somebody else did to the file since it was opened, '' if nothing.

        Raises DamagedStoreError if it is gone, StoreIOError.
        """
        if not self._path.exists():
            if self._fd >= 0:
                raise DamagedStoreError(f"{self._path} was removed while it was in use")
            return ""
        with told("look at", self._path):
            there = self._path.stat()
            if self._fd < 0:
                return f"{self._path} appeared, and was not written by this process"
            if there.st_ino != os.fstat(self._fd).st_ino:
                return f"{self._path} was replaced"
        if there.st_size == self._end:
            return ""
        return (
            f"{self._path} has {there.st_size} bytes, and this process left {self._end}: "
            "somebody else wrote a head into it, or cut it"
        )

    def _open(self) -> int:
        if self._fd >= 0:
            return self._fd
        fd = self._disk.open(self._path, create=True)
        try:
            # Even if the file was there: who created it may have died before its sync.
            self._disk.sync_directory(self._path.parent)
            with told("read", self._path):
                self._end = os.fstat(fd).st_size
                self._torn = self._end > 0 and os.pread(fd, 1, self._end - 1) != b"\n"
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def close(self) -> None:
        """Close the file if it was opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
