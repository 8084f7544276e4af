"""Copies trees from record to record: for a compaction, or from elsewhere into a commit.

Nodes keep their stable ids. A copy may keep records as they are that lie in segments which
it is told of: then only what is not there is written, and of a wide node only the branches
of its map that lead to that. Nothing recurses over the depth of a tree. Facts: storage
format, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tarfailover.errors import FormatError
from tarfailover.format.segment import BLOB_ID, NODE, VALUE
from tarfailover.ids import RecordId, SegmentId, is_bulk
from tarfailover.repository import maps
from tarfailover.repository.commit import CHECKPOINTS
from tarfailover.repository.hashes import map_bucket
from tarfailover.repository.maps import Branch, Diff, Leaf, MapWriter
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import ListWriter, RecordWriter
from tarfailover.repository.records import (
    BLOCK_SIZE,
    MEDIUM_LIMIT,
    SMALL_LIMIT,
    Draft,
    block_draft,
    branch_draft,
    leaf_draft,
    list_draft,
    long_value_draft,
    value_draft,
)
from tarfailover.repository.values import ExternalBlob, PropertyType, StoredBlob

PROGRESS_EVERY = 1000
"""Nodes between two calls of a progress callback."""


class Segments(Protocol):
    """A set of segments."""

    def __contains__(self, segment: SegmentId, /) -> bool:
        """Whether `segment` is one of them."""


@dataclass
class _Frame:
    """A node on the way from the top to where the walk is."""

    name: str
    node: NodeState
    pending: Iterator[tuple[str, RecordId]]
    written: dict[str, RecordId] = field(default_factory=dict)


class Copying:
    """Copies records of `old` with `records`; each long value, and each shared node, once."""

    def __init__(
        self,
        old: RecordReader,
        records: RecordWriter,
        keep: Segments = frozenset(),
        *,
        bring: Callable[[SegmentId], None] = lambda _: None,
        take: Callable[[ExternalBlob], RecordId | None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`keep`: segments whose records need no copy, nor all that these refer to.

        `bring` is told of bulk segments before they are referred to; `take` may give the
        record of a copy of an external binary, of which only the name is copied otherwise;
        `progress` is told of the number of nodes copied, now and then.
        """
        self.nodes = 0
        self._old = old
        self._segments = records.segments
        self._records = records
        self._keep = keep
        self._bring = bring
        self._take = take
        self._maps = MapWriter(
            RecordReader(records.segments), records.segments.write, records.string
        )
        self._progress = progress
        self._shared: dict[RecordId, RecordId] | None = None
        """The copies of nodes, if there may be more than one path to a node."""
        self._long: dict[RecordId, RecordId] = {}

    def tree(self, top: NodeState) -> RecordId:
        """The copy of `top` and of all below it, children first.

        Raises FormatError, SegmentMissingError or DamagedStoreError for what cannot be read.
        """
        if self._kept(top.id):
            return top.id
        if top.child_id(CHECKPOINTS) is not None:
            self._shared = {}
        frames = [_Frame("", top, self._open_children(top))]
        above = {top.id}
        while True:
            frame = frames[-1]
            name, child = next(frame.pending, ("", None))
            if child is not None:
                known = child if self._kept(child) else (self._shared or {}).get(child)
                if known is not None:
                    frame.written[name] = known
                    continue
                if child in above:
                    raise FormatError("a node is its own ancestor", 0, f"record {child}")
                above.add(child)
                node = NodeState(top.reader, child)
                frames.append(_Frame(name, node, self._open_children(node)))
                continue
            record = self._node(frame.node, frame.written)
            above.discard(frame.node.id)
            frames.pop()
            if not frames:
                return record
            frames[-1].written[frame.name] = record

    def _kept(self, record: RecordId) -> bool:
        return record.segment in self._keep

    def _node(self, node: NodeState, children: dict[str, RecordId]) -> RecordId:
        template = node.template
        ids = [self._stable(node)]
        ids.append(
            node.template_id if self._kept(node.template_id) else self._records.template(template)
        )
        if template.many and node.child_record is not None:
            ids.append(self._map(node.child_record, children))
        else:
            ids += children.values()
        if node.values_record is not None:
            ids.append(self._values(node, node.values_record))
        record = self._segments.write(Draft(NODE, b"", ids))
        if self._shared is not None:
            self._shared[node.id] = record
        self.nodes += 1
        if self.nodes % PROGRESS_EVERY == 0:
            self._progress(self.nodes)
        return record

    def _stable(self, node: NodeState) -> RecordId:
        spelled = node.stable_record
        if spelled != node.id and self._kept(spelled):
            return spelled
        stable = node.stable_id
        return self._segments.write(block_draft(stable.segment + stable.number.to_bytes(4, "big")))

    # children

    def _open_children(self, node: NodeState) -> Iterator[tuple[str, RecordId]]:
        """Those that stand in records which are not kept, with their nodes."""
        record = node.child_record
        if record is None:
            return iter(())
        if node.template.child is not None:
            return iter(((node.template.child, record),))
        top, base, diffs = maps.flatten(self._old, record)
        return iter(()) if self._kept(record) else self._open_entries(top, base, diffs)

    def _open_entries(
        self, record: RecordId, part: Leaf | Branch, diffs: dict[str, Diff]
    ) -> Iterator[tuple[str, RecordId]]:
        """Recursion ends at level 7."""
        kept = self._kept(record)
        if kept and not diffs:
            return
        if isinstance(part, Branch):
            for place, sub in part.buckets.items():
                below = maps.below(self._old, sub, part.level)
                yield from self._open_entries(sub, below, _of_bucket(diffs, part.level, place))
            return
        for key, value in zip(part.keys, part.values, strict=True):
            name = self._old.string(key)
            if name in diffs:
                yield name, diffs[name].value
            elif not kept:
                yield name, value

    def _map(self, record: RecordId, written: dict[str, RecordId]) -> RecordId:
        """The map of the copies `written`; branches and leaves that are kept stay as they are."""
        if self._kept(record):
            return record
        top, base, diffs = maps.flatten(self._old, record)
        if self._kept(top):
            return self._maps.change(top, {name: written[name] for name in diffs})
        return self._sub_map(top, base, diffs, written)

    def _sub_map(
        self,
        record: RecordId,
        part: Leaf | Branch,
        diffs: dict[str, Diff],
        written: dict[str, RecordId],
    ) -> RecordId:
        """Recursion ends at level 7."""
        if self._kept(record) and not diffs:
            return record
        if isinstance(part, Branch):
            buckets = {}
            for place, sub in part.buckets.items():
                below = maps.below(self._old, sub, part.level)
                inside = _of_bucket(diffs, part.level, place)
                buckets[place] = self._sub_map(sub, below, inside, written)
            return self._segments.write(branch_draft(part.level, part.size, buckets))
        entries = []
        for hashed, key, value in zip(part.hashes, part.keys, part.values, strict=True):
            name = self._old.string(key)
            copied = key if self._kept(key) else self._records.string(name)
            entries.append((hashed, copied, written.get(name, value)))
        return self._segments.write(leaf_draft(part.level, entries))

    # values

    def _values(self, node: NodeState, record: RecordId) -> RecordId:
        if self._kept(record):
            return record
        pairs = zip(node.template.properties, node.value_records(), strict=True)
        return self._records.list([self._property(value, tag) for (_, tag), value in pairs])

    def _property(self, record: RecordId, tag: int) -> RecordId:
        kind = self._old.property_type(record, tag)
        if tag > 0 or self._kept(record):
            return self._value(record, kind)
        count, elements = self._old.array(record)
        if not count:
            return self._segments.write(list_draft(0, None))
        copies = ListWriter(self._segments)
        for element in elements:
            copies.add(self._value(element, kind))
        return self._segments.write(list_draft(count, copies.finish()))

    def _value(self, record: RecordId, kind: PropertyType) -> RecordId:
        if self._kept(record):
            return record
        if kind != PropertyType.BINARY:
            self._old.locate(record, VALUE)
        found = self._old.blob(record)
        if isinstance(found, ExternalBlob):
            return self._take(found) or self._external(record)
        if found.length < SMALL_LIMIT and kind != PropertyType.BINARY:
            # Short strings repeat: they are written once for many nodes.
            return self._records.string(self._old.string(record))
        if found.length < MEDIUM_LIMIT:
            return self._segments.write(value_draft(b"".join(self._old.blob_pieces(found))))
        return self._long_value(found)

    def blob(self, blob: StoredBlob | ExternalBlob) -> RecordId:
        """The copy of one binary."""
        return self._value(blob.record, PropertyType.BINARY)

    def _long_value(self, found: StoredBlob) -> RecordId:
        known = self._long.get(found.record)
        if known is not None:
            return known
        blocks = ListWriter(self._segments)
        left = found.length
        for block in self._old.block_ids(found):
            size = min(left, BLOCK_SIZE)
            left -= size
            blocks.add(self._block(block, size))
        copy = self._segments.write(long_value_draft(found.length, blocks.finish()))
        self._long[found.record] = copy
        return copy

    def _block(self, record: RecordId, size: int) -> RecordId:
        if is_bulk(record.segment):
            self._bring(record.segment)
            return record
        if self._kept(record):
            return record
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


def _of_bucket(diffs: dict[str, Diff], level: int, place: int) -> dict[str, Diff]:
    """Those of `diffs` whose names belong into one bucket of a branch."""
    if not diffs:
        return diffs
    return {name: diff for name, diff in diffs.items() if map_bucket(diff.hash, level) == place}
