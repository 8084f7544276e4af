"""A store in a dictionary that refuses what a directory would, and trees as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tarfailover.errors import SegmentMissingError
from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, SegmentId, is_data, parse
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.values import Property, PropertyType, StoredBlob


class MemorySink:
    """Segments in order of writing; raises where rule 3, 4 or 5 for a writer is broken."""

    def __init__(self) -> None:
        self.segments: dict[SegmentId, bytes] = {}
        self.journal: list[tuple[RecordId, int]] = []

    @property
    def head(self) -> RecordId | None:
        return self.journal[-1][0] if self.journal else None

    def contains(self, segment: SegmentId) -> bool:
        return segment in self.segments

    def append(self, segment: SegmentId, data: bytes) -> None:
        assert segment not in self.segments
        _, references = layout.inspect(segment, data)
        for each in references:
            if each not in self.segments:
                raise SegmentMissingError(f"{segment.hex()} before its reference {each.hex()}")
        assert len(set(references)) == len(references) and segment not in references
        if is_data(segment):
            layout.check_records(data)
            check_layout(data)
        self.segments[segment] = data

    def read(self, segment: SegmentId) -> bytes:
        if segment not in self.segments:
            raise SegmentMissingError(f"segment {segment.hex()} was never appended")
        return self.segments[segment]

    def commit(self, head: RecordId, time_ms: int) -> None:
        assert head.segment == list(self.segments)[-1], "the head's segment is the last one"
        types = {each.number: each.type for each in layout.records(self.read(head.segment))}
        assert types[head.number] == layout.NODE
        self.journal.append((head, time_ms))

    def node(self, record: RecordId | None = None) -> NodeState:
        wanted = record or self.head
        assert wanted is not None
        return NodeState(RecordReader(self), wanted)


def check_layout(data: bytes) -> None:
    """What section 4 says of filler and packing: no gap between records but alignment."""
    header = layout.parse_header(data)
    entries = list(layout.records(data))
    lowest = layout.byte_index(entries[-1].address, len(data))
    filler = lowest - header.tables_end
    assert not any(data[header.tables_end : lowest])
    assert 0 <= filler < (32 if len(data) == layout.MAX_SEGMENT else 16)
    assert entries[0].type == layout.VALUE


def record_types(sink: MemorySink) -> dict[int, int]:
    """How many records of each type the data segments hold."""
    counted: dict[int, int] = {}
    for segment, data in sink.segments.items():
        for record in layout.records(data) if is_data(segment) else ():
            counted[record.type] = counted.get(record.type, 0) + 1
    return counted


_ENTRY = re.compile(rb"([0-9a-f-]{36})\.[0-9a-f]{8}")


def scan(store: Path) -> MemorySink:
    """The segments of a directory's tars, by a walk over their headers, and its head."""
    sink = MemorySink()
    for tar in sorted(store.glob("*.tar")):
        data, at = tar.read_bytes(), 0
        while data[at : at + 512].strip(b"\0"):
            size = int(data[at + 124 : at + 135], 8)
            name = _ENTRY.fullmatch(data[at : at + 100].rstrip(b"\0"))
            if name:
                sink.segments[parse(name[1].decode())] = data[at + 512 : at + 512 + size]
            at += 512 + -(-size // 512) * 512
    last = (store / "journal.log").read_text().splitlines()[-1]
    sink.journal.append((RecordId.parse(last.split()[0]), 0))
    return sink


# Trees as plain values


@dataclass
class Model:
    """A node as a value: properties by name, binaries as their bytes."""

    properties: dict[str, Property] = field(default_factory=dict)
    children: dict[str, Model] = field(default_factory=dict)


def model_of(state: NodeState) -> Model:
    """All that is stored below `state`, without recursion."""
    top = Model()
    pending = [(state, top)]
    while pending:
        node, model = pending.pop()
        model.properties = {name: _loaded(node, prop) for name, prop in node.properties()}
        for name, child in node.children():
            assert name not in model.children
            model.children[name] = Model()
            pending.append((child, model.children[name]))
        assert node.child_count() == len(model.children)
    return top


def _loaded(node: NodeState, prop: Property) -> Property:
    values = tuple(
        b"".join(node.reader.blob_pieces(each)) if isinstance(each, StoredBlob) else each
        for each in prop.values
    )
    return Property(prop.type, values, prop.array)


def build(model: Model, builder: NodeBuilder) -> None:
    """Give `builder` everything that `model` has."""
    pending = [(model, builder)]
    while pending:
        part, into = pending.pop()
        for name, prop in part.properties.items():
            into.set(name, prop)
        for name, child in part.children.items():
            pending.append((child, into.child(name)))


class TwoWaysError(Exception):
    """Two trees changed the same in different ways."""


def merged_models(base: Model | None, ours: Model | None, theirs: Model | None) -> Model | None:
    """The merge of three plain trees, by the book."""
    if ours in (base, theirs):
        return theirs
    if theirs == base:
        return ours
    if ours is None or theirs is None:
        raise TwoWaysError
    before = base or Model()
    found = Model()
    for name in {*before.properties, *ours.properties, *theirs.properties}:
        three = [each.properties.get(name) for each in (before, ours, theirs)]
        if three[0] not in three[1:] and three[1] != three[2]:
            raise TwoWaysError
        kept = three[2] if three[1] == three[0] else three[1]
        if kept is not None:
            found.properties[name] = kept
    for name in {*before.children, *ours.children, *theirs.children}:
        below = merged_models(*(each.children.get(name) for each in (before, ours, theirs)))
        if below is not None:
            found.children[name] = below
    return found


# Strategies

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COLLIDING = st.sampled_from(["AaAa", "AaBB", "BBAa", "BBBB", "jcr:content", "a", "b", "é😀"])
NAMES = COLLIDING | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)

_SIZES = st.sampled_from([0, 1, 127, 128, 129, 16511, 16512, 16513, 20480, 262143, 262144, 270000])


def _properties(kind: PropertyType) -> st.SearchStrategy[Property]:
    values: st.SearchStrategy[Any]
    if kind == PropertyType.BINARY:
        values = st.binary(max_size=300) | _SIZES.map(lambda size: bytes([size % 251]) * size)
    else:
        values = TEXT | _SIZES.map(lambda size: "ä" * (size // 2) + "x" * (size % 2))
    single = values.map(lambda value: Property(kind, (value,)))
    several = st.lists(values, max_size=3).map(lambda many: Property(kind, tuple(many), True))
    return single | several


PROPERTIES = st.sampled_from(list(PropertyType)).flatmap(_properties)
PROPERTY_NAMES = NAMES | st.sampled_from(["jcr:primaryType", "jcr:mixinTypes"])
SMALL_PROPERTIES = st.sampled_from(list(PropertyType)[2:]).flatmap(
    lambda kind: TEXT.map(lambda text: Property(kind, (text,)))
)


def models(properties: st.SearchStrategy[Property] = PROPERTIES) -> st.SearchStrategy[Model]:
    """Trees of a few nodes, deep or wide."""
    leaf = st.builds(Model, st.dictionaries(PROPERTY_NAMES, properties, max_size=3))
    return st.recursive(
        leaf,
        lambda below: st.builds(
            Model,
            st.dictionaries(PROPERTY_NAMES, properties, max_size=2),
            st.dictionaries(NAMES, below, max_size=5),
        ),
        max_leaves=12,
    )
