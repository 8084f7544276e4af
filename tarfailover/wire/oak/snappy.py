"""Snappy's framing format, as an Oak primary writes it.

A chunk is ``u8 type | u24 little-endian length | u32 little-endian checksum | payload``;
length counts the last two. The checksum is the CRC-32C of the unpacked bytes, masked.
Facts: the standby protocol, section 2.5; the format is google/snappy's
framing_format.txt.

Netty up to 4.1.14, which Oak 1.22 has, shifts a checksum whose highest bit is set in another
way (`Snappy.maskChecksum`), and refuses what everybody else writes. So slices are cut where
that bit is clear, which suits all; and both ways are taken from a primary.

cramjam does the blocks (python-snappy is made of it since 0.7, and adds nothing we
use), at 8 GB/s, into memory of a size that we have checked before. google-crc32c does
the checksum, at 9 GB/s: crc32c is as fast, but LGPL.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import google_crc32c
from cramjam import DecompressionError, snappy

from tarfailover.errors import ProtocolError
from tarfailover.wire.oak.limits import MAX_CHUNK, MAX_UNPACKED, MIN_PACKED, SLICE
from tarfailover.wire.stream import Piece

COMPRESSED, STORED, STREAM = 0x00, 0x01, 0xFF
FIRST_SKIPPED = 0x80
"""The lowest type of a chunk that who does not know it passes over."""
PADDING = b"\xfe\x00\x00\x00"
"""A chunk that every reader passes over."""
IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
"""The first chunk of every stream."""

_HEADER = 4
_CHECKSUM = struct.Struct("<I")
_U32 = 0xFFFFFFFF
_SIGN = 0x80000000
_NAME = IDENTIFIER[_HEADER:]


def checksum(data: bytes) -> int:
    """The masked CRC-32C of `data`."""
    return _masked(_crc(data))


def netty_checksum(data: bytes) -> int:
    """The same as Netty up to 4.1.14 computes it: another one if the highest bit is set."""
    return _netty_masked(_crc(data))


def _crc(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return crc


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _U32


def _netty_masked(crc: int) -> int:
    return _masked(crc) if crc < _SIGN else ((crc >> 15 | ~(_U32 >> 15)) + 0xA282EAD8) & _U32


class Packer:
    """The primary's end of one connection's stream."""

    def __init__(self) -> None:
        self._start = IDENTIFIER

    def padding(self) -> bytes:
        """A chunk without meaning, for whoever gives up on a line that is silent."""
        start, self._start = self._start, b""
        return start + PADDING

    def pack(self, *pieces: Piece) -> bytes:
        """One answer, which `pieces` make up, as chunks; the first has the identifier before it."""
        whole = b"".join(pieces)
        start, self._start = self._start, b""
        out = [start]
        for part in _cut(whole):
            short = len(part) < MIN_PACKED or len(whole) <= MIN_PACKED
            out += _chunk(STORED, part, part) if short else _packed(part)
        return b"".join(out)


def _cut(whole: bytes) -> Iterator[bytes]:
    """The slices of an answer: as long as Netty's, or shorter where those would not suit all."""
    at = 0
    while len(whole) - at > 2 * SLICE:
        sizes = range(SLICE, 0, -1)
        size = next((n for n in sizes if _suits_all(whole[at : at + n])), SLICE)
        yield whole[at : at + size]
        at += size
    if at < len(whole):
        yield from _end(whole[at:])


def _end(part: bytes) -> tuple[bytes, ...]:
    """The last one or two slices of an answer, or three of a very short one."""
    if len(part) <= SLICE and _suits_all(part):
        return (part,)
    if halves := _halves(part):
        return halves
    for size in range(1, len(part)):
        rest = _halves(part[size:]) if _suits_all(part[:size]) else ()
        if rest:
            return (part[:size], *rest)
    return (part,)  # no answer: of a few bytes


def _halves(part: bytes) -> tuple[bytes, ...]:
    """Two slices that suit all; nothing if there are none."""
    for size in range(min(SLICE, len(part) - 1), max(0, len(part) - SLICE - 1), -1):
        if _suits_all(part[:size]) and _suits_all(part[size:]):
            return part[:size], part[size:]
    return ()


def _suits_all(part: bytes) -> bool:
    return _crc(part) < _SIGN


def _packed(part: bytes) -> tuple[bytes, bytes]:
    return _chunk(COMPRESSED, part, bytes(snappy.compress_raw(part)))


def _chunk(kind: int, part: bytes, payload: bytes) -> tuple[bytes, bytes]:
    size = _CHECKSUM.size + len(payload)
    head = bytes([kind]) + size.to_bytes(3, "little") + _CHECKSUM.pack(checksum(part))
    return head, payload


class Unpacker:
    """The standby's end of it: keeps at most one chunk; is of no use after a ProtocolError."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = _HEADER
        """Bytes of `_rest` with which it can be read on: it is not copied before."""
        self._begun = False
        self._skip = 0

    def feed(self, data: Piece) -> list[bytes]:
        """The unpacked chunks that `data` completes; raises ProtocolError."""
        view = memoryview(data)
        if self._rest:
            self._rest += view
            if len(self._rest) < self._wanted:
                return []
            view = memoryview(bytes(self._rest))
            self._rest.clear()
        self._wanted = _HEADER
        found: list[bytes] = []
        at = self._skipped(view, 0)
        while len(view) - at >= _HEADER:
            kind, size = view[at], int.from_bytes(view[at + 1 : at + _HEADER], "little")
            begin = at + _HEADER
            if kind >= FIRST_SKIPPED and kind != STREAM:
                self._check_begun()
                self._skip = size
                at = self._skipped(view, begin)
                continue
            _check_header(kind, size)
            if begin + size > len(view):
                self._wanted += size
                break
            at = begin + size
            self._chunk(kind, view[begin:at], found)
        self._rest += view[at:]
        return found

    def _skipped(self, view: memoryview, at: int) -> int:
        """The place in `view` behind what is to be passed over."""
        passed = min(self._skip, len(view) - at)
        self._skip -= passed
        return at + passed

    def _check_begun(self) -> None:
        if not self._begun:
            raise ProtocolError("the first bytes are no Snappy stream; is this an Oak primary?")

    def _chunk(self, kind: int, payload: memoryview, found: list[bytes]) -> None:
        if kind == STREAM:
            if payload != _NAME:
                raise ProtocolError(f"a stream names itself {bytes(payload)!r} and not {_NAME!r}")
            self._begun = True
            return
        self._check_begun()
        stated = _CHECKSUM.unpack_from(payload)[0]
        data = payload[_CHECKSUM.size :]
        part = bytes(data) if kind == STORED else _unpacked(data)
        crc = _crc(part)
        if stated not in (_masked(crc), _netty_masked(crc)):
            raise ProtocolError("the checksum of a Snappy chunk does not fit: it was damaged")
        if part:
            found.append(part)


def _check_header(kind: int, size: int) -> None:
    """Raise ProtocolError for a chunk that cannot be read, before its bytes are awaited."""
    if kind not in (COMPRESSED, STORED, STREAM):
        raise ProtocolError(
            f"a Snappy chunk of type 0x{kind:02x}; is this an Oak primary, and with TLS or without?"
        )
    least, most = {
        COMPRESSED: (_CHECKSUM.size + 1, MAX_CHUNK),
        STORED: (_CHECKSUM.size, _CHECKSUM.size + MAX_UNPACKED),
        STREAM: (len(_NAME), len(_NAME)),
    }[kind]
    if not least <= size <= most:
        raise ProtocolError(
            f"a Snappy chunk of type 0x{kind:02x} has {size} bytes; {least} to {most} are allowed"
        )


def _unpacked(data: memoryview) -> bytes:
    try:
        size = snappy.decompress_raw_len(data)
        if size > MAX_UNPACKED:
            raise ProtocolError(
                f"a Snappy chunk would unpack to {size} bytes; {MAX_UNPACKED} are allowed"
            )
        return bytes(snappy.decompress_raw(data))
    except DecompressionError as error:
        raise ProtocolError(f"a Snappy chunk cannot be unpacked: {error}") from error
