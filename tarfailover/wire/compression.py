"""PACKED: pieces of a stream, compressed, each of which can be read when it comes.

All of a connection's PACKEDs are cuts of one zstd stream (RFC 8878), which is flushed
at the end of each: a sixth fewer bytes than with a stream for each segment, at the same
speed. A PACKED that says so begins a new stream, so that a master need not keep one for
a client that asks for nothing. PARTs may come in between, and are no part of it. The
END counts, and the items' checksums cover, the bytes that were put in.

What does not get smaller goes as PARTs: three samples out of each large piece are
compressed for a look, which tells photos from text at the speed of a copy.

zstd is that of Python 3.14's standard library, and before that its backport. lz4 was
measured and left out: it saves half of what zstd saves where zstd is fast enough.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from tarfailover.errors import ProtocolError
from tarfailover.wire.answers import Packed
from tarfailover.wire.fields import in_range
from tarfailover.wire.limits import MAX_PART, WINDOW_LOG
from tarfailover.wire.messages import framed
from tarfailover.wire.stream import Piece, parts

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVELS = (1, 9)
"""The lowest and the highest level of a `Packer`: 0.5 and 8 MiB of memory."""
SAMPLED = 16 * 1024
"""Bytes from which on a piece is looked at before it is compressed; smaller ones go with
what is before them."""
SAMPLE = 2 * 1024
"""Bytes of a sample."""
PAYS = 0.95
"""What samples must shrink to, so that the whole is worth the time."""
_LOOK = 1
"""The level of a look."""


class Packer:
    """The compressing end of one stream."""

    def __init__(self, level: int) -> None:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.window_log: WINDOW_LOG,
        }
        self._stream = zstd.ZstdCompressor(options=options)
        self._begins = True

    def pack(self, data: Piece) -> Packed:
        """The next bytes of the stream, 1 to MAX_PART of them."""
        in_range(len(data), MAX_PART, "the size of what is packed", least=1)
        begins, self._begins = self._begins, False
        return Packed(begins, self._stream.compress(data, self._stream.FLUSH_BLOCK))


class Unpacker:
    """The other end of it: memory for a window and for one PART, whatever comes."""

    def __init__(self) -> None:
        self._stream: zstd.ZstdDecompressor | None = None

    def unpack(self, packed: Packed) -> bytes:
        """The bytes in `packed`, 1 to MAX_PART; raises ProtocolError, and is of no use then."""
        if packed.begins:
            limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
            self._stream = zstd.ZstdDecompressor(options=limit)
        if self._stream is None:
            raise ProtocolError("PACKED goes on with a stream that never began")
        try:
            # One byte more than is allowed is made at the most, whatever the stream announces.
            data = self._stream.decompress(packed.data, MAX_PART + 1)
        except zstd.ZstdError as error:
            raise ProtocolError(f"PACKED is no zstd stream for us: {error}") from error
        if self._stream.eof:
            raise ProtocolError("PACKED ends its stream, which goes on as long as the connection")
        in_range(len(data), MAX_PART, "the size of what is in PACKED", least=1)
        return data


def pays(data: Piece) -> bool:
    """Whether `data` seems to get smaller: out of three samples, the ends and the middle."""
    last = len(data) - SAMPLE
    samples = b"".join(data[at : at + SAMPLE] for at in (0, last // 2, last))
    return len(zstd.compress(samples, _LOOK)) < PAYS * len(samples)


def packed_parts(
    request: int, pieces: Iterable[Piece], packer: Packer, behind: bytes = b""
) -> tuple[bytes, int]:
    """As `stream.parts`, with PACKED frames where that pays."""
    out, total = [], 0
    for worth, group in _groups(pieces):
        total += sum(map(len, group))
        if worth:
            out += [framed(request, packer.pack(each)) for each in _rows(group)]
        else:
            out.append(parts(request, group)[0])
    return b"".join((*out, behind)), total


def _groups(pieces: Iterable[Piece]) -> Iterator[tuple[bool, list[Piece]]]:
    """Neighbours that all pay, or all do not."""
    worth = True
    group: list[Piece] = []
    for piece in pieces:
        now = pays(piece) if len(piece) >= SAMPLED else worth
        if now != worth and group:
            yield worth, group
            group = []
        worth = now
        group.append(piece)
    if group:
        yield worth, group


def _rows(group: Iterable[Piece]) -> Iterator[Piece]:
    """The bytes of `group` in rows of MAX_PART."""
    whole = memoryview(b"".join(group))
    for at in range(0, len(whole), MAX_PART):
        yield whole[at : at + MAX_PART]
