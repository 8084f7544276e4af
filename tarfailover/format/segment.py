"""Data segments: header, reference table, record table (formats 12 and 13).

Facts: storage format, section 4. A parser takes `(buffer, offset, length)` and either
returns values or raises FormatError with the offset of the fault in the buffer.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

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
_RECORD_ID = struct.Struct(">HI")
_COUNTS = struct.Struct(">II")
_KINDS = bytes(range(0xA0, 0xC0))
"""What byte 8 of an id of a data or bulk segment can be."""
_LONG = struct.Struct(">QHI")
_CACHED_GENERATIONS = 64
"""A store has few: they are not made anew for each segment."""
_CACHED_TABLES = 512
"""Largest reference table with a precompiled struct: all of them take 4 MiB."""


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


@functools.lru_cache(maxsize=_CACHED_TABLES)
def _table(count: int) -> struct.Struct:
    return struct.Struct("16s" * count)


def parse_header(data: bytes | memoryview, offset: int = 0, length: int | None = None) -> Header:
    """The header of the data segment of `length` bytes at `offset`; raises FormatError."""
    end = len(data) if length is None else offset + length
    size = end - offset
    if size < HEADER_SIZE or end > len(data):
        have = max(0, len(data) - offset)
        raise FormatError(f"no data segment of {size} bytes fits, {have} are there", offset)
    magic, version, full, zero, generation, refs, records, _ = _HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        raise FormatError(f"segment magic is {bytes(magic)!r}, not {MAGIC!r}", offset)
    tables_end = HEADER_SIZE + REFERENCE_SIZE * refs + RECORD_ENTRY_SIZE * records
    header = Header(version, _generation(version, full, generation, offset), refs, records)
    if size > MAX_SEGMENT or size % ALIGNMENT:
        raise FormatError(f"a data segment cannot be {size} bytes long", offset)
    if refs > MAX_REFERENCES or tables_end > size:
        raise FormatError(
            f"{refs} references and {records} records do not fit a segment of {size} bytes",
            offset + 14,
        )
    if zero:
        raise FormatError(f"header bytes 8 and 9 are {zero:#06x}, not zero", offset + 8)
    return header


@functools.lru_cache(maxsize=_CACHED_GENERATIONS)
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
    if count <= _CACHED_TABLES:
        return _table(count).unpack_from(data, offset + HEADER_SIZE) if count else ()
    table = bytes(data[offset + HEADER_SIZE : offset + HEADER_SIZE + REFERENCE_SIZE * count])
    return tuple(table[at : at + REFERENCE_SIZE] for at in range(0, len(table), REFERENCE_SIZE))


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
    kinds = bytes(data[HEADER_SIZE + 8 : HEADER_SIZE + REFERENCE_SIZE * len(refs) : REFERENCE_SIZE])
    if segment in refs or kinds.translate(None, _KINDS):
        _refuse_reference(segment, refs)
    return header.generation, refs


def _refuse_reference(segment: SegmentId, refs: tuple[SegmentId, ...]) -> NoReturn:
    fits = [(is_data(ref) or is_bulk(ref)) and ref != segment for ref in refs]
    number = fits.index(False)
    at = HEADER_SIZE + REFERENCE_SIZE * number
    raise FormatError(f"reference {text(refs[number])} names no other segment", at)


def has_blob_ids(data: bytes | memoryview) -> bool:
    """Whether the data segment has a BLOB_ID record.

    The header must have been parsed before: the counts are believed here.
    """
    refs, count = _COUNTS.unpack_from(data, 14)
    first = HEADER_SIZE + REFERENCE_SIZE * refs + 4
    return BLOB_ID in data[first : first + RECORD_ENTRY_SIZE * count : RECORD_ENTRY_SIZE]


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
    header = parse_header(data)
    short: list[bytes] = []
    long: list[tuple[int, int]] = []
    for at in _blob_id_places(data, header):
        first = data[at]
        if first >> 4 == 0xE:
            size = int.from_bytes(data[at : at + 2], "big") & 0x0FFF
            short.append(_slice(data, at, 2, size))
        elif first >> 3 == 0x1E:
            reference, number = _RECORD_ID.unpack(_slice(data, at, 1, _RECORD_ID.size))
            _check_reference(header, reference, at + 1)
            long.append((reference, number))
        else:
            raise FormatError("this record is no external blob id", at)
    return short, long


def _blob_id_places(data: bytes | memoryview, header: Header) -> Iterator[int]:
    # Only the types are looked at for all records: there are thousands in a segment,
    # and mostly not one external blob.
    table = header.tables_end - RECORD_ENTRY_SIZE * header.records
    types = bytes(data[table + 4 : header.tables_end : RECORD_ENTRY_SIZE])
    index = types.find(BLOB_ID)
    while index >= 0:
        yield _place(data, header, index)
        index = types.find(BLOB_ID, index + 1)


def _place(data: bytes | memoryview, header: Header, index: int) -> int:
    """The byte where the record begins whose entry is number `index` of the table."""
    entry = header.tables_end - RECORD_ENTRY_SIZE * (header.records - index)
    record = Record._make(_RECORD.unpack_from(data, entry))
    at = byte_index(record.address, len(data))
    if not header.tables_end <= at < len(data):
        raise FormatError(f"record {record.number} has address {record.address}", entry + 5)
    return at


def _slice(data: bytes | memoryview, at: int, skip: int, size: int) -> bytes:
    """`size` bytes, `skip` bytes behind the start of the record at `at`."""
    if at + skip + size > len(data):
        raise FormatError(f"a value of {size} bytes runs past the segment's end", at)
    return bytes(data[at + skip : at + skip + size])


def _check_reference(header: Header, reference: int, at: int) -> None:
    if reference > header.references:
        raise FormatError(f"reference number {reference} of {header.references} is used", at)


def string_at(data: bytes | memoryview, number: int) -> bytes | tuple[int, int, int]:
    """The VALUE record `number` of a data segment.

    Its bytes if they stand in the record, else `(length, reference number, record
    number)` of its list of blocks. Raises FormatError.
    """
    header = parse_header(data)
    for index, record in enumerate(records(data)):
        if record.number == number and record.type == VALUE:
            at = _place(data, header, index)
            value = value_at(data, at)
            if not isinstance(value, bytes):
                _check_reference(header, value[1], at + 8)
            return value
    raise FormatError(f"there is no value record {number}", 0)


def value_at(data: bytes | memoryview, at: int) -> bytes | tuple[int, int, int]:
    """The VALUE record at byte `at`: its bytes, or length and block list; raises FormatError."""
    first = data[at] if 0 <= at < len(data) else 0xFF
    if first < 0x80:
        return _slice(data, at, 1, first)
    if first < 0xC0:
        return _slice(data, at, 2, (int.from_bytes(data[at : at + 2], "big") & 0x3FFF) + 128)
    if first < 0xE0:
        head, reference, number = _LONG.unpack(_slice(data, at, 0, _LONG.size))
        return (head & 0x1FFFFFFFFFFFFFFF) + 16512, reference, number
    raise FormatError("there is no value record here", at)
