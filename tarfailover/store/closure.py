"""Which segments a head needs: the closure over reference tables.

Facts: storage format, section 6.2. The walk goes tar by tar, from the last to the
first, so that one tar's graph at a time is in memory; nothing here recurses.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tarfailover.ids import SegmentId
from tarfailover.store.snapshot import Edges, Snapshot

Ranks = npt.NDArray[Any]


class Missing(NamedTuple):
    """A segment that is in no tar, and one that refers to it."""

    segment: SegmentId
    referrer: SegmentId | None


class Closure(NamedTuple):
    """What a walk found."""

    ranks: Ranks
    """The segments reached, in tar order, without those that were known before."""
    missing: list[Missing]
    misordered: bool
    """Whether some segment stands before one that it refers to."""


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
        self.seen = bytearray(snapshot.count)
        self.seen[: len(known)] = known[: snapshot.count]
        self.seen[:below] = b"\1" * min(below, snapshot.count)
        self.reached: list[int] = []
        self.missing: dict[SegmentId, SegmentId | None] = {}
        self.pending: dict[int, list[int]] = {}
        self.order: list[int] = []
        self.misordered = False

    def run(self, roots: Iterable[SegmentId]) -> Closure:
        for root in roots:
            rank = self.snapshot.find(root)
            if rank < 0:
                self.missing.setdefault(root, None)
            elif not self.seen[rank]:
                self.reach(rank)
        while self.order:
            self.walk_tar(-heapq.heappop(self.order))
        ranks = np.array(self.reached, "i8")
        ranks.sort()
        return Closure(ranks, list(map(Missing._make, self.missing.items())), self.misordered)

    def reach(self, rank: int) -> None:
        self.seen[rank] = 1
        self.reached.append(rank)
        tar = self.snapshot.tar_of(rank)
        if tar not in self.pending:
            self.pending[tar] = []
            heapq.heappush(self.order, -tar)
        self.pending[tar].append(rank)

    def walk_tar(self, tar: int) -> None:
        """Follow all that is pending in one tar; what lies elsewhere becomes pending there."""
        edges = self.snapshot.edges(tar)
        stack, seen = self.pending[tar], self.seen
        while stack:
            rank = stack.pop()
            targets = edges.targets(rank)
            for target in targets:
                if target < 0:
                    self.miss(edges, rank)
                    continue
                if target > rank:
                    self.misordered = True
                if not seen[target]:
                    self.reach(target)
        del self.pending[tar]

    def miss(self, edges: Edges, rank: int) -> None:
        referrer = self.snapshot.segment(rank)
        for segment in edges.absent(rank):
            self.missing.setdefault(segment, referrer)


def references_first(snapshot: Snapshot, closure: Closure, head: SegmentId) -> Ranks:
    """The ranks of `closure` with references before referrers and the segment of `head` last.

    Tar order already is such an order in a store that Oak wrote by its own rules; then
    only the head is moved. Where segments refer to each other in a circle, one of them
    has to stand before what it refers to.
    """
    last = snapshot.find(head)
    ranks = closure.ranks[closure.ranks != last]
    if closure.misordered:
        ranks = _post_order(snapshot, ranks, last)
    present = closure.ranks.searchsorted(last)
    tail = [last] if present < len(closure.ranks) and closure.ranks[present] == last else []
    return np.concatenate([ranks, np.array(tail, "i8")])


def _post_order(snapshot: Snapshot, ranks: Ranks, last: int) -> Ranks:
    wanted = set(ranks.tolist())
    done: list[int] = []
    for root in ranks.tolist():
        if root not in wanted:
            continue
        wanted.discard(root)
        stack = [(root, iter(_targets(snapshot, root)))]
        while stack:
            rank, targets = stack[-1]
            target = next((t for t in targets if t in wanted), None)
            if target is None:
                done.append(rank)
                stack.pop()
            else:
                wanted.discard(target)
                stack.append((target, iter(_targets(snapshot, target))))
    return np.array([rank for rank in done if rank != last], "i8")


def _targets(snapshot: Snapshot, rank: int) -> list[int]:
    return snapshot.edges(snapshot.tar_of(rank)).targets(rank)
