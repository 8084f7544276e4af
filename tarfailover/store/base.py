"""What a tail compaction builds on: the segments that the last compaction left.

The last line of ``gc.log`` names the root that it wrote. All data segments in the closure of
that root are compacted ones of the head's full generation, or it is no base: only those are
safe from every cleanup until the next full compaction. Facts: storage format, 1.4 and 7.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.store import closure, gcfile
from tarfailover.store.heads import missing_text
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.table import Array


class Base:
    """A set of segments: that of a compacted root and all that it needs."""

    def __init__(self, snapshot: Snapshot, root: RecordId, marks: bytearray) -> None:
        self.root = root
        self.marks = marks
        """One byte a rank, as the walks of `closure` take it."""
        self._table = snapshot.table

    def __contains__(self, segment: SegmentId) -> bool:
        rank = self._table.find(segment)
        return 0 <= rank < len(self.marks) and bool(self.marks[rank])


class NoBaseError(Exception):
    """There is nothing that a tail compaction could build on, and why; a full one can be done."""


def find(snapshot: Snapshot, directory: Path) -> Base:
    """The base for a tail compaction of the head of `snapshot`.

    Raises NoBaseError, and what reading the tars raises.
    """
    line = gcfile.last(directory)
    if line is None:
        raise NoBaseError("no compaction is told of in gc.log")
    segment = line.root.segment
    if not snapshot.contains(segment):
        raise NoBaseError(f"the root of the last compaction, {line.root}, is in no tar")
    if snapshot.head is None:
        raise NoBaseError("the store has no head")
    found = closure.walk(snapshot, [segment])
    if found.missing:
        raise NoBaseError(f"the last compaction, {line.root}, is not whole: {missing_text(found)}")
    stray = _stray(snapshot, found.ranks, snapshot.head.generation.full)
    if stray is not None:
        raise NoBaseError(
            f"the last compaction, {line.root}, needs segment {text(stray)}, which is no "
            f"compacted one of full generation {snapshot.head.generation.full}"
        )
    marks = bytearray(snapshot.count)
    np.frombuffer(marks, "u1")[found.ranks] = 1
    return Base(snapshot, line.root, marks)


def _stray(snapshot: Snapshot, ranks: Array, full: int) -> SegmentId | None:
    """The first data segment of `ranks` that is no compacted one of that full generation."""
    columns = snapshot.table.columns(0, snapshot.count)
    bulk = closure.bulk(columns.lsb[ranks])
    good = bulk | (columns.compacted[ranks] & (columns.full[ranks] == full))
    strays = ranks[~good]
    return snapshot.segment(int(strays[0])) if len(strays) else None
