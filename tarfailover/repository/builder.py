"""Changes to a tree before they are written: a builder per touched node, over a stored state."""

from __future__ import annotations

from collections.abc import Iterator

from tarfailover.errors import ContentError
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.values import Property


class NodeBuilder:
    """One node with changes on top of `base`; what was not touched stays in the store.

    Nothing is written and nothing is copied here: a builder holds the changed
    properties and children of its node only. Names are not checked against JCR's rules.
    """

    __slots__ = ("_children", "_properties", "base")

    def __init__(self, base: NodeState | None = None) -> None:
        self.base = base
        self._properties: dict[str, Property | None] = {}
        self._children: dict[str, NodeBuilder | NodeState | None] = {}

    # Properties

    def set(self, name: str, prop: Property) -> NodeBuilder:
        """Give the property `name` the value `prop`; returns this builder."""
        self._properties[name] = prop
        return self

    def remove_property(self, name: str) -> None:
        """Remove the property `name`; a no-op if there is none."""
        if self.base is not None and self.base.property(name) is not None:
            self._properties[name] = None
        else:
            self._properties.pop(name, None)

    def property(self, name: str) -> Property | None:
        """The property `name` as it would be written now."""
        if name in self._properties:
            return self._properties[name]
        return None if self.base is None else self.base.property(name)

    def changed_properties(self) -> Iterator[tuple[str, Property | None]]:
        """Names and new values of changed properties, None for removed ones."""
        return iter(self._properties.items())

    # Children

    def child(self, name: str) -> NodeBuilder:
        """The builder of the child `name`, which is made if it does not exist."""
        if not name:
            raise ContentError("a child needs a name")
        changed = self._children.get(name)
        if isinstance(changed, NodeBuilder):
            return changed
        if name in self._children or self.base is None:
            made = NodeBuilder(changed)
        else:
            made = NodeBuilder(self.base.child(name))
        self._children[name] = made
        return made

    def has_child(self, name: str) -> bool:
        """Whether there would be a child `name` now."""
        if name in self._children:
            return self._children[name] is not None
        return self.base is not None and self.base.child_id(name) is not None

    def set_child(self, name: str, state: NodeState) -> None:
        """Make the stored node `state` the child `name`: shared, not copied."""
        if not name:
            raise ContentError("a child needs a name")
        self._children[name] = state

    def remove_child(self, name: str) -> bool:
        """Remove the child `name` with all below it; whether there was one."""
        existed = self.has_child(name)
        if self.base is not None and self.base.child_id(name) is not None:
            self._children[name] = None
        else:
            self._children.pop(name, None)
        return existed

    def changed_children(self) -> Iterator[tuple[str, NodeBuilder | NodeState | None]]:
        """Names of touched children with their builder, new state, or None if removed."""
        return iter(self._children.items())

    def child_names(self) -> list[str]:
        """The names of the children as they would be written now, in no order."""
        stored = (name for name, _ in self.base.child_ids()) if self.base is not None else ()
        names = dict.fromkeys(stored)
        for name, child in self._children.items():
            names.pop(name, None)
            if child is not None:
                names[name] = None
        return list(names)
