"""The references of one tar's segments, as ranks.

Looked up a block of segments at a time: one by one costs ten times as much, and a
whole tar's references as Python objects cost a hundred times the memory.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from tarfailover.errors import FormatError
from tarfailover.ids import SegmentId
from tarfailover.store.table import KEY, Array

_ID = KEY.itemsize
_RECORD = 20
"""Bytes of a graph's record before its references: an id and their number."""
_WORD = 4
_NUMBER = struct.Struct(">I").unpack_from

FindAll = Callable[[Array], Array]
"""Ranks of ids; -1 where there is none."""


class Rows(NamedTuple):
    """The references of a range of ranks."""

    first: int
    begins: Array
    """Where the references of each rank begin in `targets`, and, at last, where they end."""
    targets: Array
    """Ranks; -1 for a reference that is in no tar."""


class Source(Protocol):
    """Gives the reference tables of one tar's segments."""

    def ids(self, first: int, stop: int) -> tuple[Array, Array]:
        """How many references each rank in the range has, and all of them as ids."""


class StoredGraph:
    """The graph entry of a closed tar, with an index by rank."""

    def __init__(self, payload: memoryview, count: int, first: int, size: int, find: FindAll):
        """`payload` holds `count` records; raises FormatError, offset within `payload`.

        The tar's segments have `size` ranks from `first` on; `find` looks them up.
        """
        offsets, counts = _records(payload, count)
        self._first = first
        # Records lie at multiples of four bytes, not of sixteen.
        places = max(0, len(payload) - _ID + _WORD) // _WORD
        self._keys: Array = np.ndarray((places,), KEY, payload, 0, (_WORD,))
        ranks = find(self._keys[offsets // _WORD]) - first
        own = (ranks >= 0) & (ranks < size)
        self._counts = np.zeros(size, "u4")
        self._counts[ranks[own]] = counts[own]
        self._places = np.zeros(size, "u4")
        self._places[ranks[own]] = (offsets[own] + _RECORD) // _WORD

    def ids(self, first: int, stop: int) -> tuple[Array, Array]:
        """See `Source`."""
        inside = slice(first - self._first, stop - self._first)
        counts = self._counts[inside].astype("i8")
        ends = counts.cumsum()
        step = np.arange(ends[-1] if len(ends) else 0) - (ends - counts).repeat(counts)
        places = self._places[inside].repeat(counts) + step * (_ID // _WORD)
        return counts, self._keys[places]


def _records(payload: memoryview, count: int) -> tuple[Array, Array]:
    """Offset and number of references of each record of a graph; raises FormatError."""
    size = len(payload)
    offsets, counts = array("q"), array("q")
    at = 0
    for _ in range(count):
        n = _NUMBER(payload, at + _ID)[0] if at + _RECORD <= size else 0
        offsets.append(at)
        counts.append(n)
        at += _RECORD + _ID * n
        if at > size:
            raise FormatError(f"a record of {n} edges runs past the graph's end", offsets[-1])
    if at != size:
        raise FormatError(f"{size - at} bytes follow the last record of the graph", at)
    return np.frombuffer(offsets, "i8"), np.frombuffer(counts, "i8")


class Tables:
    """Reference tables by segment: of a tar that is being written, or whose graph is damaged."""

    def __init__(
        self, tables: Mapping[SegmentId, memoryview], segment: Callable[[int], SegmentId]
    ) -> None:
        self._tables = tables
        self._segment = segment

    def ids(self, first: int, stop: int) -> tuple[Array, Array]:
        """See `Source`."""
        rows = [self._tables.get(self._segment(rank), b"") for rank in range(first, stop)]
        counts = np.array([len(row) // _ID for row in rows], "i8")
        return counts, np.frombuffer(b"".join(rows), KEY)


class Edges:
    """The references of one tar's segments, as ranks."""

    def __init__(self, source: Source, find: FindAll) -> None:
        self._source = source
        self._find = find

    def rows(self, first: int, stop: int) -> Rows:
        """The references of the ranks from `first` to before `stop`."""
        counts, ids = self._source.ids(first, stop)
        begins = np.zeros(len(counts) + 1, "i8")
        np.cumsum(counts, out=begins[1:])
        return Rows(first, begins, self._find(ids))

    def targets(self, rank: int) -> list[int]:
        """The rank of each reference of `rank`; -1 for one that is in no tar."""
        found: list[int] = self.rows(rank, rank + 1).targets.tolist()
        return found

    def absent(self, rank: int) -> list[SegmentId]:
        """The references of `rank` that are in no tar."""
        _, ids = self._source.ids(rank, rank + 1)
        data = ids[self._find(ids) < 0].tobytes()
        return [data[at : at + _ID] for at in range(0, len(data), _ID)]
