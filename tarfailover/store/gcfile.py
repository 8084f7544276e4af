"""The file gc.log of a store that is written: a line for each compaction and its cleanup.

Facts: storage format, section 1.4. Its last line is where Oak's next compaction starts.
"""

from __future__ import annotations

import os
from pathlib import Path

from tarfailover.format.gclog import NAME, GcLine
from tarfailover.store.durable import Disk, told


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
