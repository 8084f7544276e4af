"""The one writer of a store.

Keeps the ten rules of the storage format, section 9, and the design's rules 1 to 4 and
7: the lock is held from before the first change; segments are verified, and written
after all that they refer to; a journal line is written when the closure of its head is
whole and synced. The order of a commit: segments → sync of every tar touched → sync of
the directory → journal line → sync of the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import TracebackType

from tarfailover.errors import (
    FormatError,
    NoHeadError,
    SegmentMissingError,
    StoreIOError,
    StoreLockedError,
    TarFailoverError,
)
from tarfailover.format import manifest
from tarfailover.format.tar import MAX_TAR, TAR_LIMIT, TarName
from tarfailover.ids import RecordId, SegmentId, is_data, text
from tarfailover.store import closure, recovery
from tarfailover.store.alone import Alone
from tarfailover.store.contents import Contents
from tarfailover.store.directory import check_manifest, refuse_other_directory, release, tar_names
from tarfailover.store.durable import Disk
from tarfailover.store.heads import HeadFinder, missing_text
from tarfailover.store.intake import Arrival, verify
from tarfailover.store.journalfile import JournalFile
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.opentar import Clock, Incoming, OpenTar
from tarfailover.store.snapshot import snapshot_of
from tarfailover.store.table import SegmentTable
from tarfailover.store.tarreader import TarReader

_WALK_SHARE = 1 / 8
"""What the newest segments must be of all, to be made arrays before a closure is walked."""


class StoreWriter(Contents):
    """A store opened for writing; one thread at a time may use it.

    An error of the disk while syncing ends all writing through this object: what had
    been written may be lost without any later sync saying so. Open the store again.
    """

    def __init__(
        self, directory: Path, lock: RepositoryLock, disk: Disk, tar_limit: int, clock: Clock
    ) -> None:
        super().__init__()
        self.directory = directory
        self.repairs: tuple[str, ...] = ()
        """What opening had to mend, a sentence each."""
        self._lock = lock
        self._disk = disk
        self._clock = clock
        self._tar_limit = min(tar_limit, MAX_TAR // 2)
        self._finder = HeadFinder(directory)
        self._journal = JournalFile(self._finder.path, disk)
        self._alone = Alone(directory)
        self._current: OpenTar | None = None
        self._names_dirty = False
        self._walked: tuple[tuple[object, ...], closure.Closure] | None = None
        self._failure: StoreIOError | StoreLockedError | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        create: bool = False,
        headless: bool = False,
        tar_limit: int = TAR_LIMIT,
        disk: Disk | None = None,
        clock: Clock = time.time,  # noqa: TID251 - the default of an argument
    ) -> StoreWriter:
        """Lock `directory`, mend what a crash left, and find the head.

        `create` allows a directory in which there is no store yet. `headless` allows tars
        without a head: a first copy that was interrupted. `tar_limit` is the size in
        bytes at which a tar is closed. Raises StoreLockedError, NotAStoreError,
        UnsupportedStoreError, DamagedStoreError, NoHeadError or StoreIOError.
        """
        disk = disk or Disk()
        if create:
            disk.make_directory(directory)
        # Before the lock, so that no lock file is left in a directory that is no store.
        _check(directory, create=create)
        writer = cls(directory, RepositoryLock.acquire(directory), disk, tar_limit, clock)
        try:
            _check(directory, create=create)
            writer._prepare(headless=headless)
        except BaseException:
            writer._abandon()
            raise
        return writer

    def _prepare(self, *, headless: bool) -> None:
        recovery.write_manifest(self.directory, self._disk)
        recovered = recovery.recover(self.directory, self._disk, int(self._clock()))
        self._readers = recovered.readers
        with snapshot_of(self._readers) as snapshot:
            self._table = snapshot.table
            self._starts = list(snapshot.tars.starts)
            self._renew_tars()
        self.repairs = recovered.repairs
        self._journal.settle()
        self._alone.take_stock()
        self._find_head(headless=headless)

    def _find_head(self, *, headless: bool) -> None:
        with self._bare() as snapshot:
            try:
                head = self._finder.find(snapshot)
            except NoHeadError:
                if snapshot.count and not headless:
                    raise
                return
        self.head, self._time_ms = head.record, head.time_ms
        self.repairs += tuple(f"stepped back in the journal over {why}" for why in head.skipped)

    # reading

    def missing(self, head: SegmentId) -> list[SegmentId]:
        """What the closure of the segment `head` lacks; empty if a head in it can be set."""
        found = self._walk(head)
        return [each.segment for each in found.missing]

    def _walk(self, head: SegmentId) -> closure.Closure:
        """The closure of `head`; kept, since a commit follows a look for what is missing."""
        self._table = self._table.merged(_WALK_SHARE)
        key = head, len(self._table), self.head
        if self._walked is None or self._walked[0] != key:
            with self._bare() as snapshot:
                self._walked = key, closure.walk(snapshot, [head], self._finder.known)
        return self._walked[1]

    # writing

    def append(self, segment: SegmentId, data: bytes) -> None:
        """Store one segment that this process made.

        Raises FormatError if it is no valid segment, SegmentMissingError if something
        in its table is not stored, StoreIOError.
        """
        incoming = verify(Arrival.of(segment, data), self.read)
        absent = self.lacking(incoming.references)
        if absent:
            raise SegmentMissingError(
                f"segment {text(segment)} refers to {text(absent[0])}, which is not stored yet"
            )
        self.store([incoming])

    def store(self, segments: Sequence[Incoming]) -> None:
        """Write verified segments in this order; those already stored are left out.

        The caller answers for their order: references before referrers. Raises
        StoreIOError.
        """
        self._check_usable()
        batch: list[Incoming] = []
        size = 0
        for each in self._new(segments):
            batch.append(each)
            size += 512 + -(-each.length // 512) * 512
            if self._size() + size >= self._tar_limit:
                self._write(batch)
                self._seal()
                batch, size = [], 0
        self._write(batch)

    def _new(self, segments: Sequence[Incoming]) -> list[Incoming]:
        """Those of `segments` that are not stored, once each, in their order."""
        distinct = {each.segment: each for each in segments}
        return [distinct[segment] for segment in self.lacking(distinct)]

    def _size(self) -> int:
        return self._current.size if self._current else 0

    def _write(self, batch: Sequence[Incoming]) -> None:
        if not batch:
            return
        tar = self._current or self._begin()
        self._table.append(tar.append(batch, int(self._clock())))
        self._table = self._table.merged()

    def _begin(self) -> OpenTar:
        number = self._readers[-1].name.number + 1 if self._readers else 0
        tar = OpenTar.create(self.directory, TarName(number), self._disk)
        tar.reader.acquire()
        self._readers.append(tar.reader)
        self._starts.append(len(self._table))
        self._renew_tars()
        self._names_dirty = True
        self._current = tar
        return tar

    def _seal(self) -> None:
        tar = self._current
        if tar is None:
            return
        if not tar.reader.count:
            self._drop(tar)
            return
        with self._poisoned_by_errors():
            self._lock.confirm()
            tar.seal(int(self._clock()))
        tar.close()
        self._current = None

    def _drop(self, tar: OpenTar) -> None:
        """Remove a tar whose first segment could not be written: none may be without any."""
        self._current = None
        self._starts.pop()
        self._readers.pop().release()
        self._renew_tars()
        with self._poisoned_by_errors():
            tar.discard()

    def commit(self, head: RecordId, time_ms: int) -> None:
        """Make `head` the head, durably; `time_ms` is its time, milliseconds since 1970.

        Raises SegmentMissingError if its closure is not whole, and FormatError for a
        record in a bulk segment; then nothing changes. Raises StoreIOError; then which
        of both is the head shows when the store is opened again. Raises StoreLockedError
        if the lock was lost to another process, or if somebody wrote here without it; then
        nothing more may be written.
        """
        self._check_usable()
        if not is_data(head.segment):
            raise FormatError(f"{head} cannot be a head: it lies in no data segment", 0)
        found = self._walk(head.segment)
        if found.missing:
            raise SegmentMissingError(f"head {head} cannot be set: {missing_text(found)}")
        self.flush()
        with self._poisoned_by_errors():
            self._lock.confirm()
            self._refuse_intruder()
            self._journal.append(head, time_ms)
        self._finder.learn(found, len(self._table))
        self._walked = None
        self.head, self._time_ms = head, time_ms

    def intruder(self) -> str:
        """What somebody else wrote into this store since it was opened, '' if nothing.

        Raises DamagedStoreError if a file of it was removed, StoreIOError.
        """
        return self._alone.intruder(self._readers, self._journal)

    def _refuse_intruder(self) -> None:
        found = self.intruder()
        if found:
            raise StoreLockedError(f"{found}: somebody else writes this store; no head is set")

    def flush(self) -> None:
        """Wait until all that was stored is on the disk; the head does not move."""
        self._check_usable()
        with self._poisoned_by_errors():
            if self._current is not None:
                self._current.sync()
            if self._names_dirty:
                self._disk.sync_directory(self.directory)
                self._names_dirty = False

    # other files

    @property
    def failed(self) -> bool:
        """Whether nothing more can be written through this object."""
        return self._failure is not None

    @property
    def disk(self) -> Disk:
        """What changes the files."""
        return self._disk

    def now(self) -> int:
        """The time that new entries get, seconds since 1970."""
        return int(self._clock())

    def seal(self) -> None:
        """Close the tar that is being written; what comes next goes into a new one."""
        self._check_usable()
        self._seal()

    @property
    def finder(self) -> HeadFinder:
        """What is known of heads, and of which segments all that they need is there."""
        return self._finder

    @contextmanager
    def changing_files(self) -> Iterator[None]:
        """For a block that changes which files count: an error in it ends all writing."""
        self._check_usable()
        with self._poisoned_by_errors():
            self._lock.confirm()
            yield

    def install(self, readers: Sequence[TarReader], table: SegmentTable, known: bytearray) -> None:
        """Show `readers`, whose segments `table` lists, in place of the tars shown so far.

        The caller lets go of those that are no more among them.
        """
        self._readers, self._table = list(readers), table
        sizes = (reader.count for reader in readers)
        self._starts = [0, *accumulate(sizes)][: len(readers)]
        self._renew_tars()
        self._finder.known, self._walked = known, None

    # the end

    def close(self) -> None:
        """Seal the last tar and give the lock back; harmless when called twice."""
        if self._closed:
            return
        try:
            if self._failure is None:
                self._seal()
                self.flush()
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """Let go of everything as it is: the next open mends it."""
        self._closed = True
        if self._current is not None:
            self._current.close()
            self._current = None
        self._tars.release()
        release(self._readers)
        self._readers = []
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise TarFailoverError(f"{self.directory}: this writer is closed")
        if self._failure is not None:
            raise type(self._failure)(
                f"{self._failure}; nothing more is written: close the store and open it again"
            ) from self._failure

    @contextmanager
    def _poisoned_by_errors(self) -> Iterator[None]:
        """Remember an error of the disk where a second try would prove nothing."""
        try:
            yield
        except (StoreIOError, StoreLockedError) as error:
            self._failure = error
            raise


def _check(directory: Path, *, create: bool) -> None:
    """Raise unless there is a store in `directory`, or one may be created."""
    if create and not tar_names(directory) and not (directory / manifest.NAME).exists():
        refuse_other_directory(directory)
    else:
        check_manifest(directory)
