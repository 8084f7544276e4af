"""Entries of a tar file: headers and names.

Facts: storage format, sections 1.1, 1.2 and 2.1 to 2.5. An entry is a header of 512
bytes, the data, and zero bytes up to a multiple of 512.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.ids import SegmentId, text

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)
TAR_LIMIT = 256 * 1024 * 1024
"""Bytes at which a tar is closed and the next one begun."""
MAX_TAR = 2**31 - 1
LAST_LETTER = "z"

_FILE_NAME = re.compile(r"data((?:0|[1-9][0-9]{0,5})[0-9]{4})([a-z])?\.tar")
_ENTRY_NAME = re.compile(
    rb"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})"
    rb"(?:\.([0-9a-f]{8}))?(?:\..*)?"
)
_FIXED = b"0000400\0" + b"0000000\0" * 2
_BLANKS = b"        "
_TAIL = b"0" + bytes(BLOCK - 157)
_FIXED_SUM = sum(_FIXED) + sum(_BLANKS) + sum(_TAIL)


class TarName(NamedTuple):
    """The name of a tar file; sorts by number, then letter."""

    number: int
    letter: str = "a"
    bare: bool = False
    """Whether the letter ``a`` is only meant: the file's name has none."""

    def __str__(self) -> str:
        letter = "" if self.bare and self.letter == "a" else self.letter
        return f"data{self.number:05d}{letter}.tar"

    @classmethod
    def parse(cls, name: str) -> TarName | None:
        """The name of a tar of the store, or None for any other file name."""
        match = _FILE_NAME.fullmatch(name)
        return cls(int(match[1]), match[2] or "a", match[2] is None) if match else None


class Entry(NamedTuple):
    """A parsed header."""

    name: bytes
    size: int
    """Bytes of data, without padding."""
    mtime: int
    """Seconds since 1970."""

    @property
    def extent(self) -> int:
        """Bytes from the header to the next entry."""
        return BLOCK + padded(self.size)


class SegmentName(NamedTuple):
    """What the name of a segment's entry says."""

    segment: SegmentId
    crc: int | None
    """CRC32 of the data; None if the name carries none."""


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def segment_entry_name(segment: SegmentId, crc: int) -> bytes:
    """The entry name under which a segment is stored."""
    return f"{text(segment)}.{crc:08x}".encode("ascii")


def encode_header(name: bytes, size: int, mtime: int) -> bytes:
    """The 512 bytes in front of `size` bytes of data; `mtime` in seconds since 1970.

    Raises FormatError for what the fields of a header cannot hold.
    """
    numbers = b"%011o\0%011o\0" % (size, mtime)
    if len(name) > 99 or b"\0" in name or len(numbers) != 24 or size < 0 or mtime < 0:
        raise FormatError(
            f"entry {name!r} of {size} bytes and time {mtime} does not fit a tar header", 0
        )
    checksum = _FIXED_SUM + sum(name) + sum(numbers)
    return b"%s%s%s%06o\0 %s" % (name.ljust(100, b"\0"), _FIXED, numbers, checksum, _TAIL)


def parse_header(data: bytes | memoryview, offset: int = 0) -> Entry | None:
    """The entry whose header stands at `offset`; None for a block of zeros.

    Raises FormatError for a wrong checksum or an unreadable number.
    """
    block = bytes(data[offset : offset + BLOCK])
    if len(block) < BLOCK:
        raise FormatError(f"a tar header needs 512 bytes, {len(block)} are left", offset)
    if not block.strip(b"\0"):
        return None
    stated = _octal(block[148:156], offset + 148)
    actual = sum(block) - sum(block[148:156]) + 8 * 0x20
    if stated != actual:
        raise FormatError(f"tar header checksum is {stated}, the bytes sum up to {actual}", offset)
    name = block[:100].split(b"\0", 1)[0]
    return Entry(name, _octal(block[124:136], offset + 124), _octal(block[136:148], offset + 136))


def _octal(field: bytes, offset: int) -> int:
    digits = field.strip(b"\0 ")
    if not digits or not all(0x30 <= digit <= 0x37 for digit in digits):
        raise FormatError(f"{field!r} is not an octal number", offset)
    return int(digits, 8)


def parse_segment_name(name: bytes) -> SegmentName | None:
    """Which segment an entry named `name` holds; None for trailing and foreign entries."""
    match = _ENTRY_NAME.fullmatch(name)
    if match is None:
        return None
    crc = int(match[6], 16) if match[6] else None
    return SegmentName(bytes.fromhex(b"".join(match.groups()[:5]).decode("ascii")), crc)
