"""The comparison of two stores: same head, same closure, same bytes.

Goes through the left closure in the order of its tars; each segment is verified against
its checksum on both sides and then compared. Goes on after a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import numpy as np

from tarfailover.errors import DamagedStoreError, NoHeadError, SegmentMissingError
from tarfailover.format.tar import BLOCK, padded
from tarfailover.ids import SegmentId, kind, text
from tarfailover.store import closure
from tarfailover.store.closure import Ranks
from tarfailover.store.finding import Progress, unseen
from tarfailover.store.snapshot import Head, Snapshot

HEAD: Final = "head"
ONLY_LEFT: Final = "only left"
ONLY_RIGHT: Final = "only right"
BYTES: Final = "bytes"
DAMAGED: Final = "damaged"

Kind = Literal["head", "only left", "only right", "bytes", "damaged"]

_BATCH = 4096


class Difference(NamedTuple):
    """One way in which two stores differ."""

    kind: Kind
    segment: SegmentId | None
    offset: int | None
    """Of the first byte of the segment that differs."""
    what: str


class StoreComparison:
    """One comparison of two snapshots; `run` once, and read the counts meanwhile.

    Raises NoHeadError if one of them has no head.
    """

    def __init__(self, left: Snapshot, right: Snapshot) -> None:
        self.left, self.right = left, right
        self.heads = (_head(left), _head(right))
        self.segments = 0
        """Segments that both have."""
        self.bytes = 0
        """Their bytes, counted once."""
        self.differences = 0
        self._progress: Progress = unseen

    def run(self, progress: Progress = unseen) -> Iterator[Difference]:
        """Everything in which the two differ."""
        self._progress = progress
        for difference in self._run():
            self.differences += 1
            yield difference

    def _run(self) -> Iterator[Difference]:
        one, other = self.heads
        if one.record != other.record:
            what = f"the heads differ: {one.record} left, {other.record} right"
            yield Difference(HEAD, None, None, what)
        ours = closure.walk(self.left, [one.record.segment]).ranks
        theirs = closure.walk(self.right, [other.record.segment]).ranks
        here, there = _matched(self.left, ours, self.right, theirs)
        yield from _lonely(self.left, ours[here < 0], ONLY_LEFT)
        yield from _lonely(self.right, theirs[there < 0], ONLY_RIGHT)
        yield from self._contents(ours[here >= 0], here[here >= 0])

    def _contents(self, ours: Ranks, theirs: Ranks) -> Iterator[Difference]:
        """Compare segments that both have: each of `ours` with the one of `theirs` beside it."""
        lengths = self.left.table.extents(ours)[1]
        total = int(lengths.sum(dtype="i8"))
        for one, other, length in zip(
            _listed(ours), _listed(theirs), _listed(lengths), strict=True
        ):
            yield from self._segment(one, other)
            self.segments += 1
            self.bytes += length
            self._progress(self.bytes, total)

    def _segment(self, one: int, other: int) -> Iterator[Difference]:
        segment = self.left.segment(one)
        try:
            left, right = _block(self.left, one), _block(self.right, other)
        except (DamagedStoreError, SegmentMissingError) as error:
            yield Difference(DAMAGED, segment, None, f"segment {text(segment)}: {error}")
            return
        at = _first_difference(left, right)
        if at is None:
            return
        what = (
            f"{kind(segment)} segment {text(segment)} differs from byte {at} on: "
            f"{len(left)} bytes left, {len(right)} right"
        )
        yield Difference(BYTES, segment, at, what)


def _head(snapshot: Snapshot) -> Head:
    if snapshot.head is None:
        raise NoHeadError("a store without a head cannot be compared")
    return snapshot.head


def _matched(left: Snapshot, ours: Ranks, right: Snapshot, theirs: Ranks) -> tuple[Ranks, Ranks]:
    """For each of `ours` its rank on the right, -1 if it is not in the closure there; and back."""
    here, there = _find(left, ours, right), _find(right, theirs, left)
    return np.where(np.isin(here, theirs), here, -1), np.where(np.isin(there, ours), there, -1)


def _find(source: Snapshot, ranks: Ranks, target: Snapshot) -> Ranks:
    return target.find_all(source.table.extents(ranks)[0])


def _lonely(
    snapshot: Snapshot, ranks: Ranks, side: Literal["only left", "only right"]
) -> Iterator[Difference]:
    for rank in _listed(ranks):
        segment = snapshot.segment(rank)
        yield Difference(side, segment, None, f"{kind(segment)} segment {text(segment)} is {side}")


def _block(snapshot: Snapshot, rank: int) -> memoryview:
    """The verified data of the segment at `rank`."""
    entry = snapshot.table.entry(rank)
    reader = snapshot.tars.readers[snapshot.tar_of(rank)]
    block = reader.read(entry.position - BLOCK, BLOCK + padded(entry.length))
    return reader.verified(entry, block)[1]


def _listed(array: Ranks) -> Iterator[int]:
    """The numbers of `array`, a batch at a time as Python's."""
    for start in range(0, len(array), _BATCH):
        yield from array[start : start + _BATCH].tolist()


def _first_difference(left: memoryview, right: memoryview) -> int | None:
    """The first byte that differs or that only one has; None if they are equal."""
    size = min(len(left), len(right))
    differ = np.frombuffer(left, "u1", size) != np.frombuffer(right, "u1", size)
    if differ.any():
        return int(differ.argmax())
    return None if len(left) == len(right) else size
