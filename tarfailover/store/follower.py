"""A read-only view that keeps up with a directory which another process writes.

Takes no lock and writes nothing. Each `refresh` looks at the directory and makes a new
snapshot if something changed: entries in the newest tar, new tars, new letters, deleted
tars, journal lines. The journal is measured before the tars are read, so that whatever
a head needs was on disk when the tars were looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tarfailover.errors import NoHeadError, StoreIOError
from tarfailover.format.tar import TarName
from tarfailover.store import directory as directories
from tarfailover.store import journal
from tarfailover.store.durable import told
from tarfailover.store.heads import HeadFinder
from tarfailover.store.snapshot import Head, Snapshot, no_tars, tars_of
from tarfailover.store.table import Columns, SegmentTable
from tarfailover.store.tarreader import TarReader

ATTEMPTS = 10
"""Times a refresh begins anew because a file vanished under it."""

Names = dict[TarName, int]
"""The tars in the directory and their inodes."""


class _Signature(NamedTuple):
    """What must be equal for a directory to count as unchanged."""

    directory: tuple[int, int]
    journal: tuple[int, int, int]
    newest: tuple[int, int]


class Follower:
    """See the module. One thread at a time may call `refresh`; snapshots go anywhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._finder = HeadFinder(directory)
        self._names: Names = {}
        self._readers: list[TarReader] = []
        self._starts: list[int] = []
        self._table = SegmentTable()
        self._signature: _Signature | None = None
        self._torn = False
        """Whether a refresh ended in the middle, so that the next one begins anew."""
        self.snapshot = Snapshot(self._table, no_tars(), None)
        self.no_head: NoHeadError | None = None
        """Why the snapshot has no head, if it has none."""

    @classmethod
    def open(cls, directory: Path) -> Follower:
        """Follow `directory`.

        Raises NotAStoreError, UnsupportedStoreError, DamagedStoreError or StoreIOError.
        A store without a head can be followed: see `no_head`.
        """
        directories.check_manifest(directory)
        follower = cls(directory)
        try:
            follower.refresh()
        except BaseException:
            follower.close()
            raise
        return follower

    def head(self) -> Head:
        """The head of the current snapshot; raises NoHeadError."""
        if self.snapshot.head is None:
            raise self.no_head or NoHeadError(f"{self.directory} has no head")
        return self.snapshot.head

    def close(self) -> None:
        """Let go of everything; snapshots that others hold stay readable."""
        self.snapshot.release()
        _release(self._readers)
        self._readers = []

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def refresh(self) -> Snapshot:
        """The directory as it is now: the same object as before if nothing changed.

        Raises as `open` does; the previous snapshot stays in place then.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._refresh()
            except StoreIOError as error:
                vanished = isinstance(error.__cause__, FileNotFoundError)
                if not vanished or attempt == ATTEMPTS:
                    raise
                self._signature = None
        raise AssertionError("the loop returns or raises")

    def _refresh(self) -> Snapshot:
        signature = self._look()
        if signature == self._signature:
            return self.snapshot
        end = journal.size(self._finder.path)
        names = self._list()
        growth = self._is_growth(names)
        self._torn = True
        if not (growth and self._grow(names)):
            self._rebuild(names)
        self._torn = False
        self._publish(end)
        self._signature = signature
        return self.snapshot

    # looking

    def _look(self) -> _Signature:
        with told("look at", self.directory):
            own = self.directory.stat()
        try:
            log = self._finder.path.stat()
            seen = (log.st_ino, log.st_size, log.st_mtime_ns)
        except FileNotFoundError:
            seen = (0, 0, 0)
        newest = self._readers[-1] if self._readers else None
        size = newest.size() if newest is not None and newest.index is None else 0
        return _Signature((own.st_ino, own.st_mtime_ns), seen, (len(self._readers), size))

    def _list(self) -> Names:
        found: Names = {}
        for name in directories.tar_names(self.directory):
            path = self.directory / str(name)
            with told("look at", path):
                found[name] = path.stat().st_ino
        return found

    def _is_growth(self, names: Names) -> bool:
        """Whether what was known is still there as it was, and the rest lies behind it."""
        if not self._readers or self._torn:
            return False
        if any(names.get(name) != inode for name, inode in self._names.items()):
            return False
        last = self._readers[-1].name.number
        return all(name.number > last for name in names if name not in self._names)

    # taking up what is new

    def _grow(self, names: Names) -> bool:
        """Take up new entries and new tars; False if the newest tar is not what it was."""
        if not self._scan_newest():
            return False
        seen = {name.number for name in self._names}
        for number, letters in _by_number(names):
            if number not in seen:
                for reader in directories.choose(self.directory, letters).winners:
                    self._add(reader)
        self._names = names
        return True

    def _scan_newest(self) -> bool:
        newest = self._readers[-1]
        if newest.index is not None:
            return True
        self._table.append(found.entry for found in newest.scan())
        return not newest.load_index() or newest.indexed == len(newest.scanned)

    def _add(self, reader: TarReader) -> None:
        columns = reader.columns()
        table = SegmentTable(columns)
        self._starts.append(len(self._table))
        self._table.append(map(table.entry, range(len(table))))
        self._readers.append(reader)

    def _rebuild(self, names: Names) -> None:
        """Begin anew, keeping open what did not change on disk."""
        kept = {(r.name, r.status.st_ino): r for r in self._readers if r.index is not None}
        readers: list[TarReader] = []
        try:
            for _, letters in _by_number(names):
                winners = directories.choose(self.directory, letters).winners
                readers += [_prefer(kept, reader) for reader in winners]
        except BaseException:
            _release(readers)
            raise
        _release(self._readers)
        self._readers, self._names = readers, names
        columns = [reader.columns() for reader in readers]
        self._starts = [0, *accumulate(len(part.msb) for part in columns)][: len(columns)]
        self._table = SegmentTable(Columns.joined(columns) if columns else Columns.of_entries([]))
        self._finder = HeadFinder(self.directory)

    def _publish(self, end: int) -> None:
        self._table = self._table.merged()
        bare = Snapshot(self._table, tars_of(self._readers, self._starts), None)
        head = None
        try:
            head = self._finder.find(bare, end)
            self.no_head = None
        except NoHeadError as error:
            self.no_head = error
        fresh = bare.with_head(head)
        bare.release()
        self.snapshot.release()
        self.snapshot = fresh


def _by_number(names: Iterable[TarName]) -> list[tuple[int, list[TarName]]]:
    groups = groupby(sorted(names), key=lambda name: name.number)
    return [(number, list(letters)) for number, letters in groups]


def _prefer(kept: dict[tuple[TarName, int], TarReader], reader: TarReader) -> TarReader:
    """The reader of the same file that is open already, if there is one."""
    old = kept.get((reader.name, reader.status.st_ino))
    if old is None:
        return reader
    reader.release()
    old.acquire()
    return old


def _release(readers: Iterable[TarReader]) -> None:
    for reader in readers:
        reader.release()
