"""Checks properties: texts, binaries, arrays, to their last byte."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, is_bulk
from tarfailover.repository.deepcheck.blobs import BlobCheck
from tarfailover.repository.deepcheck.books import DAMAGE, Books, Role
from tarfailover.repository.reader import MAX_STRING, RecordError, RecordReader, ValueHead
from tarfailover.repository.records import BLOCK_SIZE, MAX_LIST
from tarfailover.repository.values import ExternalBlob, PropertyType
from tarfailover.store.finding import many
from tarfailover.store.snapshot import Snapshot

LOST_BLOCKS = 1000
"""Blocks of a value that are looked for in vain before the rest is given up."""
LOST_VALUES = 1000
"""Values of an array that are found damaged before the rest is given up."""

_UTF8 = codecs.getincrementaldecoder("utf-8")


class ValueCheck:
    """Checks what a property consists of; finds its way by `reader`, notes it in `books`."""

    def __init__(
        self,
        snapshot: Snapshot,
        reader: RecordReader,
        books: Books,
        tick: Callable[[], None],
        read: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`tick` is called between pieces of work that are kept; it may raise OutOfTimeError.

        `read` is told of bytes of external binaries. They are only counted if `reader` has
        no blob store.
        """
        self._blobs = BlobCheck(reader.blobs, tick, read) if reader.blobs is not None else None
        self._snapshot = snapshot
        self._reader = reader
        self._books = books
        self._tick = tick

    def check(self, part: str, tag: int, record: RecordId) -> None:
        """Check the property of template tag `tag` whose value is `record`."""
        try:
            kind = self._reader.property_type(record, tag)
        except DAMAGE as error:
            self._books.fault(part, record, error, "the property")
            return
        role: Role = "binary" if kind == PropertyType.BINARY else "text"
        if tag > 0:
            self._value(part, role, record)
        elif self._books.enter("binaries" if role == "binary" else "texts", record):
            self._array(part, role, record)
            self._books.leave()

    def _array(self, part: str, role: Role, record: RecordId) -> None:
        done = count = 0
        try:
            segment, at = self._reader.locate(record, layout.LIST)
            said = segment.u32(at)
            if said > MAX_LIST:
                raise segment.fault(f"an array of {said} values is too long", at)
            count = said
            before = self._books.counts.damages
            for each in self._reader.list(segment.record_id(at + 4), count) if count else ():
                self._value(f"{part}, value {done}", role, each)
                done += 1
                if self._books.counts.damages - before > LOST_VALUES:
                    raise segment.fault(f"more than {LOST_VALUES} values of an array are lost", at)
        except DAMAGE as error:
            rest = f"{many(count - done, 'value')} of {count:,}" if count else "the property"
            self._books.fault(part, record, error, rest)

    def _value(self, part: str, role: Role, record: RecordId) -> None:
        if not self._books.enter(role, record):
            return
        self._tick()
        try:
            if role == "text":
                self._text(part, record)
            else:
                self._binary(part, record)
        except DAMAGE as error:
            self._books.fault(part, record, error, "the value")
        self._books.leave()

    def _text(self, part: str, record: RecordId) -> None:
        head = self._reader.value(record)
        if head.length > MAX_STRING:
            raise self._reader.fault(record, f"a string of {head.length} bytes is too long")
        decoder = _UTF8()
        try:
            if head.blocks is None:
                decoder.decode(head.data, final=True)
            elif self._blocks(part, head, head.blocks, decoder.decode):
                decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise self._reader.fault(record, f"the text is not UTF-8: {error.reason}") from error

    def _binary(self, part: str, record: RecordId) -> None:
        blob = self._reader.blob(record)
        if isinstance(blob, ExternalBlob):
            self._external(part, blob)
            return
        head = self._reader.value(record)
        if head.blocks is not None:
            self._blocks(part, head, head.blocks, None)
        self._books.counts.binary_bytes += head.length

    def _external(self, part: str, blob: ExternalBlob) -> None:
        self._books.counts.external += 1
        if self._blobs is None:
            return
        try:
            self._books.counts.external_bytes += self._blobs.check(blob.blob_id)
        except DAMAGE as error:
            self._books.fault(part, blob.record, error, self._blobs.lost(blob.blob_id))

    def _blocks(
        self,
        part: str,
        head: ValueHead,
        blocks: RecordId,
        take: Callable[[bytes], object] | None,
    ) -> bool:
        """Check the blocks of a long value, and `take` their bytes; whether all are there."""
        lost = _Lost(head.length)
        try:
            for block in self._reader.list(blocks, -(-head.length // BLOCK_SIZE)):
                lost.turn_to(block)
                try:
                    data = self._block(block, lost.size, wanted=take is not None)
                except DAMAGE as error:
                    lost.block(error)
                    if lost.blocks > LOST_BLOCKS:
                        break
                else:
                    if take is not None and not lost.blocks:
                        take(data)
        except DAMAGE as error:
            lost.rest(blocks, error)
        if lost.error is None:
            return True
        self._books.fault(part, lost.record, lost.error, lost.told())
        return False

    def _block(self, block: RecordId, size: int, *, wanted: bool) -> bytes:
        """Check one block; its bytes if they are `wanted`, else they may be empty."""
        if not is_bulk(block.segment):
            return self._reader.block(block, size)
        whole = RecordId(block.segment, 0)
        known = whole in self._books.marked["bulk"]
        if known and not wanted:  # Its checksum was verified: only the place has to lie inside.
            _inside(block, size, self._snapshot.entry(block.segment)[1].length)
            return b""
        segment = self._reader.segment(block.segment)
        if not known:
            self._books.marked["bulk"].add(whole)
            self._books.advanced += 1
            self._tick()
        return segment.cut(_inside(block, size, len(segment.data)), size)


def _inside(block: RecordId, size: int, length: int) -> int:
    """Where a block lies in a bulk segment of `length` bytes; raises RecordError if outside."""
    at = layout.byte_index(block.number, length)
    if at < 0 or at + size > length:
        raise RecordError.of(block.segment, f"{size} bytes at {at} lie outside", max(at, 0))
    return at


class _Lost:
    """What of a long value cannot be read."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._at = -BLOCK_SIZE
        self._first = 0
        self._bytes = 0
        self.blocks = 0
        self.record = RecordId(bytes(16), 0)
        self.error: Exception | None = None
        self._current = self.record

    @property
    def size(self) -> int:
        """Bytes of the block in work."""
        return max(0, min(BLOCK_SIZE, self._length - self._at))

    def turn_to(self, block: RecordId) -> None:
        """Go on to the next block."""
        self._at += BLOCK_SIZE
        self._current = block

    def block(self, error: Exception) -> None:
        """Count the block in work as lost."""
        if self.error is None:
            self.error, self.record, self._first = error, self._current, self._at
        self.blocks += 1
        self._bytes += self.size

    def rest(self, record: RecordId, error: Exception) -> None:
        """Count all that is still to come as lost, because the list `record` is damaged."""
        self.turn_to(record)
        self.block(error)
        self._bytes += max(0, self._length - self._at - BLOCK_SIZE)

    def told(self) -> str:
        """What is lost, in words."""
        more = "or more " if self.blocks > LOST_BLOCKS else ""
        return f"{self._bytes:,} {more}of {self._length:,} bytes, from byte {self._first:,} on"
