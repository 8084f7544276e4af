"""Reads single records of a store: values, lists, templates.

Nothing is believed: every address, type, count and length is checked against the
segment, and a fault is a FormatError that names the segment. No walk here recurses
over the depth of a tree. Facts: storage format, sections 4 to 6.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from tarfailover.errors import FormatError
from tarfailover.format import segment as layout
from tarfailover.ids import Generation, RecordId, SegmentId, is_bulk, text
from tarfailover.repository.records import (
    BLOCK_SIZE,
    BUCKET_SIZE,
    HAS_MIXINS,
    HAS_PRIMARY,
    ID_SIZE,
    MANY_CHILDREN,
    MAX_LIST,
    MAX_MIXINS,
    MAX_PROPERTIES,
    MEDIUM_LIMIT,
    MIXIN_SHIFT,
    NO_CHILDREN,
    SMALL_LIMIT,
    Template,
)
from tarfailover.repository.values import (
    ExternalBlob,
    Property,
    PropertyType,
    StoredBlob,
    Value,
)
from tarfailover.store.blobs import BlobStore

CACHED_BYTES = 32 * 1024 * 1024
"""How much of the segments read last stays in memory, unless a reader is told otherwise."""
CACHED_STRINGS = 32768
CACHED_TEMPLATES = 8192

MAX_STRING = 2**31 - 1

_ENTRY = struct.Struct(">IBI")
_ID = struct.Struct(">HI")
_U32 = struct.Struct(">I")


class SegmentSource(Protocol):
    """Where segments come from: a snapshot, a writer, a dictionary in a test."""

    def read(self, segment: SegmentId, /) -> bytes:
        """The bytes of `segment`; raises SegmentMissingError."""


class RecordError(FormatError):
    """A table or a record of the segment `segment` is not what the format says.

    `offset` counts from the start of the segment.
    """

    segment: SegmentId = b""

    @classmethod
    def of(cls, segment: SegmentId, what: str, offset: int) -> RecordError:
        """The error that `what` is wrong at `offset` of `segment`."""
        error = cls(what, offset, f"segment {text(segment)}")
        error.segment = segment
        return error


class Segment:
    """One segment's bytes with checked access by record number and byte index."""

    __slots__ = ("_bulk", "_numbers", "_table", "data", "generation", "id", "records", "references")

    def __init__(self, segment: SegmentId, data: bytes) -> None:
        self.id = segment
        self.data = data
        self._bulk = is_bulk(segment)
        self._numbers: dict[int, int] | None = None
        try:
            self.generation, others = layout.inspect(segment, data)
        except FormatError as error:
            raise RecordError.of(segment, error.what, error.offset) from error
        self.references: tuple[SegmentId, ...] = (segment, *others)
        self._table = layout.HEADER_SIZE + layout.REFERENCE_SIZE * len(others)
        self.records = 0 if self._bulk else layout.parse_header(data).records

    def fault(self, what: str, at: int) -> RecordError:
        """The error that says `what` is wrong at byte `at` of this segment."""
        return RecordError.of(self.id, what, at)

    def locate(self, number: int, *types: int) -> int:
        """The byte index of record `number`, which must be of one of `types`."""
        if self._bulk:
            return self._check(layout.byte_index(number, len(self.data)), 1)
        at = self._entry(number)
        _, kind, address = _ENTRY.unpack_from(self.data, at)
        if kind not in types:
            raise self.fault(f"record {number} has type {kind}, not one of {types}", at + 4)
        return self._check(layout.byte_index(address, len(self.data)), 1)

    def _entry(self, number: int) -> int:
        """The byte index of the entry of record `number` in the table."""
        at = self._table + layout.RECORD_ENTRY_SIZE * number
        if number < self.records and self.u32(at) == number:
            return at
        # Oak numbers records without gaps, but its reader would accept some.
        if self._numbers is None:
            self._numbers = {r.number: i for i, r in enumerate(layout.records(self.data))}
        place = self._numbers.get(number)
        if place is None:
            raise self.fault(f"there is no record {number} among {self.records}", self._table)
        return self._table + layout.RECORD_ENTRY_SIZE * place

    def _check(self, at: int, size: int) -> int:
        if at < 0 or at + size > len(self.data):
            raise self.fault(f"{size} bytes at {at} lie outside of the segment", max(at, 0))
        return at

    def u32(self, at: int) -> int:
        """The 32-bit number at byte `at`."""
        value: int = _U32.unpack_from(self.data, self._check(at, 4))[0]
        return value

    def record_id(self, at: int) -> RecordId:
        """The record id at byte `at`."""
        reference, number = _ID.unpack_from(self.data, self._check(at, ID_SIZE))
        if reference >= len(self.references):
            raise self.fault(f"segment reference {reference} is not in the table", at)
        return RecordId(self.references[reference], number)

    def record_ids(self, at: int, count: int) -> list[RecordId]:
        """The `count` record ids from byte `at` on."""
        self._check(at, ID_SIZE * count)
        row = struct.unpack_from(">" + "HI" * count, self.data, at)
        references = self.references
        try:
            return [
                RecordId(references[reference], number)
                for reference, number in zip(row[::2], row[1::2], strict=True)
            ]
        except IndexError:
            return [self.record_id(at + ID_SIZE * each) for each in range(count)]

    def u32s(self, at: int, count: int) -> list[int]:
        """The `count` 32-bit numbers from byte `at` on."""
        return list(struct.unpack_from(f">{count}I", self.data, self._check(at, 4 * count)))

    def cut(self, at: int, size: int) -> bytes:
        """The `size` bytes from byte `at` on."""
        return bytes(self.data[self._check(at, size) : at + size])


class ValueHead(NamedTuple):
    """A VALUE taken apart: `data`, or the `length` of what the list `blocks` holds."""

    length: int
    data: bytes
    blocks: RecordId | None


class RecordReader:
    """Reads records by id from a source of segments, with bounded caches."""

    def __init__(
        self,
        source: SegmentSource,
        blobs: BlobStore | None = None,
        *,
        cached: int = CACHED_BYTES,
    ) -> None:
        """Reads from `source`; holds `cached` bytes of segments."""
        self._source = source
        self._limit = cached
        self.blobs = blobs
        """Where external binaries are, if that is known."""
        self._segments: OrderedDict[SegmentId, Segment] = OrderedDict()
        self._cached = 0
        self._strings: dict[RecordId, str] = {}
        self._templates: dict[RecordId, Template] = {}

    def segment(self, segment: SegmentId) -> Segment:
        """The parsed segment; raises SegmentMissingError or FormatError."""
        known = self._segments.get(segment)
        if known is not None:
            self._segments.move_to_end(segment)
            return known
        parsed = Segment(segment, self._source.read(segment))
        self._segments[segment] = parsed
        self._cached += len(parsed.data)
        while self._cached > self._limit and len(self._segments) > 1:
            _, oldest = self._segments.popitem(last=False)
            self._cached -= len(oldest.data)
        return parsed

    def generation(self, segment: SegmentId) -> Generation:
        """The generation that `segment` carries."""
        return self.segment(segment).generation

    def locate(self, record: RecordId, *types: int) -> tuple[Segment, int]:
        """The segment of `record`, and its byte index there."""
        segment = self.segment(record.segment)
        return segment, segment.locate(record.number, *types)

    # Values

    def string(self, record: RecordId) -> str:
        """The string stored as `record`; raises FormatError."""
        known = self._strings.get(record)
        if known is not None:
            return known
        raw = self.string_bytes(record)
        try:
            decoded = raw.decode()
        except UnicodeDecodeError as error:
            segment = self.segment(record.segment)
            raise segment.fault(f"string record {record.number} is not UTF-8", 0) from error
        if len(raw) < SMALL_LIMIT:
            if len(self._strings) >= CACHED_STRINGS:
                self._strings.clear()
            self._strings[record] = decoded
        return decoded

    def string_bytes(self, record: RecordId) -> bytes:
        """The UTF-8 bytes of the string stored as `record`; raises FormatError."""
        head = self.value(record)
        if head.blocks is None:
            return head.data
        if head.length > MAX_STRING:
            raise self.fault(record, f"a string of {head.length} bytes is too long for Oak")
        return b"".join(self.blocks(head.blocks, head.length))

    def blob(self, record: RecordId) -> StoredBlob | ExternalBlob:
        """The binary stored as `record`, without reading its bytes; raises FormatError."""
        segment, at = self.locate(record, layout.VALUE, layout.BLOB_ID)
        first = segment.data[at]
        if first < 0xE0:
            return StoredBlob(record, self._value(segment, at).length)
        if first < 0xF0:
            size = int.from_bytes(segment.cut(at, 2), "big") & 0x0FFF
            raw = segment.cut(at + 2, size)
        elif first < 0xF8:
            raw = self.string_bytes(segment.record_id(at + 1))
        else:
            raise segment.fault(f"no value starts with byte {first:#04x}", at)
        return ExternalBlob(record, raw.decode("utf-8", "replace"))

    def blob_pieces(self, blob: StoredBlob) -> Iterator[bytes]:
        """The bytes of `blob` in pieces of at most 16512 bytes; raises FormatError."""
        return self.blob_pieces_from(blob, 0)

    def blob_pieces_from(self, blob: StoredBlob, offset: int) -> Iterator[bytes]:
        """The bytes of `blob` from `offset` on; blocks that lie before it are not read."""
        head = self.value(blob.record)
        if head.blocks is None:
            yield head.data[offset:]
        elif offset < head.length:
            first, skipped = divmod(offset, BLOCK_SIZE)
            pieces = self.blocks(head.blocks, head.length, first)
            yield next(pieces)[skipped:]
            yield from pieces

    def value(self, record: RecordId) -> ValueHead:
        """The VALUE `record` taken apart; of a long value no block is read."""
        return self._value(*self.locate(record, layout.VALUE))

    def _value(self, segment: Segment, at: int) -> ValueHead:
        first = segment.data[at]
        if first < 0x80:
            return ValueHead(first, segment.cut(at + 1, first), None)
        if first < 0xC0:
            size = (int.from_bytes(segment.cut(at, 2), "big") & 0x3FFF) + SMALL_LIMIT
            return ValueHead(size, segment.cut(at + 2, size), None)
        if first < 0xE0:
            size = (int.from_bytes(segment.cut(at, 8), "big") & (1 << 61) - 1) + MEDIUM_LIMIT
            return ValueHead(size, b"", segment.record_id(at + 8))
        raise segment.fault(f"no value starts with byte {first:#04x}", at)

    def blocks(self, record: RecordId, length: int, start: int = 0) -> Iterator[bytes]:
        """The blocks of a long value of `length` bytes under the list `record`, from `start` on."""
        remaining = length - start * BLOCK_SIZE
        for block in self.list(record, -(-length // BLOCK_SIZE), start):
            size = min(remaining, BLOCK_SIZE)
            yield self.block(block, size)
            remaining -= size

    def block(self, record: RecordId, size: int) -> bytes:
        """The first `size` bytes of the block `record`; raises FormatError."""
        segment, at = self.locate(record, layout.BLOCK)
        return segment.cut(at, size)

    def block_ids(self, blob: StoredBlob) -> Iterator[RecordId]:
        """The blocks of `blob`, 4096 bytes each; none if its bytes stand in its own record."""
        head = self.value(blob.record)
        if head.blocks is None:
            return iter(())
        return self.list(head.blocks, -(-head.length // BLOCK_SIZE))

    def list(self, record: RecordId, count: int, start: int = 0) -> Iterator[RecordId]:
        """The `count` elements, at least one, of the list `record`; without the first `start`.

        What lies before `start` is not read.
        """
        if not 1 <= count <= MAX_LIST:
            raise self.fault(record, f"a list cannot have {count} elements")
        pending = [(record, count, start)] if start < count else []
        while pending:
            at, covered, skipped = pending.pop()
            if covered == 1:
                yield at
                continue
            below = 1
            while below * BUCKET_SIZE < covered:
                below *= BUCKET_SIZE
            segment, index = self.locate(at, layout.BUCKET)
            children = segment.record_ids(index, -(-covered // below))
            first = skipped // below
            if below == 1:
                yield from children[first:]
                continue
            sizes = [min(below, covered - below * i) for i in range(len(children))]
            skips = [max(0, skipped - below * i) for i in range(len(children))]
            rows = list(zip(children, sizes, skips, strict=True))
            pending.extend(reversed(rows[first:]))

    def fault(self, record: RecordId, what: str) -> RecordError:
        """The error that says `what` is wrong in `record`, with its place if that can be found."""
        segment = self.segment(record.segment)
        try:
            at = segment.locate(record.number, *range(len(layout.RECORD_TYPES)))
        except FormatError:
            at = 0
        return segment.fault(f"record {record.number}: {what}", at)

    # Properties and templates

    def property(self, record: RecordId, tag: int) -> Property:
        """The property of template tag `tag` whose value, or LIST of values, is `record`."""
        kind = self.property_type(record, tag)
        if tag > 0:
            return Property(kind, (self._property_value(record, kind),))
        _, elements = self.array(record)
        return Property(kind, tuple(self._property_value(each, kind) for each in elements), True)

    def array(self, record: RecordId) -> tuple[int, Iterator[RecordId]]:
        """How many values the LIST `record` has, and these; raises FormatError."""
        segment, at = self.locate(record, layout.LIST)
        count = segment.u32(at)
        return count, self.list(segment.record_id(at + 4), count) if count else iter(())

    def property_type(self, record: RecordId, tag: int) -> PropertyType:
        """The type of a template's `tag`; raises FormatError, told as a fault of `record`."""
        if abs(tag) not in PropertyType._value2member_map_:
            raise self.fault(record, f"there is no property type {tag}")
        return PropertyType(abs(tag))

    def _property_value(self, record: RecordId, kind: PropertyType) -> Value:
        return self.blob(record) if kind == PropertyType.BINARY else self.string(record)

    def template(self, record: RecordId) -> Template:
        """The template stored as `record`; raises FormatError."""
        known = self._templates.get(record)
        if known is not None:
            return known
        segment, at = self.locate(record, layout.TEMPLATE)
        parsed = self._template(segment, at)
        if len(self._templates) >= CACHED_TEMPLATES:
            self._templates.clear()
        self._templates[record] = parsed
        return parsed

    def _template(self, segment: Segment, at: int) -> Template:
        head = segment.u32(at)
        count = head & MAX_PROPERTIES
        single = not head & (NO_CHILDREN | MANY_CHILDREN)
        mixed = (head >> MIXIN_SHIFT & MAX_MIXINS) if head & HAS_MIXINS else 0
        parts = bool(head & HAS_PRIMARY) + mixed + single
        ids = iter(segment.record_ids(at + 4, parts + bool(count)))
        primary = self.string(next(ids)) if head & HAS_PRIMARY else None
        mixins = tuple(self.string(next(ids)) for _ in range(mixed))
        child = self.string(next(ids)) if single else None
        names = [self.string(each) for each in self.list(next(ids), count)] if count else []
        tags_at = at + 4 + ID_SIZE * (parts + bool(count))
        tags = struct.unpack(f">{count}b", segment.cut(tags_at, count))
        return Template(
            primary,
            mixins if head & HAS_MIXINS else None,
            child,
            bool(head & MANY_CHILDREN),
            tuple(zip(names, tags, strict=True)),
        )
