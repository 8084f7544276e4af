"""Sets of records that take a bit for each, so that a hundred million fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

from tarfailover.format.segment import MAX_SEGMENT, RECORD_ENTRY_SIZE
from tarfailover.ids import RecordId, SegmentId

MAX_BITS = MAX_SEGMENT // RECORD_ENTRY_SIZE + 1
"""Record numbers from here on exist only in damaged segments, or as addresses in bulk ones."""


class Marks:
    """A set of records."""

    def __init__(self) -> None:
        self._bits: dict[SegmentId, bytearray] = {}
        self._others: set[RecordId] = set()

    def __contains__(self, record: RecordId) -> bool:
        segment, number = record
        if number >= MAX_BITS:
            return record in self._others
        bits = self._bits.get(segment)
        place = number >> 3
        return bits is not None and place < len(bits) and bool(bits[place] >> (number & 7) & 1)

    def add(self, record: RecordId) -> None:
        """Put `record` into the set."""
        segment, number = record
        if number >= MAX_BITS:
            self._others.add(record)
            return
        bits = self._bits.setdefault(segment, bytearray())
        place = number >> 3
        if place >= len(bits):
            bits.extend(bytes(place + 1 - len(bits)))
        bits[place] |= 1 << (number & 7)

    def discard(self, record: RecordId) -> None:
        """Take `record` out of the set."""
        if record not in self:
            return
        segment, number = record
        if number >= MAX_BITS:
            self._others.discard(record)
        else:
            self._bits[segment][number >> 3] &= ~(1 << (number & 7))

    def dump(self) -> dict[str, object]:
        """The set as JSON can hold it."""
        return {
            "bits": {segment.hex(): bytes(bits).hex() for segment, bits in self._bits.items()},
            "others": [str(record) for record in sorted(self._others)],
        }

    @classmethod
    def load(cls, dumped: dict[str, object]) -> Marks:
        """The set that was dumped; raises ValueError, TypeError, KeyError or FormatError."""
        marks = cls()
        for segment, bits in _pairs(dumped["bits"]):
            raw = bytearray.fromhex(bits)
            if len(segment) != 32 or len(raw) > MAX_BITS // 8 + 1:
                raise ValueError(f"{segment!r} has {len(raw)} bytes of marks")
            marks._bits[bytes.fromhex(segment)] = raw
        others = dumped["others"]
        if not isinstance(others, list):
            raise TypeError("others are no list")
        marks._others = {RecordId.parse(record) for record in others}
        return marks


def _pairs(found: object) -> Iterator[tuple[str, str]]:
    if not isinstance(found, dict):
        raise TypeError(f"{type(found).__name__} instead of a mapping")
    return iter(found.items())
