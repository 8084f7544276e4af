"""Which nodes hold given external binaries, looked for within a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from tarfailover.ids import RecordId
from tarfailover.repository import paths
from tarfailover.repository.commit import CHECKPOINTS, ROOT
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader, SegmentSource
from tarfailover.repository.tree import Node
from tarfailover.repository.values import ExternalBlob, PropertyType

MAX_PATHS = 5
"""Paths that are kept for each binary."""
MAX_SEEN = 1_000_000
"""Nodes that are remembered, so that what checkpoints share is searched once."""


@dataclass
class Holders:
    """What a search found."""

    paths: dict[str, list[str]] = field(default_factory=dict)
    """Of each binary that was found, some properties that hold it."""
    complete: bool = False
    """Whether all nodes were searched, checkpoints included."""


def holders(
    source: SegmentSource, head: RecordId, blobs: Collection[str], go_on: Callable[[], bool]
) -> Holders:
    """Search the head in `source` for `blobs`, by their ids, as long as `go_on` says so.

    Raises what reading raises if the store is damaged.
    """
    wanted, found = frozenset(blobs), Holders()
    for node in _every(Node(NodeState(RecordReader(source), head))):
        for name, blob in _external(node):
            if blob in wanted:
                listed = found.paths.setdefault(blob, [])
                if len(listed) < MAX_PATHS:
                    listed.append(_place(node, name))
        if not go_on():
            return found
    found.complete = True
    return found


def _every(top: Node) -> Iterator[Node]:
    """`top` and all below it, what is there several times once."""
    yield top
    seen: set[RecordId] = set()
    levels = [iter(top.children.values())]
    while levels:
        node = next(levels[-1], None)
        if node is None:
            levels.pop()
        elif node.record not in seen:
            if len(seen) < MAX_SEEN:
                seen.add(node.record)
            yield node
            levels.append(iter(node.children.values()))


def _external(node: Node) -> Iterator[tuple[str, str]]:
    """Names of properties, and the external binaries that they hold."""
    for place, (name, tag) in enumerate(node.state.template.properties):
        if abs(tag) == PropertyType.BINARY:
            for value in node.state.property_at(place).values:
                if isinstance(value, ExternalBlob):
                    yield name, value.blob_id


def _place(node: Node, name: str) -> str:
    """The path of a property as a user knows it."""
    names = list(node.names)
    if names[:1] == [ROOT]:
        return paths.shortened(paths.join([*names[1:], name]))
    if names[:1] == [CHECKPOINTS] and names[2:3] == [ROOT]:
        inside = paths.shortened(paths.join([*names[3:], name]))
        return f"checkpoint {paths.escape(names[1])}: {inside}"
    return paths.shortened(paths.join([*names, name])) + " above the content"
