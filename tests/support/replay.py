"""Edit histories replayed on us, through the commits of our API; the words are real Oak's."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from edit_histories import Edit
from stores import QuickDisk

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.repository import PropertyType, WritableNode, WritableRepository
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import CHECKPOINTS, ROOT, RepositoryWriter
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.typed import python_value
from tarfailover.store.blobs import open_blob_store
from tarfailover.store.writer import StoreWriter


def apply(edit: Edit, root: WritableNode) -> None:
    """One edit."""
    verb, path, *words = edit
    if verb == "node":
        made(root, path)
    elif verb == "set":
        name, kind, many, *texts = words
        values = [value_of(PropertyType[kind], text) for text in texts]
        made(root, path).set(name, values if many == "many" else values[0], PropertyType[kind])
    elif verb == "unset":
        del root.node(path).properties[words[0]]
    elif verb == "remove":
        root.remove(path)
    else:
        assert verb in ("copy", "move")
        parent, _, name = words[0].rpartition("/")
        made(root, parent).children[name] = root.node(path)
        if verb == "move":
            root.remove(path)


def made(root: WritableNode, path: str) -> WritableNode:
    """The node at `path`, made if need be."""
    return root.make(path) if path.strip("/") else root


def value_of(kind: PropertyType, text: str) -> object:
    """What a program would set."""
    return base64.b64decode(text) if kind == PropertyType.BINARY else python_value(kind, text)


class Ours:
    """A repository of ours that lives through the same as Oak's."""

    def __init__(self, directory: Path, seed: int, blobs: Path | None = None) -> None:
        """With `blobs`, long binaries go there, and it is made a FileDataStore."""
        self.directory = directory
        self._random = Random(seed)
        self._blobs = None if blobs is None else open_blob_store(blobs, "file", create=True)
        self._open: WritableRepository | None = None
        self._begin(create=True)

    def _begin(self, *, create: bool = False) -> WritableRepository:
        if self._open is None:
            self._open = repository.open_for_writing(
                self.directory, create=create, blobs=self._blobs, disk=QuickDisk()
            )
        return self._open

    def close(self) -> None:
        """Close it; once is enough."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def commit(self, edits: Sequence[Edit]) -> None:
        """One commit."""
        with self._begin().commit() as root:
            for edit in edits:
                apply(edit, root)

    @contextmanager
    def _below(self) -> Iterator[RepositoryWriter]:
        """The layer below, for what the API leaves to Oak: checkpoints."""
        self.close()
        with StoreWriter.open(self.directory, disk=QuickDisk()) as store:
            yield RepositoryWriter(store, self._random.randbytes, wid="ours", now=lambda: 1)

    def checkpoint(self, name: str, oaks: NodeState) -> None:
        """The checkpoint `name`, with the times and notes that Oak gave it."""
        notes = oaks.child("properties")
        assert notes is not None
        with self._below() as writer:
            assert writer.head is not None
            root = writer.head.child(ROOT)
            assert root is not None
            super_root = writer.super_root()
            made = super_root.child(CHECKPOINTS).child(name)
            _properties(oaks, made)
            _properties(notes, made.child("properties"))
            made.set_child(ROOT, root)
            writer.commit(super_root)

    def release(self, name: str) -> None:
        """Let a checkpoint go."""
        with self._below() as writer:
            super_root = writer.super_root()
            assert super_root.child(CHECKPOINTS).remove_child(name)
            writer.commit(super_root)

    def compact(self, how: str) -> None:
        """A compaction, ``full`` or ``tail``, and the cleanup, as somebody runs it."""
        self.close()
        assert main(["compact", *(["--tail"] if how == "tail" else []), str(self.directory)]) == 0


def _properties(source: NodeState, target: NodeBuilder) -> None:
    for name, prop in source.properties():
        target.set(name, prop)
