"""Which segments are kept: judged by generation, by references, and by the head's closure.

Facts: storage format, sections 7.1 and 7.2. Oak judges by generation alone and never
looks whether the head loses something; here its closure is kept whatever the
generations say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tarfailover.errors import NoHeadError, SegmentMissingError
from tarfailover.format.tar import BLOCK, LAST_LETTER, TarName
from tarfailover.store import closure
from tarfailover.store.heads import missing_text
from tarfailover.store.snapshot import Head, Snapshot
from tarfailover.store.table import Array, Columns

_BLOCK = 1024
"""Ranks whose references are looked up at once."""
_BULK = 0xB
"""The nibble of an id that tells a bulk segment."""


class Rule(NamedTuple):
    """What is kept beside the closure of the head."""

    retained: int
    """Generations that are kept, the head's among them."""
    ahead: bool
    """Keep all that lies behind the head's segment, and what that needs: it was pulled for
    a head that is still to come. Without it, compacted segments there are dropped: they
    are what a compaction that failed has left."""
    newer: bool
    """Keep what is of a newer generation than the head."""


OAK = Rule(retained=2, ahead=False, newer=True)
"""Oak's own cleanup, asked for by hand, of a store that somebody writes."""
COPY = Rule(retained=1, ahead=True, newer=False)
"""A copy: what the master dropped is needed no more, and what is being pulled is."""


class Marks:
    """Which ranks of a store are kept; grows with it.

    Raises NoHeadError without a head, SegmentMissingError if that is not whole, and
    DamagedStoreError if the references of a tar cannot be read.
    """

    def __init__(self, snapshot: Snapshot, rule: Rule) -> None:
        head = snapshot.head
        if head is None:
            raise NoHeadError("a store without a head cannot be cleaned up: all could be needed")
        self.head = head
        self.rule = rule
        self.keep = bytearray(snapshot.count)
        self.whole = bytearray(snapshot.count)
        """One byte a rank: 1 if all that the segment needs is kept with it."""
        self.closed = self._closure(snapshot, head)
        """One byte a rank: 1 for the closure of the head, when this was made."""
        self._first = snapshot.find(head.record.segment)
        if rule.ahead:
            self.hold(snapshot, self._first + 1)
        self._judge(snapshot)

    @property
    def count(self) -> int:
        """Ranks that were looked at."""
        return len(self.keep)

    def _closure(self, snapshot: Snapshot, head: Head) -> bytearray:
        found = closure.walk(snapshot, [head.record.segment])
        if found.missing:
            raise SegmentMissingError(f"nothing is cleaned up: {missing_text(found)}")
        marks = bytearray(snapshot.count)
        for each in (marks, self.whole, self.keep):
            _set(each, found.ranks)
        return marks

    def hold(self, snapshot: Snapshot, first: int) -> int:
        """Keep the ranks from `first` on, which may be new, and all that they need.

        Returns how many of the others are kept only now.
        """
        known = self.count
        more = bytes(snapshot.count - known)
        for each in (self.keep, self.whole):
            each.extend(more)
        roots = map(snapshot.segment, range(first, snapshot.count))
        ranks = closure.walk(snapshot, roots, self.whole).ranks
        kept = _view(self.keep)
        fresh = int(np.count_nonzero(kept[ranks[ranks < known]] == 0))
        for each in (self.whole, self.keep):
            _set(each, ranks)
        # Also what is there a second time, which no reference finds.
        kept[first:] = 1
        return fresh

    def shrink(self, stay: Array, known: bytearray) -> bytearray:
        """Forget the ranks that do not `stay`; returns what of `known` is left.

        Both have a value for each rank; `known` may end earlier.
        """
        known = known + bytes(len(stay) - len(known))
        self.keep, self.whole, left = (
            bytearray(_view(marks)[stay].tobytes()) for marks in (self.keep, self.whole, known)
        )
        return left

    def _judge(self, snapshot: Snapshot) -> None:
        """Keep the data segments that are not old, and the bulk segments to which they refer."""
        bulk = np.zeros(snapshot.count, "?")
        kept = _view(self.keep)
        for tar in range(len(snapshot.tars.readers)):
            first, stop = snapshot.tar_ranks(tar)
            rows = snapshot.table.columns(first, stop)
            bulk[first:stop] = rows.lsb >> np.uint64(60) == _BULK
            kept[first:stop] |= ~(bulk[first:stop] | self._old(rows, first))
        wanting = (kept == 1) & (_view(self.whole) == 0) & ~bulk
        for tar in range(len(snapshot.tars.readers)):
            for targets in _targets(snapshot, tar, wanting):
                kept[targets[bulk[targets]]] = 1

    def _old(self, rows: Columns, first: int) -> Array:
        """Which data segments are old, by the rule of a full compaction."""
        retained = self.rule.retained
        age = self.head.generation.generation - rows.generation.astype("i8")
        full = self.head.generation.full - rows.full.astype("i8")
        old: Array = (full >= retained) | ((age >= retained) & ~rows.compacted)
        if not self.rule.newer:
            old |= (full < 0) | (age < 0)
        if not self.rule.ahead:
            old |= rows.compacted & (np.arange(first, first + len(age)) > self._first)
        return old


def _targets(snapshot: Snapshot, tar: int, wanting: Array) -> Iterator[Array]:
    """The ranks to which those ranks of a tar refer that are `wanting`."""
    start, end = snapshot.tar_ranks(tar)
    blocks = np.unique(np.flatnonzero(wanting[start:end]) // _BLOCK).tolist()
    edges = snapshot.edges(tar) if blocks else None
    for block in blocks:
        first = start + _BLOCK * block
        stop = min(first + _BLOCK, end)
        if edges is not None:
            rows = edges.rows(first, stop)
            targets = rows.targets[wanting[first:stop].repeat(np.diff(rows.begins))]
            yield targets[targets >= 0]


def _view(marks: bytearray) -> Array:
    return np.frombuffer(marks, "u1")


def _set(marks: bytearray, ranks: Array) -> None:
    _view(marks)[ranks] = 1


class Share(NamedTuple):
    """What of one tar is kept; sizes in bytes, headers and padding of segments included."""

    tar: int
    """Its place in the snapshot."""
    name: TarName
    segments: int
    size: int
    dropped: int
    """Segments."""
    dropped_size: int

    @property
    def empty(self) -> bool:
        """Whether nothing of it is kept."""
        return self.dropped == self.segments

    @property
    def sparse(self) -> bool:
        """Whether so little is kept that the tar is written anew; for Oak's rule of three quarters.

        The last letter has no next one.
        """
        left = self.size - self.dropped_size
        return not self.empty and left < self.size * 3 // 4 and self.name.letter < LAST_LETTER


def shares(snapshot: Snapshot, marks: Marks) -> list[Share]:
    """What of each tar is kept, in tar order."""
    found = []
    for tar, reader in enumerate(snapshot.tars.readers):
        first, stop = snapshot.tar_ranks(tar)
        lengths = snapshot.table.columns(first, stop).length.astype("i8")
        sizes = BLOCK + -(-lengths // BLOCK) * BLOCK
        gone = _view(marks.keep)[first:stop] == 0
        found.append(
            Share(
                tar,
                reader.name,
                stop - first,
                int(sizes.sum()),
                int(np.count_nonzero(gone)),
                int(sizes[gone].sum()),
            )
        )
    return found
