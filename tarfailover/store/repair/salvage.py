"""The entries of a tar whose index cannot be used, or that never had one.

The headers tell them, one after the other. Where one is damaged, the row of the damaged index
that has this place tells what stands there: of its rows most are as good as ever. Where
neither does, there is a hole, up to the next header that can be read; for it there are
candidates: ids that may have stood there, which somebody may have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.format import tar, trailer
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE, TarName
from tarfailover.ids import NO_GENERATION, Generation, SegmentId, is_bulk, is_data, text
from tarfailover.store.repair.damage import distance
from tarfailover.store.repair.entries import extent
from tarfailover.store.tarreader import TarReader

_ROW = np.dtype([("msb", ">u8"), ("lsb", ">u8"), ("position", ">u4"), ("length", ">u4"),
                 ("generation", ">u4"), ("full", ">u4"), ("compacted", "u1")])  # fmt: skip
_CHUNK = 1024 * 1024
_DASH = ord("-")
_HEX = "0123456789abcdef"
_LIKENESS = 16
"""Bits in which the name of a trailing entry may differ and still be taken for it."""


class Hole(NamedTuple):
    """Bytes of a tar of which nothing says what they are."""

    start: int
    stop: int
    candidates: tuple[SegmentId, ...]
    """Ids that may belong here, the likelier ones first."""


class Salvage(NamedTuple):
    """What could be found."""

    entries: list[IndexEntry]
    """By position; their data may be damaged."""
    holes: list[Hole]
    closed: bool
    """Whether trailing entries stand behind them: the tar had an index."""


def salvage(reader: TarReader) -> Salvage:
    """Find the entries of `reader`; raises StoreIOError."""
    return _Walk(reader).run()


class _Walk:
    def __init__(self, reader: TarReader) -> None:
        self.reader = reader
        self.size = reader.size()
        self.hints, self.lost = _rows(reader, self.size)
        self.entries: list[IndexEntry] = []
        self.holes: list[Hole] = []

    def run(self) -> Salvage:
        at = 0
        while at + BLOCK <= self.size:
            block = self.reader.read(at, BLOCK)
            trailer = _trailer(block, self.reader.name)
            if trailer:
                if trailer != ".brf":
                    self._spare_first_trailer(at)
                return self._found(closed=True)
            entry = self._entry(at, block)
            if entry is None:
                stop = self._next_header(at + BLOCK)
                if stop == self.size:
                    break
                self.holes.append(Hole(at, stop, self._candidates(at, block)))
                at = stop
            else:
                self.entries.append(entry)
                at = entry.position + tar.padded(entry.length)
        return self._found(closed=False)

    def _found(self, *, closed: bool) -> Salvage:
        known = {entry.segment for entry in self.entries}
        left = [segment for segment in (*self.hints_left(), *self.lost) if segment not in known]
        holes = [
            hole._replace(candidates=tuple(dict.fromkeys([*hole.candidates, *left])))
            for hole in self.holes
        ]
        return Salvage(self.entries, holes, closed)

    def _spare_first_trailer(self, stop: int) -> None:
        """Count no hole that is the first trailing entry, whose header is damaged."""
        end = sum(extent(self.entries[-1])) if self.entries else 0
        rows = len(self.hints) + len(self.lost)
        if self.holes and self.holes[-1][:2] == (end, stop) and len(self.entries) >= rows > 0:
            self.holes.pop()

    def hints_left(self) -> Iterator[SegmentId]:
        """The rows of the index at whose place nothing was found."""
        places = {entry.position for entry in self.entries}
        return (row.segment for at, row in self.hints.items() if at not in places)

    def _entry(self, at: int, block: bytes) -> IndexEntry | None:
        """The entry at `at`, by its header or by the index."""
        header = _header(block)
        name = tar.parse_segment_name(header.name) if header else None
        hint = self.hints.get(at + BLOCK)
        if header is None or name is None or not 1 <= header.size <= segments.MAX_SEGMENT:
            certain = hint is not None and self._names(block, hint) and self._ends_well(hint)
            return hint if certain else None
        generation = hint.generation if hint and hint.segment == name.segment else None
        found = IndexEntry(name.segment, at + BLOCK, header.size, generation or NO_GENERATION)
        return found if self._fits(found) else None

    def _fits(self, entry: IndexEntry) -> bool:
        known = is_data(entry.segment) or is_bulk(entry.segment)
        return known and entry.position + tar.padded(entry.length) <= self.size

    def _names(self, block: bytes, hint: IndexEntry) -> bool:
        """Whether a damaged header does not name another segment than the index does."""
        readable = _readable(block, hint.segment)
        return readable is None or readable == hint.segment

    def _ends_well(self, entry: IndexEntry) -> bool:
        """Whether behind `entry`, of which only the index tells, something else begins."""
        end = entry.position + tar.padded(entry.length)
        return self._fits(entry) and self._is_header(end, self.reader.read(end, BLOCK))

    def _next_header(self, at: int) -> int:
        """Where the next header stands that can be read, or the end of the file."""
        while at < self.size:
            chunk = self.reader.read(at, _CHUNK)
            for place in range(0, len(chunk) - BLOCK + 1, BLOCK):
                block = chunk[place : place + BLOCK]
                if self._is_header(at + place, block):
                    return at + place
            at += len(chunk)
        return self.size

    def _is_header(self, at: int, block: bytes) -> bool:
        if at + BLOCK in self.hints or _trailer(block, self.reader.name):
            return True
        header = _header(block)
        return header is not None and tar.parse_segment_name(header.name) is not None

    def _candidates(self, at: int, block: bytes) -> tuple[SegmentId, ...]:
        """The ids that a damaged header may name, and the one that the index gives."""
        hint = self.hints.get(at + BLOCK)
        near = [hint.segment] if hint else self.lost
        read = [_readable(block, segment) for segment in near] or [_readable(block, bytes(16))]
        found = [*read, hint.segment if hint else None, *_one_digit_off(block)]
        return tuple(dict.fromkeys(filter(None, found)))


def _one_digit_off(block: bytes) -> Iterator[SegmentId]:
    """The ids with which the header's checksum fits, if one digit of its name is damaged."""
    try:
        stated = int(block[148:154], 8)
    except ValueError:
        return
    off = stated - (sum(block) - sum(block[148:156]) + 8 * 0x20)
    for place in range(36):
        digit = block[place] + off
        if 0 <= digit < 256 and chr(digit) in _HEX:
            name = tar.parse_segment_name(block[:place] + bytes([digit]) + block[place + 1 : 36])
            if name is not None:
                yield name.segment


def _readable(block: bytes, near: SegmentId) -> SegmentId | None:
    """The id in a damaged header, with what cannot be read taken from `near`.

    None if more than half of it cannot.
    """
    pairs = list(zip(block[:36], text(near).encode(), strict=True))
    good = [chr(found) in _HEX for found, _ in pairs]
    if sum(good) < len(pairs) // 2:
        return None
    digits = [f if fits else n for (f, n), fits in zip(pairs, good, strict=True) if n != _DASH]
    try:
        return bytes.fromhex(bytes(digits).decode("latin-1"))
    except ValueError:
        return None


def _header(block: bytes) -> tar.Entry | None:
    # Most blocks are data, for which parsing them to the end would take too long.
    if block[100:108] != b"0000400\0":
        return None
    try:
        return tar.parse_header(block)
    except FormatError:
        return None


def _trailer(block: bytes, name: TarName) -> str:
    """Of which trailing entry `block` is the header, damaged or not; '' for none."""
    suffixes = (".brf", ".gph", ".idx")
    likeness = {each: _unlike(block, f"{name}{each}\0".encode()) for each in suffixes}
    nearest = min(suffixes, key=lambda each: likeness[each])
    return nearest if likeness[nearest] <= _LIKENESS else ""


def _unlike(block: bytes, title: bytes) -> int:
    return distance(title, block[: len(title)])


def _rows(reader: TarReader, size: int) -> tuple[dict[int, IndexEntry], list[SegmentId]]:
    """The rows of a damaged index by their place, and the ids of those that name none.

    Where it begins is told by its header; how many rows it has by its footer, or else by its
    size, whose padding in front is zeros.
    """
    base = max(0, size - 64 * _CHUNK)
    tail = reader.read(base, size - base)
    end = len(tail) - len(END_OF_ARCHIVE)
    title = f"{reader.name}.idx\0".encode()
    start = _last_like(tail, title, end)
    if start is None:
        return {}, []
    body = tail[start + BLOCK : end - trailer.FOOTER_SIZE]
    count = len(body) // _ROW.itemsize
    table = np.frombuffer(body[len(body) - count * _ROW.itemsize :], _ROW)
    hints: dict[int, IndexEntry] = {}
    lost: list[SegmentId] = []
    for entry in map(_row, table):
        if not (is_data(entry.segment) or is_bulk(entry.segment)):
            continue
        sound = entry.position % BLOCK == 0 and 1 <= entry.length <= segments.MAX_SEGMENT
        if sound and 0 < entry.position <= base + start and entry.position not in hints:
            hints[entry.position] = entry
        else:
            lost.append(entry.segment)
    return hints, lost


def _last_like(tail: bytes, title: bytes, end: int) -> int | None:
    """Where the last block begins that is like a header named `title`."""
    for at in range(end - BLOCK, -1, -BLOCK):
        if _unlike(tail[at : at + BLOCK], title) <= _LIKENESS:
            return at
    return None


def _row(row: np.void) -> IndexEntry:
    segment = int(row["msb"]).to_bytes(8, "big") + int(row["lsb"]).to_bytes(8, "big")
    generation = Generation(int(row["generation"]), int(row["full"]), bool(row["compacted"]))
    return IndexEntry(segment, int(row["position"]), int(row["length"]), generation)


def covers(entries: Sequence[IndexEntry]) -> bool:
    """Whether `entries` lie one behind the other from the beginning of the tar on."""
    at = 0
    for entry in entries:
        if entry.position - BLOCK != at:
            return False
        at = entry.position + tar.padded(entry.length)
    return bool(entries)
