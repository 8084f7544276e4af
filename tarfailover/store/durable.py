"""The one class that writes, syncs, renames and removes.

Everything that changes a store goes through a `Disk`, so that what is promised can be
seen in one place and a crash can be simulated after every single step.

Promised: after `sync` returns, the bytes written to that file survive a power failure;
after `sync_directory` returns, so do the names created, replaced and removed in it;
`replace_file` leaves either the old or the new content under the name, never a mixture.
Not promised: any order among writes that were not yet synced.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tarfailover.errors import StoreIOError

_IOV_MAX = 1024
"""Buffers in one system call, at most: the limit of Linux."""

_REMEDIES = {
    errno.ENOSPC: "free space on this file system, then start again; nothing was lost",
    errno.EDQUOT: "raise the disk quota, then start again; nothing was lost",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.EROFS: "mount the file system writable",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
    errno.EIO: "the disk reports an error: check it, and verify the store",
    errno.EEXIST: "something is in the way under this name: move it",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
}

_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
_LEAST_KERNEL = (5, 8)
"""Before it, `syncfs` says nothing of errors: syncfs(2)."""

Buffer = bytes | bytearray | memoryview


@contextmanager
def told(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreIOError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the file system")
        raise StoreIOError(f"{path}: cannot {doing}: {error.strerror}; {remedy}") from error


class Disk:
    """Changes files durably; descriptors are plain integers."""

    def make_directory(self, path: Path) -> None:
        """Create the directory `path` and its parents, durably, if they are missing."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        with told("create the directory", path):
            path.mkdir(exist_ok=True)
        self.sync_directory(path.parent)

    def make_folder(self, path: Path) -> bool:
        """Create the directory `path`; False if it is there. Its parent is still to be synced."""
        with told("create the directory", path):
            try:
                path.mkdir()
            except FileExistsError:
                return False
        return True

    def create(self, path: Path) -> int:
        """A descriptor of the new, empty file `path`.

        Its name is durable only once the directory was synced.
        """
        with told("create", path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def open(self, path: Path, *, create: bool = False, follow: bool = True) -> int:
        """A descriptor of `path` for reading and writing; unless `follow`, not of a link's target.

        That is for names that somebody else could have put there.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        flags |= 0 if follow else os.O_NOFOLLOW
        with told("open for writing", path):
            return os.open(path, flags, 0o644)

    def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
        """Write all `buffers` one after the other from `offset` on; returns the new end."""
        with told("write", path):
            for first in range(0, len(buffers), _IOV_MAX):
                offset = _write_all(fd, buffers[first : first + _IOV_MAX], offset)
        return offset

    def truncate(self, fd: int, path: Path, size: int) -> None:
        """Cut the file to `size` bytes."""
        with told("truncate", path):
            os.ftruncate(fd, size)

    def start_sync(self, fd: int, offset: int, size: int) -> None:
        """Ask the kernel to begin to write these bytes out, so that `sync` finds little left.

        Only a hint: promises nothing, waits for nothing, and no error of it is an error.
        """
        if _sync_file_range is not None:
            _sync_file_range(fd, offset, size, _SYNC_FILE_RANGE_WRITE)

    def sync(self, fd: int, path: Path) -> None:
        """Wait until the file's bytes and size are on the disk."""
        with told("sync", path):
            os.fdatasync(fd)

    def sync_all(self, fd: int, path: Path) -> bool:
        """Wait until all files and names in the file system of `fd`, named `path`, are on the disk.

        False, and nothing is promised, where the kernel would not tell of errors. Each single
        sync empties the disk's own cache, so for many files this is much faster.
        """
        if _syncfs is None or _kernel() < _LEAST_KERNEL:
            return False
        with told("sync the file system of", path):
            if _syncfs(fd):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        return True

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in directory `path` are on the disk."""
        with told("sync the directory", path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def free(self, path: Path) -> int:
        """Bytes that this user may still write to the file system of `path`."""
        with told("ask for the free space", path):
            found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system, replacing `target`; then sync the target's directory."""
        self.move(source, target)
        self.sync_directory(target.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename as `rename` does; the target's directory is still to be synced."""
        with told(f"rename to {target.name}", source):
            source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove `path`; then sync the directory."""
        self.forget(path)
        self.sync_directory(path.parent)

    def forget(self, path: Path) -> None:
        """Remove `path`; a power failure may bring it back."""
        with told("remove", path):
            path.unlink(missing_ok=True)

    def remove_empty(self, folder: Path, below: Path) -> None:
        """Remove `folder` and those above it, as long as they are empty and lie `below`.

        A power failure may bring them back.
        """
        while folder != below and below in folder.parents:
            with told("remove the folder", folder):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    return
            folder = folder.parent

    def touch(self, path: Path) -> None:
        """Make now the time at which the file changed last."""
        with told("set the time of", path):
            os.utime(path)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Make `data` the content of `path`, or leave the old content: nothing in between."""
        temporary = path.with_name(path.name + ".new")
        fd = self.open(temporary, create=True)
        try:
            self.truncate(fd, temporary, 0)
            self.write(fd, temporary, [data], 0)
            self.sync(fd, temporary)
        finally:
            os.close(fd)
        self.rename(temporary, path)


def _kernel() -> tuple[int, ...]:
    """The first two numbers of the kernel's version; (0,) if they are none."""
    numbers = os.uname().release.split(".")[:2]
    return tuple(map(int, numbers)) if all(map(str.isdecimal, numbers)) else (0,)


def _write_all(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    total = sum(map(len, buffers))
    done = os.pwritev(fd, buffers, offset)
    while done < total:
        done += os.pwritev(fd, _rest(buffers, done), offset + done)
    return offset + total


def _rest(buffers: Sequence[Buffer], done: int) -> list[Buffer]:
    """What is left of `buffers` behind the first `done` bytes, of which there are more."""
    place = 0
    while done >= len(buffers[place]):
        done -= len(buffers[place])
        place += 1
    return [memoryview(buffers[place])[done:], *buffers[place + 1 :]]
