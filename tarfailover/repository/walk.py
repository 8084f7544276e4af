"""Walks trees in the order of names, so that equal content is met in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.ids import RecordId
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.tree import Node, enter


class Step(NamedTuple):
    """One node that a walk meets."""

    node: Node
    depth: int
    """0 for the node at which the walk began."""
    last: bool
    """Whether it is the last child of its parent."""


def sorted_children(node: Node) -> list[tuple[str, RecordId]]:
    """Names and records of all children, sorted by name as Java does (UTF-16 code units)."""
    return sorted(node.state.child_ids(), key=lambda item: utf16_key(item[0]))


def ordered(top: Node, depth: int | None = None) -> Iterator[Step]:
    """`top` and what is below it, at most `depth` levels: a node, then its children by name.

    The names of a node's children are held while it is walked, for every node above the
    one that is met. Raises FormatError for a node that is its own ancestor, and what
    reading raises.
    """
    above: set[RecordId] = set()
    enter(top.state, above)
    yield Step(top, 0, last=True)
    levels = [_Level(top)] if depth is None or depth > 0 else []
    while levels:
        level = levels[-1]
        node = level.next_child()
        if node is None:
            levels.pop()
            above.remove(level.node.record)
            continue
        enter(node.state, above)
        yield Step(node, len(levels), last=not level.left)
        if depth is None or len(levels) < depth:
            levels.append(_Level(node))
        else:
            above.remove(node.record)


class _Level:
    """A node and those of its children that are still to be met, the next one last."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.left = sorted_children(node)[::-1]

    def next_child(self) -> Node | None:
        return self.node.below(*self.left.pop()) if self.left else None
