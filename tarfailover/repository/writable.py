"""A repository opened to be changed; see `open_for_writing`."""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType

from tarfailover.errors import TarFailoverError
from tarfailover.ids import RecordId
from tarfailover.repository import checkpoints
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.collecting import Collected, collect
from tarfailover.repository.committing import Committer
from tarfailover.repository.compaction import Random
from tarfailover.repository.editing import Edit, WritableNode
from tarfailover.repository.gate import Gate
from tarfailover.repository.opened import Checkpoint, checkpoints_of
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import Outside
from tarfailover.repository.segment_writer import Clock
from tarfailover.repository.tree import Node
from tarfailover.store.blobs import BlobStore, open_blob_store
from tarfailover.store.cleanup.marks import OAK
from tarfailover.store.durable import Disk
from tarfailover.store.writer import StoreWriter

WRITER = "tarfailover"
"""The name of the writer in the segments."""
COMMIT_CACHE = 8 * 1024 * 1024
"""Bytes of segments that each thread that commits keeps in memory."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)  # noqa: TID251 - the default of an argument


class _Own(threading.local):
    """What each thread has for itself: readers are for one thread."""

    reader: RecordReader | None = None


class WritableRepository:
    """See `open_for_writing`; to be closed, or used with ``with``. For any number of threads."""

    def __init__(
        self,
        store: StoreWriter,
        *,
        outside: Outside | None = None,
        random: Random = os.urandom,
        now: Clock = now_ms,
        wid: str = WRITER,
    ) -> None:
        """Commit to `store`, and close it in the end; large binaries go `outside`, if given.

        `random(n)` gives n bytes for ids, `now` the time in milliseconds since 1970.
        """
        self._store = store
        self._now = now
        self._random = random
        self._outside = outside
        self._wid = wid
        self._gate = Gate()
        self._begin()
        self._closed = False

    @property
    def directory(self) -> Path:
        """Where the store is."""
        return self._store.directory

    @property
    def head(self) -> RecordId:
        """The newest head that is durable."""
        head = self._committer.durable
        if head is None:
            raise AssertionError("a repository that was opened for writing has a head")
        return head

    @property
    def repairs(self) -> tuple[str, ...]:
        """What opening the store had to mend, a sentence each."""
        return self._store.repairs

    @contextmanager
    def commit(self) -> Iterator[WritableNode]:
        """A block whose changes below the node that it gets become one new head.

        When the block ends, they are durable; when it raises, there were none. What other
        threads have committed since the block began is kept: changes of different nodes,
        children and properties merge, and so do equal changes.

        Raises ConflictError where it cannot be both, and ContentError for what a repository
        cannot hold: then nothing was committed. Raises StoreIOError or StoreLockedError:
        whether it was shows when the store is opened again.
        """
        with self._gate.block():
            self._check_open()
            edit = Edit(self._committer, self._reader())
            try:
                yield WritableNode(edit)
                changed = edit.finish()
                if changed is not None:
                    self._committer.commit(edit.base, changed)
            finally:
                edit.abandon()

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the head keeps, oldest first."""
        with self._gate.block():
            self._check_open()
            return checkpoints_of(Node(self._committer.newest(self._reader())))

    def checkpoint(
        self, lifetime: dt.timedelta, info: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Keep the content as it is now for `lifetime`; the name of the checkpoint.

        `info` is noted with it, as ``{"creator": "…"}``. Checkpoints that have expired are
        removed. Raises ContentError, and as `commit`.
        """
        made: list[str] = []
        milliseconds = lifetime // dt.timedelta(milliseconds=1)

        def change(super_root: NodeBuilder) -> None:
            now = self._now()
            made.append(checkpoints.create(super_root, now, milliseconds, info, self._random))

        self._change(change)
        return made[0]

    def release(self, checkpoint: str) -> None:
        """Remove the checkpoint of this name; raises NotFoundError, and as `commit`."""
        self._change(lambda super_root: checkpoints.release(super_root, checkpoint))

    def _change(self, change: Callable[[NodeBuilder], None]) -> None:
        with self._gate.block():
            self._check_open()
            self._committer.change(change)

    def compact(self, *, tail: bool = False, retained: int = OAK.retained) -> Collected:
        """Write the head anew in a new generation, and remove what older ones leave.

        As ``tarfailover compact`` does; see `collect`. Waits for the blocks of other threads
        to end, and new ones wait for it. Raises TarFailoverError for one of this thread, or
        if they do not end for a minute.
        """
        with self._gate.alone():
            self._check_open()
            self._committer.close()
            try:
                return collect(
                    self._store, self._random, now=self._now, tail=tail, retained=retained
                )
            finally:
                self._begin()

    def _begin(self) -> None:
        """Begin with the head that the store has, in its generation, and with empty caches."""
        self._committer = Committer(
            self._store, self._random, wid=self._wid, now=self._now, outside=self._outside
        )
        self._own = _Own()

    def _reader(self) -> RecordReader:
        if self._own.reader is None:
            self._own.reader = self._committer.reader(COMMIT_CACHE)
        return self._own.reader

    def _check_open(self) -> None:
        if self._closed:
            raise TarFailoverError(f"{self.directory}: this repository is closed")

    def close(self) -> None:
        """Close the store and give its lock back; harmless when called twice.

        Blocks that are still open in other threads fail.
        """
        if not self._closed:
            self._closed = True
            try:
                self._committer.close()
            finally:
                self._store.close()

    def __enter__(self) -> WritableRepository:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_for_writing(
    directory: str | Path,
    *,
    create: bool = False,
    blobs: Outside | BlobStore | str | Path | None = None,
    disk: Disk | None = None,
) -> WritableRepository:
    """Open the segment store in `directory` to change what is in it.

    Holds its lock until it is closed, as Oak does; mends first what a crash left. With
    `create`, a store is made in a directory that is missing or empty. `blobs` is where
    external binaries are and where binaries of 16512 bytes and more go: a directory, a blob
    store that is open, or an `Outside`, which tells another size; without, they go into the
    segments.

    Raises StoreLockedError while another process, or this one, has it open for writing;
    NotAStoreError, UnsupportedStoreError, DamagedStoreError, NoHeadError, StoreIOError.
    """
    if isinstance(blobs, (str, Path)):
        blobs = open_blob_store(blobs)
    outside = Outside(blobs, os.urandom) if isinstance(blobs, BlobStore) else blobs
    # Without a head, if the process died between making the store and its first head.
    store = StoreWriter.open(Path(directory), create=create, headless=create, disk=disk)
    try:
        return WritableRepository(store, outside=outside)
    except BaseException:
        store.close()
        raise
