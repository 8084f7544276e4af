"""Nodes for those who change a repository: children and properties as mappings to write to.

They read like those of `tree`, and show the changes of their own commit. What a commit has
read and changed is held in memory until it is much; then it is written, ahead of the commit,
and read again where it is asked for. Nothing recurses. One commit is for one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from tarfailover.errors import ContentError, NotFoundError, TarFailoverError
from tarfailover.repository import paths
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import ROOT
from tarfailover.repository.committing import Committer
from tarfailover.repository.nodes import PRIMARY_TYPE
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.storing import Settable, check_name, held_bytes, stored_property
from tarfailover.repository.tree import Node, NodeProperty, Properties, similar
from tarfailover.repository.values import Name, PropertyType

HELD_EDITS = 50_000
"""Steps after which a commit looks at how many nodes it holds: reading one, setting a property."""
HELD_NODES = 12_500
"""Changed nodes that a commit holds in memory."""
HELD_BYTES = 16 * 1024 * 1024
"""Bytes of values that a commit keeps in memory."""


class Edit:
    """What one commit has read and changed so far."""

    def __init__(self, committer: Committer, reader: RecordReader) -> None:
        self.committer = committer
        self.reader = reader
        self.base = committer.newest(reader)
        """The super root with which it began."""
        self.epoch = 0
        """Grows whenever the builders of nodes have to be looked for again."""
        self._top: NodeBuilder | None = NodeBuilder(self.base)
        self._edits = 0
        self._bytes = 0

    @property
    def top(self) -> NodeBuilder:
        """The super root; raises TarFailoverError when the block has ended."""
        if self._top is None:
            raise TarFailoverError("the block of this commit has ended: begin another commit")
        return self._top

    def touch(self, size: int = 0) -> None:
        """Count one step, and `size` bytes of values; before it, write what has become much."""
        if self._edits >= HELD_EDITS or self._bytes >= HELD_BYTES:
            self._relieve()
        self._edits += 1
        self._bytes += size

    def _relieve(self) -> None:
        """Let go of what was only read, and, if the rest is still much, write it."""
        top = self.top
        left = top.forget_unchanged()
        if left >= HELD_NODES or self._bytes >= HELD_BYTES // 2:
            self._top = NodeBuilder(self.committer.write(top, self.reader))
            left = self._bytes = 0
        self._edits = left
        self.moved()

    def moved(self) -> None:
        """Some builders were removed or replaced."""
        self.epoch += 1

    def finish(self) -> NodeBuilder | None:
        """The super root to be committed, None without a change; the block has ended."""
        top, self._top = self.top, None
        self.moved()
        top.forget_unchanged()
        return None if top.is_unchanged() and top.base is self.base else top

    def abandon(self) -> None:
        """The block has ended, however it did."""
        self._top = None
        self.moved()


_NOT_FOUND_YET = NodeBuilder()


class WritableNode:
    """One node in the block of a commit, with the changes so far."""

    __slots__ = ("_found", "edit", "name", "parent")

    def __init__(self, edit: Edit, name: str = "", parent: WritableNode | None = None) -> None:
        self.edit = edit
        self.name = name
        """The name below its parent; empty for the top."""
        self.parent = parent
        """The node through which this one was reached; None for the top."""
        self._found = NodeBuilder(), -1

    @property
    def builder(self) -> NodeBuilder:
        """What holds the changes of this node.

        Raises NotFoundError if it was removed, TarFailoverError after the block.
        """
        if not self.is_found:
            self._find()
        return self._found[0]

    @property
    def is_found(self) -> bool:
        """Whether the builder is known and is still the one that counts."""
        return self._found[1] == self.edit.epoch

    def _find(self) -> None:
        """Go down from the nearest node above whose builder is known."""
        below = []
        node: WritableNode | None = self
        while node is not None and not node.is_found:
            below.append(node)
            node = node.parent
        for each in reversed(below):
            above = each.parent
            top = self.edit.top
            found = top.child(ROOT) if above is None else above.builder.existing(each.name)
            if found is None:
                raise NotFoundError(f"{paths.shortened(each.path)} was removed in this commit")
            each.hold(found)

    def hold(self, builder: NodeBuilder) -> WritableNode:
        """Know that `builder` is that of this node, until some are removed or replaced."""
        self._found = builder, self.edit.epoch
        return self

    @property
    def names(self) -> list[str]:
        """The names that lead here from the top."""
        found: list[str] = []
        node = self
        while node.parent is not None:
            found.append(node.name)
            node = node.parent
        return found[::-1]

    @property
    def path(self) -> str:
        """The path from the top, with escapes; see `paths`."""
        return paths.join(self.names)

    @property
    def children(self) -> WritableChildren:
        """The children by name; see there for what can be assigned."""
        return WritableChildren(self)

    @property
    def properties(self) -> WritableProperties:
        """The properties by name; see there for what can be assigned."""
        return WritableProperties(self)

    # going down

    def find(self, path: str) -> WritableNode | None:
        """The node at `path` from here on, None if there is none; raises ConfigError."""
        node: WritableNode | None = self
        for name in paths.split(path):
            node = None if node is None else node.below(name)
        return node

    def node(self, path: str) -> WritableNode:
        """The node at `path` from here on.

        Raises NotFoundError, which names what is there and similar, and ConfigError for a
        path that cannot be read.
        """
        node = self
        for name in paths.split(path):
            found = node.below(name)
            if found is None:
                raise NotFoundError(node._missing(name))
            node = found
        return node

    def make(self, path: str, primary_type: str | None = None) -> WritableNode:
        """The node at `path` from here on; nodes that are not there are made.

        Those that are made get `primary_type` as their jcr:primaryType.
        """
        node = self
        for name in paths.split(path):
            found = node.below(name)
            node = node._made(name, primary_type) if found is None else found
        return node

    def remove(self, path: str) -> None:
        """Remove the node at `path` with all below it; raises as `node` does."""
        node = self.node(path)
        if node is self or node.parent is None:
            raise ContentError(f"{paths.shortened(node.path)} cannot remove itself")
        del node.parent.children[node.name]

    def set(self, name: str, value: Settable, kind: PropertyType | None = None) -> None:
        """Set the property `name` to `value`, as a value of type `kind`.

        Without `kind` as `properties` does. Raises ContentError for what is no such value.
        """
        try:
            prop = stored_property(name, value, kind, self.edit.committer)
        except ContentError as error:
            raise ContentError(
                f"{paths.shortened(self.path)}: property {name!r:.80}: {error}"
            ) from error
        self.edit.touch(held_bytes(prop))
        if self.builder.property(name) != prop:
            self.builder.set(name, prop)

    def below(self, name: str) -> WritableNode | None:
        """The child `name`, None if there is none."""
        self.edit.touch()
        found = self.builder.existing(name)
        return None if found is None else WritableNode(self.edit, name, self).hold(found)

    def _made(self, name: str, primary_type: str | None) -> WritableNode:
        check_name(name)
        self.edit.touch()
        fresh = NodeBuilder()
        self.builder.attach(name, fresh)
        made = WritableNode(self.edit, name, self).hold(fresh)
        if primary_type is not None:
            made.set(PRIMARY_TYPE, Name(primary_type))
        return made

    def _missing(self, name: str) -> str:
        above = paths.shortened(self.path)
        prefix = above if above == "/" else above + "/"
        said = f"there is no {paths.shortened(paths.join([*self.names, name]))}"
        return said + similar(name, self.builder.names(), prefix)

    def __repr__(self) -> str:
        return f"<WritableNode {paths.shortened(self.path)}>"


class WritableChildren(MutableMapping[str, WritableNode]):
    """The children of a node, to be listed, added and removed.

    Assigned can be any node: a `Node` of this repository at any of its states, or of another
    one, or a node of the same commit. It is copied with all below it; what this store holds
    already is shared and takes no time. Later changes of the one do not show in the other.
    """

    __slots__ = ("_node",)

    def __init__(self, node: WritableNode) -> None:
        self._node = node

    def __getitem__(self, name: str) -> WritableNode:
        found = self._node.below(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, node: Node | WritableNode) -> None:
        check_name(name)
        edit = self._node.edit
        if isinstance(node, Node):
            state = edit.committer.adopt(node.state, edit.reader)
        elif node.edit is edit:
            state = edit.committer.write(node.builder, edit.reader)
        else:
            raise ContentError("this node belongs to another commit, which may still change it")
        edit.touch()
        self._node.builder.set_child(name, state)
        edit.moved()

    def __delitem__(self, name: str) -> None:
        edit = self._node.edit
        edit.touch()
        if not self._node.builder.remove_child(name):
            raise KeyError(name)
        edit.moved()

    def clear(self) -> None:
        """Remove all children."""
        for name in self._node.builder.names():
            del self[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._node.builder.has_child(name)

    def __iter__(self) -> Iterator[str]:
        return self._node.builder.names()

    def __len__(self) -> int:
        return self._node.builder.child_count()

    def __repr__(self) -> str:
        return f"<WritableChildren of {paths.shortened(self._node.path)}>"


class WritableProperties(MutableMapping[str, NodeProperty]):
    """The properties of a node, to be read, set and removed.

    What can be assigned, and which type it gets, tells `storing`; `WritableNode.set` takes a
    type beside the value.
    """

    __slots__ = ("_node",)

    def __init__(self, node: WritableNode) -> None:
        self._node = node

    def __getitem__(self, name: str) -> NodeProperty:
        builder = self._node.builder
        if builder.changed_property(name):
            prop = builder.property(name)
            if prop is None:
                raise KeyError(name)
            return NodeProperty.unwritten(self._node.edit.base, name, prop)
        if builder.base is None:
            raise KeyError(name)
        return Properties(builder.base)[name]

    def __setitem__(self, name: str, value: Settable) -> None:
        self._node.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._node.edit.touch()
        self._node.builder.remove_property(name)

    def clear(self) -> None:
        """Remove all properties."""
        for name in self._node.builder.property_names():
            del self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._node.builder.property_names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._node.builder.property_names())

    def __len__(self) -> int:
        return len(self._node.builder.property_names())

    def __repr__(self) -> str:
        return f"<WritableProperties {', '.join(self)}>"
