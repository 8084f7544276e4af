"""The messages of the native dialect as frames; all that a protocol needs comes from here.

`encode` makes a frame's content (without its length prefix), `decode_request` and
`decode_answer` read one and raise ProtocolError for anything that is not exactly a
message. Nothing is believed: lengths are checked before anything is copied. Nor is
anything sent that the other side would refuse: `encode` raises ProtocolError for a
value beyond its limit.

What moves a head, or is remembered, ends with the CRC32 of its frame: without TLS only TCP's
weak sum would stand between a wrong bit and the journal. All else is proven by what it leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tarfailover.errors import ProtocolError
from tarfailover.wire.answers import (
    Answer,
    BlobEnd,
    End,
    Error,
    ErrorCode,
    HeadIs,
    Listed,
    ListEnd,
    Packed,
    Part,
    Pong,
    Welcome,
)
from tarfailover.wire.fields import Reader, Writer, printable
from tarfailover.wire.limits import (
    FRAME_HEADER,
    LOWEST_VERSION,
    MAX_AHEAD,
    MAX_ANSWER_FRAME,
    MAX_BLOB_ID,
    MAX_HELLO_FRAME,
    MAX_IDS,
    MAX_LISTED,
    MAX_PACKED,
    MAX_PART,
    MAX_REQUEST_FRAME,
    MAX_SLICE,
    MAX_TOKEN,
    MAX_WAIT_MS,
    SALT_SIZE,
    VERSION,
)
from tarfailover.wire.requests import (
    MAGIC,
    Blob,
    Digest,
    Follow,
    Get,
    Head,
    Hello,
    List,
    Ping,
    Request,
)

__all__ = [
    "ANSWERS",
    "FRAME_HEADER",
    "LOWEST_VERSION",
    "MAGIC",
    "MAX_AHEAD",
    "MAX_ANSWER_FRAME",
    "MAX_BLOB_ID",
    "MAX_HELLO_FRAME",
    "MAX_IDS",
    "MAX_LISTED",
    "MAX_PACKED",
    "MAX_PART",
    "MAX_REQUEST_FRAME",
    "MAX_SLICE",
    "MAX_TOKEN",
    "MAX_WAIT_MS",
    "REQUESTS",
    "SALT_SIZE",
    "VERSION",
    "Answer",
    "Blob",
    "BlobEnd",
    "Digest",
    "End",
    "Error",
    "ErrorCode",
    "Follow",
    "Get",
    "Head",
    "HeadIs",
    "Hello",
    "List",
    "ListEnd",
    "Listed",
    "Packed",
    "Part",
    "Ping",
    "Pong",
    "Request",
    "UnknownTypeError",
    "Welcome",
    "decode_answer",
    "decode_request",
    "encode",
    "framed",
    "printable",
    "split",
]

REQUESTS: dict[int, type[Request]] = {
    c.TYPE: c for c in (Hello, Head, List, Get, Ping, Digest, Blob, Follow)
}
ANSWERS: dict[int, type[Answer]] = {
    c.TYPE: c for c in (Welcome, HeadIs, Listed, ListEnd, Part, Packed, End, Pong, Error, BlobEnd)
}


class UnknownTypeError(ProtocolError):
    """A frame of a type that this version does not know; `request` is its number."""

    def __init__(self, kind: int, request: int) -> None:
        super().__init__(f"message type {kind:#04x} is not known here")
        self.request = request


def encode(request: int, message: Request | Answer) -> bytes:
    """The content of a frame; raises ProtocolError for a value beyond its limit."""
    writer = Writer(message.NAME)
    writer.number(message.TYPE, 1, "type")
    writer.number(request, 4, "request number")
    message.write(writer)
    return writer.content()


def framed(request: int, message: Request | Answer) -> bytes:
    """A message as it goes onto the wire, length prefix included; raises as `encode`."""
    frame = encode(request, message)
    return len(frame).to_bytes(4, "big") + frame


def split(frame: bytes) -> tuple[int, int]:
    """Type and request number of a frame; raises ProtocolError if it is too short."""
    if len(frame) < FRAME_HEADER:
        raise ProtocolError(f"a frame of {len(frame)} bytes has no room for its header")
    return frame[0], int.from_bytes(frame[1:5], "big")


def decode_request(frame: bytes) -> tuple[int, Request]:
    """Number and message of a frame from a slave; raises ProtocolError."""
    kind, number = split(frame)
    known = REQUESTS.get(kind)
    if known is None:
        raise UnknownTypeError(kind, number)
    return number, _parse(known.parse, known.NAME, frame)


def decode_answer(frame: bytes) -> tuple[int, Answer]:
    """Number and message of a frame from a master; raises ProtocolError."""
    kind, number = split(frame)
    known = ANSWERS.get(kind)
    if known is None:
        raise UnknownTypeError(kind, number)
    return number, _parse(known.parse, known.NAME, frame)


def _parse(parse: Callable[[Reader], Any], name: str, frame: bytes) -> Any:
    reader = Reader(frame, name)
    reader.take(FRAME_HEADER)
    message = parse(reader)
    reader.end()
    return message
