"""The messages of the native dialect, one class each.

`encode` makes a frame's content (without its length prefix), `decode` reads one and
raises ProtocolError for anything that is not exactly a message. Nothing is believed:
lengths are checked before anything is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from tarfailover.errors import ProtocolError
from tarfailover.ids import Generation, RecordId, SegmentId
from tarfailover.wire.fields import (
    Reader,
    pack_cursor,
    pack_features,
    pack_record,
    pack_text,
    read_cursor,
    read_features,
    read_record,
)

VERSION = 1
"""The newest version of the dialect spoken here."""
LOWEST_VERSION = 1
MAGIC = b"TARF"

FRAME_HEADER = 5
"""Bytes of type and request number."""
MAX_IDS = 4000
"""Segments in one GET."""
MAX_LISTED = 3000
"""Segments in one LISTED."""
MAX_PART = 64 * 1024
"""Bytes of a stream in one PART."""
MAX_WAIT_MS = 600_000
"""The longest that a HEAD may ask to wait."""
MAX_REQUEST_FRAME = 128 * 1024
"""Bytes of a frame that a master accepts."""
MAX_ANSWER_FRAME = 128 * 1024
"""Bytes of a frame that a slave accepts."""


class ErrorCode(IntEnum):
    """What an ERROR, or a refusal inside a stream, means."""

    PROTOCOL = 1
    """The request breaks the protocol; the connection ends."""
    VERSION = 2
    """No version of the dialect is common; the connection ends."""
    UNKNOWN_TYPE = 3
    """The message's type is not known to this version; the connection goes on."""
    TOO_LARGE = 4
    """A frame is longer than allowed; the connection ends."""
    NOT_READY = 5
    """The master has no head to serve; ask again later."""
    HEAD_GONE = 6
    """The head asked for is not, or no longer, in the master's store; ask for HEAD."""
    SEGMENT_GONE = 7
    """A segment is not, or no longer, in the master's store; ask for HEAD."""
    DAMAGED = 8
    """A segment is damaged on the master's disk; the text names file and offset."""
    BUSY = 9
    """The master serves as many as it may; try again later."""
    GOING_AWAY = 10
    """The master stops."""
    DEADLINE = 11
    """A named deadline of the master passed."""
    INTERNAL = 12
    """Something failed in the master; its log says what."""


@dataclass(frozen=True)
class Hello:
    """The first message of a slave.

    ``4 bytes "TARF" | u16 lowest version | u16 highest version | text client id |
    u8 n, n × text feature``
    """

    TYPE: ClassVar[int] = 0x01
    client: str
    features: tuple[str, ...] = ()
    lowest: int = LOWEST_VERSION
    highest: int = VERSION

    def payload(self) -> bytes:
        """See the class."""
        versions = struct.pack(">4sHH", MAGIC, self.lowest, self.highest)
        return versions + pack_text(self.client) + pack_features(self.features)

    @classmethod
    def parse(cls, reader: Reader) -> Hello:
        """From a payload. What a newer version may have added behind is passed over."""
        if reader.take(4) != MAGIC:
            raise ProtocolError("HELLO does not begin with the name of the protocol")
        lowest, highest = reader.number(2), reader.number(2)
        hello = cls(reader.text(), read_features(reader), lowest, highest)
        reader.rest()
        return hello


@dataclass(frozen=True)
class Welcome:
    """The answer to HELLO.

    ``u16 version chosen | u8 n, n × text feature chosen | text repository | u64 epoch |
    text software``. The repository is the name that the operator gave it, empty if
    none; the epoch is 0 if the master knows none.
    """

    TYPE: ClassVar[int] = 0x81
    version: int
    features: tuple[str, ...]
    repository: str
    epoch: int
    software: str

    def payload(self) -> bytes:
        """See the class."""
        start = self.version.to_bytes(2, "big") + pack_features(self.features)
        middle = pack_text(self.repository) + self.epoch.to_bytes(8, "big")
        return start + middle + pack_text(self.software)

    @classmethod
    def parse(cls, reader: Reader) -> Welcome:
        """From a payload."""
        version, features = reader.number(2), read_features(reader)
        return cls(version, features, reader.text(), reader.number(8), reader.text())


@dataclass(frozen=True)
class Head:
    """Asks for the head, once it is another than the one that the slave has.

    ``u8 0`` or ``u8 1 | 16 bytes segment | u32 record number``, then ``u32 wait``:
    milliseconds after which "unchanged" is a welcome answer.
    """

    TYPE: ClassVar[int] = 0x02
    have: RecordId | None
    wait_ms: int

    def payload(self) -> bytes:
        """See the class."""
        return pack_record(self.have) + self.wait_ms.to_bytes(4, "big")

    @classmethod
    def parse(cls, reader: Reader) -> Head:
        """From a payload."""
        have, wait = read_record(reader), reader.number(4)
        if wait > MAX_WAIT_MS:
            raise ProtocolError(f"HEAD asks to wait {wait} ms; {MAX_WAIT_MS} are allowed")
        return cls(have, wait)


@dataclass(frozen=True)
class HeadIs:
    """The answer to HEAD.

    ``16 bytes segment | u32 record number | u64 milliseconds since 1970 |
    u32 generation | u32 full generation | u8 compacted | u8 known``. `known` tells
    whether the slave's own head is one that this master has, or had.
    """

    TYPE: ClassVar[int] = 0x82
    head: RecordId
    time_ms: int
    generation: Generation
    known: bool

    def payload(self) -> bytes:
        """See the class."""
        numbers = struct.pack(">IQIIBB", self.head.number, self.time_ms, *self.generation,
                              self.known)  # fmt: skip
        return self.head.segment + numbers

    @classmethod
    def parse(cls, reader: Reader) -> HeadIs:
        """From a payload."""
        head, time_ms = RecordId(reader.take(16), reader.number(4)), reader.number(8)
        generation = Generation(reader.number(4), reader.number(4), reader.flag())
        return cls(head, time_ms, generation, reader.flag())


@dataclass(frozen=True)
class List:
    """Asks for the segments of a head's closure that lie behind a cursor.

    ``16 bytes head's segment | u8 n, n bytes cursor``; an empty cursor asks for all.
    """

    TYPE: ClassVar[int] = 0x03
    head: SegmentId
    cursor: bytes = b""

    def payload(self) -> bytes:
        """See the class."""
        return self.head + pack_cursor(self.cursor)

    @classmethod
    def parse(cls, reader: Reader) -> List:
        """From a payload."""
        return cls(reader.take(16), read_cursor(reader))


@dataclass(frozen=True)
class Listed:
    """A piece of the answer to LIST: references first, the head's segment last of all.

    ``u32 segments in all | u64 bytes in all | n × (16 bytes id | u32 length)``
    """

    TYPE: ClassVar[int] = 0x83
    ITEM: ClassVar[int] = 20
    segments: int
    size: int
    items: bytes

    def payload(self) -> bytes:
        """See the class."""
        return struct.pack(">IQ", self.segments, self.size) + self.items

    @classmethod
    def parse(cls, reader: Reader) -> Listed:
        """From a payload."""
        listed = cls(reader.number(4), reader.number(8), reader.rest())
        if len(listed.items) % cls.ITEM or len(listed.items) > cls.ITEM * MAX_LISTED:
            raise ProtocolError(f"LISTED has {len(listed.items)} bytes of items")
        return listed

    def pairs(self) -> list[tuple[SegmentId, int]]:
        """The items as ids and lengths in bytes."""
        return list(struct.iter_unpack(">16sI", self.items))


@dataclass(frozen=True)
class ListEnd:
    """The end of the answer to LIST: ``u8 n, n bytes cursor`` behind all that was listed."""

    TYPE: ClassVar[int] = 0x84
    cursor: bytes

    def payload(self) -> bytes:
        """See the class."""
        return pack_cursor(self.cursor)

    @classmethod
    def parse(cls, reader: Reader) -> ListEnd:
        """From a payload."""
        return cls(read_cursor(reader))


@dataclass(frozen=True)
class Get:
    """Asks for segments: ``n × 16 bytes id``, at least one. See `wire.stream` for the answer."""

    TYPE: ClassVar[int] = 0x04
    ids: tuple[SegmentId, ...]

    def payload(self) -> bytes:
        """See the class."""
        return b"".join(self.ids)

    @classmethod
    def parse(cls, reader: Reader) -> Get:
        """From a payload."""
        data = reader.rest()
        if not data or len(data) % 16 or len(data) > 16 * MAX_IDS:
            raise ProtocolError(f"GET has {len(data)} bytes of ids; 1 to {MAX_IDS} ids are allowed")
        return cls(tuple(data[at : at + 16] for at in range(0, len(data), 16)))


@dataclass(frozen=True)
class Part:
    """A piece of the answer to GET: bytes of its stream, cut anywhere."""

    TYPE: ClassVar[int] = 0x85
    data: bytes

    def payload(self) -> bytes:
        """See the class."""
        return self.data

    @classmethod
    def parse(cls, reader: Reader) -> Part:
        """From a payload."""
        return cls(reader.rest())


@dataclass(frozen=True)
class End:
    """The end of the answer to GET: ``u32 segments | u64 bytes of the stream``."""

    TYPE: ClassVar[int] = 0x86
    segments: int
    size: int

    def payload(self) -> bytes:
        """See the class."""
        return struct.pack(">IQ", self.segments, self.size)

    @classmethod
    def parse(cls, reader: Reader) -> End:
        """From a payload."""
        return cls(reader.number(4), reader.number(8))


@dataclass(frozen=True)
class Ping:
    """Asks for a sign of life; no payload."""

    TYPE: ClassVar[int] = 0x05

    def payload(self) -> bytes:
        """See the class."""
        return b""

    @classmethod
    def parse(cls, _: Reader) -> Ping:
        """From a payload."""
        return cls()


@dataclass(frozen=True)
class Pong:
    """The answer to PING; no payload."""

    TYPE: ClassVar[int] = 0x87

    def payload(self) -> bytes:
        """See the class."""
        return b""

    @classmethod
    def parse(cls, _: Reader) -> Pong:
        """From a payload."""
        return cls()


@dataclass(frozen=True)
class Error:
    """An answer to any request that failed: ``u16 code | text``; request 0 means the whole link."""

    TYPE: ClassVar[int] = 0xFF
    code: int
    text: str

    def payload(self) -> bytes:
        """See the class."""
        return self.code.to_bytes(2, "big") + pack_text(self.text)

    @classmethod
    def parse(cls, reader: Reader) -> Error:
        """From a payload."""
        return cls(reader.number(2), reader.text())


Request = Hello | Head | List | Get | Ping
Answer = Welcome | HeadIs | Listed | ListEnd | Part | End | Pong | Error

REQUESTS: dict[int, type[Request]] = {c.TYPE: c for c in (Hello, Head, List, Get, Ping)}
ANSWERS: dict[int, type[Answer]] = {
    c.TYPE: c for c in (Welcome, HeadIs, Listed, ListEnd, Part, End, Pong, Error)
}


class UnknownTypeError(ProtocolError):
    """A frame of a type that this version does not know; `request` is its number."""

    def __init__(self, kind: int, request: int) -> None:
        super().__init__(f"message type {kind:#04x} is not known here")
        self.request = request


def encode(request: int, message: Request | Answer) -> bytes:
    """The content of a frame."""
    return struct.pack(">BI", message.TYPE, request) + message.payload()


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
    return number, _parse(known.parse, known.__name__, frame)


def decode_answer(frame: bytes) -> tuple[int, Answer]:
    """Number and message of a frame from a master; raises ProtocolError."""
    kind, number = split(frame)
    known = ANSWERS.get(kind)
    if known is None:
        raise UnknownTypeError(kind, number)
    return number, _parse(known.parse, known.__name__, frame)


def _parse(parse: Callable[[Reader], Any], name: str, frame: bytes) -> Any:
    reader = Reader(memoryview(frame)[FRAME_HEADER:], name.upper())
    message = parse(reader)
    reader.end()
    return message
