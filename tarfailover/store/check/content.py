"""The check of what segments say: tables against index, graph, binary references, order.

Facts: storage format, sections 3, 4, 7.3 and 9.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tarfailover.errors import DamagedStoreError, FormatError, SegmentMissingError
from tarfailover.format import segment as segments
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.graph import Graph
from tarfailover.format.index import IndexEntry
from tarfailover.ids import NO_GENERATION, Generation, SegmentId, is_bulk, text
from tarfailover.store import blobids
from tarfailover.store.check import entries
from tarfailover.store.finding import FAULT, NOTE, REWRITE, Finding, many, restore
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader

_BLOBS_MEAN = "a garbage collection of the data store may delete blobs that are in use"
_ORDER = (
    "Oak's cleanup judges by position and would delete it: copy the store anew with a slave, "
    "which writes in the right order, and use the copy"
)


class ContentCheck:
    """What the checks of all tars share: the segments, and which of them the head needs."""

    def __init__(
        self, snapshot: Snapshot, needed: bytearray | None, head: SegmentId | None
    ) -> None:
        self.snapshot = snapshot
        self.head_rank = snapshot.find(head) if head is not None else -1
        self.unmet: set[SegmentId] = set()
        """What segments of the closure refer to by their tables, but not by the graph."""
        self._duplicates = 0
        self._misordered: Finding | None = None
        self._misorders = 0
        self._needed = needed
        self._crcs = np.zeros(snapshot.count, "u4")

    def needs(self, segment: SegmentId) -> bool:
        """Whether the head needs `segment`; yes if its closure is not known."""
        if self._needed is None:
            return True
        rank = self.snapshot.find(segment)
        return rank >= 0 and self._needed[rank] != 0

    def surely_needs(self, rank: int) -> bool:
        """Whether the head is known to need the segment at `rank`."""
        return self._needed is not None and self._needed[rank] != 0

    def meaning(self, segment: SegmentId) -> str:
        """What it means that `segment` is damaged: the end of a sentence."""
        if self._needed is None:
            return ""
        if self.needs(segment):
            return "; the head needs this segment"
        return "; the head does not need this segment"

    def of_tar(
        self, reader: TarReader, graph: Graph | None, blobs: BinaryReferences | None
    ) -> Content:
        """The check of one tar's segments; None for what the tar does not have."""
        return Content(self, reader, graph, blobs)

    def place(self, reader: TarReader, segment: SegmentId, crc: int) -> tuple[int, bool]:
        """The rank of `segment`, -1 for a copy or a newcomer; and whether a copy differs."""
        rank = self.snapshot.find(segment)
        if rank < 0:
            return -1, False
        if self.snapshot.tars.readers[self.snapshot.tar_of(rank)] is reader:
            self._crcs[rank] = crc
            return rank, False
        self._duplicates += 1
        return -1, int(self._crcs[rank]) != crc

    def misorder(self, finding: Finding) -> None:
        """Remember that data stands before data that it refers to."""
        self._misordered = self._misordered or finding
        self._misorders += 1

    def summary(self) -> Iterator[Finding]:
        """What is told once for the whole store."""
        first = self._misordered
        if first is not None:
            more = f"; so do {self._misorders - 1} others" if self._misorders > 1 else ""
            remedy = "nothing to do: Oak with several threads writes so, reads it and cleans it"
            yield first._replace(severity=NOTE, what=first.what + more, remedy=remedy)
        if self._duplicates:
            yield Finding(
                NOTE,
                self.snapshot.tars.readers[-1].path.name,
                None,
                f"{many(self._duplicates, 'segment')} lie in a newer tar a second time",
                "nothing to do: the copies are equal, or that was told above",
            )


class Content:
    """Checks what the segments of one tar say, one after the other."""

    def __init__(
        self,
        shared: ContentCheck,
        reader: TarReader,
        graph: Graph | None,
        blobs: BinaryReferences | None,
    ) -> None:
        self._shared = shared
        self._reader = reader
        self._rewritten = reader.name.letter > "a"
        self._cached: frozenset[SegmentId] | None = None
        self._graph = None if graph is None else dict(graph)
        self._blobs = None if blobs is None else _by_segment(blobs)

    def _finding(self, offset: int, what: str, remedy: str = REWRITE) -> Finding:
        return Finding(FAULT, self._reader.path.name, offset, what, remedy)

    def check(self, entry: IndexEntry, crc: int, view: memoryview) -> Iterator[Finding]:
        """What is wrong with a segment whose checksum is right."""
        segment = entry.segment
        rank, differs = self._shared.place(self._reader, segment, crc)
        if differs:
            yield self._finding(
                entry.position,
                f"segment {text(segment)} has other bytes here than in an older tar",
                restore(needed=True),
            )
        data = b"" if is_bulk(segment) else bytes(view)
        try:
            generation, references = segments.inspect(segment, data or view)
        except FormatError as error:
            yield self._broken(entry, error)
            return
        yield from self._index(entry, generation)
        yield from self._edges(entry, references)
        yield from self._order(entry, rank, generation, references)
        fault = entries.records_fault(data) if data else None
        if fault is not None:
            yield self._broken(entry, fault)
        else:
            yield from self._mentions(entry, generation, references, data)

    def _broken(self, entry: IndexEntry, error: FormatError) -> Finding:
        meaning = self._shared.meaning(entry.segment)
        return self._finding(
            entry.position + error.offset,
            f"segment {text(entry.segment)} has the right checksum but was written wrong: "
            f"{error.what}{meaning}",
            restore(self._shared.needs(entry.segment)),
        )

    def _index(self, entry: IndexEntry, generation: Generation) -> Iterator[Finding]:
        index = self._reader.index
        if index is None:
            return
        stated = entry.generation
        same = stated.generation == generation.generation
        if index.version == 2:
            same = stated == generation
        if not same:
            yield self._finding(
                index.start,
                f"the index gives segment {text(entry.segment)} generation {stated}, its header "
                f"says {generation}; cleanup would judge it wrongly",
            )

    def _edges(self, entry: IndexEntry, references: tuple[SegmentId, ...]) -> Iterator[Finding]:
        if self._graph is None:
            return
        row = bytes(self._graph.pop(entry.segment, b""))
        if row == b"".join(references):
            return
        size = segments.REFERENCE_SIZE
        stated = {row[at : at + size] for at in range(0, len(row), size)}
        absent = [each for each in references if each not in stated]
        surplus = stated.difference(references)
        dropped = [each for each in absent if self._is_dropped(each)]
        if surplus or len(dropped) < len(absent):
            yield self._finding(
                entry.position,
                f"the graph lacks {many(len(absent) - len(dropped), 'reference')} of segment "
                f"{text(entry.segment)}, and has {len(surplus)} too many; Oak's cleanup may "
                "delete binaries that are in use",
            )
        if self._shared.needs(entry.segment):
            self._shared.unmet.update(absent)

    def _is_dropped(self, target: SegmentId) -> bool:
        """Whether cleanup may have left out an edge to `target` when it rewrote this tar."""
        return self._rewritten and target not in self._own()

    def _own(self) -> frozenset[SegmentId]:
        if self._cached is None:
            self._cached = frozenset(each.segment for each in self._reader.entries())
        return self._cached

    def _order(
        self,
        entry: IndexEntry,
        rank: int,
        generation: Generation,
        references: tuple[SegmentId, ...],
    ) -> Iterator[Finding]:
        shared = self._shared
        if rank < 0 or not shared.surely_needs(rank):
            return
        if generation.compacted and rank > shared.head_rank:
            yield self._finding(
                entry.position,
                f"the compacted segment {text(entry.segment)} stands behind the segment of the "
                "head, which needs it",
                _ORDER,
            )
        if not references:
            return
        ranks = shared.snapshot.find_all(b"".join(references))
        if int(ranks.max()) <= rank:
            return
        for target, where in zip(references, ranks.tolist(), strict=True):
            if where > rank:
                yield from self._misordered(entry, target)

    def _misordered(self, entry: IndexEntry, target: SegmentId) -> Iterator[Finding]:
        if is_bulk(target):
            yield self._finding(
                entry.position,
                f"segment {text(entry.segment)} stands before the bulk segment {text(target)} "
                "that it needs",
                _ORDER,
            )
            return
        what = f"segment {text(entry.segment)} stands before {text(target)}, which it needs"
        self._shared.misorder(self._finding(entry.position, what))

    def _mentions(
        self,
        entry: IndexEntry,
        generation: Generation,
        references: tuple[SegmentId, ...],
        data: bytes,
    ) -> Iterator[Finding]:
        if self._blobs is None:
            return
        stated = self._blobs.pop(entry.segment, (NO_GENERATION, frozenset[bytes]()))
        read = self._shared.snapshot.read
        try:
            mentioned = blobids.mentioned(entry.segment, data, references, read) if data else ()
        except FormatError as error:
            yield self._broken(entry, error)
            return
        except (SegmentMissingError, DamagedStoreError):
            # A long blob id lies in a segment that is gone or damaged: told where that is needed.
            return
        found = frozenset(mentioned)
        if found - stated[1]:
            yield self._finding(
                entry.position,
                f"the tar's list of binary references lacks "
                f"{many(len(found - stated[1]), 'blob')} that segment {text(entry.segment)} uses; "
                f"{_BLOBS_MEAN}",
            )
        elif stated[1] and (stated[1] - found or not _alike(stated[0], generation)):
            yield self._finding(
                entry.position,
                f"the tar's list of binary references tells of segment {text(entry.segment)} what "
                "the segment does not say",
            )

    def leftovers(self) -> Iterator[Finding]:
        """What graph and binary references say of segments that this tar does not hold."""
        index = self._reader.index
        if index is None:
            return
        for name, rows in (("graph", self._graph), ("list of binary references", self._blobs)):
            # What is left is of damaged segments, or of segments that are not here.
            for segment in (each for each in rows or () if each not in self._own()):
                yield self._finding(
                    index.start, f"the {name} names segment {text(segment)}, which is not here"
                )


def _alike(stated: Generation, actual: Generation) -> bool:
    # Version 1 states no more than the number.
    return stated == actual or stated == Generation(actual.generation, actual.generation, True)


def _by_segment(
    references: BinaryReferences,
) -> dict[SegmentId, tuple[Generation, frozenset[bytes]]]:
    return {
        segment: (generation, frozenset(ids))
        for generation, by_segment in references.items()
        for segment, ids in by_segment.items()
    }
