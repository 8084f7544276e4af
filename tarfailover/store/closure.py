"""Which segments a head needs: the closure over reference tables.

Facts: storage format, section 6.2. The walk goes tar by tar, from the last to the
first, so that one tar's graph at a time is in memory, and through blocks of ranks from
their end to their beginning: where segments stand behind what they refer to, as they
should, each block is passed once. Nothing here recurses.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tarfailover.format.tar import BLOCK
from tarfailover.ids import SegmentId
from tarfailover.store.edges import Edges, Rows
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.table import Array

Ranks = Array

_BLOCK = 1024
"""Ranks whose references are looked up at once."""
_DATA = 0xA
"""The nibble of an id that tells a data segment."""
_TARS_AT_ONCE = 4
"""Graphs in memory while segments in the wrong order are sorted."""


class Missing(NamedTuple):
    """A segment that is in no tar, and one that refers to it."""

    segment: SegmentId
    referrer: SegmentId | None


class Closure(NamedTuple):
    """What a walk found."""

    ranks: Ranks
    """The segments reached, in tar order, without those that were known before."""
    missing: list[Missing]
    upward: Ranks
    """Those of them that stand before a segment to which they refer."""

    @property
    def misordered(self) -> bool:
        """Whether some segment stands before one that it refers to."""
        return len(self.upward) > 0


def walk(
    snapshot: Snapshot,
    roots: Iterable[SegmentId],
    known: bytes | bytearray = b"",
    below: int = 0,
) -> Closure:
    """The closure of `roots` in `snapshot`.

    Does not descend into ranks lower than `below`, nor into those for which `known`,
    one byte a rank, is not zero.
    """
    return _Walk(snapshot, known, below).run(roots)


class _Walk:
    def __init__(self, snapshot: Snapshot, known: bytes | bytearray, below: int) -> None:
        self.snapshot = snapshot
        self.starts = np.array(snapshot.tars.starts, "i8")
        # One byte a rank: whether it was reached, and whether to pass it over. The
        # byte behind the last rank is reached by references to what is in no tar.
        self.reached = bytearray(snapshot.count + 1)
        self.passed = bytearray(snapshot.count)
        size = min(len(known), snapshot.count)
        self.passed[:size] = memoryview(known)[:size]
        self.passed[:below] = b"\1" * min(below, snapshot.count)
        self.reached_marks = np.frombuffer(self.reached, "u1")
        self.passed_marks = np.frombuffer(self.passed, "u1")
        self.pending: dict[int, list[int]] = {}
        """By tar, a heap of blocks to expand, the last first: their numbers, negative."""
        self.queued = np.zeros(-(-snapshot.count // _BLOCK), "?")
        self.found: list[Array] = []
        self.upward: list[Array] = []
        self.missing: dict[SegmentId, SegmentId | None] = {}

    def run(self, roots: Iterable[SegmentId]) -> Closure:
        for root in roots:
            rank = self.snapshot.find(root)
            if rank < 0:
                self.missing.setdefault(root, None)
            elif not self.passed[rank]:
                self.reached[rank] = 1
                self.queue(np.array([rank]))
        while self.pending:
            self.walk_tar(max(self.pending))
        ranks = np.concatenate([np.empty(0, "i8"), *self.found])
        ranks.sort()
        missing = list(map(Missing._make, self.missing.items()))
        upward = np.unique(np.concatenate([np.empty(0, "i8"), *self.upward]))
        return Closure(ranks, missing, upward)

    def queue(self, ranks: Array) -> None:
        """Remember the blocks in which `ranks` lie; a block may lie in several tars."""
        wanted = np.zeros(len(self.queued), "?")
        wanted[ranks // _BLOCK] = True
        wanted &= ~self.queued
        self.queued |= wanted
        for block in np.flatnonzero(wanted).tolist():
            first, last = self.starts.searchsorted(
                [_BLOCK * block, _BLOCK * (block + 1) - 1], "right"
            )
            for tar in range(max(0, first - 1), last):
                heapq.heappush(self.pending.setdefault(tar, []), -block)

    def walk_tar(self, tar: int) -> None:
        """Expand all blocks of one tar; what lies elsewhere becomes pending there."""
        edges: Edges | None = None
        start, end = self.snapshot.tar_ranks(tar)
        while self.pending[tar]:
            block = -heapq.heappop(self.pending[tar])
            self.queued[block] = False
            first, stop = max(start, _BLOCK * block), min(_BLOCK * (block + 1), end)
            top = self.reached.rfind(1, first, stop)
            while top >= 0 and self.passed[top]:
                top = self.reached.rfind(1, first, top)
            if top >= 0:
                edges = edges or self.snapshot.edges(tar)
                # What lies before the first that is not passed over is mostly known.
                rows = edges.rows(self.passed.find(0, first, stop), top + 1)
                self.settle(edges, rows, self.expand(rows, top))
        del self.pending[tar]

    def expand(self, rows: Rows, top: int) -> Array:
        """Reach what the ranks reached so far refer to, from `top` down; returns those ranks."""
        begins, targets, first = rows.begins.tolist(), rows.targets, rows.first
        passed, reached, marks = self.passed, self.reached, self.reached_marks
        expanded: list[int] = []
        rank = top
        while rank >= 0:
            if not passed[rank]:
                passed[rank] = 1
                expanded.append(rank)
                begin, end = begins[rank - first], begins[rank - first + 1]
                if begin < end:
                    marks[targets[begin:end]] = 1
            rank = reached.rfind(1, first, rank)
        return np.array(expanded, "i8")

    def settle(self, edges: Edges, rows: Rows, expanded: Array) -> None:
        """Queue what the `expanded` ranks have reached, and note what is missing or misordered."""
        self.found.append(expanded)
        counts = np.diff(rows.begins)
        chosen = np.zeros(len(counts), "?")
        chosen[expanded - rows.first] = True
        targets = rows.targets[chosen.repeat(counts)]
        sources = (rows.first + np.flatnonzero(chosen)).repeat(counts[chosen])
        self.upward.append(sources[targets > sources])
        for rank in np.unique(sources[targets < 0]).tolist():
            referrer = self.snapshot.segment(rank)
            for segment in edges.absent(rank):
                self.missing.setdefault(segment, referrer)
        targets = targets[targets >= 0]
        fresh = targets[self.passed_marks[targets] == 0]
        if len(fresh):
            self.queue(fresh)


def bulk(lsb: Array) -> Array:
    """Of lower halves of ids, whether each is that of a bulk segment."""
    found: Array = lsb >> np.uint64(60) != _DATA
    return found


def data_size(snapshot: Snapshot, head: SegmentId, known: bytes | bytearray = b"") -> int:
    """Bytes of the data segments in the closure of the segment `head`, as in tars.

    Those that are `known`, as in `walk`, and what they need are left out.
    """
    columns = snapshot.table.columns(0, snapshot.count)
    ranks = walk(snapshot, [head], known).ranks
    ranks = ranks[~bulk(columns.lsb[ranks])]
    return int((BLOCK + -(-columns.length[ranks].astype("i8") // BLOCK) * BLOCK).sum())


def references_first(snapshot: Snapshot, closure: Closure, head: SegmentId) -> Ranks:
    """The ranks of `closure` with references before referrers and the segment of `head` last.

    Tar order already is such an order in a store that Oak wrote by its own rules; then
    only the head is moved. Where segments refer to each other in a circle, one of them
    has to stand before what it refers to.
    """
    last = snapshot.find(head)
    ranks = closure.ranks[closure.ranks != last]
    tail = closure.ranks[closure.ranks == last]
    if closure.misordered:
        ranks = _Sorting(snapshot, ranks).run(set(closure.upward.tolist()))
    return np.concatenate([ranks, tail])


class _Sorting:
    """Puts ranks into post-order, depth first.

    Goes through them from the first to the last, so that all which a rank refers to
    went before, unless its references point upward: only from there it descends.
    """

    def __init__(self, snapshot: Snapshot, ranks: Ranks) -> None:
        self.snapshot = snapshot
        self.ranks = ranks
        self.wanted = bytearray(snapshot.count)
        np.frombuffer(self.wanted, "u1")[ranks] = 1
        self.done: list[int] = []
        self.edges: dict[int, Edges] = {}

    def run(self, upward: set[int]) -> Ranks:
        for rank in self.ranks.tolist():
            if not self.wanted[rank]:
                continue
            self.wanted[rank] = 0
            if rank in upward:
                self.descend(rank)
            self.done.append(rank)
        return np.array(self.done, "i8")

    def descend(self, root: int) -> None:
        """Put all that `root` refers to, directly or not, in front of it."""
        stack = [iter(self.targets(root))]
        path = [root]
        while stack:
            target = next((t for t in stack[-1] if t >= 0 and self.wanted[t]), None)
            if target is not None:
                self.wanted[target] = 0
                path.append(target)
                stack.append(iter(self.targets(target)))
                continue
            stack.pop()
            rank = path.pop()
            if stack:
                self.done.append(rank)

    def targets(self, rank: int) -> list[int]:
        tar = self.snapshot.tar_of(rank)
        if tar not in self.edges:
            while len(self.edges) >= _TARS_AT_ONCE:
                self.edges.pop(next(iter(self.edges)))
            self.edges[tar] = self.snapshot.edges(tar)
        return self.edges[tar].targets(rank)
