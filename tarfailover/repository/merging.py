"""Three-way merge: what one commit changed, on top of what others committed meanwhile.

What counts is the difference between the state with which a commit began and the state that
it leaves, whatever the way between them was. Changes of different properties and children
merge, and so do equal changes; all else is a conflict. Only what the commit changed is looked
at, and below that only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tarfailover.errors import ConflictError
from tarfailover.repository import paths
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.diff import children_differing, diff, equal_values, own_properties
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.tree import Node
from tarfailover.repository.values import ExternalBlob, Property, StoredBlob

SHOWN = 60
"""Characters of a value that a conflict shows."""

Write = Callable[[NodeBuilder], NodeState]
"""Writes a builder, and gives the node that it became."""

Changed = NodeBuilder | NodeState | None


class _Changes(NamedTuple):
    """What became of one node: new properties and children by name, None for what is gone."""

    properties: Iterable[tuple[str, Property | None]]
    children: Iterable[tuple[str, Changed]]


class _Place(NamedTuple):
    """A node that both sides have and that differs from how it was; `base` may be missing."""

    above: _Place | None
    name: str
    base: NodeState | None
    ours: NodeBuilder | NodeState
    theirs: NodeState
    into: NodeBuilder
    """Over `theirs`."""

    def path(self, *more: str) -> str:
        """The path in the content; the super root, and its child, are left out of it."""
        names = [*reversed(more)]
        place = self
        while place.above is not None:
            names.append(place.name)
            place = place.above
        return paths.shortened(paths.join(names[-2::-1]))


def merge(base: NodeState, ours: NodeBuilder, theirs: NodeState, write: Write) -> NodeBuilder:
    """What turns `theirs` into a state with the changes of both; `ours` began with `base`.

    All are super roots. Raises ConflictError, and what reading raises.
    """
    merged = NodeBuilder(theirs)
    pending = [_Place(None, "", base, ours, theirs, merged)]
    while pending:
        place = pending.pop()
        changes = _changes(place.base, place.ours, write)
        for name, prop in changes.properties:
            _merge_property(place, name, prop)
        for name, child in changes.children:
            below = _merge_child(place, name, child, write)
            if below is not None:
                pending.append(below)
    return merged


def _changes(base: NodeState | None, ours: NodeBuilder | NodeState, write: Write) -> _Changes:
    if isinstance(ours, NodeBuilder):
        if _id(ours.base) == _id(base):
            return _Changes(ours.changed_properties(), ours.changed_children())
        # Replaced, or written in between: only the result can be compared.
        ours = write(ours)
    if base is None:
        return _Changes(ours.properties(), ours.children())
    return _Changes(_properties_between(base, ours), _children_between(base, ours))


def _id(state: NodeState | None) -> object:
    return None if state is None else state.id


def _properties_between(base: NodeState, ours: NodeState) -> Iterator[tuple[str, Property | None]]:
    for change in own_properties(Node(base), Node(ours)):
        if change.name is not None:
            yield change.name, None if change.new is None else change.new.stored


def _children_between(base: NodeState, ours: NodeState) -> Iterator[tuple[str, Changed]]:
    for name, _, record in children_differing(base, ours):
        yield name, None if record is None else NodeState(ours.reader, record)


def _merge_property(place: _Place, name: str, ours: Property | None) -> None:
    before = None if place.base is None else place.base.property(name)
    theirs = place.theirs.property(name)
    reader = place.theirs.reader
    if _equal(ours, theirs, reader) or _equal(ours, before, reader):
        return
    if not _equal(before, theirs, reader):
        what = f"property {paths.escape(name)}"
        raise ConflictError(place.path(), f"{what} {_told(ours)}", f"{what} {_told(theirs)}")
    if ours is None:
        place.into.remove_property(name)
    else:
        place.into.set(name, ours)


def _equal(one: Property | None, other: Property | None, reader: RecordReader) -> bool:
    """Whether two properties are; `reader` reads the binaries of both."""
    if one is None or other is None:
        return one is other
    if (one.type, one.array) != (other.type, other.array):
        return False
    return equal_values(reader, one, reader, other)


def _merge_child(place: _Place, name: str, ours: Changed, write: Write) -> _Place | None:
    """Take over one changed child, or tell what is to be merged below it."""
    before = None if place.base is None else place.base.child(name)
    theirs = place.theirs.child(name)
    if isinstance(ours, NodeState) and ours.id == _id(before):
        return None
    if _id(before) == _id(theirs):
        _put(place.into, name, ours)
        return None
    if theirs is None:
        if ours is None:
            return None
        state = write(ours) if isinstance(ours, NodeBuilder) else ours
        if _differ(before, state):
            raise ConflictError(place.path(name), _fate(before), "removed")
        return None
    if ours is None:
        if _differ(before, theirs):
            raise ConflictError(place.path(name), "removed", _fate(before))
        place.into.remove_child(name)
        return None
    return _Place(place, name, before, ours, theirs, place.into.child(name))


def _differ(before: NodeState | None, after: NodeState) -> bool:
    """Whether two nodes differ in content, which other records need not do."""
    return before is None or next(diff(Node(before), Node(after)), None) is not None


def _fate(before: NodeState | None) -> str:
    return "added" if before is None else "changed"


def _put(into: NodeBuilder, name: str, child: Changed) -> None:
    if child is None:
        into.remove_child(name)
    elif isinstance(child, NodeState):
        into.set_child(name, child)
    else:
        into.attach(name, child)


def _told(prop: Property | None) -> str:
    if prop is None:
        return "removed"
    shown = ", ".join(_shown(value) for value in prop.values[:SHOWN])
    return f"= {prop.type.name} {f'[{shown}]' if prop.array else shown}"[: 2 * SHOWN]


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"of {len(value)} bytes"
    if isinstance(value, StoredBlob):
        return f"of {value.length} bytes"
    if isinstance(value, ExternalBlob):
        return f"{value.blob_id:.{SHOWN}}"
    return repr(str(value)[:SHOWN])
