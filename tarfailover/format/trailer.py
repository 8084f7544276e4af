"""The footer that index, graph and binary references share.

Facts: storage format, sections 2.3 and 2.4: padding first, then payload, then the
footer of 16 bytes ``u32 CRC32 of the payload | u32 count | u32 size | u32 magic``, so
that the footer ends on a block border.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from isal.isal_zlib import crc32

from tarfailover.errors import FormatError
from tarfailover.format.tar import BLOCK, padded

FOOTER_SIZE = 16

INDEX_V1 = 0x0A304B0A
INDEX_V2 = 0x0A314B0A
GRAPH = 0x0A30470A
BINARY_REFERENCES_V1 = 0x0A30420A
BINARY_REFERENCES_V2 = 0x0A31420A

_FOOTER = struct.Struct(">IIII")


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 16 bytes of a trailing entry."""

    crc: int
    count: int
    size: int
    magic: int


def parse_footer(data: bytes | memoryview, end: int, magics: tuple[int, ...], what: str) -> Footer:
    """The footer that ends at `end`; raises FormatError unless its magic is one of `magics`."""
    if end < FOOTER_SIZE or end > len(data):
        raise FormatError(f"no room for the footer of the {what}", max(0, end - FOOTER_SIZE))
    footer = Footer(*_FOOTER.unpack_from(data, end - FOOTER_SIZE))
    if footer.magic not in magics:
        raise FormatError(f"magic {footer.magic:#010x} is not that of a {what}", end - 4)
    return footer


def payload(data: bytes | memoryview, end: int, footer: Footer, size: int, what: str) -> memoryview:
    """The `size` bytes of payload in front of the footer that ends at `end`, checksum verified."""
    start = end - FOOTER_SIZE - size
    if start < 0:
        raise FormatError(f"the {what} is larger than what is there", max(0, end - FOOTER_SIZE))
    view = memoryview(data)[start : end - FOOTER_SIZE]
    if crc32(view) != footer.crc:
        raise FormatError(f"the checksum of the {what} does not match", start)
    return view


def encode(body: bytes, count: int, magic: int, *, padded_size: bool) -> bytes:
    """Padding, `body` and footer: the data of a trailing entry.

    `padded_size` tells what the size field counts: with padding (index) or without
    (graph, binary references).
    """
    total = padded(len(body) + FOOTER_SIZE)
    size = total if padded_size else len(body) + FOOTER_SIZE
    footer = _FOOTER.pack(crc32(body), count, size, magic)
    return bytes(total - len(body) - FOOTER_SIZE) + body + footer


def extent(payload_size: int) -> int:
    """Bytes that a trailing entry with a payload of `payload_size` takes, header included."""
    return BLOCK + padded(payload_size + FOOTER_SIZE)
