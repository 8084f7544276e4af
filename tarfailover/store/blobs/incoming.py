"""One file of a blob store on its way: it can be cut at any byte, and goes on from there.

::

    <root>/.tarfailover-<digest>.part       what has come; survives the process
      -> digest and length compared, synced, folders made and synced
      -> renamed to its place, the folder synced

What has come under a digest is only believed when its digest was computed from what is on
the disk: a part that a power failure spoilt is found at the end, discarded and told, and
the next attempt begins at 0.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tarfailover.errors import (
    BlobMissingError,
    DamagedStoreError,
    FormatError,
    StoreIOError,
    StoreLockedError,
)
from tarfailover.format.blobid import MAX_LENGTH, Block
from tarfailover.store.blobs import files, guard, hashing
from tarfailover.store.durable import Buffer, Disk, told

if TYPE_CHECKING:
    from tarfailover.store.blobs.store import BlobStore

STEP = 4 * 1024 * 1024
"""Bytes of an earlier attempt that `finish` reads at once."""
START_SYNC_EVERY = 8 * 1024 * 1024
"""Bytes after which the kernel is asked to begin to write them out."""
MANY = 8
"""Files that are made durable by a sync of their whole file system, and not one by one."""
ATTEMPTS = 8
"""How often a folder is made anew that a collector has removed meanwhile."""


class Incoming:
    """See the module; made by `BlobStore.incoming`, to be closed, or used with ``with``."""

    def __init__(
        self, store: BlobStore, block: Block, disk: Disk, path: Path, fd: int, *, named: bool
    ) -> None:
        self._store = store
        self.disk = self._disk = disk
        self._path = path
        self._fd = fd
        self._hasher = hashing.hasher_for(block.digest)
        self._hashed = 0
        self.digest = block.digest
        self._named = named
        self.length = block.size
        """Bytes of the whole; None if nobody knows."""
        self.offset = os.fstat(fd).st_size
        """Bytes that have come, in earlier attempts too: the next to be written."""
        self._started = self.offset
        """Where what the kernel was asked to write out ends."""

    @classmethod
    def open(cls, store: BlobStore, block: Block, disk: Disk, *, named: bool = True) -> Incoming:
        """Go on with what has come of `block`, or begin; see `BlobStore.incoming`.

        Unless `named` its digest is not known yet, and that of `block` is but a token.
        """
        disk.make_directory(store.path)
        path = store.path / store.layout.partial(block.digest)
        found = cls(store, block, disk, path, _locked(disk, path), named=named)
        if found.offset > found.limit:
            found.restart()
        return found

    @property
    def limit(self) -> int:
        """Bytes that may come."""
        return MAX_LENGTH if self.length is None else self.length

    def write(self, data: Buffer) -> None:
        """Take the next bytes.

        Raises FormatError if they are more than the binary has, and StoreIOError; what was
        written before stays.
        """
        end = self.offset + len(data)
        if end > self.limit:
            raise FormatError(f"more bytes than the {self.limit} of the binary", self.offset)
        self._disk.write(self._fd, self._path, [data], self.offset)
        if self._hashed == self.offset:
            self._hasher.update(data)
            self._hashed = end
        self.offset = end
        if end - self._started >= START_SYNC_EVERY:
            self._disk.start_sync(self._fd, self._started, end - self._started)
            self._started = end

    def catch_up(self, size: int = STEP) -> bool:
        """Take up to `size` bytes of an earlier attempt into the digest.

        Tells whether that is done. `finish` does it too: this is for who must not be away
        for as long as it takes to read a file of many GiB.
        """
        if self._hashed < self.offset:
            wanted = min(size, self.offset - self._hashed)
            data = files.read_at(self._fd, self._path, self._hashed, wanted)
            if len(data) < wanted:
                raise DamagedStoreError(f"{self._path} was cut while it was being written")
            self._hasher.update(data)
            self._hashed += len(data)
        return self._hashed == self.offset

    def finish(self) -> None:
        """All has come: verify it, and make it visible, durably; raises as `check`."""
        self.check()
        settle([self])

    def check(self) -> None:
        """All has come: verify it.

        Raises FormatError if it is not what its id says: then it is discarded, unless only
        its end is still to come.
        """
        if self.length not in (None, self.offset):
            raise FormatError(
                f"{self.offset} of {self.length} bytes of the binary have come", self.offset
            )
        while not self.catch_up():
            pass
        if not self._named:
            self.digest = self._hasher.hexdigest()
        if self._hasher.hexdigest() != self.digest:
            self.discard()
            raise FormatError(
                f"{self.offset} bytes came for the binary {self.digest}, and their digest is "
                f"{self._hasher.hexdigest()}; they were discarded",
                0,
            )
        self._disk.start_sync(self._fd, self._started, self.offset - self._started)

    def sync(self) -> None:
        """Wait until all bytes are on the disk."""
        self._disk.sync(self._fd, self._path)

    def sync_all(self) -> bool:
        """The same for all in this file system, names too; False if this cannot be done."""
        return self._disk.sync_all(self._fd, self._path)

    def place(self) -> Iterator[Path]:
        """Make it visible; gives the folders that are to be synced, also before an error.

        Harmless if the file is already in its place.
        """
        target = self._store.path / self._store.layout.place(self.digest)
        if self._is_whole(target):
            self._disk.forget(self._path)
            yield from (target.parent, self._path.parent)
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                yield from self._make_folders(target.parent)
                self._disk.move(self._path, target)
                yield target.parent
            except StoreIOError as error:
                gone = isinstance(error.__cause__, OSError) and error.__cause__.errno
                # A collector removes folders that are empty, perhaps the one just made.
                if gone != errno.ENOENT or attempt == ATTEMPTS:
                    raise
            else:
                return

    def _make_folders(self, folder: Path) -> Iterator[Path]:
        """Make `folder` and those above it, below the store's; gives those with new names."""
        below = folder.relative_to(self._store.path)
        for path in [*reversed(below.parents[:-1]), below]:
            made = self._store.path / path
            if self._disk.make_folder(made):
                yield made.parent

    def _is_whole(self, target: Path) -> bool:
        """Whether somebody else has put it there: what is verified is never replaced."""
        with guard.counting_on(self._store.path):
            if files.regular(target) is None:
                return False
            # It is as good as new, and no collection takes it for old.
            self._disk.touch(target)
        try:
            self._store.verify_block(Block(self.digest, self.offset))
        except (BlobMissingError, DamagedStoreError):
            return False
        return True

    def restart(self) -> None:
        """Forget what has come, and begin at 0."""
        self._disk.truncate(self._fd, self._path, 0)
        self._hasher, self._hashed, self.offset = hashing.hasher_for(self.digest), 0, 0
        self._started = 0

    def discard(self) -> None:
        """Remove what has come."""
        if self._fd >= 0:
            self._disk.remove(self._path)
            self.close()

    def close(self) -> None:
        """Let go; what has come stays for the next attempt. Harmless when called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def settle(incomings: Sequence[Incoming]) -> None:
    """Make files visible that were checked, durably, and close them; raises StoreIOError.

    Alone each waits for the disk several times; many wait twice, all together.
    """
    many = len(incomings) >= MANY
    if not (many and incomings[0].sync_all()):
        for each in incomings:
            each.sync()
    folders: dict[Path, None] = {}
    try:
        for each in incomings:
            for folder in each.place():
                folders[folder] = None
    finally:
        # Who looks later takes what he finds for durable.
        if not (many and incomings[0].sync_all()):
            for folder in folders:
                incomings[0].disk.sync_directory(folder)
    for each in incomings:
        each.close()


def _locked(disk: Disk, path: Path) -> int:
    """A descriptor of the file `path`, made if need be, that nobody else writes."""
    for _ in range(ATTEMPTS):
        fd = disk.open(path, create=True, follow=False)
        try:
            _lock(fd, path)
            found = files.regular(path)
            # Who had it may have finished it in between: then that is not it any more.
            if found is not None and os.path.samestat(found, os.fstat(fd)):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise StoreLockedError(f"{path}: others write the same binary again and again")


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreLockedError(
            f"{path}: somebody else is taking in the same binary; wait until that is done"
        ) from None
    except OSError:
        with told("lock", path):
            raise
