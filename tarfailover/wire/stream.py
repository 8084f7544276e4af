"""The stream that answers a GET: the segments, one after the other, in the order asked for.

Each item is ``16 bytes id | u32 length | u32 checksum | data``. The checksum is the
CRC32 of the data as the master's tar entry states it, so that it travels from disk to
disk. An item with the highest bit of its length set is a refusal: the checksum field
is an `ErrorCode`, the data a text.

The stream is cut into PARTs anywhere; `parts` frames it, `StreamParser` puts it
together again without joining the pieces of large segments. Crumbs are joined: kept one
by one they would cost a hundred times their size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tarfailover.errors import ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId, text
from tarfailover.wire.answers import Part
from tarfailover.wire.fields import checked_id, cut_text, in_range
from tarfailover.wire.limits import FRAME_HEADER, MAX_PART, MAX_TEXT

ITEM_HEADER = 24
REFUSAL = 0x80000000
CRUMB = 1024
"""Bytes below which a piece of a segment is joined to the crumb before it."""

_U32 = 0xFFFFFFFF

_ITEM = struct.Struct(">16sII")
_FRAME = struct.Struct(">IBI")

Piece = bytes | memoryview


class Segment(NamedTuple):
    """A segment out of a stream; nothing about it is verified yet."""

    segment: SegmentId
    crc: int
    length: int
    chunks: list[memoryview]


class Refusal(NamedTuple):
    """What a master says instead of a segment."""

    segment: SegmentId
    code: int
    text: str


def item(segment: SegmentId, crc: int, data: Piece) -> tuple[bytes, Piece]:
    """The pieces of a segment's item; raises ProtocolError for what does not fit."""
    checked_id(segment, "the stream")
    in_range(crc, _U32, "the checksum of a segment")
    return _ITEM.pack(
        segment, in_range(len(data), MAX_SEGMENT, "the length of a segment"), crc
    ), data


def refusal(segment: SegmentId, code: int, why: str) -> tuple[bytes, Piece]:
    """The pieces of a refusal, its words cut if need be; raises ProtocolError for the rest."""
    checked_id(segment, "the stream")
    in_range(code, _U32, "the code of a refusal")
    data = cut_text(why)
    return _ITEM.pack(segment, REFUSAL | len(data), code), data


def is_refusal(header: bytes) -> bool:
    """Whether the item that begins with `header` is a refusal."""
    return bool(_ITEM.unpack(header)[1] & REFUSAL)


def parts(request: int, pieces: Iterable[Piece], behind: bytes = b"") -> tuple[bytes, int]:
    """`pieces` as PART frames with their length prefixes, and the bytes of the stream.

    `behind` is put behind the last frame as it is: cheaper than a second copy of all.
    """
    in_range(request, _U32, "the request number of PART")
    out: list[Piece] = []
    row: list[Piece] = []
    room, total = MAX_PART, 0
    for piece in pieces:
        view = memoryview(piece)
        while len(view) >= room:
            row.append(view[:room])
            out += [_FRAME.pack(FRAME_HEADER + MAX_PART, Part.TYPE, request), *row]
            total += MAX_PART
            view, row, room = view[room:], [], MAX_PART
        if len(view):
            row.append(view)
            room -= len(view)
    if row:
        last = MAX_PART - room
        out += [_FRAME.pack(FRAME_HEADER + last, Part.TYPE, request), *row]
        total += last
    return b"".join((*out, behind)), total


class StreamParser:
    """Takes the pieces of one stream, gives its items; raises ProtocolError.

    After an error it must not be fed any more. `size` counts the bytes that came.
    """

    def __init__(self) -> None:
        self.size = 0
        self._header = b""
        self._item: tuple[SegmentId, int, int] | None = None
        self._chunks: list[memoryview | bytearray] = []
        self._missing = 0

    def feed(self, piece: Piece) -> Sequence[Segment | Refusal]:
        """The items that `piece` completes."""
        view = memoryview(piece)
        at, end = 0, len(view)
        self.size += end
        found: list[Segment | Refusal] = []
        while at < end:
            if self._item is not None:
                begin, at = at, min(end, at + self._missing)
                self._keep(view[begin:at])
                self._missing -= at - begin
            elif self._header or end - at < ITEM_HEADER:
                at = self._feed_header(view, at)
            else:
                segment, length, crc = _ITEM.unpack_from(view, at)
                at += ITEM_HEADER
                if CRUMB <= length <= MAX_SEGMENT and length <= end - at:
                    # Most small segments lie in one piece: they need no more than this.
                    found.append(Segment(segment, crc, length, [view[at : at + length]]))
                    at += length
                    continue
                self._begin(segment, length, crc)
            if self._item is not None and not self._missing:
                found.append(self._complete(*self._item))
        return found

    def end(self) -> None:
        """Raise ProtocolError if the stream ended in the middle of an item."""
        if self._item is not None or self._header:
            raise ProtocolError("a stream ended in the middle of a segment")

    def _feed_header(self, view: memoryview, at: int) -> int:
        """Go on with a header that is not all in one piece; returns where it went on to."""
        stop = at + ITEM_HEADER - len(self._header)
        self._header += view[at:stop]
        if len(self._header) == ITEM_HEADER:
            header, self._header = self._header, b""
            self._begin(*_ITEM.unpack(header))
        return stop

    def _begin(self, segment: SegmentId, length: int, crc: int) -> None:
        self._missing = _checked_size(segment, length)
        self._item = segment, length, crc

    def _keep(self, chunk: memoryview) -> None:
        if not self._chunks or len(chunk) >= CRUMB:
            self._chunks.append(chunk)
        elif isinstance(last := self._chunks[-1], bytearray):
            last += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def _complete(self, segment: SegmentId, length: int, crc: int) -> Segment | Refusal:
        chunks, self._chunks, self._item = self._chunks, [], None
        if not length & REFUSAL:
            return Segment(segment, crc, length, [memoryview(chunk) for chunk in chunks])
        try:
            return Refusal(segment, crc, b"".join(chunks).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ProtocolError(f"the refusal of segment {text(segment)} is not UTF-8") from error


def _checked_size(segment: SegmentId, length: int) -> int:
    size = length & ~REFUSAL
    limit, what = (MAX_TEXT, "is refused with") if length & REFUSAL else (MAX_SEGMENT, "has")
    if size > limit:
        raise ProtocolError(f"segment {text(segment)} {what} {size} bytes; {limit} are allowed")
    return size
