"""A read-only view that keeps up with a directory which another process writes.

Takes no lock and writes nothing. Each `refresh` looks at the directory and makes a new
snapshot if something changed: entries in the newest tar, new tars, new letters, deleted
tars, journal lines. The journal is measured before the tars are read, so that whatever
a head needs was on disk when the tars were looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tarfailover.errors import NoHeadError, StoreIOError
from tarfailover.format.tar import TarName
from tarfailover.store import directory as directories
from tarfailover.store import journal
from tarfailover.store.durable import told
from tarfailover.store.heads import HeadFinder
from tarfailover.store.snapshot import Head, Snapshot, no_tars, snapshot_of, tars_of
from tarfailover.store.table import SegmentTable
from tarfailover.store.tarreader import TarReader

ATTEMPTS = 10
"""Times a refresh begins anew because the directory changed under it."""

Names = dict[TarName, int]
"""The tars in the directory and their inodes."""


class _Signature(NamedTuple):
    """What must be equal for a directory to count as unchanged."""

    directory: tuple[int, int]
    journal: tuple[int, int, int]
    newest: int
    """Bytes in the newest tar, 0 if it is closed."""


class Follower:
    """See the module. One thread at a time may call `refresh`; snapshots go anywhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._finder = HeadFinder(directory)
        self._names: Names = {}
        self._readers: list[TarReader] = []
        self._starts: list[int] = []
        self._tars = no_tars().acquire()
        self._table = SegmentTable()
        self._signature: _Signature | None = None
        self._guard = threading.Lock()
        self._closed = False
        self.snapshot = Snapshot(self._table, self._tars, None)
        """The newest; another thread than the one that refreshes takes it through `hold`."""
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
            raise NoHeadError(str(self.no_head or f"{self.directory} has no head"))
        return self.snapshot.head

    def hold(self) -> Snapshot:
        """The current snapshot, held for the caller, who releases it; from any thread.

        Between reading `snapshot` and holding it another thread could close its files.
        Raises TarFailoverError if this follower is closed.
        """
        with self._guard:
            return self.snapshot.acquire()

    def close(self) -> None:
        """Let go of everything; snapshots that others hold stay readable."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self.snapshot.release()
        self._tars.release()
        directories.release(self._readers)
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
        left = ATTEMPTS
        while not self._attempt(final=left == 1):
            self._signature = None
            left -= 1
        return self.snapshot

    def _attempt(self, *, final: bool) -> bool:
        """False if a file vanished, or no good head was found, while the directory changed."""
        try:
            return self._refresh(final=final)
        except StoreIOError as error:
            if final or not isinstance(error.__cause__, FileNotFoundError):
                raise
            return False

    def _refresh(self, *, final: bool) -> bool:
        signature = self._look()
        if signature == self._signature:
            return True
        end = journal.size(self._finder.path)
        self._take_up(self._list())
        found = Snapshot(self._table, self._tars, None)
        try:
            found.head, no_head = self._find(found, end)
            doubtful = found.head is None or bool(found.head.skipped)
            if doubtful and not final and self._look().directory != signature.directory:
                return False
            self._publish(found)
        finally:
            found.release()
        self.no_head = no_head
        self._signature = signature._replace(newest=self._scanned_size())
        return True

    def _find(self, snapshot: Snapshot, end: int) -> tuple[Head | None, NoHeadError | None]:
        try:
            return self._finder.find(snapshot, end), None
        except NoHeadError as error:
            return None, error

    def _publish(self, found: Snapshot) -> None:
        shown = self.snapshot
        if (shown.tars, shown.count, shown.head) == (found.tars, found.count, found.head):
            return
        with self._guard:
            self.snapshot = found.acquire()
        shown.release()

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
        return _Signature((own.st_ino, own.st_mtime_ns), seen, size)

    def _scanned_size(self) -> int:
        newest = self._readers[-1] if self._readers else None
        return newest.scanned_size if newest is not None and newest.index is None else 0

    def _list(self) -> Names:
        found: Names = {}
        for name in directories.tar_names(self.directory):
            path = self.directory / str(name)
            with told("look at", path):
                found[name] = path.stat().st_ino
        return found

    # taking up what is new

    def _take_up(self, names: Names) -> None:
        if not (self._is_growth(names) and self._grow(names)):
            self._rebuild(names)
        self._table = self._table.merged()
        shown = self._tars.readers, self._tars.starts
        if shown != (tuple(self._readers), tuple(self._starts)):
            self._tars.release()
            self._tars = tars_of(self._readers, self._starts).acquire()

    def _is_growth(self, names: Names) -> bool:
        """Whether what was known is still there as it was, and the rest lies behind it.

        It does not after an error in the middle, when a tar was taken up but not its name.
        """
        if not self._readers:
            return False
        if any(names.get(name) != inode for name, inode in self._names.items()):
            return False
        last = self._readers[-1].name.number
        return all(name.number > last for name in names if name not in self._names)

    def _grow(self, names: Names) -> bool:
        """Take up new entries and new tars; False if the newest tar is not what it was."""
        if not self._scan_newest():
            return False
        seen = {name.number for name in self._names}
        for number, letters in _by_number(names):
            if number not in seen:
                for reader in directories.choose(self.directory, letters).winners:
                    self._readers.append(reader)
                    self._starts.append(len(self._table))
                    self._table = self._table.extended(reader.columns())
                    reader.release_rows()
        self._names = names
        return True

    def _scan_newest(self) -> bool:
        newest = self._readers[-1]
        if newest.index is not None:
            return True
        self._table.append(found.entry for found in newest.scan())
        return not newest.load_index() or _as_scanned(newest)

    def _rebuild(self, names: Names) -> None:
        """Begin anew, keeping open what did not change on disk."""
        readers: list[TarReader] = []
        try:
            for number, letters in _by_number(names):
                kept = self._kept(number, {name: names[name] for name in letters})
                readers += kept or directories.choose(self.directory, letters).winners
        except BaseException:
            directories.release(readers)
            raise
        directories.release(self._readers)
        self._readers, self._names = readers, names
        with snapshot_of(readers) as snapshot:
            self._table = snapshot.table
            self._starts = list(snapshot.tars.starts)
        self._finder = HeadFinder(self.directory)

    def _kept(self, number: int, names: Names) -> list[TarReader]:
        """The open tars of `number`, held once more, if its files are still the same."""
        before = {name: inode for name, inode in self._names.items() if name.number == number}
        if before != names:
            return []
        readers = [reader for reader in self._readers if reader.name.number == number]
        for reader in readers:
            if reader.index is None:
                reader.scan()
                if reader.load_index():
                    reader.forget_scan()
        for reader in readers:
            reader.acquire()
        return readers


def _by_number(names: Iterable[TarName]) -> list[tuple[int, list[TarName]]]:
    groups = groupby(sorted(names), key=lambda name: name.number)
    return [(number, list(letters)) for number, letters in groups]


def _as_scanned(reader: TarReader) -> bool:
    """Whether the index of `reader` has the same segments as the scan, which is forgotten."""
    same = len(reader.scanned) == reader.count
    if same:
        reader.forget_scan()
    return same
