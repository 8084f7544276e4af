"""The external blob ids that a segment mentions, long ones included.

Facts: storage format, sections 3.3, 5.1, 5.3 and 5.4. An id of 4096 bytes or more is a
string of its own, in the same segment or in one that is referred to, and perhaps cut
into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.ids import SegmentId, is_bulk, text

Read = Callable[[SegmentId], bytes]
"""Gives the data of a stored segment; raises SegmentMissingError."""

LONGEST_ID = 1024 * 1024
"""Bytes; a longer blob id is taken for damage. Oak's own are below a few hundred."""

_BLOCK = 4096
_FAN_OUT = 255
_ID = 6


def mentioned(
    segment: SegmentId, data: bytes, references: Sequence[SegmentId], read: Read
) -> tuple[bytes, ...]:
    """The distinct external blob ids in data segment `segment`; raises FormatError."""
    short, long = segments.external_blob_ids(data)
    found = dict.fromkeys(short)
    if long:
        strings = _Strings(segment, data, references, read)
        for reference, number in long:
            found[strings.string(*strings.resolve(segment, reference, number))] = None
    return tuple(found)


class _Strings:
    """Reads strings from one segment and those that it refers to."""

    def __init__(
        self, segment: SegmentId, data: bytes, references: Sequence[SegmentId], read: Read
    ) -> None:
        self._own = segment
        self._data = data
        self._references = references
        self._read = read

    def load(self, segment: SegmentId) -> bytes:
        return self._data if segment == self._own else self._read(segment)

    def resolve(self, base: SegmentId, reference: int, number: int) -> tuple[SegmentId, int]:
        """The record that an id inside segment `base` names."""
        if not reference:
            return base, number
        own = base == self._own
        table = self._references if own else segments.references(self._read(base))
        if reference > len(table):
            raise FormatError(f"segment {text(base)} has no reference {reference}", 14)
        return table[reference - 1], number

    def string(self, segment: SegmentId, number: int) -> bytes:
        value = segments.string_at(self.load(segment), number)
        if isinstance(value, bytes):
            return value
        length, reference, first = value
        if length > LONGEST_ID:
            raise FormatError(f"a blob id of {length} bytes in segment {text(segment)}", 0)
        count = -(-length // _BLOCK)
        root = self.resolve(segment, reference, first)
        blocks = list(self.elements(root, count))
        sizes = [_BLOCK] * (count - 1) + [length - _BLOCK * (count - 1)]
        return b"".join(map(self.block, blocks, sizes))

    def elements(self, root: tuple[SegmentId, int], count: int) -> Iterator[tuple[SegmentId, int]]:
        """The `count` elements of the list of ids under `root`, in order."""
        waiting = [(root, count)]
        while waiting:
            (segment, number), size = waiting.pop()
            if size == 1:
                yield segment, number
                continue
            span = 1
            while span * _FAN_OUT < size:
                span *= _FAN_OUT
            children = -(-size // span)
            row = self.bytes_at(segment, number, _ID * children)
            below = []
            for child in range(children):
                reference = int.from_bytes(row[_ID * child : _ID * child + 2], "big")
                target = int.from_bytes(row[_ID * child + 2 : _ID * child + _ID], "big")
                share = min(span, size - span * child)
                below.append((self.resolve(segment, reference, target), share))
            waiting += reversed(below)

    def block(self, place: tuple[SegmentId, int], size: int) -> bytes:
        return self.bytes_at(*place, size)

    def bytes_at(self, segment: SegmentId, number: int, size: int) -> bytes:
        data = self.load(segment)
        address = number if is_bulk(segment) else self.address(data, segment, number)
        at = segments.byte_index(address, len(data))
        if at < 0 or at + size > len(data):
            raise FormatError(f"record {number} of segment {text(segment)} lies outside of it", 0)
        return data[at : at + size]

    def address(self, data: bytes, segment: SegmentId, number: int) -> int:
        for record in segments.records(data):
            if record.number == number:
                return record.address
        raise FormatError(f"segment {text(segment)} has no record {number}", 0)
