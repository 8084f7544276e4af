"""How one node, or the whole repository, changed from head to head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tarfailover.errors import SegmentMissingError
from tarfailover.format.journal import JournalLine
from tarfailover.repository import paths
from tarfailover.repository.diff import diff, same
from tarfailover.repository.opened import Repository
from tarfailover.repository.tree import Node


class Moment(NamedTuple):
    """A head at which a node was not what it had been at the head before."""

    line: JournalLine
    before: Node | None
    """The node at the head before; None if there was none, or nothing older is left."""
    after: Node | None
    """None if the node was removed."""
    oldest: bool
    """Whether no older head is left, so that the node may have been so before too."""


def history(repository: Repository, path: str) -> Iterator[Moment]:
    """The heads at which the node at `path` changed, the newest first.

    Compares each head that is left with the one before it, without reading below the node.
    The last moment is the oldest head that can be read, if the node was there. Raises
    ConfigError for a path that cannot be read, FormatError and DamagedStoreError.
    """
    names = paths.split(path)
    newer: tuple[JournalLine, Node | None] | None = None
    for line, node in _states(repository, names):
        if newer is not None and _differ(node, newer[1]):
            yield Moment(newer[0], node, newer[1], oldest=False)
        newer = line, node
    if newer is not None and newer[1] is not None:
        yield Moment(newer[0], None, newer[1], oldest=True)


def _states(repository: Repository, names: list[str]) -> Iterator[tuple[JournalLine, Node | None]]:
    for line in repository.heads():
        try:
            yield line, lookup(repository.revision(line.head).root, names)
        except SegmentMissingError:
            # Cleanup took what this head needs; older heads need it too, or are gone.
            return


def lookup(top: Node, names: list[str]) -> Node | None:
    """The node that `names` lead to from `top`, None if there is none."""
    node = top
    for name in names:
        record = node.state.child_id(name)
        if record is None:
            return None
        node = node.below(name, record)
    return node


def _differ(old: Node | None, new: Node | None) -> bool:
    if old is None or new is None:
        return old is not new
    return not same(old.state, new.state)


@dataclass
class Summary:
    """What a diff found, counted."""

    added: int = 0
    """Nodes that are new; with what is below them they count once."""
    removed: int = 0
    changed: int = 0
    """Nodes with at least one property that differs."""
    properties: int = 0
    """Properties that differ."""
    common: list[str] | None = None
    """The names that lead to the node below which every change lies; None without any."""

    @property
    def path(self) -> str | None:
        """The path of the node below which every change lies; None without any."""
        return None if self.common is None else paths.join(self.common)


def summary(before: Node, after: Node) -> Summary:
    """Count the differences between two trees; raises as `diff` does."""
    found = Summary()
    last: Node | None = None
    for change in diff(before, after):
        node = change.node
        if change.name is not None:
            found.properties += 1
            found.changed += node is not last
        elif change.before is None:
            found.added += 1
        else:
            found.removed += 1
        if node is not last:
            found.common = _shared(found.common, node.names)
        last = node
    return found


def _shared(known: list[str] | None, names: list[str]) -> list[str]:
    if known is None:
        return names
    for place, (one, other) in enumerate(zip(known, names, strict=False)):
        if one != other:
            return known[:place]
    return min(known, names, key=len)
