"""The file gc.log of a store that is written: a line for each compaction and its cleanup.

Facts: storage format, section 1.4. Its last line is where the next tail compaction starts,
of Oak's or of ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from tarfailover.format.gclog import NAME, GcLine, parse
from tarfailover.ids import NULL_ID
from tarfailover.store.durable import Disk, told

TAIL = 64 * 1024
"""Bytes at the end of the file in which its last line is looked for."""


def last(directory: Path) -> GcLine | None:
    """The last line that can be read and names a root; raises StoreIOError."""
    path = directory / NAME
    if not path.exists():
        return None
    with told("read", path), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        found = list(parse(file.read()))
    return found[-1] if found and found[-1].root.segment != NULL_ID else None


def append(directory: Path, line: GcLine, disk: Disk) -> None:
    """Add `line` durably, also behind one that a crash has torn; raises StoreIOError."""
    path = directory / NAME
    fd = disk.open(path, create=True)
    try:
        with told("read", path):
            end = os.fstat(fd).st_size
            torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
        disk.write(fd, path, [b"\n" * torn + line.encode()], end)
        disk.sync(fd, path)
    finally:
        os.close(fd)
    disk.sync_directory(directory)
