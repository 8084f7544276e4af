"""Files that somebody else may have put there: looked at and opened without following links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tarfailover.errors import DamagedStoreError
from tarfailover.store.durable import told


def look(path: str | Path) -> os.stat_result | None:
    """What is called `path`, itself and not what it points to; None if there is nothing."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        with told("look at", Path(path)):
            raise


def regular(path: str | Path) -> os.stat_result | None:
    """The same, if it is a regular file; a link or a folder counts as nothing."""
    found = look(path)
    return found if found is not None and stat.S_ISREG(found.st_mode) else None


def open_to_read(path: Path) -> int:
    """A descriptor of the regular file `path`.

    Raises StoreIOError, and DamagedStoreError for what is no file.
    """
    with told("read", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedStoreError(f"{path} is no regular file: move it away")
    return fd


def read_at(fd: int, path: Path, offset: int, size: int) -> bytes:
    """Up to `size` bytes from `offset` on; fewer only at the end of the file."""
    with told("read", path):
        data = os.pread(fd, size, offset)
        while len(data) < size:
            more = os.pread(fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
    return data
