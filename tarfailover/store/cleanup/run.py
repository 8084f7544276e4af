"""A cleanup of a store that is open for writing, one step at a time.

Between two steps the owner may store and commit; what is new is kept, with all that it
needs. At no step may segments wait outside of the store for others to come, since what
they refer to could be removed meanwhile. The order for each tar: the new one is written
and synced, renamed and the directory synced, shown in place of the old one, and only
then is the old one removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tarfailover.errors import StoreError, StoreIOError
from tarfailover.format.tar import TarName
from tarfailover.ids import Generation
from tarfailover.store.cleanup.marks import Marks, Rule, Share, shares
from tarfailover.store.cleanup.rewrite import Rewrite
from tarfailover.store.directory import release
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.table import Columns, SegmentTable
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

STEP = 32 * 1024 * 1024
"""Bytes that are copied in one step: some tenths of a second."""
REMOVED_AT_ONCE = 16
"""Tars that are removed in one step: large files take their time."""
SPARE = 64 * 1024 * 1024
"""Bytes of the file system that a cleanup leaves to others."""


@dataclass
class Report:
    """What a cleanup has done so far; sizes are those of whole files."""

    generation: Generation
    """That of the head by which was judged."""
    tars_removed: int = 0
    tars_rewritten: int = 0
    segments: int = 0
    """Segments that are gone."""
    freed: int = 0
    """Bytes."""
    failures: list[StoreError] = field(default_factory=list)
    """Why a tar was left as it is; a later cleanup tries again."""


class Cleanup:
    """Removes from the store of `writer` what `rule` does not keep; see the module.

    `step` until it says that nothing is left to do, then `close`. The first step judges
    all segments; each other one removes tars, or copies a part of one.
    """

    def __init__(self, writer: StoreWriter, rule: Rule) -> None:
        self._writer = writer
        self._rule = rule
        self._marks: Marks | None = None
        self._rewrite: Rewrite | None = None
        self._refused: set[TarName] = set()
        self.report = Report(Generation(0, 0, False))

    def step(self) -> bool:
        """Do a bounded part; tells whether there may be more to do.

        What concerns one tar alone is noted in the report, and the tar is left as it is.
        Raises StoreError for what concerns all: a head that is not whole, or names that
        cannot be changed; in that case the writer is of no more use.
        """
        with self._writer.snapshot() as snapshot:
            marks = self._judged(snapshot)
            if self._rewrite is not None:
                self._go_on(snapshot, marks, self._rewrite)
                return True
            planned = shares(snapshot, marks)
            empty = [share for share in planned if share.empty]
            sparse = [each for each in planned if each.sparse and each.name not in self._refused]
            if empty:
                self._remove(snapshot, marks, empty[:REMOVED_AT_ONCE])
            elif sparse:
                # The smallest first: each makes room for the next.
                self._begin(snapshot, marks, min(sparse, key=_left))
            return bool(empty or sparse)

    def close(self) -> None:
        """Remove what is half written; raises StoreIOError. Harmless when called twice."""
        rewrite, self._rewrite = self._rewrite, None
        if rewrite is not None:
            rewrite.discard()

    # judging

    def _judged(self, snapshot: Snapshot) -> Marks:
        marks = self._marks
        if marks is None or _moved(snapshot, marks):
            self.close()
            marks = self._marks = Marks(snapshot, self._rule)
            self.report.generation = marks.head.generation
            self._writer.finder.known = marks.closed
        elif snapshot.count > marks.count and marks.hold(snapshot, marks.count):
            # What is half written may lack something now.
            self.close()
        return marks

    # one tar

    def _begin(self, snapshot: Snapshot, marks: Marks, share: Share) -> None:
        reader = snapshot.tars.readers[share.tar]
        try:
            self._check_room(_left(share) + _trailers(reader), reader.path)
            if reader.index is None:
                self._writer.seal()
            first, stop = snapshot.tar_ranks(share.tar)
            ranks = first + np.flatnonzero(np.frombuffer(marks.keep, "u1")[first:stop])
            entries = list(map(snapshot.table.entry, ranks.tolist()))
            self._rewrite = Rewrite(reader, entries, self._writer.disk, snapshot.read)
        except StoreError as error:
            self._refuse(share.name, error)

    def _check_room(self, needed: int, path: Path) -> None:
        free = self._writer.disk.free(path.parent)
        if free < needed + SPARE:
            raise StoreIOError(
                f"{path}: to clean it up takes {needed + SPARE} bytes of free space, and there "
                f"are {free}; free some"
            )

    def _refuse(self, name: TarName, error: StoreError) -> None:
        """Leave a tar as it is, unless the whole store is at fault."""
        if self._writer.failed:
            raise error
        self._refused.add(name)
        self.report.failures.append(error)

    def _go_on(self, snapshot: Snapshot, marks: Marks, rewrite: Rewrite) -> None:
        try:
            if not rewrite.copy(STEP, self._writer.now()):
                return
            reader = rewrite.finish(self._writer.now())
        except StoreError as error:
            self._refuse(rewrite.source.name, error)
            self.close()
            return
        self._rewrite = None
        with self._writer.changing_files():
            unfinished, reader.path = reader.path, rewrite.path
            try:
                self._writer.disk.rename(unfinished, rewrite.path)
            except StoreError:
                reader.release()
                raise
        self.report.tars_rewritten += 1
        self._replace(snapshot, marks, {rewrite.source.name: reader})

    def _remove(self, snapshot: Snapshot, marks: Marks, empty: Sequence[Share]) -> None:
        if any(snapshot.tars.readers[share.tar].index is None for share in empty):
            self._writer.seal()
        self.report.tars_removed += len(empty)
        self._replace(snapshot, marks, {share.name: None for share in empty})

    # the change

    def _replace(
        self, snapshot: Snapshot, marks: Marks, changes: Mapping[TarName, TarReader | None]
    ) -> None:
        """Show the tars as they are after `changes`, then remove the files of the old ones."""
        readers: list[TarReader] = []
        parts: list[Columns] = []
        gone: list[TarReader] = []
        stay = np.ones(snapshot.count, "?")
        for tar, reader in enumerate(snapshot.tars.readers):
            first, stop = snapshot.tar_ranks(tar)
            if reader.name not in changes:
                readers.append(reader)
                parts.append(snapshot.table.columns(first, stop))
                continue
            gone.append(reader)
            new = changes[reader.name]
            stay[first:stop] = np.frombuffer(marks.keep, "u1")[first:stop] == 1
            self.report.freed += reader.size()
            if new is not None:
                readers.append(new)
                parts.append(new.columns())
                new.release_rows()
                self.report.freed -= new.size()
        count = int(np.count_nonzero(stay))
        self.report.segments += snapshot.count - count
        table = SegmentTable(Columns.joined(parts, count))
        self._writer.install(readers, table, marks.shrink(stay, self._writer.finder.known))
        try:
            with self._writer.changing_files():
                for reader in gone:
                    self._writer.disk.remove(reader.path)
        finally:
            release(gone)


def _moved(snapshot: Snapshot, marks: Marks) -> bool:
    """Whether the head is of another generation than the one by which was judged."""
    return snapshot.head is None or snapshot.head.generation[:2] != marks.head.generation[:2]


def _left(share: Share) -> int:
    return share.size - share.dropped_size


def _trailers(reader: TarReader) -> int:
    """Bytes behind the segments of a tar, of which a part of it never has more."""
    return 0 if reader.index is None else reader.size() - reader.segments_end
