"""Where every segment lies: a table of all tars' indexes.

A *rank* counts segments in tar order: by tar number, letter, position. The bulk of the
table is numpy arrays, about 41 bytes a segment; what was added since is a dict. The
table only ever grows at its end and what it says about a rank never changes, so a
snapshot is the table and a count, and one thread may append while others look up.

Ids are found through a hash table of two arrays: the ranks ordered by hash, and where
each hash begins among them. The hash is seeded in each process, so that nobody can send
ids that make looking up slow.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tarfailover.format.index import IndexEntry
from tarfailover.ids import Generation, SegmentId

Array = npt.NDArray[Any]

MERGE_AT = 65536
"""Segments in the dict at which they are merged into the arrays."""
FEW = 4096
"""Segments that are added to the dict rather than to the arrays."""

KEY = np.dtype([("msb", ">u8"), ("lsb", ">u8")])
"""An id as two numbers."""

_MASK = 2**64 - 1
_LOW = secrets.randbits(64) | 1
_HIGH = secrets.randbits(64) | 1


class Columns(NamedTuple):
    """Segments as arrays of one length, in tar order."""

    msb: Array
    lsb: Array
    position: Array
    length: Array
    generation: Array
    full: Array
    compacted: Array

    @classmethod
    def of_index(cls, entries: Array) -> Columns:
        """The columns of a parsed index (`format.index.Index.entries`), by position."""
        rows = entries[np.argsort(entries["position"], kind="stable")]
        names = rows.dtype.names or ()
        full = rows["full"] if "full" in names else rows["generation"]
        bulk = (rows["lsb"].astype("u8") >> np.uint64(60)) == 0xB
        compacted = rows["compacted"] if "compacted" in names else ~bulk
        return cls(
            rows["msb"].astype("u8"),
            rows["lsb"].astype("u8"),
            rows["position"].astype("u4"),
            rows["length"].astype("u4"),
            rows["generation"].astype("u4"),
            full.astype("u4"),
            compacted.astype("?"),
        )

    @classmethod
    def of_entries(cls, entries: Sequence[IndexEntry]) -> Columns:
        """The columns of `entries`, in their order."""
        keys = np.frombuffer(b"".join(e.segment for e in entries), KEY)
        return cls(
            keys["msb"].astype("u8"),
            keys["lsb"].astype("u8"),
            np.array([e.position for e in entries], "u4"),
            np.array([e.length for e in entries], "u4"),
            np.array([e.generation.generation for e in entries], "u4"),
            np.array([e.generation.full for e in entries], "u4"),
            np.array([e.generation.compacted for e in entries], "?"),
        )

    @classmethod
    def joined(cls, parts: Iterable[Columns], count: int | None = None) -> Columns:
        """All `parts` one after the other.

        With `count`, how many segments they have in all, the parts of an iterator are
        copied one by one and are never all in memory.
        """
        if count is None:
            parts = list(parts)
            count = sum(len(part.msb) for part in parts)
        whole = cls(*(np.empty(count, kind) for kind in ("u8", "u8", "u4", "u4", "u4", "u4", "?")))
        at = 0
        for part in parts:
            stop = at + len(part.msb)
            for target, source in zip(whole, part, strict=True):
                target[at:stop] = source
            at = stop
        return whole


_EMPTY = Columns.of_entries([])


class SegmentTable:
    """A mapping from segment to rank, and from rank to what an index says."""

    def __init__(self, columns: Columns = _EMPTY) -> None:
        self._base = columns
        self._size = len(columns.msb)
        self._bits = max(1, self._size.bit_length())
        self._order, self._begins = _hashed(columns, self._bits)
        self._tail: list[IndexEntry] = []
        self._ranks: dict[SegmentId, int] = {}

    def __len__(self) -> int:
        return self._size + len(self._tail)

    def append(self, entries: Iterable[IndexEntry]) -> None:
        """Add segments behind the last one; of two copies the first keeps being found."""
        entries = list(entries)
        fresh = set(self.lacking([entry.segment for entry in entries]))
        for rank, entry in enumerate(entries, self._size + len(self._tail)):
            if entry.segment in fresh:
                self._ranks.setdefault(entry.segment, rank)
            self._tail.append(entry)

    def merged(self, share: float = 0.0) -> SegmentTable:
        """Itself, or a table of the same ranks in which the dict has become arrays.

        That is done for a dict of `MERGE_AT` segments, and with a `share` for one that
        has at least `FEW` and that part of all: in arrays many ids are found in a tenth
        of the time.
        """
        count = len(self._tail)
        many = share and count >= max(FEW, share * len(self))
        return self._joined([]) if many or count >= MERGE_AT else self

    def extended(self, more: Columns) -> SegmentTable:
        """A table of the same ranks and of `more` behind them: itself if those are few."""
        if len(more.msb) > FEW:
            return self._joined([more])
        others = SegmentTable(more)
        self.append(map(others.entry, range(len(others))))
        return self

    def _joined(self, more: Sequence[Columns]) -> SegmentTable:
        parts = [self._base, Columns.of_entries(self._tail), *more]
        return SegmentTable(Columns.joined(parts, sum(len(part.msb) for part in parts)))

    def find(self, segment: SegmentId) -> int:
        """The rank of `segment`, or -1."""
        rank = self._ranks.get(segment)
        if rank is not None:
            return rank
        msb, lsb = int.from_bytes(segment[:8], "big"), int.from_bytes(segment[8:], "big")
        place = _hash(msb, lsb) >> (64 - self._bits)
        for at in range(int(self._begins[place]), int(self._begins[place + 1])):
            rank = int(self._order[at])
            if int(self._base.lsb[rank]) == lsb and int(self._base.msb[rank]) == msb:
                return rank
        return -1

    def lacking(self, ids: Iterable[SegmentId]) -> list[SegmentId]:
        """Those of `ids` that are not in the table, in their order."""
        # What is asked for is mostly what came last, and that is in the dict.
        ranks = self._ranks
        rest = [segment for segment in ids if segment not in ranks]
        if not rest or not self._size:
            return rest
        keys = np.frombuffer(b"".join(rest), KEY)
        found = self._find_in_base(keys["msb"].astype("u8"), keys["lsb"].astype("u8")).tolist()
        return [segment for segment, rank in zip(rest, found, strict=True) if rank < 0]

    def find_all(self, ids: bytes | memoryview | Array) -> Array:
        """The ranks of ids that lie one after the other in `ids`; -1 where there is none."""
        keys = np.frombuffer(ids, KEY)
        found = self._find_in_base(keys["msb"].astype("u8"), keys["lsb"].astype("u8"))
        if self._tail:
            places = np.flatnonzero(found < 0)
            lost = keys[places].tobytes()
            for at, place in enumerate(places.tolist()):
                found[place] = self._ranks.get(lost[16 * at : 16 * at + 16], -1)
        return found

    def _find_in_base(self, msb: Array, lsb: Array) -> Array:
        found = np.full(len(msb), -1, "i8")
        if not self._size or not len(msb):
            return found
        place = (_hashes(msb, lsb) >> np.uint64(64 - self._bits)).view("i8")
        at, stop = self._begins.take(place), self._begins.take(place + 1)
        left = np.flatnonzero(at < stop)
        while len(left):
            ranks = self._order.take(at.take(left))
            same = self._base.msb.take(ranks) == msb.take(left)
            same &= self._base.lsb.take(ranks) == lsb.take(left)
            found[left[same]] = ranks[same]
            left = left[~same]
            at[left] += 1
            left = left[at.take(left) < stop.take(left)]
        return found

    def segment(self, rank: int) -> SegmentId:
        """The id at `rank`."""
        if rank >= self._size:
            return self._tail[rank - self._size].segment
        msb, lsb = int(self._base.msb[rank]), int(self._base.lsb[rank])
        return msb.to_bytes(8, "big") + lsb.to_bytes(8, "big")

    def entry(self, rank: int) -> IndexEntry:
        """All that is known about the segment at `rank`."""
        if rank >= self._size:
            return self._tail[rank - self._size]
        b = self._base
        triple = Generation(int(b.generation[rank]), int(b.full[rank]), bool(b.compacted[rank]))
        return IndexEntry(self.segment(rank), int(b.position[rank]), int(b.length[rank]), triple)

    def extents(self, ranks: Array) -> tuple[bytes, Array]:
        """The ids at `ranks`, one after the other, and the lengths of those segments."""
        ids = np.empty(len(ranks), KEY)
        lengths = np.empty(len(ranks), "u4")
        inside = ranks < self._size
        low = ranks[inside]
        ids["msb"][inside], ids["lsb"][inside] = self._base.msb[low], self._base.lsb[low]
        lengths[inside] = self._base.length[low]
        for place in np.flatnonzero(~inside).tolist():
            entry = self._tail[int(ranks[place]) - self._size]
            ids[place] = np.frombuffer(entry.segment, KEY)[0]
            lengths[place] = entry.length
        return ids.tobytes(), lengths

    def spans(self, ranks: Array) -> list[tuple[int, int]]:
        """Position and length of the segments at `ranks`; nonsense for a rank of -1."""
        inside = ranks < self._size
        low = np.where(inside & (ranks >= 0), ranks, 0)
        if self._size:
            rows = zip(self._base.position[low].tolist(), self._base.length[low].tolist(),
                       strict=True)  # fmt: skip
            spans = list(rows)
        else:
            spans = [(0, 0)] * len(ranks)
        for place in np.flatnonzero(~inside).tolist():
            entry = self._tail[int(ranks[place]) - self._size]
            spans[place] = entry.position, entry.length
        return spans

    def columns(self, start: int, stop: int) -> Columns:
        """The columns of the ranks from `start` to before `stop`."""
        base = Columns(*(column[start:stop] for column in self._base))
        tail = self._tail[max(0, start - self._size) : max(0, stop - self._size)]
        return Columns.joined([base, Columns.of_entries(tail)], len(base.msb) + len(tail))


def _hash(msb: int, lsb: int) -> int:
    return (msb ^ lsb * _LOW & _MASK) * _HIGH & _MASK


def _hashes(msb: Array, lsb: Array) -> Array:
    hashes = lsb * np.uint64(_LOW)
    hashes ^= msb
    hashes *= np.uint64(_HIGH)
    return hashes


def _hashed(columns: Columns, bits: int) -> tuple[Array, Array]:
    """The ranks ordered by the first `bits` of their hashes, and where each of those begins."""
    places = (_hashes(columns.msb, columns.lsb) >> np.uint64(64 - bits)).astype("u4")
    begins = np.zeros((1 << bits) + 1, "u4")
    np.cumsum(np.bincount(places, minlength=1 << bits), out=begins[1:])
    return np.argsort(places, kind="stable").astype("u4"), begins
