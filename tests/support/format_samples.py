"""Vectors, strategies and hand-made segments for the tests of the bytes on disk.

Nothing here is made with the code under test: layouts are packed by hand.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.ids import NO_GENERATION, Generation

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "format"
ABSURD = 2**32 - 1

T = TypeVar("T")


def vector(name: str) -> bytes:
    """The bytes of ``tests/vectors/format/NAME.hex``.

    A line is an offset, a colon, hex digits or text in double quotes, and a comment
    behind ``#``; ``end`` instead of bytes says how long the whole is. What no line tells is zero.
    """
    result = bytearray()
    for line in (VECTORS / f"{name}.hex").read_text("utf-8").splitlines():
        where, _, rest = line.partition("#")[0].strip().partition(":")
        if not where:
            continue
        at = int(where, 16)
        result.extend(bytes(max(0, at - len(result))))
        if rest.strip() != "end":
            piece = _bytes(rest)
            result[at : at + len(piece)] = piece
    return bytes(result)


def _bytes(written: str) -> bytes:
    texts = written.split('"')
    return b"".join(
        part.encode("ascii") if place % 2 else bytes.fromhex(part)
        for place, part in enumerate(texts)
    )


def footer(body: bytes, count: int, size: int, magic: int, crc: int | None = None) -> bytes:
    """A footer, by default with the right checksum of `body`."""
    return struct.pack(">IIII", zlib.crc32(body) if crc is None else crc, count, size, magic)


def header_of_tarfile(name: str, size: int, mtime: int) -> bytes:
    """The first 512 bytes that Python's own tarfile makes of an entry (old V7 style fields)."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, mtime
    return info.tobuf(tarfile.USTAR_FORMAT)


def data_segment(
    generation: Generation = NO_GENERATION,
    references: Sequence[bytes] = (),
    records: Sequence[tuple[int, bytes]] = (),
    version: int = 13,
) -> bytes:
    """A data segment of `records` (type, bytes), numbered and packed downwards as Oak does."""
    address, table, tail = 262144, b"", b""
    for number, (kind, content) in enumerate(records):
        filled = content + bytes(-len(content) % 4)
        address -= len(filled)
        tail = filled + tail
        table += struct.pack(">IBI", number, kind, address)
    full = generation.full | generation.compacted << 31 if version == 13 else 0
    counts = (generation.generation, len(references), len(records))
    front = struct.pack(">3sBIHIII10x", b"0aK", version, full, 0, *counts)
    front += b"".join(references) + table
    return front + bytes(-(len(front) + len(tail)) % 16) + tail


def value_or_refusal(parse: Callable[[], T]) -> T | None:
    """What `parse` returns, or None if it raises FormatError; any other exception passes."""
    try:
        return parse()
    except FormatError as error:
        refused = error
    assert refused.offset >= 0
    assert refused.what
    return None


def is_refused(parse: Callable[[], object]) -> bool:
    """Whether `parse` raises FormatError; any other exception passes."""
    try:
        parse()
    except FormatError:
        return True
    return False


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _of_kind(nibble: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=16, max_size=16).map(
        lambda raw: raw[:8] + bytes([nibble << 4 | raw[8] & 15]) + raw[9:]
    )


numbers = st.integers(0, 2**32 - 1)
ids = st.binary(min_size=16, max_size=16)
data_ids = _of_kind(0xA)
bulk_ids = _of_kind(0xB)
segment_ids = data_ids | bulk_ids
generations = st.builds(Generation, numbers, numbers, st.booleans())
"""Of an index or of binary references; a segment's header has 31 bits for the full one."""
header_generations = st.builds(Generation, numbers, st.integers(0, 2**31 - 1), st.booleans())


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with some bits flipped, then cut short, or with bytes put in."""
    changed = bytearray(data)
    for bit in draw(st.lists(st.integers(0, 8 * len(data) - 1), max_size=4)):
        changed[bit // 8] ^= 1 << bit % 8
    at = draw(st.integers(0, len(data)))
    put_in = draw(st.binary(max_size=20))
    stop = draw(st.sampled_from([at, len(data)]))
    return bytes(changed[:at] + put_in + changed[at:stop])
