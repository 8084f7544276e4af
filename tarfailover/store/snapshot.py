"""A consistent view of a store: its tars as they were at one moment, and its head.

A snapshot never changes. While it is held, everything that it shows stays readable,
whatever happens to the names in the directory. It serves many threads at once.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tarfailover.errors import SegmentMissingError
from tarfailover.format import segment as segments
from tarfailover.format.graph import Graph
from tarfailover.format.index import IndexEntry
from tarfailover.format.journal import JournalLine
from tarfailover.format.tar import TarName
from tarfailover.ids import Generation, RecordId, SegmentId, is_bulk, text
from tarfailover.store.table import Array, SegmentTable
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


class Position(NamedTuple):
    """A place in the tars, behind which new segments go; sorts by place."""

    number: int
    letter: str
    offset: int


class Tars(NamedTuple):
    """The open tars of a snapshot, in rank order."""

    readers: tuple[TarReader, ...]
    starts: tuple[int, ...]
    """The rank of the first segment of each."""


class Edges:
    """The references of one tar's segments, as ranks."""

    def __init__(self, snapshot: Snapshot, graph: Graph) -> None:
        self._snapshot = snapshot
        self._graph = graph
        self._rows: dict[int, list[int]] = {}

    def resolve(self, first: int, stop: int) -> None:
        """Look all references of the ranks up at once: one by one costs ten times as much."""
        rows = [self._graph.get(self._snapshot.segment(rank), b"") for rank in range(first, stop)]
        found = self._snapshot.find_all(b"".join(rows)).tolist()
        at = 0
        for rank, row in zip(range(first, stop), rows, strict=True):
            size = len(row) // segments.REFERENCE_SIZE
            self._rows[rank] = found[at : at + size]
            at += size

    def targets(self, rank: int) -> list[int]:
        """The rank of each reference of `rank`; -1 for one that is in no tar."""
        row = self._rows.get(rank)
        if row is None:
            ids = self._graph.get(self._snapshot.segment(rank), b"")
            row = self._snapshot.find_all(ids).tolist() if ids else []
        return row

    def absent(self, rank: int) -> list[SegmentId]:
        """The references of `rank` that are in no tar."""
        row = bytes(self._graph.get(self._snapshot.segment(rank), b""))
        size = segments.REFERENCE_SIZE
        ids = [row[at : at + size] for at in range(0, len(row), size)]
        return [each for each in ids if not self._snapshot.contains(each)]


class Snapshot:
    """See the module; made by `Follower` and by `StoreWriter`."""

    def __init__(self, table: SegmentTable, tars: Tars, head: Head | None) -> None:
        self.table = table
        self.tars = tars
        self.head = head
        self.count = len(table)
        self._holders = 1
        self._guard = threading.Lock()
        self._edges: tuple[int, Edges] | None = None
        for reader in tars.readers:
            reader.acquire()

    def acquire(self) -> Snapshot:
        """Hold the snapshot; each call wants one `release`."""
        with self._guard:
            self._holders += 1
        return self

    def release(self) -> None:
        """Let go; the last holder closes the files that no other snapshot shows."""
        with self._guard:
            self._holders -= 1
            last = self._holders == 0
        if last:
            for reader in self.tars.readers:
                reader.release()

    def with_head(self, head: Head | None) -> Snapshot:
        """The same segments under another head."""
        return Snapshot(self.table, self.tars, head)

    # looking up

    def find(self, segment: SegmentId) -> int:
        """The rank of `segment`, or -1."""
        rank = self.table.find(segment)
        return rank if rank < self.count else -1

    def find_all(self, ids: bytes | memoryview) -> Array:
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
        """The references of one tar's segments."""
        cached = self._edges
        if cached is None or cached[0] != tar:
            reader = self.tars.readers[tar]
            closed = reader.index is not None
            edges = Edges(self, reader.graph())
            if closed:
                edges.resolve(*self.tar_ranks(tar))
            cached = self._edges = tar, edges
        return cached[1]

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
        for tar, reader in enumerate(self.tars.readers):
            if reader.name == TarName(position.number, position.letter):
                first, stop = self.tar_ranks(tar)
                columns = self.table.columns(first, stop)
                return first + int(columns.position.searchsorted(position.offset, "right"))
            if reader.name.number >= position.number:
                return self.tars.starts[tar]
        return self.count


def no_tars() -> Tars:
    """The tars of an empty store."""
    return Tars((), ())


def tars_of(readers: Sequence[TarReader], starts: Sequence[int]) -> Tars:
    """Open tars and the ranks at which they begin."""
    return Tars(tuple(readers), tuple(starts))
