"""The check of one segment entry: header, name, checksum, padding, tables.

Facts: storage format, sections 2.1, 2.2 and 4. A healthy entry costs one checksum and
one comparison; only what differs is taken apart to say how.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from isal.isal_zlib import crc32

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.format import tar
from tarfailover.format.tar import BLOCK
from tarfailover.ids import SegmentId, text

_ROW = np.dtype([("number", ">u4"), ("type", "u1"), ("address", ">u4")])
_MTIME = slice(136, 147)


class Wrong(NamedTuple):
    """A fault in an entry; `offset` counts from the start of its header."""

    offset: int
    what: str
    grave: bool = True
    """Whether it is a fault of the store, or only worth knowing."""


def entry(
    segment: SegmentId, length: int, block: memoryview
) -> tuple[int, memoryview, Iterator[Wrong]]:
    """Checksum, data and faults of the entry in `block`, which holds header, data, padding.

    `segment` and `length` are what the index says, or the header itself in a tar that
    has no index.
    """
    data = block[BLOCK : BLOCK + length]
    crc = crc32(data)
    return crc, data, _faults(segment, length, block, crc)


def _faults(segment: SegmentId, length: int, block: memoryview, crc: int) -> Iterator[Wrong]:
    name = tar.segment_entry_name(segment, crc)
    if not header_is(block[:BLOCK], name, length):
        yield _header_fault(segment, length, block, crc)
    padding = bytes(block[BLOCK + length :])
    if padding.count(0) != len(padding):
        first = len(padding) - len(padding.lstrip(b"\0"))
        yield Wrong(
            BLOCK + length + first,
            f"the padding behind segment {text(segment)} is not zero; the segment itself is whole",
        )


def header_is(block: bytes | memoryview, name: bytes, size: int) -> bool:
    """Whether `block` is, to the byte, the header of `size` bytes under `name`."""
    try:
        mtime = int(bytes(block[_MTIME]), 8)
        return bytes(block) == tar.encode_header(name, size, mtime)
    except (ValueError, FormatError):
        return False


def _header_fault(segment: SegmentId, length: int, block: memoryview, crc: int) -> Wrong:
    try:
        header = tar.parse_header(block[:BLOCK])
    except FormatError as error:
        return Wrong(error.offset, f"segment {text(segment)}: {error.what}")
    named = tar.parse_segment_name(header.name) if header else None
    if header is None or named is None or named.segment != segment:
        found = repr(header.name.decode("latin-1")) if header else "zeros"
        return Wrong(0, f"the index says segment {text(segment)} is here, but this is {found}")
    if header.size != length:
        return Wrong(
            124,
            f"segment {text(segment)} is {length} bytes long by the index, "
            f"{header.size} by its header",
        )
    if named.crc is None:
        return Wrong(0, f"the entry of segment {text(segment)} carries no checksum", grave=False)
    if named.crc != crc:
        return Wrong(
            BLOCK,
            f"segment {text(segment)} is damaged: the checksum of its {length} bytes is "
            f"{crc:08x}, its name says {named.crc:08x}",
        )
    return Wrong(0, f"the header of segment {text(segment)} is not as Oak writes it")


def records_fault(data: bytes) -> FormatError | None:
    """What is wrong with the record table of a data segment whose header was parsed."""
    header = segments.parse_header(data)
    start = header.tables_end - segments.RECORD_ENTRY_SIZE * header.records
    rows = np.frombuffer(data, _ROW, header.records, start)
    address = rows["address"].astype("i8")
    lowest = segments.MAX_SEGMENT - len(data) + header.tables_end
    above = np.concatenate([[segments.MAX_SEGMENT], address[:-1]])[: len(address)]
    sound = (
        (rows["number"] == np.arange(header.records))
        & (rows["type"] < len(segments.RECORD_TYPES))
        & (address >= lowest)
        & (address < above)
        & (address % segments.RECORD_ALIGNMENT == 0)
    )
    if sound.all():
        return None
    try:
        segments.check_records(data)
    except FormatError as error:
        return error
    return FormatError("the record table is not sound", start + 9 * int(np.argmin(sound)))
