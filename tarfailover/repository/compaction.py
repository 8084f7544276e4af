"""Compaction: the whole of a head written anew, in segments of a new generation.

Every record that the head reaches, checkpoints included, is copied into new segments;
bulk segments are not copied, new lists name the same ones. Nodes keep their stable
ids. Afterwards nothing of the head needs the data segments of older generations, so
that a cleanup can drop them. Facts: storage format, sections 5 and 7.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tarfailover.errors import FormatError, NoHeadError
from tarfailover.format.segment import BLOB_ID, NODE, VALUE
from tarfailover.ids import Generation, RecordId, is_bulk
from tarfailover.repository.commit import CHECKPOINTS
from tarfailover.repository.maps import MapWriter
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import ListWriter, RecordWriter
from tarfailover.repository.records import (
    BLOCK_SIZE,
    MEDIUM_LIMIT,
    SMALL_LIMIT,
    Draft,
    block_draft,
    list_draft,
    long_value_draft,
    value_draft,
)
from tarfailover.repository.segment_writer import Clock, SegmentSink, SegmentWriter
from tarfailover.repository.values import ExternalBlob, PropertyType, StoredBlob

PROGRESS_EVERY = 1000
"""Nodes between two calls of a progress callback."""


class Random(Protocol):
    """Gives bytes for ids."""

    def __call__(self, size: int, /) -> bytes:
        """`size` bytes that nobody has seen before."""


class Compacted(NamedTuple):
    """What a compaction wrote."""

    head: RecordId
    generation: Generation
    nodes: int
    """Nodes that were copied; one that is reached by several paths counts once."""


def compact(
    sink: SegmentSink,
    random: Random,
    *,
    wid: str,
    now: Clock,
    progress: Callable[[int], None] | None = None,
) -> Compacted:
    """Write the head of `sink` anew in the next full generation, and make it the head.

    `wid` names the writer in the segments; `now` gives milliseconds since 1970;
    `progress` is called with the number of nodes copied so far. Memory: some 300 bytes
    for each node if there are checkpoints, and for each long binary.

    Raises NoHeadError, and SegmentMissingError or FormatError if something of the head
    cannot be read; then the head stays as it was.
    """
    if sink.head is None:
        raise NoHeadError("a store without a head cannot be compacted")
    old = RecordReader(sink)
    before = old.generation(sink.head.segment)
    generation = Generation(before.generation + 1, before.full + 1, True)
    segments = SegmentWriter(sink, random, wid=wid, now=now, generation=generation)
    copying = _Copying(old, segments, progress or (lambda _: None))
    head = copying.tree(NodeState(old, sink.head))
    segments.seal()
    sink.commit(head, now())
    return Compacted(head, generation, copying.nodes)


@dataclass
class _Frame:
    """A node on the way from the head to where the walk is."""

    name: str
    node: NodeState
    pending: Iterator[tuple[str, NodeState]]
    written: dict[str, RecordId] = field(default_factory=dict)


class _Copying:
    """Copies records from `old` into `segments`; each long value, and each shared node, once."""

    def __init__(
        self, old: RecordReader, segments: SegmentWriter, progress: Callable[[int], None]
    ) -> None:
        self.nodes = 0
        self._old = old
        self._segments = segments
        self._records = RecordWriter(segments)
        self._maps = MapWriter(RecordReader(segments), segments.write, self._records.string)
        self._progress = progress
        self._shared: dict[RecordId, RecordId] | None = None
        """The copies of nodes, if there may be more than one path to a node."""
        self._long: dict[RecordId, RecordId] = {}

    def tree(self, top: NodeState) -> RecordId:
        """The copy of `top` and of all below it, children first, without recursion."""
        if top.child_id(CHECKPOINTS) is not None:
            self._shared = {}
        frames = [_Frame("", top, top.children())]
        above = {top.id}
        while True:
            frame = frames[-1]
            name, child = next(frame.pending, ("", None))
            if child is not None:
                known = self._shared.get(child.id) if self._shared else None
                if known is not None:
                    frame.written[name] = known
                    continue
                if child.id in above:
                    raise FormatError("a node is its own ancestor", 0, f"record {child.id}")
                above.add(child.id)
                frames.append(_Frame(name, child, child.children()))
                continue
            record = self._node(frame.node, frame.written)
            above.discard(frame.node.id)
            frames.pop()
            if not frames:
                return record
            frames[-1].written[frame.name] = record

    def _node(self, node: NodeState, children: dict[str, RecordId]) -> RecordId:
        template = node.template
        stable = node.stable_id
        spelled = stable.segment + stable.number.to_bytes(4, "big")
        ids = [self._segments.write(block_draft(spelled)), self._records.template(template)]
        if template.many:
            ids.append(self._maps.create(children))
        else:
            ids += children.values()
        values = [
            self._property(record, tag)
            for (_, tag), record in zip(template.properties, node.value_records(), strict=True)
        ]
        if values:
            ids.append(self._records.list(values))
        record = self._segments.write(Draft(NODE, b"", ids))
        if self._shared is not None:
            self._shared[node.id] = record
        self.nodes += 1
        if self.nodes % PROGRESS_EVERY == 0:
            self._progress(self.nodes)
        return record

    # values

    def _property(self, record: RecordId, tag: int) -> RecordId:
        kind = self._old.property_type(record, tag)
        if tag > 0:
            return self._value(record, kind)
        count, elements = self._old.array(record)
        if not count:
            return self._segments.write(list_draft(0, None))
        copies = ListWriter(self._segments)
        for element in elements:
            copies.add(self._value(element, kind))
        return self._segments.write(list_draft(count, copies.finish()))

    def _value(self, record: RecordId, kind: PropertyType) -> RecordId:
        if kind != PropertyType.BINARY:
            self._old.locate(record, VALUE)
        found = self._old.blob(record)
        if isinstance(found, ExternalBlob):
            return self._external(record)
        if found.length < SMALL_LIMIT and kind != PropertyType.BINARY:
            # Short strings repeat: they are written once for many nodes.
            return self._records.string(self._old.string(record))
        if found.length < MEDIUM_LIMIT:
            return self._segments.write(value_draft(b"".join(self._old.blob_pieces(found))))
        return self._long_value(found)

    def _long_value(self, found: StoredBlob) -> RecordId:
        known = self._long.get(found.record)
        if known is not None:
            return known
        blocks = ListWriter(self._segments)
        left = found.length
        for block in self._old.block_ids(found):
            size = min(left, BLOCK_SIZE)
            left -= size
            blocks.add(block if is_bulk(block.segment) else self._block(block, size))
        copy = self._segments.write(long_value_draft(found.length, blocks.finish()))
        self._long[found.record] = copy
        return copy

    def _block(self, record: RecordId, size: int) -> RecordId:
        return self._segments.write(block_draft(self._old.block(record, size)))

    def _external(self, record: RecordId) -> RecordId:
        """The name of a binary in a blob store; a long one is a string of its own."""
        segment, at = self._old.locate(record, BLOB_ID)
        first = segment.data[at]
        if first < 0xF0:
            size = int.from_bytes(segment.cut(at, 2), "big") & 0x0FFF
            return self._segments.write(Draft(BLOB_ID, segment.cut(at, 2 + size)))
        name = self._value(segment.record_id(at + 1), PropertyType.STRING)
        return self._segments.write(Draft(BLOB_ID, bytes([first]), (name,)))
