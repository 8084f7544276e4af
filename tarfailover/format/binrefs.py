"""Binary references of a tar: which external blob ids its segments mention.

Facts: storage format, section 3.3. Oak's garbage collector of the data store reads
these instead of the segments, so a tar without them can cost blobs.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tarfailover.errors import FormatError
from tarfailover.format import trailer
from tarfailover.ids import Generation, SegmentId

BinaryReferences = dict[Generation, dict[SegmentId, list[bytes]]]
"""From generation to segment to the distinct blob ids (UTF-8) mentioned there."""

_GENERATION_V2 = struct.Struct(">IIB")
_U32 = struct.Struct(">I")


def encode(references: Mapping[Generation, Mapping[SegmentId, list[bytes]]]) -> bytes:
    """The data of the ``.brf`` entry, version 2; empty groups are left out."""
    body = bytearray()
    groups = [(g, {s: ids for s, ids in by.items() if ids}) for g, by in references.items()]
    groups = [(generation, by) for generation, by in groups if by]
    for generation, by_segment in groups:
        body += _GENERATION_V2.pack(*generation) + _U32.pack(len(by_segment))
        for segment, ids in by_segment.items():
            body += segment + _U32.pack(len(ids))
            body += b"".join(_U32.pack(len(blob)) + blob for blob in ids)
    return trailer.encode(bytes(body), len(groups), trailer.BINARY_REFERENCES_V2, padded_size=False)


def parse_footer(data: bytes | memoryview, end: int) -> trailer.Footer:
    """The footer of the binary references that end at `end`; raises FormatError."""
    magics = (trailer.BINARY_REFERENCES_V1, trailer.BINARY_REFERENCES_V2)
    footer = trailer.parse_footer(data, end, magics, "list of binary references")
    if footer.size < trailer.FOOTER_SIZE:
        raise FormatError(f"size {footer.size} is below that of a footer", end - 8)
    return footer


def parse(data: bytes | memoryview, end: int) -> BinaryReferences:
    """The binary references whose footer ends at `end` of `data`; raises FormatError.

    A group or a segment that comes twice is merged: a reference lost is a blob lost.
    """
    footer = parse_footer(data, end)
    size = footer.size - trailer.FOOTER_SIZE
    view = trailer.payload(data, end, footer, size, "list of binary references")
    cursor = _Cursor(view, end - footer.size)
    result: BinaryReferences = {}
    for _ in range(footer.count):
        generation = cursor.generation(v1=footer.magic == trailer.BINARY_REFERENCES_V1)
        by_segment = result.setdefault(generation, {})
        for _ in range(cursor.u32()):
            segment = cursor.take(16)
            ids = by_segment.setdefault(segment, [])
            ids.extend(cursor.take(cursor.u32()) for _ in range(cursor.u32()))
    if cursor.at != size:
        raise FormatError("bytes follow the last binary reference", cursor.base + cursor.at)
    return result


class _Cursor:
    """Takes values from the front of a payload, each checked against what is left."""

    def __init__(self, view: memoryview, base: int) -> None:
        self.view = view
        self.base = base
        self.at = 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.view):
            raise FormatError(
                f"{size} bytes run past the end of the binary references", self.base + self.at
            )
        self.at += size
        return bytes(self.view[self.at - size : self.at])

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def generation(self, *, v1: bool) -> Generation:
        if v1:
            number = self.u32()
            return Generation(number, number, True)
        generation, full, compacted = _GENERATION_V2.unpack(self.take(9))
        return Generation(generation, full, bool(compacted))
