"""A consistent view of a store: its tars as they were at one moment, and its head.

A snapshot never changes. While it is held, everything that it shows stays readable,
whatever happens to the names in the directory. It serves many threads at once.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from types import TracebackType
from typing import NamedTuple

import numpy as np

from tarfailover.errors import FormatError, SegmentMissingError, TarFailoverError
from tarfailover.format import segment as segments
from tarfailover.format.index import IndexEntry
from tarfailover.format.journal import JournalLine
from tarfailover.ids import NO_GENERATION, Generation, RecordId, SegmentId, is_bulk, text
from tarfailover.store.edges import Edges, Source, StoredGraph, Tables
from tarfailover.store.table import Array, Columns, SegmentTable
from tarfailover.store.tarreader import TarReader


class Head(NamedTuple):
    """The head of a store: the super root that the journal names."""

    record: RecordId
    time_ms: int
    """When it was persisted, milliseconds since 1970; 0 if the journal does not say."""
    generation: Generation
    skipped: tuple[str, ...] = ()
    """Newer lines of the journal that could not be the head, and why."""

    @property
    def line(self) -> JournalLine:
        """The line of the journal that makes this the head."""
        return JournalLine(self.record, self.time_ms)


class Place(NamedTuple):
    """Where a segment lies."""

    reader: TarReader
    entry: IndexEntry
    """Without the generation, which is not looked up."""


class Position(NamedTuple):
    """A place in the tars, behind which new segments go; sorts by place."""

    number: int
    letter: str
    offset: int


class Tars:
    """The open tars of a snapshot, in rank order, held open together.

    Shared by all snapshots of one set of files; held from the first `acquire` to the last
    `release`.
    """

    def __init__(self, readers: Sequence[TarReader], starts: Sequence[int]) -> None:
        self.readers = tuple(readers)
        self.starts = tuple(starts)
        """The rank of the first segment of each."""
        self._holders = 0
        self._closed = False
        self._guard = threading.Lock()

    def acquire(self) -> Tars:
        """Count one more holder; raises TarFailoverError if the last one has let go."""
        with self._guard:
            if self._closed:
                raise TarFailoverError("the files of this snapshot were closed already")
            if not self._holders:
                for reader in self.readers:
                    reader.acquire()
            self._holders += 1
        return self

    def release(self) -> None:
        """Count one holder less; the last one closes the files that nobody else holds."""
        with self._guard:
            self._holders -= 1
            self._closed = self._holders == 0
        if self._closed:
            for reader in self.readers:
                reader.release()


class Snapshot:
    """See the module; made by `Follower` and by `StoreWriter`."""

    def __init__(self, table: SegmentTable, tars: Tars, head: Head | None) -> None:
        self.table = table
        self.tars = tars.acquire()
        self.head = head
        self.count = len(table)

    def acquire(self) -> Snapshot:
        """Hold the snapshot; each call wants one `release`.

        Raises TarFailoverError if nobody held it any more: see `Follower.hold`.
        """
        self.tars.acquire()
        return self

    def release(self) -> None:
        """Let go; the last holder closes the files that no other snapshot shows."""
        self.tars.release()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    # looking up

    def find(self, segment: SegmentId) -> int:
        """The rank of `segment`, or -1."""
        rank = self.table.find(segment)
        return rank if rank < self.count else -1

    def find_all(self, ids: bytes | memoryview | Array) -> Array:
        """The ranks of many ids, one after the other in `ids`; -1 where there is none."""
        found = self.table.find_all(ids)
        found[found >= self.count] = -1
        return found

    def contains(self, segment: SegmentId) -> bool:
        """Whether `segment` is in one of the tars."""
        return self.find(segment) >= 0

    def segment(self, rank: int) -> SegmentId:
        """The id at `rank`."""
        return self.table.segment(rank)

    def entry(self, segment: SegmentId) -> tuple[TarReader, IndexEntry]:
        """The tar that holds `segment`, and its entry there; raises SegmentMissingError."""
        rank = self.find(segment)
        if rank < 0:
            raise SegmentMissingError(f"segment {text(segment)} is in no tar of the store")
        return self.tars.readers[self.tar_of(rank)], self.table.entry(rank)

    def places(self, ids: Sequence[SegmentId]) -> list[Place | None]:
        """Where each of `ids` lies, or None; for many ids much faster than `entry` for each."""
        ranks = self.find_all(b"".join(ids))
        tars = np.array(self.tars.starts, "i8").searchsorted(ranks, "right") - 1
        rows = zip(tars.tolist(), ranks.tolist(), self.table.spans(ranks), ids, strict=True)
        readers = self.tars.readers
        return [
            Place(readers[tar], IndexEntry(segment, *span, NO_GENERATION)) if rank >= 0 else None
            for tar, rank, span, segment in rows
        ]

    def read(self, segment: SegmentId) -> bytes:
        """The data of `segment`, verified; raises SegmentMissingError, DamagedStoreError."""
        reader, entry = self.entry(segment)
        return reader.segment(entry)

    def references(self, segment: SegmentId) -> tuple[SegmentId, ...]:
        """The reference table of `segment`; raises as `read` does."""
        return () if is_bulk(segment) else segments.references(self.read(segment))

    def tar_of(self, rank: int) -> int:
        """The place in `tars` of the tar that holds `rank`."""
        return bisect_right(self.tars.starts, rank) - 1

    def tar_ranks(self, tar: int) -> tuple[int, int]:
        """The first rank of a tar, and the one behind its last."""
        starts = self.tars.starts
        stop = starts[tar + 1] if tar + 1 < len(starts) else self.count
        return starts[tar], stop

    def edges(self, tar: int) -> Edges:
        """The references of one tar's segments: takes time and memory, keep it while you need it.

        Raises DamagedStoreError when a tar has neither a graph nor whole segments.
        """
        reader = self.tars.readers[tar]
        first, stop = self.tar_ranks(tar)
        return Edges(self._tables(reader, first, stop), self.find_all)

    def _tables(self, reader: TarReader, first: int, stop: int) -> Source:
        scanned = reader.scanned_graph()
        if scanned is not None:
            return Tables(scanned, self.segment)
        try:
            count, payload = reader.graph_payload()
            return StoredGraph(payload, count, first, stop - first, self.find_all)
        except FormatError:
            return Tables(reader.graph_of_segments(), self.segment)

    # positions

    def end(self) -> Position | None:
        """The position behind the last segment, None for a store without any."""
        if not self.count:
            return None
        reader = self.tars.readers[self.tar_of(self.count - 1)]
        return Position(
            reader.name.number, reader.name.letter, self.table.entry(self.count - 1).position
        )

    def rank_behind(self, position: Position | None) -> int:
        """The first rank that may lie behind `position`; 0 if that is None or unknown."""
        if position is None:
            return 0
        wanted = position.number, position.letter
        for tar, reader in enumerate(self.tars.readers):
            if (reader.name.number, reader.name.letter) == wanted:
                return self._behind(position.offset, *self.tar_ranks(tar))
            if reader.name.number >= position.number:
                return self.tars.starts[tar]
        return self.count

    def _behind(self, offset: int, first: int, stop: int) -> int:
        while first < stop:
            middle = (first + stop) // 2
            if self.table.entry(middle).position > offset:
                stop = middle
            else:
                first = middle + 1
        return first


def snapshot_of(readers: Sequence[TarReader]) -> Snapshot:
    """All segments of `readers`, without a head; to be released."""
    sizes = [reader.count for reader in readers]
    starts = [0, *accumulate(sizes)][: len(sizes)]
    table = SegmentTable(Columns.joined(map(_taken, readers), sum(sizes)))
    return Snapshot(table, tars_of(readers, starts), None)


def _taken(reader: TarReader) -> Columns:
    """The columns of a tar whose rows are not needed once more."""
    columns = reader.columns()
    reader.release_rows()
    return columns


def no_tars() -> Tars:
    """The tars of an empty store."""
    return Tars((), ())


def tars_of(readers: Sequence[TarReader], starts: Sequence[int]) -> Tars:
    """Open tars and the ranks at which they begin."""
    return Tars(readers, starts)
