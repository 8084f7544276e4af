"""The answers of a primary, read out of the unpacked stream.

Heads, references and segments are given whole. A chunk of a blob may be of any size, so
it is handed on as it comes; a last part of it says that its hash was right.
Facts: the standby protocol, section 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from tarfailover.errors import FormatError, ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import RecordId, SegmentId, parse, text
from tarfailover.wire.fields import in_range, printable
from tarfailover.wire.oak.answers import (
    BLOB,
    BLOB_HASH,
    BLOB_LEAD,
    FIRST,
    HEAD,
    LAST,
    REFERENCES,
    SEGMENT,
    SEGMENT_LEAD,
)
from tarfailover.wire.oak.hashes import Murmur, chunk_seed, murmur
from tarfailover.wire.oak.limits import MAX_BLOB_ID, MAX_FRAME, MAX_HEAD, MAX_REFERENCES
from tarfailover.wire.stream import CRUMB, Piece

_FRAME = struct.Struct(">IB")
_ID = 36
_BLOB_LEAST = 1 + BLOB_LEAD.size + BLOB_HASH.size

_SIZES = {
    HEAD: (1 + _ID + 2, 1 + MAX_HEAD),
    SEGMENT: (1 + SEGMENT_LEAD.size + 1, 1 + SEGMENT_LEAD.size + MAX_SEGMENT),
    REFERENCES: (1 + _ID + 1, 1 + MAX_REFERENCES),
    BLOB: (_BLOB_LEAST, MAX_FRAME - 4),
}
"""The least and the greatest length that a frame of each type states."""
_NAMES = {HEAD: "head", SEGMENT: "segment", REFERENCES: "references", BLOB: "blob"}


class HeadAnswer(NamedTuple):
    """The record id of the persisted head."""

    record: RecordId


class SegmentAnswer(NamedTuple):
    """A segment whose hash was right; what it says of itself is not verified."""

    segment: SegmentId
    length: int
    chunks: list[memoryview]


class ReferencesAnswer(NamedTuple):
    """What a data segment refers to, in the order of its table."""

    segment: SegmentId
    references: list[SegmentId]


class BlobPart(NamedTuple):
    """Some bytes of a chunk of a blob. If `ends`, none, and the chunk's hash was right."""

    blob: str
    total: int
    first: bool
    last: bool
    data: memoryview
    ends: bool


AnyAnswer = HeadAnswer | SegmentAnswer | ReferencesAnswer | BlobPart
_Found = list[AnyAnswer]


class AnswerParser:
    """Takes pieces of one connection's unpacked stream, gives the answers in it.

    Raises ProtocolError, before memory is spent on what is too long; after that it must
    not be fed any more.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._take: Callable[[memoryview, _Found], None]
        self._end: Callable[[_Found], None]
        self._lead = bytearray()
        self._chunks: list[memoryview | bytearray] = []
        self._size = 0
        """Bytes of the frame behind what of it was read."""
        self._kind = 0
        self._named: tuple[SegmentId, int] = b"", 0
        self._part = BlobPart("", 0, False, False, memoryview(b""), False)
        self._stated = 0
        self._hash = Murmur()
        self._await_lead(_FRAME.size, self._opened)

    def feed(self, piece: Piece) -> list[AnyAnswer]:
        """The answers, and the parts of blobs, that `piece` completes."""
        view = memoryview(piece)
        found: _Found = []
        while view:
            now, view = view[: self._missing], view[self._missing :]
            self._missing -= len(now)
            self._take(now, found)
            while not self._missing:
                self._end(found)
        return found

    @property
    def between(self) -> bool:
        """Whether nothing of an answer has come that is not whole."""
        return not self._lead and self._end == self._opened

    # the beginnings of frames

    def _await_lead(self, size: int, then: Callable[[_Found], None]) -> None:
        self._lead.clear()
        self._missing, self._take, self._end = size, self._take_lead, then

    def _take_lead(self, view: memoryview, _: _Found) -> None:
        self._lead += view

    def _next(self) -> None:
        self._await_lead(_FRAME.size, self._opened)

    def _opened(self, _: _Found) -> None:
        """Length and type have come."""
        size, kind = _FRAME.unpack(self._lead)
        if kind not in _SIZES:
            raise ProtocolError(f"an answer of the unknown type 0x{kind:02x}")
        least, most = _SIZES[kind]
        in_range(size, most, f"the length of a {_NAMES[kind]} answer", least)
        self._size, self._kind = size - 1, kind
        if kind == SEGMENT:
            self._await_lead(SEGMENT_LEAD.size, self._segment_opened)
        elif kind == BLOB:
            self._await_lead(BLOB_LEAD.size, self._blob_opened)
        else:
            self._await_body(self._text)

    # texts and segments

    def _await_body(self, then: Callable[[_Found], None]) -> None:
        self._chunks = []
        self._missing, self._take, self._end = self._size, self._take_body, then

    def _take_body(self, view: memoryview, _: _Found) -> None:
        if not self._chunks or len(view) >= CRUMB:
            self._chunks.append(view)
        elif isinstance(last := self._chunks[-1], bytearray):
            last += view
        else:
            self._chunks.append(bytearray(view))

    def _text(self, found: _Found) -> None:
        written = b"".join(self._chunks).decode("utf-8", "replace")
        found.append(_head(written) if self._kind == HEAD else _references(written))
        self._next()

    def _segment_opened(self, _: _Found) -> None:
        self._named = SEGMENT_LEAD.unpack(self._lead)
        self._size -= SEGMENT_LEAD.size
        self._await_body(self._segment)

    def _segment(self, found: _Found) -> None:
        chunks = [memoryview(chunk) for chunk in self._chunks]
        name, stated = self._named
        if murmur(*chunks) != stated:
            raise ProtocolError(f"the hash of segment {text(name)} does not fit: it was damaged")
        found.append(SegmentAnswer(name, self._size, chunks))
        self._next()

    # chunks of blobs

    def _blob_opened(self, _: _Found) -> None:
        size = BLOB_LEAD.unpack(self._lead)[2]
        in_range(size, min(MAX_BLOB_ID, self._size + 1 - _BLOB_LEAST), "the length of a blob's id")
        begun = bytes(self._lead)
        self._await_lead(size + BLOB_HASH.size, lambda _: self._blob_named(begun))

    def _blob_named(self, begun: bytes) -> None:
        flags, total, size = BLOB_LEAD.unpack(begun)
        try:
            name = self._lead[:size].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError("the id of a blob is not UTF-8") from error
        (self._stated,) = BLOB_HASH.unpack_from(self._lead, size)
        first, last = bool(flags & FIRST), bool(flags & LAST)
        self._part = BlobPart(name, total, first, last, memoryview(b""), ends=False)
        self._hash = Murmur([chunk_seed(flags, total)])
        self._missing = self._size - len(begun) - len(self._lead)
        in_range(self._missing, total, f"the length of a chunk of blob {printable(name)}")
        self._take, self._end = self._take_blob, self._blob_ended

    def _take_blob(self, view: memoryview, found: _Found) -> None:
        self._hash.add(view)
        found.append(self._part._replace(data=view))

    def _blob_ended(self, found: _Found) -> None:
        name = printable(self._part.blob)
        if self._hash.value != self._stated:
            raise ProtocolError(f"the hash of a chunk of blob {name} does not fit: it was damaged")
        found.append(self._part._replace(ends=True))
        self._next()


def _head(written: str) -> HeadAnswer:
    try:
        return HeadAnswer(RecordId.parse(written))
    except FormatError as error:
        raise ProtocolError(f"the head of the primary: {error.what}") from error


def _references(written: str) -> ReferencesAnswer:
    segment, colon, listed = written.partition(":")
    if not colon:
        raise ProtocolError("an answer about references does not say of which segment")
    try:
        ids = [parse(each) for each in listed.split(",")] if listed else []
        return ReferencesAnswer(parse(segment), ids)
    except FormatError as error:
        raise ProtocolError(f"an answer about references: {error.what}") from error
