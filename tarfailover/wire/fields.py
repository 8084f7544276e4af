"""Fields that messages are made of, and their limits."""

from __future__ import annotations

from tarfailover.errors import ProtocolError
from tarfailover.ids import RecordId

MAX_TEXT = 1000
"""Bytes of a text."""
MAX_FEATURES = 32
MAX_CURSOR = 64
"""Bytes of a cursor: a place in the master's tars, opaque to a slave."""


class Reader:
    """Takes fields from the front of a payload; raises ProtocolError past its end."""

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._name = name

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > len(self._data) - self._at:
            raise ProtocolError(f"{self._name} ends in the middle of a field")
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def number(self, size: int) -> int:
        """The next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def text(self, limit: int = MAX_TEXT) -> str:
        """The next text: u16 length, UTF-8."""
        size = self.number(2)
        if size > limit:
            raise ProtocolError(f"a text of {size} bytes in {self._name}; {limit} are allowed")
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a text in {self._name} is not UTF-8") from error

    def flag(self) -> bool:
        """The next byte, which is 0 or 1."""
        value = self.number(1)
        if value > 1:
            raise ProtocolError(f"a flag in {self._name} is {value}")
        return bool(value)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Raise ProtocolError unless nothing is left."""
        left = len(self._data) - self._at
        if left:
            raise ProtocolError(f"{left} bytes follow the end of {self._name}")


def pack_text(value: str, limit: int = MAX_TEXT) -> bytes:
    """u16 length, UTF-8; cut to `limit` bytes at a character's border."""
    data = value.encode("utf-8", "replace")[:limit]
    data = data.decode("utf-8", "ignore").encode("utf-8")
    return len(data).to_bytes(2, "big") + data


def pack_features(names: tuple[str, ...]) -> bytes:
    """u8 count, then each as a text."""
    return bytes([len(names)]) + b"".join(map(pack_text, names))


def read_features(reader: Reader) -> tuple[str, ...]:
    """What `pack_features` wrote."""
    count = reader.number(1)
    if count > MAX_FEATURES:
        raise ProtocolError(f"{count} features; {MAX_FEATURES} are allowed")
    return tuple(reader.text(64) for _ in range(count))


def pack_cursor(cursor: bytes) -> bytes:
    """u8 length, then the cursor."""
    if len(cursor) > MAX_CURSOR:
        raise ProtocolError(f"a cursor of {len(cursor)} bytes; {MAX_CURSOR} are allowed")
    return bytes([len(cursor)]) + cursor


def read_cursor(reader: Reader) -> bytes:
    """What `pack_cursor` wrote."""
    size = reader.number(1)
    if size > MAX_CURSOR:
        raise ProtocolError(f"a cursor of {size} bytes; {MAX_CURSOR} are allowed")
    return reader.take(size)


def pack_record(record: RecordId | None) -> bytes:
    """u8 0 for none, or u8 1, 16 bytes segment, u32 record number."""
    if record is None:
        return b"\0"
    return b"\1" + record.segment + record.number.to_bytes(4, "big")


def read_record(reader: Reader) -> RecordId | None:
    """What `pack_record` wrote."""
    return RecordId(reader.take(16), reader.number(4)) if reader.flag() else None
