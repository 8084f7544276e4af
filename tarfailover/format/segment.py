"""Data segments: header, reference table, record table (formats 12 and 13).

Facts: storage format, section 4. A parser takes `(buffer, offset, length)` and either
returns values or raises FormatError with the offset of the fault in the buffer.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.ids import NO_GENERATION, Generation, SegmentId, is_bulk, is_data, text

MAX_SEGMENT = 262144
"""The largest segment in bytes, and the size of the virtual address space."""

MAX_REFERENCES = 65533
HEADER_SIZE = 32
REFERENCE_SIZE = 16
RECORD_ENTRY_SIZE = 9
ALIGNMENT = 16
RECORD_ALIGNMENT = 4

MAGIC = b"0aK"
FORMAT_12 = 12
FORMAT_13 = 13
LEGACY_FORMATS = (10, 11)

LEAF, BRANCH, BUCKET, LIST, VALUE, BLOCK, TEMPLATE, NODE, BLOB_ID = range(9)
RECORD_TYPES = (
    "LEAF",
    "BRANCH",
    "BUCKET",
    "LIST",
    "VALUE",
    "BLOCK",
    "TEMPLATE",
    "NODE",
    "BLOB_ID",
)

COMPACTED = 0x80000000

_HEADER = struct.Struct(">3sBIHIII10s")
_RECORD = struct.Struct(">IBI")


class Header(NamedTuple):
    """The fixed part of a data segment."""

    version: int
    generation: Generation
    references: int
    """Entries of the reference table."""
    records: int
    """Entries of the record table."""

    @property
    def tables_end(self) -> int:
        """Bytes from the start of the segment to the end of both tables."""
        return HEADER_SIZE + REFERENCE_SIZE * self.references + RECORD_ENTRY_SIZE * self.records


class Record(NamedTuple):
    """One entry of the record table."""

    number: int
    type: int
    address: int
    """Virtual: counted in a space of 262144 bytes at whose end the segment lies."""


@functools.lru_cache(maxsize=4096)
def _table(count: int) -> struct.Struct:
    return struct.Struct("16s" * count)


def parse_header(data: bytes | memoryview, offset: int = 0, length: int | None = None) -> Header:
    """The header of the data segment of `length` bytes at `offset`; raises FormatError."""
    end = len(data) if length is None else offset + length
    size = end - offset
    if size < HEADER_SIZE or end > len(data):
        raise FormatError(f"a data segment of {size} bytes has no room for its header", offset)
    magic, version, full, zero, generation, refs, records, _ = _HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        raise FormatError(f"segment magic is {bytes(magic)!r}, not {MAGIC!r}", offset)
    header = Header(version, _generation(version, full, generation, offset), refs, records)
    if size > MAX_SEGMENT or size % ALIGNMENT:
        raise FormatError(f"a data segment cannot be {size} bytes long", offset)
    if refs > MAX_REFERENCES or header.tables_end > size:
        raise FormatError(
            f"{refs} references and {records} records do not fit a segment of {size} bytes",
            offset + 14,
        )
    if zero:
        raise FormatError(f"header bytes 8 and 9 are {zero:#06x}, not zero", offset + 8)
    return header


def _generation(version: int, full: int, generation: int, offset: int) -> Generation:
    if version == FORMAT_13:
        return Generation(generation, full & ~COMPACTED, bool(full & COMPACTED))
    if version == FORMAT_12:
        return Generation(generation, generation, True)
    if version in LEGACY_FORMATS:
        raise FormatError(
            f"segment format {version} is of the legacy oak-segment module; "
            "migrate the repository with oak-upgrade first",
            offset + 3,
        )
    raise FormatError(f"segment format {version} is not known (12 and 13 are)", offset + 3)


def references(data: bytes | memoryview, offset: int = 0) -> tuple[SegmentId, ...]:
    """The ids of the reference table of the data segment at `offset`, in table order.

    The header must have been parsed before: the count is believed here.
    """
    count = int.from_bytes(data[offset + 14 : offset + 18], "big")
    return _table(count).unpack_from(data, offset + HEADER_SIZE) if count else ()


def records(data: bytes | memoryview) -> Iterator[Record]:
    """The entries of the record table, in table order."""
    header = parse_header(data)
    start = HEADER_SIZE + REFERENCE_SIZE * header.references
    table = memoryview(data)[start : start + RECORD_ENTRY_SIZE * header.records]
    return map(Record._make, _RECORD.iter_unpack(table))


def byte_index(address: int, length: int) -> int:
    """Where virtual `address` lies in a segment of `length` bytes."""
    return address - (MAX_SEGMENT - length)


def inspect(
    segment: SegmentId, data: bytes | memoryview
) -> tuple[Generation, tuple[SegmentId, ...]]:
    """Generation and references of the whole segment `data` named `segment`.

    The one gate through which a segment passes before it is stored: kind, length,
    header and tables are checked. Raises FormatError.
    """
    if is_bulk(segment):
        if not 1 <= len(data) <= MAX_SEGMENT:
            raise FormatError(f"a bulk segment cannot be {len(data)} bytes long", 0)
        return NO_GENERATION, ()
    if not is_data(segment):
        raise FormatError(f"{text(segment)} names neither a data nor a bulk segment", 0)
    header = parse_header(data)
    refs = references(data) if header.references else ()
    for number, ref in enumerate(refs):
        if ref[8] >> 4 not in (0xA, 0xB):
            at = HEADER_SIZE + REFERENCE_SIZE * number
            raise FormatError(f"reference {text(ref)} names no kind of segment", at)
    return header.generation, refs


def check_records(data: bytes | memoryview) -> None:
    """Raise FormatError unless every record lies in the segment, in order, aligned, typed."""
    header = parse_header(data)
    length = len(data)
    lowest = MAX_SEGMENT - length + header.tables_end
    previous = MAX_SEGMENT
    for index, record in enumerate(records(data)):
        at = HEADER_SIZE + REFERENCE_SIZE * header.references + RECORD_ENTRY_SIZE * index
        if record.type >= len(RECORD_TYPES):
            raise FormatError(f"record {record.number} has the unknown type {record.type}", at + 4)
        if not lowest <= record.address < previous or record.address % RECORD_ALIGNMENT:
            raise FormatError(f"record {record.number} has address {record.address}", at + 5)
        if record.number != index:
            raise FormatError(f"record number {record.number} stands at place {index}", at)
        previous = record.address


def external_blob_ids(data: bytes | memoryview) -> tuple[list[bytes], list[tuple[int, int]]]:
    """What the BLOB_ID records of a data segment name.

    Returns the ids that stand in the records themselves, and for the long ones
    (4096 bytes and more) the record id of their string as (reference number, record
    number). Raises FormatError. Facts: section 5.1.
    """
    short: list[bytes] = []
    long: list[tuple[int, int]] = []
    length = len(data)
    for record in records(data):
        if record.type != BLOB_ID:
            continue
        at = byte_index(record.address, length)
        if not 0 <= at < length - 1:
            raise FormatError(f"record {record.number} lies outside of its segment", at)
        if data[at] >> 4 == 0xE:
            size = int.from_bytes(data[at : at + 2], "big") & 0x0FFF
            short.append(bytes(data[at + 2 : at + 2 + size]))
        elif data[at] == 0xF0:
            reference = int.from_bytes(data[at + 1 : at + 3], "big")
            long.append((reference, int.from_bytes(data[at + 3 : at + 7], "big")))
        else:
            raise FormatError(f"record {record.number} is no external blob id", at)
    return short, long


def string_at(data: bytes | memoryview, number: int) -> bytes | tuple[int, int, int]:
    """The VALUE record `number` of a data segment.

    Its bytes if they stand in the record, else `(length, reference number, record
    number)` of its list of blocks. Raises FormatError.
    """
    length = len(data)
    for record in records(data):
        if record.number == number:
            return value_at(data, byte_index(record.address, length))
    raise FormatError(f"there is no record {number}", 0)


def value_at(data: bytes | memoryview, at: int) -> bytes | tuple[int, int, int]:
    """The VALUE record at byte `at`: its bytes, or length and block list; raises FormatError."""
    first = data[at] if 0 <= at < len(data) else 0xFF
    if first < 0x80:
        start, size = at + 1, first
    elif first < 0xC0:
        start, size = at + 2, (int.from_bytes(data[at : at + 2], "big") & 0x3FFF) + 128
    elif first < 0xE0 and at + 14 <= len(data):
        size = (int.from_bytes(data[at : at + 8], "big") & 0x1FFFFFFFFFFFFFFF) + 16512
        reference = int.from_bytes(data[at + 8 : at + 10], "big")
        return size, reference, int.from_bytes(data[at + 10 : at + 14], "big")
    else:
        raise FormatError("there is no value record here", at)
    if start + size > len(data):
        raise FormatError(f"a value of {size} bytes runs past the segment's end", at)
    return bytes(data[start : start + size])
