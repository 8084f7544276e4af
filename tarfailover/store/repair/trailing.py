"""The trailing entries of a closed tar: what they are, and what they should be.

Facts: storage format, sections 2.3, 2.4 and 3. The index follows from where the segments lie. Graph
and binary references carry a checksum of what they say; where that does not fit, they follow
from the segments. The rows of a graph may stand in any order, so the order found there is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from tarfailover.errors import FormatError
from tarfailover.format import binrefs, graph, index, trailer
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE, TarName
from tarfailover.format.trailer import FOOTER_SIZE
from tarfailover.ids import SegmentId
from tarfailover.store.repair.damage import distance
from tarfailover.store.repair.entries import mtime_of, right_header

LIKENESS = 24
"""Bits in which the beginning of a header may differ and still be taken for it."""
_ROW = 33
"""Bytes of a segment in an index of version 2."""
_LEAST = trailer.extent(0)

Rows = Mapping[SegmentId, bytes]
"""From each segment that has references to these, one after the other."""


class Kind(Protocol):
    """What reads one of the two: a module of `format`."""

    def parse(self, data: bytes, end: int) -> object:
        """What stands in front of `end`; raises FormatError unless all of it fits together."""

    def parse_footer(self, data: bytes, end: int) -> trailer.Footer:
        """The footer that ends there; raises FormatError."""


class Told(NamedTuple):
    """What the segments of a tar say that belongs into its trailing entries."""

    rows: Rows
    blobs: BinaryReferences


class Part(NamedTuple):
    """One trailing entry."""

    suffix: str
    start: int
    """Counted from the end of the segments."""
    found: bytes
    body: bytes | None
    """What it says; None if its checksum does not fit."""
    right: bytes | None
    """What its bytes should be; None if only the segments can tell."""


class Trailing:
    """What stands in tar `name` behind `entries`, of which `found` are the bytes up to its end.

    `parts` are binary references, graph and index. Raises FormatError if they cannot be told
    apart, or are of a version that is only read here.
    """

    def __init__(self, found: bytes, name: TarName, entries: Sequence[IndexEntry]) -> None:
        self._found = found
        self._name = name
        begin = len(found) - len(END_OF_ARCHIVE) - trailer.extent(_ROW * len(entries))
        if begin < 2 * _LEAST:
            raise FormatError("there is no room for an index of all segments", 0)
        middle = self._graph_start(begin)
        pieces = (found[:middle], found[middle:begin], found[begin : -len(END_OF_ARCHIVE)])
        self._mtime = _mtime(pieces)
        lists = self._read(".brf", 0, pieces[0], binrefs, trailer.BINARY_REFERENCES_V2)
        edges = self._read(".gph", middle, pieces[1], graph, trailer.GRAPH)
        rows = self._made(".idx", pieces[2], index.encode(entries))
        self.parts = (lists, edges, Part(".idx", begin, pieces[2], rows, rows))

    def _graph_start(self, stop: int) -> int:
        """Where the header of the graph stands, which itself may be damaged."""
        title = f"{self._name}.gph\0".encode()
        places = range(_LEAST, stop - _LEAST + 1, BLOCK)
        nearest = min(places, key=lambda at: distance(title, self._found[at : at + len(title)]))
        if distance(title, self._found[nearest : nearest + len(title)]) <= LIKENESS:
            return nearest
        footer = graph.parse_footer(self._found, stop)
        start = stop - trailer.extent(footer.size - FOOTER_SIZE)
        if start not in places:
            raise FormatError("the graph cannot be found", stop)
        return start

    def _read(self, suffix: str, start: int, found: bytes, kind: Kind, magic: int) -> Part:
        try:
            # The number of records is beside what the checksum covers.
            kind.parse(found, len(found))
            footer = kind.parse_footer(found, len(found))
            size = footer.size - FOOTER_SIZE
            body = bytes(trailer.payload(found, len(found), footer, size, suffix))
        except FormatError:
            return Part(suffix, start, found, None, None)
        again = trailer.encode(body, footer.count, footer.magic, padded_size=False)
        if footer.magic != magic or BLOCK + len(again) != len(found):
            raise FormatError(f"the entry {suffix} is not of this version and size", start)
        return Part(suffix, start, found, body, self._made(suffix, found, again))

    def _made(self, suffix: str, found: bytes, data: bytes) -> bytes:
        title = f"{self._name}{suffix}".encode()
        return right_header(found[:BLOCK], title, len(data), self._mtime) + data

    def faults(self) -> Iterator[tuple[int, str]]:
        """Where the first wrong byte of each part is, from the end of the segments, and what."""
        for part in self.parts:
            if part.right is None:
                yield part.start, f"the checksum of the entry {part.suffix} does not fit"
            elif part.right != part.found:
                at = _first_difference(part.found, part.right)
                yield part.start + at, f"the entry {part.suffix} is not what it should be"
        end = self._found[-len(END_OF_ARCHIVE) :]
        if end != END_OF_ARCHIVE:
            at = len(self._found) - len(END_OF_ARCHIVE) + _first_difference(end, END_OF_ARCHIVE)
            yield at, "the end of the archive is not two blocks of zeros"

    @property
    def needs_segments(self) -> bool:
        """Whether `right` looks at what the segments say."""
        return any(part.right is None for part in self.parts)

    def right(self, told: Told) -> bytes:
        """All bytes as they should be; raises FormatError if they would take another room."""
        lists, edges, rows = self.parts
        made = [
            lists.right or self._made(".brf", lists.found, binrefs.encode(told.blobs)),
            edges.right or self._made(".gph", edges.found, _graph(edges.found, told.rows)),
            rows.right or b"",
        ]
        for part, right in zip(self.parts, made, strict=True):
            if len(right) != len(part.found):
                raise FormatError(
                    f"the entry {part.suffix} has {len(part.found)} bytes and should have "
                    f"{len(right)}",
                    part.start,
                )
        return b"".join(made) + END_OF_ARCHIVE


def _mtime(pieces: Iterable[bytes]) -> int:
    """The time that most of the entries have, for those in which it cannot be read."""
    times = Counter(time for time in map(mtime_of, pieces) if time is not None)
    return times.most_common(1)[0][0] if times else 0


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _graph(found: bytes, rows: Rows) -> bytes:
    """The data of the graph of `rows`, in the order that can be read in what was found."""
    size = sum(20 + len(row) for row in rows.values())
    at = len(found) - FOOTER_SIZE - size
    left = dict(rows)
    ordered: dict[SegmentId, bytes] = {}
    while left and at >= BLOCK:
        segment = _nearest(found[at : at + 16], left)
        if segment is None:
            break
        row = left.pop(segment)
        ordered[segment] = _in_order(found[at + 20 : at + 20 + len(row)], row)
        at += 20 + len(row)
    return graph.encode_rows({**ordered, **left})


def _in_order(found: bytes, row: bytes) -> bytes:
    """The references of `row` in the order in which they were found."""
    if found == row:
        return row
    left = dict.fromkeys(row[at : at + 16] for at in range(0, len(row), 16))
    if 16 * len(left) != len(row):
        return row
    ordered = []
    for at in range(0, len(row), 16):
        segment = _nearest(found[at : at + 16], left)
        if segment is None:
            break
        ordered.append(segment)
        del left[segment]
    return b"".join([*ordered, *left])


def _nearest(found: bytes, ids: Mapping[SegmentId, object]) -> SegmentId | None:
    """Which of `ids` was found, perhaps damaged; None if none is like it."""
    if found in ids:
        return found
    nearest = min(ids, key=lambda each: distance(each, found))
    return nearest if distance(nearest, found) <= LIKENESS else None
