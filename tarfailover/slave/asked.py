"""Requests of a slave without their whole answer, and what each does with what comes.

Nothing that comes is believed: a stream must be exactly what was asked for, in that order, and
as long as its end says; what is not raises ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from isal.isal_zlib import crc32
from twisted.internet.defer import Deferred

from tarfailover.deadline import Deadline
from tarfailover.errors import ProtocolError
from tarfailover.ids import SegmentId, text
from tarfailover.wire.messages import Blob, BlobEnd, Digest, End, Follow, Get, List, Listed, Request
from tarfailover.wire.stream import Refusal, Segment, StreamParser

OnItems = Callable[[bytes], None]
OnItem = Callable[[Segment | Refusal], None]
OnBytes = Callable[[bytes | bytearray], None]


class Asked:
    """A request without its whole answer; one whose answer is a single message."""

    def __init__(self, message: Request) -> None:
        self.message = message
        self.done: Deferred[Any] = Deferred()
        self.deadline: Deadline | None = None

    def stop_deadline(self) -> None:
        """The answer came, or never will."""
        if self.deadline is not None:
            self.deadline.stop()

    def part(self, piece: memoryview) -> None:
        """A piece of a stream came; raises ProtocolError."""
        del piece
        self._mismatch()

    def end(self, end: End | BlobEnd) -> object:
        """The stream's end came; returns what `done` gets. Raises ProtocolError."""
        del end
        return self._mismatch()

    def listed(self, listed: Listed) -> None:
        """A piece of a list came; raises ProtocolError."""
        del listed
        self._mismatch()

    def list_ended(self, cursor: bytes) -> bool:
        """A list is whole; tells whether the answer is. Raises ProtocolError."""
        del cursor
        return bool(self._mismatch())

    def cut(self) -> None:
        """Nothing more will come."""

    def _mismatch(self) -> object:
        name = self.message.NAME
        raise ProtocolError(f"a request {name} is answered with pieces of another kind")


class AskedList(Asked):
    """A LIST."""

    def __init__(self, message: List, on_items: OnItems) -> None:
        super().__init__(message)
        self.on_items = on_items

    def listed(self, listed: Listed) -> None:
        """See `Asked`."""
        self.on_items(listed.items)

    def list_ended(self, cursor: bytes) -> bool:
        """See `Asked`: it is the last word."""
        del cursor
        return True


class AskedSegments(Asked):
    """A GET or a DIGEST: `on_item` gets each item as it completes."""

    def __init__(self, message: Get | Digest | Follow, on_item: OnItem) -> None:
        super().__init__(message)
        self._ids: Sequence[SegmentId] = () if isinstance(message, Follow) else message.ids
        """What must come, in this order."""
        self.on_item = on_item
        self._parser = StreamParser()
        self._items = 0

    def part(self, piece: memoryview) -> None:
        """See `Asked`."""
        for item in self._parser.feed(piece):
            self._check_turn(item)
            self._items += 1
            self.on_item(item)

    def _check_turn(self, item: Segment | Refusal) -> None:
        segment = item.segment
        if self._items == len(self._ids) or self._ids[self._items] != segment:
            raise ProtocolError(
                f"segment {text(segment)} came as number {self._items + 1} of an answer to "
                f"{len(self._ids)}, and was not asked for there"
            )

    def end(self, end: End | BlobEnd) -> object:
        """See `Asked`."""
        if not isinstance(end, End):
            return self._mismatch()
        self._parser.end()
        if self._items != len(self._ids):
            raise ProtocolError(f"an answer ended after {self._items} of {len(self._ids)} segments")
        if (self._items, self._parser.size) != (end.segments, end.size):
            raise ProtocolError(
                f"an answer of {self._items} segments and {self._parser.size} bytes was to "
                f"have {end.segments} and {end.size}"
            )
        return None


class AskedBlob(Asked):
    """A BLOB: `on_bytes` gets the slice once its checksum is right; `done`, the blob's length.

    If the connection is cut, `on_bytes` gets what came until then, unless that was wrong:
    however often a thin line breaks, each time less is left. The digest of the whole decides.
    """

    def __init__(self, message: Blob, on_bytes: OnBytes) -> None:
        super().__init__(message)
        self._offset, self._most = message.offset, message.most
        self._on_bytes = on_bytes
        self._came = bytearray()
        self._size = 0
        """Bytes of `_came` that have come; it is made once, in the size that was asked for."""

    def part(self, piece: memoryview) -> None:
        """See `Asked`."""
        end = self._size + len(piece)
        if end > self._most:
            raise ProtocolError(f"more than the {self._most} bytes of a blob that were asked for")
        self._came = self._came or bytearray(self._most)
        self._came[self._size : end] = piece
        self._size = end

    def _taken(self) -> bytearray:
        """What has come, once."""
        data, size = self._came, self._size
        self._came, self._size = bytearray(), 0
        del data[size:]
        return data

    def end(self, end: End | BlobEnd) -> object:
        """See `Asked`."""
        if not isinstance(end, BlobEnd):
            return self._mismatch()
        data = self._taken()
        size = len(data)
        if (size, crc32(data)) != (end.size, end.crc):
            raise ProtocolError("a piece of a blob was changed on its way: its checksum is wrong")
        if size != max(0, min(self._most, end.length - self._offset)):
            raise ProtocolError(
                f"{size} bytes from {self._offset} on are not what was asked for of a blob of "
                f"{end.length} bytes"
            )
        if data:
            self._on_bytes(data)
        return end.length

    def cut(self) -> None:
        """See `Asked`."""
        if self._size:
            self._on_bytes(self._taken())
