"""Reads nodes: what the journal's head names, and all that is below it, on demand.

No walk here recurses over the depth of a tree. Facts: storage format, sections 5.7,
5.8 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.format.segment import BLOCK, NODE
from tarfailover.ids import RecordId
from tarfailover.repository import maps
from tarfailover.repository.reader import RecordReader, Segment
from tarfailover.repository.records import ID_SIZE, Template
from tarfailover.repository.values import Property

PRIMARY_TYPE = "jcr:primaryType"
MIXIN_TYPES = "jcr:mixinTypes"

STABLE_ID_SIZE = 20


class _Parts(NamedTuple):
    """A NODE record taken apart; see the properties of NodeState."""

    template_id: RecordId
    template: Template
    child: RecordId | None
    values: RecordId | None


class NodeState:
    """One stored node: its properties and children, read when asked for.

    Every method raises SegmentMissingError or FormatError if what it needs is not in
    the store or not a valid record.
    """

    __slots__ = ("_known", "id", "reader")

    def __init__(self, reader: RecordReader, record: RecordId) -> None:
        self.reader = reader
        self.id = record
        self._known: _Parts | None = None

    @property
    def _parts(self) -> _Parts:
        if self._known is None:
            segment, at = self.reader.locate(self.id, NODE)
            self._known = self._read(segment, at + ID_SIZE)
        return self._known

    def _read(self, segment: Segment, at: int) -> _Parts:
        template_id = segment.record_id(at)
        template = self.reader.template(template_id)
        child = values = None
        if template.many or template.child is not None:
            at += ID_SIZE
            child = segment.record_id(at)
        if template.properties:
            values = segment.record_id(at + ID_SIZE)
        return _Parts(template_id, template, child, values)

    @property
    def template(self) -> Template:
        """The node's shape."""
        return self._parts.template

    @property
    def template_id(self) -> RecordId:
        """The record of the node's shape."""
        return self._parts.template_id

    @property
    def child_record(self) -> RecordId | None:
        """The map of children, or the only child, or None."""
        return self._parts.child

    @property
    def values_record(self) -> RecordId | None:
        """The list of the property values, None without properties."""
        return self._parts.values

    @property
    def stable_record(self) -> RecordId:
        """The record that spells the stable id: a BLOCK, or the node itself if it is the id."""
        segment, at = self.reader.locate(self.id, NODE)
        return segment.record_id(at)

    @property
    def stable_id(self) -> RecordId:
        """The identity that survives compaction; equal ones mean equal content."""
        record = self.stable_record
        if record == self.id:
            return record
        block, at = self.reader.locate(record, BLOCK)
        raw = block.cut(at, STABLE_ID_SIZE)
        return RecordId(raw[:16], int.from_bytes(raw[16:], "big"))

    # Properties

    def value_records(self) -> list[RecordId]:
        """The records of the property values, in the template's order."""
        parts = self._parts
        if parts.values is None:
            return []
        return list(self.reader.list(parts.values, len(parts.template.properties)))

    def value_record(self, place: int) -> RecordId:
        """The record of the property value at `place` of the template, found without the others."""
        parts = self._parts
        count = len(parts.template.properties)
        if parts.values is None or place >= count:
            raise IndexError(place)
        return next(self.reader.list(parts.values, count, place))

    def property_at(self, place: int) -> Property:
        """The property at `place` of the template."""
        _, tag = self.template.properties[place]
        return self.reader.property(self.value_record(place), tag)

    def properties(self) -> Iterator[tuple[str, Property]]:
        """Names and properties: primary type, mixins, then the template's order."""
        template = self.template
        if template.primary is not None:
            yield PRIMARY_TYPE, Property.name(template.primary)
        if template.mixins is not None:
            yield MIXIN_TYPES, Property.names(template.mixins)
        pairs = zip(template.properties, self.value_records(), strict=True)
        for (name, tag), record in pairs:
            yield name, self.reader.property(record, tag)

    def property_names(self) -> Iterator[str]:
        """The names of the properties, in the order of `properties`; no value is read."""
        template = self.template
        if template.primary is not None:
            yield PRIMARY_TYPE
        if template.mixins is not None:
            yield MIXIN_TYPES
        yield from (name for name, _ in template.properties)

    def property(self, name: str) -> Property | None:
        """The property `name`, None if the node has no such property."""
        template = self.template
        if name == PRIMARY_TYPE and template.primary is not None:
            return Property.name(template.primary)
        if name == MIXIN_TYPES and template.mixins is not None:
            return Property.names(template.mixins)
        for place, (known, _) in enumerate(template.properties):
            if known == name:
                return self.property_at(place)
        return None

    # Children

    def child_count(self) -> int:
        """How many children there are."""
        parts = self._parts
        if parts.child is None:
            return 0
        return maps.size(self.reader, parts.child) if parts.template.many else 1

    def child_ids(self) -> Iterator[tuple[str, RecordId]]:
        """Names and records of the children, in no order that means anything."""
        parts = self._parts
        if parts.child is None:
            return
        if parts.template.child is not None:
            yield parts.template.child, parts.child
            return
        for entry in maps.entries(self.reader, parts.child):
            yield entry.name, entry.value

    def child_id(self, name: str) -> RecordId | None:
        """The record of the child `name`, None if there is no such child."""
        parts = self._parts
        if parts.child is None:
            return None
        if parts.template.child is not None:
            return parts.child if parts.template.child == name else None
        entry = maps.find(self.reader, parts.child, name)
        return None if entry is None else entry.value

    def children(self) -> Iterator[tuple[str, NodeState]]:
        """Names and states of the children, in no order that means anything."""
        return ((name, NodeState(self.reader, record)) for name, record in self.child_ids())

    def child(self, name: str) -> NodeState | None:
        """The child `name`, None if there is no such child."""
        record = self.child_id(name)
        return None if record is None else NodeState(self.reader, record)
