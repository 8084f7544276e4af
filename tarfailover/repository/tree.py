"""Nodes for those who read a repository: children and properties as mappings, on demand.

Nothing is read before it is asked for, and nothing recurses, so that neither the depth of
a tree nor the number of children matters. Whatever reads raises SegmentMissingError,
DamagedStoreError or FormatError if the store is damaged. One thread at a time.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from decimal import Decimal
from itertools import islice
from typing import TypeAlias

from tarfailover.errors import ContentError, NotFoundError
from tarfailover.format.segment import NODE
from tarfailover.ids import RecordId
from tarfailover.repository import paths
from tarfailover.repository.nodes import MIXIN_TYPES, PRIMARY_TYPE, NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.streams import Binary
from tarfailover.repository.typed import python_value
from tarfailover.repository.values import Property, PropertyType, Value

PythonValue: TypeAlias = str | int | float | bool | Decimal | dt.datetime | Binary
"""One value of a property; `typed` says which type becomes what."""

NAMES_COMPARED = 10_000
"""Children among which a similar name is looked for when one is not found."""

IN_TEMPLATE = -1
"""The place of a property whose value stands in the template itself."""


class NodeProperty:
    """One property: `name`, `type`, whether it is an `array`, and its values when asked for."""

    __slots__ = ("_known", "_place", "_state", "array", "name", "type")

    def __init__(
        self, state: NodeState, name: str, kind: PropertyType, *, array: bool, place: int
    ) -> None:
        self._state = state
        self._place = place
        self._known: Property | None = None
        self.name = name
        self.type = kind
        self.array = array

    @classmethod
    def unwritten(cls, state: NodeState, name: str, prop: Property) -> NodeProperty:
        """A property that is not in the store yet; `state` has the reader of its binaries."""
        made = cls(state, name, prop.type, array=prop.array, place=IN_TEMPLATE)
        made._known = prop
        return made

    @property
    def stored(self) -> Property:
        """Type and values as they are stored: text, or binaries by their record."""
        if self._known is None:
            if self._place == IN_TEMPLATE:
                template = self._state.template
                self._known = (
                    Property.names(template.mixins or ())
                    if self.array
                    else Property.name(template.primary or "")
                )
            else:
                self._known = self._state.property_at(self._place)
        return self._known

    @property
    def reader(self) -> RecordReader:
        """What reads the values."""
        return self._state.reader

    @property
    def value_record(self) -> RecordId | None:
        """The record of the value, or of the LIST of an array; None if the template has it."""
        return None if self._place == IN_TEMPLATE else self._state.value_record(self._place)

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as text; raises ContentError for binaries."""
        if self.type == PropertyType.BINARY:
            raise ContentError(f"property {self.name} is BINARY and has no text")
        return tuple(str(each) for each in self.stored.values)

    @property
    def values(self) -> tuple[PythonValue, ...]:
        """The values as Python has them; raises ContentError if one is none of its type."""
        return tuple(_python(self.reader, self.type, each) for each in self.stored.values)

    @property
    def value(self) -> PythonValue | tuple[PythonValue, ...]:
        """The one value, or the tuple of them for an array; raises as `values` does."""
        return self.values if self.array else self.values[0]

    @property
    def binary(self) -> Binary:
        """The one binary; raises ContentError if this is something else."""
        value = self.value if self.type == PropertyType.BINARY else None
        if not isinstance(value, Binary):
            raise ContentError(f"property {self.name} is not one BINARY but {self.kind}")
        return value

    @property
    def kind(self) -> str:
        """Type and shape in words: ``LONG``, ``STRING[]``."""
        return self.type.name + "[]" * self.array

    def __repr__(self) -> str:
        return f"<NodeProperty {self.name} {self.kind}>"


def _python(reader: RecordReader, kind: PropertyType, value: Value) -> PythonValue:
    if isinstance(value, str):
        return python_value(kind, value)
    return Binary(reader, value)


class Properties(Mapping[str, NodeProperty]):
    """The properties of a node by name: the types first, then in the order of the store."""

    __slots__ = ("_places", "_state")

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._places: dict[str, int] | None = None

    def _known(self) -> dict[str, int]:
        if self._places is None:
            template = self._state.template
            places: dict[str, int] = {}
            if template.primary is not None:
                places[PRIMARY_TYPE] = IN_TEMPLATE
            if template.mixins is not None:
                places[MIXIN_TYPES] = IN_TEMPLATE
            for place, (name, _) in enumerate(template.properties):
                places.setdefault(name, place)
            self._places = places
        return self._places

    def __getitem__(self, name: str) -> NodeProperty:
        place = self._known()[name]
        if place == IN_TEMPLATE:
            array = name == MIXIN_TYPES
            return NodeProperty(self._state, name, PropertyType.NAME, array=array, place=place)
        _, tag = self._state.template.properties[place]
        kind = self._state.reader.property_type(self._state.template_id, tag)
        return NodeProperty(self._state, name, kind, array=tag < 0, place=place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __repr__(self) -> str:
        return f"<Properties {', '.join(self)}>"


class Children(Mapping[str, "Node"]):
    """The children of a node by name, in no order that means anything.

    The number is known without reading the names; a name is found without the others.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getitem__(self, name: str) -> Node:
        record = self._node.state.child_id(name)
        if record is None:
            raise KeyError(name)
        return self._node.below(name, record)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._node.state.child_id(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._node.state.child_ids())

    def __len__(self) -> int:
        return self._node.state.child_count()

    def items(self) -> ItemsView[str, Node]:
        """Names and nodes, read as the loop goes."""
        return _Items(self)

    def values(self) -> ValuesView[Node]:
        """The nodes, read as the loop goes."""
        return _Values(self)

    def pairs(self) -> Iterator[tuple[str, Node]]:
        """Names and nodes, each looked up only once."""
        node = self._node
        return ((name, node.below(name, record)) for name, record in node.state.child_ids())

    def __repr__(self) -> str:
        return f"<Children of {self._node.path}>"


class _Items(ItemsView[str, "Node"]):
    def __init__(self, children: Children) -> None:
        super().__init__(children)
        self._children = children

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return self._children.pairs()


class _Values(ValuesView["Node"]):
    def __init__(self, children: Children) -> None:
        super().__init__(children)
        self._children = children

    def __iter__(self) -> Iterator[Node]:
        return (node for _, node in self._children.pairs())


class Node:
    """One node of a tree, as one head had it; equal to every other view of the same record."""

    __slots__ = ("_parent", "name", "state")

    def __init__(self, state: NodeState, name: str = "", parent: Node | None = None) -> None:
        self.state = state
        self.name = name
        """The name below its parent; empty for the top."""
        self._parent = parent

    @property
    def record(self) -> RecordId:
        """The record in the store; nodes of one record are equal in all that is below them."""
        return self.state.id

    @property
    def parent(self) -> Node | None:
        """The node through which this one was reached; None for the top."""
        return self._parent

    @property
    def names(self) -> list[str]:
        """The names that lead here from the top."""
        found: list[str] = []
        node = self
        while node._parent is not None:
            found.append(node.name)
            node = node._parent
        return found[::-1]

    @property
    def path(self) -> str:
        """The path from the top, with escapes; see `paths`."""
        return paths.join(self.names)

    @property
    def children(self) -> Children:
        """The children by name."""
        return Children(self)

    @property
    def properties(self) -> Properties:
        """The properties by name."""
        return Properties(self.state)

    def below(self, name: str, record: RecordId) -> Node:
        """The node `record` as this one's child `name`; not looked up."""
        return Node(NodeState(self.state.reader, record), name, self)

    def fresh(self) -> Node:
        """The same node as a top of its own, from which paths count."""
        return Node(self.state)

    def node(self, path: str) -> Node:
        """The node at `path` from here on.

        Raises NotFoundError, which names what is there and similar, and ConfigError for
        a path that cannot be read.
        """
        node = self
        for name in paths.split(path):
            record = node.state.child_id(name)
            if record is None:
                raise NotFoundError(_not_found(node, name))
            node = node.below(name, record)
        return node

    def find_property(self, name: str) -> NodeProperty:
        """The property `name`; raises NotFoundError, which names similar ones."""
        found = self.properties.get(name)
        if found is None:
            raise NotFoundError(
                f"{paths.shortened(self.path)} has no property {paths.escape(name)}"
                + similar(name, iter(self.properties), "")
            )
        return found

    def walk(self) -> Iterator[Node]:
        """All nodes from here on, each before its children, in no order beside that.

        Raises FormatError for a node that is its own ancestor.
        """
        pending: list[tuple[Node | None, Iterator[Node]]] = [(None, iter((self,)))]
        above: set[RecordId] = set()
        while pending:
            parent, children = pending[-1]
            node = next(children, None)
            if node is not None:
                enter(node.state, above)
                yield node
                pending.append((node, iter(node.children.values())))
                continue
            pending.pop()
            if parent is not None:
                above.remove(parent.record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.record == other.record

    def __hash__(self) -> int:
        return hash(self.record)

    def __repr__(self) -> str:
        return f"<Node {paths.shortened(self.path)}>"


def enter(state: NodeState, above: set[RecordId]) -> None:
    """Count `state` among the records `above`; raises FormatError if it is its own ancestor."""
    if state.id in above:
        segment, at = state.reader.locate(state.id, NODE)
        raise segment.fault(f"node record {state.id.number} is its own ancestor", at)
    above.add(state.id)


def _not_found(node: Node, name: str) -> str:
    above = paths.shortened(node.path)
    said = f"there is no {paths.shortened(paths.join([*node.names, name]))}"
    count = node.state.child_count()
    if not count:
        return f"{said}: {above} has no children"
    prefix = above if above == "/" else above + "/"
    close = similar(name, iter(node.children), prefix)
    return said + (close or f"; `tarfailover ls` of {above} shows what is there: {count:,}")


def similar(name: str, names: Iterator[str], prefix: str) -> str:
    """A question that names those of `names` which are like `name`; empty if none is."""
    close = difflib.get_close_matches(name, list(islice(names, NAMES_COMPARED)), 3)
    return f"; did you mean {' or '.join(prefix + paths.escape(each) for each in close)}?" * bool(
        close
    )
