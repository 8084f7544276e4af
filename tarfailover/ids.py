"""Names of things in a segment store: segments, records, generations.

A segment id is 16 plain bytes in RFC 4122 order everywhere inside this package:
a `uuid.UUID` object per reference costs thirty times as much. Text forms are made
only at the edges. Facts: the TarMK format, "Kinds, and the id" and "Record ids".
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from tarfailover.errors import FormatError

SegmentId = bytes
"""16 bytes, network order."""

NULL_ID: SegmentId = bytes(16)

MAX_RECORD_NUMBER = 0xFFFFFFFF

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RECORD = re.compile(rf"({_UUID.pattern})(?::(0|[1-9][0-9]{{0,9}})|\.([0-9a-f]{{8}}))")
_SIGNED = struct.Struct(">qq")


def is_data(segment: SegmentId) -> bool:
    """Whether `segment` names a data segment (header, tables, records)."""
    return segment[8] >> 4 == 0xA


def is_bulk(segment: SegmentId) -> bool:
    """Whether `segment` names a bulk segment (nothing but bytes of long values)."""
    return segment[8] >> 4 == 0xB


def kind(segment: SegmentId) -> str:
    """``data``, ``bulk``, or ``unknown`` for an id that is neither."""
    return {0xA: "data", 0xB: "bulk"}.get(segment[8] >> 4, "unknown")


def text(segment: SegmentId) -> str:
    """The lower-case hyphenated form, as in tar entries and in the journal."""
    h = segment.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse(uuid: str) -> SegmentId:
    """The id written as `uuid`; raises FormatError unless it is lower case with hyphens."""
    if _UUID.fullmatch(uuid) is None:
        raise FormatError(f"{uuid!r} is not a lower-case UUID", 0)
    return bytes.fromhex(uuid.replace("-", ""))


def signed_key(segment: SegmentId) -> tuple[int, int]:
    """The sort key of a tar index: two signed 64-bit numbers, as Java compares them."""
    msb, lsb = _SIGNED.unpack(segment)
    return msb, lsb


class RecordId(NamedTuple):
    """A record: its segment and its number there (for a bulk segment: the virtual address)."""

    segment: SegmentId
    number: int

    def __str__(self) -> str:
        """The form of the journal: ``uuid:decimal``."""
        return f"{text(self.segment)}:{self.number}"

    @property
    def hex(self) -> str:
        """The form of the standby protocol and of Oak's logs: ``uuid.%08x``."""
        return f"{text(self.segment)}.{self.number:08x}"

    @classmethod
    def parse(cls, written: str) -> RecordId:
        """The record id in either text form; raises FormatError."""
        match = _RECORD.fullmatch(written)
        if match is None:
            raise FormatError(f"{written!r} is not a record id (uuid:number or uuid.hex)", 0)
        uuid, decimal, hexa = match.groups()
        number = int(decimal) if decimal is not None else int(hexa, 16)
        if number > MAX_RECORD_NUMBER:
            raise FormatError(f"record number {number} does not fit 32 bits", 37)
        return cls(parse(uuid), number)


class Generation(NamedTuple):
    """The triple that every data segment carries; bulk segments have (0, 0, False)."""

    generation: int
    full: int
    compacted: bool

    def __str__(self) -> str:
        return f"{self.generation}/{self.full}{' compacted' if self.compacted else ''}"


NO_GENERATION = Generation(0, 0, False)
