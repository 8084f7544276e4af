"""Writes strings, binaries, lists, properties, templates and nodes as records.

Facts: storage format, sections 5.1 to 5.8.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from tarfailover.errors import ConfigError, ContentError
from tarfailover.format.segment import BLOB_ID, MAX_SEGMENT
from tarfailover.ids import RecordId, SegmentId
from tarfailover.repository.records import (
    BLOCK_SIZE,
    BUCKET_SIZE,
    MAX_LIST,
    MEDIUM_LIMIT,
    SMALL_LIMIT,
    Draft,
    Template,
    block_draft,
    bucket_draft,
    list_draft,
    long_value_draft,
    node_draft,
    template_draft,
    value_draft,
)
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.values import ExternalBlob, Property, StoredBlob, Value
from tarfailover.store.blobs import Adder, BlobStore, add

CACHED_STRINGS = 32768
CACHED_TEMPLATES = 8192

MAX_SHORT_ID = 4095
"""Bytes of a blob id that stands in its own record; a longer one is a string."""

_UNGUARDED = nullcontext()


class Readable(Protocol):
    """A binary to be stored: an open file, or anything else with its `read`."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none only at the end."""


class Outside(NamedTuple):
    """Where binaries go that are not to lie in segments."""

    store: BlobStore
    random: Callable[[int], bytes]
    """Gives so many bytes, for names of files that are on their way."""
    smallest: int = MEDIUM_LIMIT
    """Bytes from which on a binary goes there: 16512 as in Oak, up to 262144."""
    deferred: bool = False
    """Whether one thread adds many, to be made durable together: see `RecordWriter.settle`."""


class ListWriter:
    """Turns a row of ids of any length into one id, holding only 255 per level.

    Groups of 255 become BUCKET records, a last group of one stays the element itself.
    """

    def __init__(self, segments: SegmentWriter) -> None:
        self._segments = segments
        self._levels: list[list[RecordId]] = [[]]
        self.count = 0

    def add(self, record: RecordId) -> None:
        """Append one element; raises ContentError beyond 255³."""
        self.count += 1
        if self.count > MAX_LIST:
            raise ContentError(f"a list cannot have more than {MAX_LIST} elements")
        level = 0
        self._levels[0].append(record)
        while len(self._levels[level]) == BUCKET_SIZE:
            self._close(level)
            level += 1

    def finish(self) -> RecordId:
        """The id of the list; raises ContentError if it has no element."""
        if not self.count:
            raise ContentError("a list of no elements has no record")
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close(level)
            level += 1
        return self._levels[level][0]

    def _close(self, level: int) -> None:
        group, self._levels[level] = self._levels[level], []
        if level + 1 == len(self._levels):
            self._levels.append([])
        bucket = group[0] if len(group) == 1 else self._segments.write(bucket_draft(group))
        self._levels[level + 1].append(bucket)


class RecordWriter:
    """Writes values and node parts; short strings and templates are written once."""

    def __init__(self, segments: SegmentWriter, outside: Outside | None = None) -> None:
        if outside is not None and not MEDIUM_LIMIT <= outside.smallest <= MAX_SEGMENT:
            raise ConfigError(
                f"binaries can go to a blob store from {MEDIUM_LIMIT} to {MAX_SEGMENT} bytes on, "
                f"not from {outside.smallest}"
            )
        self.segments = segments
        self._outside = outside
        self._adder: Adder | None = None
        if outside is not None and outside.deferred:
            self._adder = Adder(outside.store, outside.random)
        self._strings: dict[str, RecordId] = {}
        self._templates: dict[Template, RecordId] = {}

    def string(self, text: str) -> RecordId:
        """A string's VALUE record; raises ContentError for what UTF-8 cannot spell."""
        known = self._strings.get(text)
        if known is not None:
            return known
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise ContentError(f"{text!r:.80} has a lone surrogate: {error.reason}") from error
        if len(data) >= SMALL_LIMIT:
            return self._long_string(data)
        if len(self._strings) >= CACHED_STRINGS:
            self._strings.clear()
        record = self._strings[text] = self.segments.write(value_draft(data))
        return record

    def _long_string(self, data: bytes) -> RecordId:
        if len(data) < MEDIUM_LIMIT:
            return self.segments.write(value_draft(data))
        blocks = ListWriter(self.segments)
        bulk_end = len(data) // MAX_SEGMENT * MAX_SEGMENT
        for start in range(0, bulk_end, MAX_SEGMENT):
            segment = self.segments.bulk(data[start : start + MAX_SEGMENT])
            _add_blocks(segment, MAX_SEGMENT, blocks)
        for start in range(bulk_end, len(data), BLOCK_SIZE):
            blocks.add(self.segments.write(block_draft(data[start : start + BLOCK_SIZE])))
        return self.segments.write(long_value_draft(len(data), blocks.finish()))

    def blob(
        self, source: bytes | Readable, guard: AbstractContextManager[object] = _UNGUARDED
    ) -> StoredBlob | ExternalBlob:
        """Store a binary: inline below 16512 bytes, else in bulk segments, piece by piece.

        With a place outside it goes there, durably, if it has as many bytes as that wants.
        `guard` is entered for each record, and not while `source` is read.
        """
        if isinstance(source, bytes):
            return self._blob(io.BytesIO(source).read, guard)
        return self._blob(source.read, guard)

    def _blob(
        self, read: Callable[[int], bytes], guard: AbstractContextManager[object]
    ) -> StoredBlob | ExternalBlob:
        piece = read_fully(read, MAX_SEGMENT)
        if self._outside is not None and len(piece) >= self._outside.smallest:
            rest = _Rest(piece, read)
            if self._adder is not None:
                blob_id = self._adder.add(rest.read).text
            else:
                blob_id = add(self._outside.store, rest.read, self._outside.random).text
            with guard:
                return self.external(blob_id)
        if len(piece) < MEDIUM_LIMIT:
            with guard:
                return StoredBlob(self.segments.write(value_draft(piece)), len(piece))
        blocks = ListWriter(self.segments)
        length = 0
        while piece:
            length += len(piece)
            segment = self.segments.bulk(piece)
            with guard:
                _add_blocks(segment, len(piece), blocks)
            piece = read_fully(read, MAX_SEGMENT) if len(piece) == MAX_SEGMENT else b""
        with guard:
            draft = long_value_draft(length, blocks.finish())
            return StoredBlob(self.segments.write(draft), length)

    def external(self, blob_id: str) -> ExternalBlob:
        """Store the name of a binary that lies in a blob store."""
        raw = blob_id.encode()
        if len(raw) <= MAX_SHORT_ID:
            draft = Draft(BLOB_ID, (0xE000 | len(raw)).to_bytes(2, "big") + raw)
        else:
            draft = Draft(BLOB_ID, b"\xf0", (self.string(blob_id),))
        return ExternalBlob(self.segments.write(draft), blob_id)

    def settle(self) -> None:
        """Make binaries that went outside durable and visible; raises StoreIOError."""
        if self._adder is not None:
            self._adder.settle()

    def close(self) -> None:
        """Forget binaries outside that were not settled."""
        if self._adder is not None:
            self._adder.close()

    def list(self, records: Iterable[RecordId]) -> RecordId:
        """The id of the list of `records`, at least one."""
        if isinstance(records, list) and 0 < len(records) <= BUCKET_SIZE:
            return self.segments.write(bucket_draft(records)) if records[1:] else records[0]
        row = ListWriter(self.segments)
        for record in records:
            row.add(record)
        return row.finish()

    def value(self, value: Value) -> RecordId:
        """The record of one property value; a stored binary keeps its record."""
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, bytes):
            return self.blob(value).record
        return value.record

    def property(self, prop: Property) -> RecordId:
        """What a node's list of values names for `prop`: the value, or a LIST of values."""
        if not prop.array:
            [value] = prop.values
            return self.string(value) if isinstance(value, str) else self.value(value)
        if not prop.values:
            return self.segments.write(list_draft(0, None))
        elements = self.list([self.value(value) for value in prop.values])
        return self.segments.write(list_draft(len(prop.values), elements))

    def template(self, template: Template) -> RecordId:
        """The TEMPLATE record of `template`."""
        known = self._templates.get(template)
        if known is not None:
            return known
        ids = [] if template.primary is None else [self.string(template.primary)]
        ids.extend(self.string(mixin) for mixin in template.mixins or ())
        if template.child is not None:
            ids.append(self.string(template.child))
        if template.properties:
            ids.append(self.list([self.string(name) for name, _ in template.properties]))
        if len(self._templates) >= CACHED_TEMPLATES:
            self._templates.clear()
        record = self._templates[template] = self.segments.write(template_draft(template, ids))
        return record

    def learn_template(self, template: Template, record: RecordId) -> None:
        """Use the stored `record` wherever `template` is to be written from now on."""
        self._templates.setdefault(template, record)

    def node(
        self, template: RecordId, children: RecordId | None, values: RecordId | None
    ) -> RecordId:
        """A NODE record; `children` is its map or its only child, `values` a list."""
        return self.segments.write(node_draft(template, children, values))


class _Rest:
    """A source of which the first piece was read already."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self._first = first
        self._read = read

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""
        if not self._first:
            return self._read(size)
        taken, self._first = self._first[:size], self._first[size:]
        return taken


def _add_blocks(segment: SegmentId, length: int, blocks: ListWriter) -> None:
    for address in range(MAX_SEGMENT - length, MAX_SEGMENT, BLOCK_SIZE):
        blocks.add(RecordId(segment, address))


def read_fully(read: Callable[[int], bytes], size: int) -> bytes:
    """`size` bytes, less only if `read` has no more."""
    piece = read(size)
    if len(piece) in (0, size):
        return piece
    pieces = [piece]
    missing = size - len(piece)
    while missing and piece:
        piece = read(missing)
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
