"""What a slave asks, one class a message; `wire.messages` puts them into frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tarfailover.errors import ProtocolError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.wire.fields import Reader, Writer, check_items, in_range
from tarfailover.wire.limits import (
    LOWEST_VERSION,
    MAX_AHEAD,
    MAX_BLOB_ID,
    MAX_IDS,
    MAX_SLICE,
    MAX_TOKEN,
    MAX_WAIT_MS,
    SALT_SIZE,
    VERSION,
)

MAGIC = b"TARF"


@dataclass(frozen=True)
class Hello:
    """The first message of a slave.

    ``4 bytes "TARF" | u16 lowest version | u16 highest version | text client id |
    u8 n, n × text feature``, then, if it has one or more follows, ``text token | more``.
    All versions begin so; what a newer one may have added behind is passed over.
    """

    TYPE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "HELLO"
    client: str
    features: tuple[str, ...] = ()
    lowest: int = LOWEST_VERSION
    highest: int = VERSION
    token: str = field(default="", repr=False)

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        self._check_range()
        to.raw(MAGIC)
        to.number(self.lowest, 2, "lowest version")
        to.number(self.highest, 2, "highest version")
        to.words(self.client)
        to.features(self.features)
        if self.token:
            to.text(self.token, MAX_TOKEN)

    @classmethod
    def parse(cls, reader: Reader) -> Hello:
        """From a payload; raises ProtocolError."""
        if reader.take(4) != MAGIC:
            raise ProtocolError("HELLO does not begin with the name of the protocol")
        lowest, highest = reader.number(2), reader.number(2)
        client, features = reader.text(), reader.features()
        token = reader.text(MAX_TOKEN) if reader.left else ""
        hello = cls(client, features, lowest, highest, token)
        hello._check_range()
        reader.rest()
        return hello

    def _check_range(self) -> None:
        if self.lowest > self.highest:
            raise ProtocolError(f"HELLO offers versions {self.lowest} to {self.highest}")


@dataclass(frozen=True)
class Head:
    """Asks for the head, once it is another than the one that the slave has.

    ``u8 0`` or ``u8 1 | 16 bytes segment | u32 record number``, then ``u32 wait``,
    milliseconds after which "unchanged" is a welcome answer, and ``u32 checksum``.
    """

    TYPE: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "HEAD"
    have: RecordId | None
    wait_ms: int

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.flag(self.have is not None)
        if self.have is not None:
            to.record(self.have)
        to.number(in_range(self.wait_ms, MAX_WAIT_MS, "the wait of HEAD"), 4, "wait")
        to.checksum()

    @classmethod
    def parse(cls, reader: Reader) -> Head:
        """From a payload; raises ProtocolError."""
        have = reader.record() if reader.flag() else None
        wait_ms = in_range(reader.number(4), MAX_WAIT_MS, "the wait of HEAD")
        reader.checksum()
        return cls(have, wait_ms)


@dataclass(frozen=True)
class Follow:
    """As HEAD, of a slave that wants what is new along with the head; feature ``follow``.

    ``16 bytes segment | u32 record number | u32 wait | u8 n, n bytes cursor | u32 most |
    u32 checksum``. If another head is answered, and the slave's own is known, then LISTED … and
    LIST_END follow, of its closure behind the cursor, and PART … and END with all that was
    listed, if that is at most `MAX_IDS` segments and `most` bytes; else END alone.
    """

    TYPE: ClassVar[int] = 0x08
    NAME: ClassVar[str] = "FOLLOW"
    have: RecordId
    wait_ms: int
    cursor: bytes
    most: int = MAX_AHEAD

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.record(self.have)
        to.number(in_range(self.wait_ms, MAX_WAIT_MS, "the wait of FOLLOW"), 4, "wait")
        to.cursor(self.cursor)
        to.number(in_range(self.most, MAX_AHEAD, "the bytes of FOLLOW"), 4, "bytes")
        to.checksum()

    @classmethod
    def parse(cls, reader: Reader) -> Follow:
        """From a payload; raises ProtocolError."""
        have = reader.record()
        wait_ms = in_range(reader.number(4), MAX_WAIT_MS, "the wait of FOLLOW")
        cursor = reader.cursor()
        most = in_range(reader.number(4), MAX_AHEAD, "the bytes of FOLLOW")
        reader.checksum()
        return cls(have, wait_ms, cursor, most)

    def brings(self, segments: int, size: int) -> bool:
        """Whether all that was listed comes too, being so many segments and bytes."""
        return 0 < segments <= MAX_IDS and size <= self.most


@dataclass(frozen=True)
class List:
    """Asks for the segments of a head's closure that lie behind a cursor.

    ``16 bytes head's segment | u8 n, n bytes cursor``; an empty cursor asks for all.
    """

    TYPE: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "LIST"
    head: SegmentId
    cursor: bytes = b""

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        to.segment(self.head)
        to.cursor(self.cursor)

    @classmethod
    def parse(cls, reader: Reader) -> List:
        """From a payload; raises ProtocolError."""
        return cls(reader.segment(), reader.cursor())


@dataclass(frozen=True)
class Get:
    """Asks for segments: ``n × 16 bytes id``, at least one. See `wire.stream` for the answer."""

    TYPE: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "GET"
    ids: tuple[SegmentId, ...]

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        check_items(16 * len(self.ids), 16, 1, MAX_IDS, f"the ids of {self.NAME}")
        for segment in self.ids:
            to.segment(segment)

    @classmethod
    def parse(cls, reader: Reader) -> Get:
        """From a payload; raises ProtocolError."""
        return cls(cls._ids(reader))

    @classmethod
    def _ids(cls, reader: Reader) -> tuple[SegmentId, ...]:
        data = reader.rest()
        check_items(len(data), 16, 1, MAX_IDS, f"the ids of {cls.NAME}")
        return tuple(data[at : at + 16] for at in range(0, len(data), 16))


@dataclass(frozen=True)
class Digest(Get):
    """Asks what bytes of segments are on the master's disk: ``16 bytes salt | n × 16 bytes id``.

    Only where feature ``digest`` was chosen. Answered as a GET is, each item with the digest of
    `wire.digests` in place of the segment. The salt makes sure that the master reads them now:
    with one that nobody could know before, no digest that was kept is of use.
    """

    TYPE: ClassVar[int] = 0x07
    NAME: ClassVar[str] = "DIGEST"
    salt: bytes = bytes(SALT_SIZE)

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        in_range(len(self.salt), SALT_SIZE, "the length of the salt", least=SALT_SIZE)
        to.raw(self.salt)
        super().write(to)

    @classmethod
    def parse(cls, reader: Reader) -> Digest:
        """From a payload; raises ProtocolError."""
        salt = reader.take(SALT_SIZE)
        return cls(cls._ids(reader), salt)


@dataclass(frozen=True)
class Ping:
    """Asks for a sign of life; no payload."""

    TYPE: ClassVar[int] = 0x05
    NAME: ClassVar[str] = "PING"

    def write(self, to: Writer) -> None:
        """Nothing."""

    @classmethod
    def parse(cls, _: Reader) -> Ping:
        """From an empty payload."""
        return cls()


@dataclass(frozen=True)
class Blob:
    """Asks for a slice of a binary: a file of the blob store; only with feature ``blobs``.

    ``text id | u64 offset | u32 most``: the bytes from `offset` on, at the most `most` of
    them, which are fewer only at the binary's end. Slices, and not all up to the end, so
    that the window counts what is asked for, however large a binary is. The id is ASCII.
    """

    TYPE: ClassVar[int] = 0x06
    NAME: ClassVar[str] = "BLOB"
    blob: str
    offset: int
    most: int

    def write(self, to: Writer) -> None:
        """The payload; raises ProtocolError for what does not fit."""
        self._check_id()
        to.text(self.blob, MAX_BLOB_ID)
        to.number(self.offset, 8, "offset")
        to.number(in_range(self.most, MAX_SLICE, "the size in BLOB", least=1), 4, "size")

    @classmethod
    def parse(cls, reader: Reader) -> Blob:
        """From a payload; raises ProtocolError."""
        blob, offset = reader.text(MAX_BLOB_ID), reader.number(8)
        found = cls(blob, offset, in_range(reader.number(4), MAX_SLICE, "the size in BLOB", 1))
        found._check_id()
        return found

    def _check_id(self) -> None:
        if not (self.blob.isascii() and self.blob.isprintable()):
            raise ProtocolError("a blob id in BLOB is not printable ASCII")


Request = Hello | Head | Follow | List | Get | Digest | Ping | Blob
