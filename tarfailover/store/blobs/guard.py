"""Who looks for a binary, and who removes what nobody needs, do not do it at the same moment.

A lock (flock) on the directory of the blob store itself, so that no file of ours lies in
it. Held for moments: shared while somebody finds out that a binary is there and may count
on it, exclusive while a collection looks once more at what is needed and removes some.

Whoever counts on a binary must have stored the segment that mentions it before. Then the
collection, which looks for such segments after it has the lock, sees that segment, or has
removed the binary before anybody could find it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tarfailover.errors import StoreLockedError
from tarfailover.store.durable import told

PAUSE = 0.01
ATTEMPTS = 6000
"""A minute, until it is said that somebody holds the lock for too long."""

_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems say that cannot lock a directory: there nobody can collect either."""


@contextmanager
def counting_on(directory: Path) -> Iterator[None]:
    """While it is held, nothing is removed from `directory`; raises StoreLockedError."""
    try:
        fd = _opened(directory)
    except FileNotFoundError:
        yield
        return
    except OSError:
        with told("look into", directory):
            raise
    try:
        try:
            _lock(fd, directory, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                with told("lock", directory):
                    raise
        yield
    finally:
        os.close(fd)


@contextmanager
def removing(directory: Path) -> Iterator[None]:
    """While it is held, nobody counts on anything; raises StoreLockedError, StoreIOError."""
    with told("lock", directory):
        fd = _opened(directory)
    try:
        with told("lock", directory):
            _lock(fd, directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(fd: int, directory: Path, kind: int) -> None:
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(PAUSE)
        else:
            return
    raise StoreLockedError(
        f"{directory}: somebody has held its lock for {ATTEMPTS * PAUSE:g} seconds; look for a "
        "collection of garbage that is stopped (tarfailover blobs gc)"
    )
