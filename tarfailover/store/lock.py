"""The lock of a store: a POSIX record lock on ``repo.lock``, the one Oak takes.

Facts: storage format, section 1.6. ``flock`` is another lock and does not conflict with
Oak's. Closing any descriptor of the file drops a record lock, so the file is opened
once; and the kernel never refuses a second lock to the same process, so this module
remembers which files this process holds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType

from tarfailover.errors import StoreLockedError
from tarfailover.store.durable import told

NAME = "repo.lock"

_held: set[tuple[int, int]] = set()
_guard = threading.Lock()


class RepositoryLock:
    """Held from `acquire` to `release`; the file stays, as with Oak."""

    def __init__(self, fd: int, key: tuple[int, int], path: Path) -> None:
        self._fd = fd
        self._key = key
        self._path = path

    @classmethod
    def acquire(cls, directory: Path) -> RepositoryLock:
        """Lock `directory` for writing, without waiting; raises StoreLockedError."""
        path = directory / NAME
        with _guard:
            if path.exists() and _key(path.stat()) in _held:
                raise _locked(path, "this process")
            with told("open the lock file", path):
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                _lock(fd, path)
            except BaseException:
                os.close(fd)
                raise
            key = _key(os.fstat(fd))
            _held.add(key)
        return cls(fd, key, path)

    def confirm(self) -> None:
        """Take the lock once more, which costs next to nothing while it is held.

        Somebody in this process may have opened and closed the file, to copy it say, and
        dropped the lock so. Raises StoreLockedError if another process has it now, or
        could have one of its own since the file was removed or replaced.
        """
        _lock(self._fd, self._path)
        if not self._path.exists() or _key(self._path.stat()) != self._key:
            raise StoreLockedError(
                f"{self._path} was removed or replaced while this process held its lock: another "
                "one may write this store; leave the file where it is"
            )

    def release(self) -> None:
        """Give the lock back; harmless when called twice."""
        with _guard:
            if self._key in _held:
                _held.discard(self._key)
                os.close(self._fd)

    def __enter__(self) -> RepositoryLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _locked(path, "another process") from None
        with told("lock", path):
            raise


def _locked(path: Path, who: str) -> StoreLockedError:
    return StoreLockedError(
        f"{path}: {who} has this store open for writing; "
        "stop it first (an AEM or Oak instance, a slave, or a tool)"
    )


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
