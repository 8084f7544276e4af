"""What differs between two trees: descends only where records differ.

Commits share every record that they do not change, and compaction keeps the stable id of
what it copies; so the cost grows with the change and not with the repository. Across a
compaction the records above a change are all new: then it grows with the number of
children of the nodes on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tarfailover.errors import FormatError
from tarfailover.ids import RecordId
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.mapdiff import Differing, Side, differing
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.records import BLOCK_SIZE, MEDIUM_LIMIT
from tarfailover.repository.tree import Node, NodeProperty
from tarfailover.repository.values import ExternalBlob, Property, StoredBlob, Value

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Change:
    """One difference: a node that is on one side only, or a property of one that is on both."""

    before: Node | None
    """The node on the old side; None if it was added."""
    after: Node | None
    """The node on the new side; None if it was removed, with all below it."""
    name: str | None = None
    """The property that differs, None if the node itself does."""
    old: NodeProperty | None = None
    new: NodeProperty | None = None

    @property
    def kind(self) -> Kind:
        """Whether the node, or the property, was added, removed or changed."""
        sides = (self.before, self.after) if self.name is None else (self.old, self.new)
        if sides[0] is None:
            return "added"
        return "removed" if sides[1] is None else "changed"

    @property
    def node(self) -> Node:
        """The node, on the new side if it is there."""
        node = self.after or self.before
        if node is None:
            raise AssertionError("a change is on one side at least")
        return node


def same(one: NodeState, other: NodeState) -> bool:
    """Whether two nodes are known to be equal, with all below, without looking below."""
    return one.id == other.id or one.stable_id == other.stable_id


def diff(before: Node | None, after: Node | None) -> Iterator[Change]:
    """The differences between two trees: per node its properties, then its children by name.

    What is below an added or a removed node is part of that one change. Raises FormatError,
    SegmentMissingError or DamagedStoreError for a damaged tree.
    """
    pending: list[tuple[tuple[RecordId, ...], Iterator[_Pair]]] = [((), iter(((before, after),)))]
    above: set[tuple[RecordId, ...]] = set()
    while pending:
        ids, pairs = pending[-1]
        pair = next(pairs, None)
        if pair is None:
            pending.pop()
            above.discard(ids)
            continue
        old, new = pair
        if old is None or new is None:
            if old is not new:
                yield Change(old, new)
        elif not same(old.state, new.state):
            entered = (old.record, new.record)
            if entered in above:
                raise FormatError("a node is its own ancestor", 0, f"record {new.record}")
            above.add(entered)
            yield from own_properties(old, new)
            pending.append((entered, _children(old, new)))


_Pair = tuple[Node | None, Node | None]


def _children(old: Node, new: Node) -> Iterator[_Pair]:
    """The children whose records differ, by name."""
    found = sorted(children_differing(old.state, new.state), key=lambda each: utf16_key(each.name))
    for name, before, after in found:
        yield (
            None if before is None else old.below(name, before),
            None if after is None else new.below(name, after),
        )


def children_differing(old: NodeState, new: NodeState) -> Iterator[Differing]:
    """The names of children whose records differ, in no order that means anything."""
    one, other = old.child_record, new.child_record
    if one is not None and other is not None and old.template.many and new.template.many:
        if one != other:
            yield from differing(Side(old.reader, one), Side(new.reader, other))
        return
    left = dict(old.child_ids())
    for name, record in new.child_ids():
        known = left.pop(name, None)
        if known != record:
            yield Differing(name, known, record)
    for name, record in left.items():
        yield Differing(name, record, None)


def own_properties(old: Node, new: Node) -> Iterator[Change]:
    """The differences between the properties of two nodes alone, by name."""
    if (old.state.template_id, old.state.values_record) == (
        new.state.template_id,
        new.state.values_record,
    ):
        return
    before, after = old.properties, new.properties
    for name in sorted({*before, *after}, key=utf16_key):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or not _equal(one, other):
            yield Change(old, new, name, one, other)


def _equal(one: NodeProperty, other: NodeProperty) -> bool:
    if (one.type, one.array) != (other.type, other.array):
        return False
    if one.value_record is not None and one.value_record == other.value_record:
        return True
    return equal_values(one.reader, one.stored, other.reader, other.stored)


def equal_values(one: RecordReader, old: Property, other: RecordReader, new: Property) -> bool:
    """Whether two properties of one type have equal values; binaries are compared by bytes."""
    if len(old.values) != len(new.values):
        return False
    pairs = zip(old.values, new.values, strict=True)
    return all(_equal_value(one, before, other, after) for before, after in pairs)


def _equal_value(one: RecordReader, old: Value, other: RecordReader, new: Value) -> bool:
    if isinstance(old, StoredBlob) and isinstance(new, StoredBlob):
        return old.record == new.record or _equal_bytes(one, old, other, new)
    if isinstance(old, ExternalBlob) and isinstance(new, ExternalBlob):
        return old.blob_id == new.blob_id
    if isinstance(old, bytes) and isinstance(new, StoredBlob):
        return len(old) == new.length and old == b"".join(other.blob_pieces(new))
    return old == new


def _equal_bytes(one: RecordReader, old: StoredBlob, other: RecordReader, new: StoredBlob) -> bool:
    """Whether two binaries are equal; blocks that both share are not read."""
    if old.length != new.length:
        return False
    if old.length < MEDIUM_LIMIT:
        return list(one.blob_pieces(old)) == list(other.blob_pieces(new))
    left = old.length
    for before, after in zip(one.block_ids(old), other.block_ids(new), strict=True):
        size = min(left, BLOCK_SIZE)
        if before != after and one.block(before, size) != other.block(after, size):
            return False
        left -= size
    return True
