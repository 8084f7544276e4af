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

    __slots__ = ("_children", "_properties", "base", "opened")

    def __init__(self, base: NodeState | None = None, *, opened: bool = False) -> None:
        self.base = base
        self.opened = opened
        """Whether `base` is what the state above has under this name."""
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

    def changed_property(self, name: str) -> bool:
        """Whether the property `name` was set or removed here."""
        return name in self._properties

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
            made = NodeBuilder(self.base.child(name), opened=True)
        self._children[name] = made
        return made

    def existing(self, name: str) -> NodeBuilder | None:
        """The builder of the child `name`, None if there is no such child."""
        changed = self._children.get(name)
        if isinstance(changed, NodeBuilder):
            return changed
        opened = name not in self._children
        if opened and self.base is not None:
            changed = self.base.child(name)
        if changed is None:
            return None
        made = self._children[name] = NodeBuilder(changed, opened=opened)
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

    def attach(self, name: str, builder: NodeBuilder) -> None:
        """Make `builder`, with its changes, the child `name`."""
        if not name:
            raise ContentError("a child needs a name")
        self._children[name] = builder

    def remove_child(self, name: str) -> bool:
        """Remove the child `name` with all below it; whether there was one."""
        stored = self.base is not None and self.base.child_id(name) is not None
        existed = self._children[name] is not None if name in self._children else stored
        if stored:
            self._children[name] = None
        else:
            self._children.pop(name, None)
        return existed

    def forget_unchanged(self) -> int:
        """Let go of builders below in which nothing changed; how many others there are.

        What was let go of must not be used any more: a change to it would be lost.
        """
        found: list[NodeBuilder] = [self]
        above: list[tuple[NodeBuilder, str]] = []
        for parent in found:
            for name, child in parent.changed_children():
                if isinstance(child, NodeBuilder):
                    found.append(child)
                    above.append((parent, name))
        left = len(above)
        for (parent, name), child in zip(reversed(above), reversed(found), strict=False):
            if child.opened and child.is_unchanged():
                parent.forget(name)
                left -= 1
        return left

    def forget(self, name: str) -> None:
        """Let go of what was changed of the child `name`."""
        del self._children[name]

    def is_unchanged(self) -> bool:
        """Whether nothing was set, removed or touched here or below."""
        return self.base is not None and not self._properties and not self._children

    def changed_children(self) -> Iterator[tuple[str, NodeBuilder | NodeState | None]]:
        """Names of touched children with their builder, new state, or None if removed."""
        return iter(self._children.items())

    def child_names(self) -> list[str]:
        """The names of the children as they would be written now, in no order."""
        return list(self.names())

    def names(self) -> Iterator[str]:
        """As `child_names`, read as the loop goes; what changes meanwhile does not show."""
        changed = dict(self._children)
        base = self.base
        if base is not None:
            yield from (name for name, _ in base.child_ids() if name not in changed)
        yield from (name for name, child in changed.items() if child is not None)

    def child_count(self) -> int:
        """How many children there would be now."""
        base = self.base
        count = 0 if base is None else base.child_count()
        for name, child in self._children.items():
            stored = base is not None and base.child_id(name) is not None
            count += (child is not None) - stored
        return count

    def property_names(self) -> list[str]:
        """The names of the properties as they would be written now: types first."""
        names = dict.fromkeys(() if self.base is None else self.base.property_names())
        for name, prop in self._properties.items():
            if prop is None:
                names.pop(name, None)
            else:
                names[name] = None
        return list(names)
