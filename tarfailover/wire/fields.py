"""Fields that messages are made of: written by `Writer`, read by `Reader`, checked by both."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from tarfailover.errors import ProtocolError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.wire.limits import MAX_CURSOR, MAX_FEATURE, MAX_FEATURES, MAX_TEXT


def in_range(value: int, most: int, what: str, least: int = 0) -> int:
    """`value`, if it is one of `least` to `most`; raises ProtocolError that names it."""
    if not least <= value <= most:
        raise ProtocolError(f"{what} is {value}; {least} to {most} are allowed")
    return value


def check_items(length: int, size: int, least: int, most: int, what: str) -> None:
    """Raise ProtocolError unless `length` bytes are `least` to `most` items of `size` bytes."""
    if length % size or not least * size <= length <= most * size:
        allowed = f"{least} to {most} of {size} bytes are allowed"
        raise ProtocolError(f"{what} are {length} bytes; {allowed}")


def checked_id(segment: SegmentId, where: str) -> SegmentId:
    """`segment`, if it is 16 bytes long; raises ProtocolError."""
    if len(segment) != 16:
        raise ProtocolError(f"a segment id in {where} has {len(segment)} bytes; 16 are needed")
    return segment


def cut_text(value: str, limit: int = MAX_TEXT) -> bytes:
    """UTF-8 of a text for people, cut to `limit` bytes between two characters."""
    return value.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode("utf-8")


def printable(value: str) -> str:
    """A text of a peer as it may stand in a log: on one line, without control characters."""
    return value if value.isprintable() else ascii(value)


def _text_size(size: int, limit: int, name: str) -> int:
    if size > limit:
        raise ProtocolError(f"a text of {size} bytes in {name}; {limit} are allowed")
    return size


def _feature_count(count: int, name: str) -> int:
    if count > MAX_FEATURES:
        raise ProtocolError(f"{count} features in {name}; {MAX_FEATURES} are allowed")
    return count


def _cursor_size(size: int, name: str) -> int:
    if size > MAX_CURSOR:
        raise ProtocolError(f"a cursor of {size} bytes in {name}; {MAX_CURSOR} are allowed")
    return size


class Writer:
    """Puts the fields of message `name` one behind the other.

    Every method raises ProtocolError for a value that the field cannot hold.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fields: list[bytes] = []

    def content(self) -> bytes:
        """All that was written."""
        return b"".join(self._fields)

    def raw(self, data: bytes) -> None:
        """Bytes as they are; the caller has checked how many."""
        self._fields.append(data)

    def number(self, value: int, size: int, what: str) -> None:
        """An unsigned integer of `size` bytes."""
        in_range(value, 256**size - 1, f"the {what} of {self.name}")
        self._fields.append(value.to_bytes(size, "big"))

    def flag(self, value: bool) -> None:
        """A byte, 0 or 1."""
        self._fields.append(b"\1" if value else b"\0")

    def text(self, value: str, limit: int = MAX_TEXT) -> None:
        """A text that must arrive whole: u16 length, UTF-8."""
        data = value.encode("utf-8", "replace")
        _text_size(len(data), limit, self.name)
        self._fields += [len(data).to_bytes(2, "big"), data]

    def words(self, value: str) -> None:
        """A text for people, cut if it is too long: u16 length, UTF-8."""
        data = cut_text(value)
        self._fields += [len(data).to_bytes(2, "big"), data]

    def features(self, names: Sequence[str]) -> None:
        """u8 count, then each as a text."""
        self._fields.append(bytes([_feature_count(len(names), self.name)]))
        for name in names:
            self.text(name, MAX_FEATURE)

    def cursor(self, cursor: bytes) -> None:
        """u8 length, then the cursor."""
        self._fields += [bytes([_cursor_size(len(cursor), self.name)]), cursor]

    def segment(self, segment: SegmentId) -> None:
        """16 bytes."""
        self._fields.append(checked_id(segment, self.name))

    def record(self, record: RecordId) -> None:
        """16 bytes segment, u32 record number."""
        self.segment(record.segment)
        self.number(record.number, 4, "record number")

    def checksum(self) -> None:
        """CRC32 of the frame up to here."""
        self._fields.append(zlib.crc32(self.content()).to_bytes(4, "big"))


class Reader:
    """Takes the fields of message `name` from the front of `data`.

    Every method raises ProtocolError past the end, and for what `Writer` does not write.
    """

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self.name = name
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise ProtocolError(f"{self.name} ends in the middle of a field")
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def end(self) -> None:
        """Raise ProtocolError unless nothing is left."""
        if self.left:
            raise ProtocolError(f"{self.left} bytes follow the end of {self.name}")

    def number(self, size: int) -> int:
        """The next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def flag(self) -> bool:
        """The next byte, which is 0 or 1."""
        value = self.number(1)
        if value > 1:
            raise ProtocolError(f"a flag in {self.name} is {value}")
        return bool(value)

    def text(self, limit: int = MAX_TEXT) -> str:
        """The next text: u16 length, UTF-8."""
        data = self.take(_text_size(self.number(2), limit, self.name))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a text in {self.name} is not UTF-8") from error

    def features(self) -> tuple[str, ...]:
        """u8 count, then each as a text."""
        count = _feature_count(self.number(1), self.name)
        return tuple(self.text(MAX_FEATURE) for _ in range(count))

    def cursor(self) -> bytes:
        """u8 length, then the cursor."""
        return self.take(_cursor_size(self.number(1), self.name))

    def segment(self) -> SegmentId:
        """16 bytes."""
        return self.take(16)

    def record(self) -> RecordId:
        """16 bytes segment, u32 record number."""
        return RecordId(self.segment(), self.number(4))

    def checksum(self) -> None:
        """Raise ProtocolError if the frame up to here is not what was written."""
        actual = zlib.crc32(self._data[: self._at])
        if self.number(4) != actual:
            raise ProtocolError(f"{self.name} was changed on its way: its checksum does not fit")
