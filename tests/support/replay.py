"""Edit histories replayed on us; the words are those that real Oak gets."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from histories import Edit
from stores import QuickDisk

from tarfailover.ids import RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import CHECKPOINTS, ROOT, RepositoryWriter
from tarfailover.repository.compaction import compact
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.values import Property, PropertyType
from tarfailover.store.cleanup.marks import OAK
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.writer import StoreWriter

TAR_LIMIT = 1024 * 1024


def names(path: str) -> list[str]:
    """The names on the way to `path`."""
    return [name for name in path.split("/") if name]


def at(top: NodeBuilder, path: str) -> NodeBuilder:
    """The builder at `path`, made if need be."""
    for name in names(path):
        top = top.child(name)
    return top


def stored(base: NodeState | None, path: str) -> NodeState:
    """The node at `path` as it was before the commit."""
    for name in names(path):
        assert base is not None
        base = base.child(name)
    assert base is not None
    return base


def property_of(kind: str, many: str, texts: list[str]) -> Property:
    """The property of some words."""
    binary = kind == "BINARY"
    values = tuple(base64.b64decode(text) if binary else text for text in texts)
    return Property(PropertyType[kind], values, many == "many")


def apply(edit: Edit, root: NodeBuilder, base: NodeState | None) -> None:
    """One edit on top of `base`."""
    verb, path, *words = edit
    parent, _, name = path.rpartition("/")
    if verb == "node":
        at(root, path)
    elif verb == "set":
        at(root, path).set(words[0], property_of(words[1], words[2], words[3:]))
    elif verb == "unset":
        at(root, path).remove_property(words[0])
    elif verb == "remove":
        assert at(root, parent).remove_child(name)
    else:
        assert verb in ("copy", "move")
        state = stored(base, path)
        if verb == "move":
            assert at(root, parent).remove_child(name)
        to, _, new = words[0].rpartition("/")
        at(root, to).set_child(new, state)


class Ours:
    """A repository of ours that lives through the same as Oak's."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self._random = Random(seed)
        self._store: StoreWriter | None = None
        self.open()

    def open(self) -> None:
        """Open it, or make it."""
        self._store = StoreWriter.open(
            self.directory, create=True, tar_limit=TAR_LIMIT, disk=QuickDisk()
        )
        self._begin()

    def _begin(self) -> None:
        assert self._store is not None
        self._writer = RepositoryWriter(
            self._store, self._random.randbytes, wid="ours", now=lambda: 1
        )
        if self._writer.head is None:
            self._writer.commit(self._writer.super_root())

    def close(self) -> None:
        """Close it; once is enough."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def reopen(self) -> None:
        """Close it and open it."""
        self.close()
        self.open()

    def _commit(self, change: Callable[[NodeBuilder], None]) -> RecordId:
        super_root = self._writer.super_root()
        change(super_root)
        return self._writer.commit(super_root)

    def commit(self, edits: Sequence[Edit]) -> None:
        """One commit."""
        assert self._writer.head is not None
        base = self._writer.head.child(ROOT)

        def change(super_root: NodeBuilder) -> None:
            for edit in edits:
                apply(edit, super_root.child(ROOT), base)

        self._commit(change)

    def checkpoint(self, name: str, oaks: NodeState) -> None:
        """The checkpoint `name`, with the times and notes that Oak gave it."""
        head = self._writer.head
        assert head is not None
        root = head.child(ROOT)
        assert root is not None

        def change(super_root: NodeBuilder) -> None:
            made = super_root.child(CHECKPOINTS).child(name)
            _properties(oaks, made)
            notes = oaks.child("properties")
            assert notes is not None
            _properties(notes, made.child("properties"))
            made.set_child(ROOT, root)

        self._commit(change)

    def release(self, name: str) -> None:
        """Let a checkpoint go."""
        self._commit(lambda super_root: _released(super_root, name))

    def compact(self) -> None:
        """A full compaction, and the cleanup by Oak's rule."""
        assert self._store is not None
        compact(self._store, self._random.randbytes, wid="ours", now=lambda: 1)
        cleanup = Cleanup(self._store, OAK)
        while cleanup.step():
            pass
        cleanup.close()
        assert not cleanup.report.failures
        self._begin()


def _properties(source: NodeState, target: NodeBuilder) -> None:
    for name, prop in source.properties():
        target.set(name, prop)


def _released(super_root: NodeBuilder, name: str) -> None:
    assert super_root.child(CHECKPOINTS).remove_child(name)
