"""What a master answers, one class a message; `wire.messages` puts them into frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from tarfailover.ids import Generation, RecordId, SegmentId
from tarfailover.wire.fields import Reader, Writer, check_items, in_range
from tarfailover.wire.limits import MAX_LISTED, MAX_PACKED, MAX_PART, MAX_SLICE


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
    NOT_ALLOWED = 13
    """The slave has no token or a wrong one, or its name is not allowed; the connection ends."""
    BLOB_GONE = 14
    """A binary is not, or no longer, in the master's blob store."""
    NO_BLOBS = 15
    """The master has no blob store, or its store has no binaries under ids of this form."""


FINAL = (
    ErrorCode.PROTOCOL,
    ErrorCode.VERSION,
    ErrorCode.TOO_LARGE,
    ErrorCode.BUSY,
    ErrorCode.GOING_AWAY,
    ErrorCode.DEADLINE,
    ErrorCode.INTERNAL,
    ErrorCode.NOT_ALLOWED,
)
"""Errors after which the master ends the connection."""


@dataclass(frozen=True)
class Welcome:
    """The answer to HELLO.

    ``u16 version chosen | u8 n, n × text feature chosen | text repository | u64 epoch |
    text software | u32 checksum``. The repository is the name that the operator gave it, empty if
    none; the epoch is 0 if the master knows none.
    """

    TYPE: ClassVar[int] = 0x81
    NAME: ClassVar[str] = "WELCOME"
    version: int
    features: tuple[str, ...]
    repository: str
    epoch: int
    software: str

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.number(self.version, 2, "version")
        to.features(self.features)
        to.text(self.repository)
        to.number(self.epoch, 8, "epoch")
        to.words(self.software)
        to.checksum()

    @classmethod
    def parse(cls, reader: Reader) -> Welcome:
        """From a payload; raises ProtocolError."""
        version, features = reader.number(2), reader.features()
        welcome = cls(version, features, reader.text(), reader.number(8), reader.text())
        reader.checksum()
        return welcome


@dataclass(frozen=True)
class HeadIs:
    """The answer to HEAD.

    ``16 bytes segment | u32 record number | u64 milliseconds since 1970 |
    u32 generation | u32 full generation | u8 compacted | u8 known | u32 checksum``. `known` tells
    whether the slave's own head is one that this master has, or had.
    """

    TYPE: ClassVar[int] = 0x82
    NAME: ClassVar[str] = "HEAD_IS"
    head: RecordId
    time_ms: int
    generation: Generation
    known: bool

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.record(self.head)
        to.number(self.time_ms, 8, "time")
        to.number(self.generation.generation, 4, "generation")
        to.number(self.generation.full, 4, "full generation")
        to.flag(self.generation.compacted)
        to.flag(self.known)
        to.checksum()

    @classmethod
    def parse(cls, reader: Reader) -> HeadIs:
        """From a payload; raises ProtocolError."""
        head, time_ms = reader.record(), reader.number(8)
        generation = Generation(reader.number(4), reader.number(4), reader.flag())
        known = reader.flag()
        reader.checksum()
        return cls(head, time_ms, generation, known)


@dataclass(frozen=True)
class Listed:
    """A piece of the answer to LIST: references first, the head's segment last of all.

    ``u32 segments in all | u64 bytes in all | n × (16 bytes id | u32 length)``
    """

    TYPE: ClassVar[int] = 0x83
    NAME: ClassVar[str] = "LISTED"
    ITEM: ClassVar[int] = 20
    segments: int
    size: int
    items: bytes

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        self._check_items()
        to.number(self.segments, 4, "number of segments")
        to.number(self.size, 8, "size")
        to.raw(self.items)

    @classmethod
    def parse(cls, reader: Reader) -> Listed:
        """From a payload; raises ProtocolError."""
        listed = cls(reader.number(4), reader.number(8), reader.rest())
        listed._check_items()
        return listed

    def pairs(self) -> list[tuple[SegmentId, int]]:
        """The items as ids and lengths in bytes."""
        return list(struct.iter_unpack(">16sI", self.items))

    def _check_items(self) -> None:
        check_items(len(self.items), self.ITEM, 0, MAX_LISTED, "the items of LISTED")


@dataclass(frozen=True)
class ListEnd:
    """The end of the answer to LIST: ``u8 n, n bytes cursor`` behind all that was listed."""

    TYPE: ClassVar[int] = 0x84
    NAME: ClassVar[str] = "LIST_END"
    cursor: bytes

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.cursor(self.cursor)

    @classmethod
    def parse(cls, reader: Reader) -> ListEnd:
        """From a payload; raises ProtocolError."""
        return cls(reader.cursor())


@dataclass(frozen=True)
class Part:
    """A piece of the answer to GET or BLOB: bytes of its stream, cut anywhere, at least one."""

    TYPE: ClassVar[int] = 0x85
    NAME: ClassVar[str] = "PART"
    data: bytes

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        self._check_size()
        to.raw(self.data)

    @classmethod
    def parse(cls, reader: Reader) -> Part:
        """From a payload; raises ProtocolError."""
        part = cls(reader.rest())
        part._check_size()
        return part

    def _check_size(self) -> None:
        in_range(len(self.data), MAX_PART, "the size of PART", least=1)


@dataclass(frozen=True)
class Packed:
    """A piece of the answer to GET or BLOB, compressed; only where ``zstd`` was chosen.

    ``u8 1 if a zstd stream begins here, 0 if the last one goes on | n bytes of it``, at
    least one. See `wire.compression`.
    """

    TYPE: ClassVar[int] = 0x88
    NAME: ClassVar[str] = "PACKED"
    begins: bool
    data: bytes

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        self._check_size()
        to.flag(self.begins)
        to.raw(self.data)

    @classmethod
    def parse(cls, reader: Reader) -> Packed:
        """From a payload; raises ProtocolError."""
        packed = cls(reader.flag(), reader.rest())
        packed._check_size()
        return packed

    def _check_size(self) -> None:
        in_range(len(self.data), MAX_PACKED, "the size of PACKED", least=1)


@dataclass(frozen=True)
class End:
    """The end of the answer to GET: ``u32 segments | u64 bytes of the stream``, unpacked."""

    TYPE: ClassVar[int] = 0x86
    NAME: ClassVar[str] = "END"
    segments: int
    size: int

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.number(self.segments, 4, "number of segments")
        to.number(self.size, 8, "size")

    @classmethod
    def parse(cls, reader: Reader) -> End:
        """From a payload; raises ProtocolError."""
        return cls(reader.number(4), reader.number(8))


@dataclass(frozen=True)
class Pong:
    """The answer to PING; no payload."""

    TYPE: ClassVar[int] = 0x87
    NAME: ClassVar[str] = "PONG"

    def write(self, to: Writer) -> None:
        """Nothing."""

    @classmethod
    def parse(cls, _: Reader) -> Pong:
        """From an empty payload."""
        return cls()


@dataclass(frozen=True)
class Error:
    """An answer to any request that failed: ``u16 code | text``; request 0 means the whole link.

    `code` may be none of `ErrorCode` if the master is newer.
    """

    TYPE: ClassVar[int] = 0xFF
    NAME: ClassVar[str] = "ERROR"
    code: int
    text: str

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.number(self.code, 2, "code")
        to.words(self.text)

    @classmethod
    def parse(cls, reader: Reader) -> Error:
        """From a payload; raises ProtocolError."""
        return cls(reader.number(2), reader.text())


@dataclass(frozen=True)
class BlobEnd:
    """The end of the answer to BLOB.

    ``u64 length | u32 size | u32 CRC32 | u32 checksum``: the length of the whole binary; how
    many bytes of it were in this answer, unpacked, and their CRC32. So a bit that is wrong
    costs a slice. What the whole must be, says the digest in its id.
    """

    TYPE: ClassVar[int] = 0x89
    NAME: ClassVar[str] = "BLOB_END"
    length: int
    size: int
    crc: int

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.number(self.length, 8, "length")
        to.number(in_range(self.size, MAX_SLICE, "the size in BLOB_END"), 4, "size")
        to.number(self.crc, 4, "CRC32")
        to.checksum()

    @classmethod
    def parse(cls, reader: Reader) -> BlobEnd:
        """From a payload; raises ProtocolError."""
        length, size = (
            reader.number(8),
            in_range(reader.number(4), MAX_SLICE, "the size in BLOB_END"),
        )
        end = cls(length, size, reader.number(4))
        reader.checksum()
        return end


Answer = Welcome | HeadIs | Listed | ListEnd | Part | Packed | End | Pong | Error | BlobEnd
