"""Reads a tree that `exporting` wrote, and stores it in one commit.

Nothing of it becomes a head unless the last line was there, and counts and digest are what
it says. At any time one line is held, the names of the nodes above, and the children of
each of these.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from tarfailover.errors import BlobMissingError, ContentError, FormatError, NotFoundError
from tarfailover.ids import RecordId
from tarfailover.repository import binaries, paths
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import ROOT, RepositoryWriter
from tarfailover.repository.digest import ContentDigest, Digester
from tarfailover.repository.exporting import VERSION
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.values import Property, PropertyType, Value

MAX_LINE = 256 * 1024 * 1024
"""Bytes of one line: a node's properties with all their texts, or a part of a binary."""
MAX_DEPTH = 100_000
"""Levels of nodes, as for a deep check."""


class Lines(Protocol):
    """What is read: an open binary file, or anything with its `readline`."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, at most `limit` bytes of it; empty at the end."""


class Imported(NamedTuple):
    """What was stored."""

    head: RecordId
    path: str
    digest: ContentDigest


def import_tree(writer: RepositoryWriter, lines: Lines, path: str, *, replace: bool) -> Imported:
    """Store the tree in `lines` as the node at `path`, in one commit.

    The node above must exist; the node itself only if it is to be replaced. Raises
    NotFoundError, ConfigError for a path that cannot be read, ContentError that names the
    line for a tree that is cut off or is none, and what the writer raises.
    """
    super_root = writer.super_root()
    names = [ROOT, *paths.split(path)]
    above = _parent(super_root, names)
    if not replace and above.has_child(names[-1]) and _holds_something(above.child(names[-1])):
        raise ContentError(
            f"{paths.join(names[1:])} is there already; give another path, or let it be replaced"
        )
    state, found = _TreeReader(writer, lines).read()
    above.remove_child(names[-1])
    above.set_child(names[-1], state)
    return Imported(writer.commit(super_root), paths.join(names[1:]), found)


def _parent(super_root: NodeBuilder, names: list[str]) -> NodeBuilder:
    above = super_root
    for place, name in enumerate(names[:-1]):
        if not above.has_child(name):
            raise NotFoundError(f"there is no {paths.join(names[1 : place + 1])} to import into")
        above = above.child(name)
    return above


def _holds_something(node: NodeBuilder) -> bool:
    """Whether a node is more than the empty top of a fresh repository."""
    base = node.base
    return base is not None and bool(base.child_count() or next(base.properties(), None))


class _TreeReader:
    """Reads one tree, and writes each node when all below it is there."""

    def __init__(self, writer: RepositoryWriter, lines: Lines) -> None:
        self._writer = writer
        self._lines = lines
        self._number = 0
        self._digester = Digester()
        self._by_id = 0
        """Bytes of binaries that were only named."""
        self._open: list[tuple[str, NodeBuilder]] = []
        self._state: NodeState | None = None

    def read(self) -> tuple[NodeState, ContentDigest]:
        """The stored tree, to which nothing refers yet, and what it holds."""
        first = self._line()
        if first.get("tarfailover") != "tree" or first.get("version") != VERSION:
            raise self._wrong(f"this is no tree of version {VERSION} that tarfailover exported")
        while True:
            line = self._line()
            if line.get("end") is True:
                return self._end(line)
            self._node(line)

    def _end(self, line: dict[str, Any]) -> tuple[NodeState, ContentDigest]:
        self._close(0)
        found = self._digester.result()
        said = [line.get(name) for name in ("nodes", "properties", "binary_bytes")]
        came = [found.nodes, found.properties, found.blob_bytes - self._by_id]
        if self._state is None or said != came:
            raise self._wrong(f"{said} nodes, properties and bytes are said, {came} came")
        if line.get("sha256") not in (None, found.sha256):
            raise self._wrong(f"the digest is {found.sha256}, not {line['sha256']!r:.80}")
        if self._lines.readline(1):
            raise self._wrong("there is more behind the end")
        return self._state, found

    def _wrong(self, what: str) -> ContentError:
        return ContentError(f"line {self._number}: {what}; nothing was committed")

    def _line(self) -> dict[str, Any]:
        raw = self._lines.readline(MAX_LINE + 1)
        self._number += 1
        if not raw:
            raise self._wrong("the tree is cut off here: its last line is missing")
        if len(raw) > MAX_LINE:
            raise self._wrong(f"it is longer than {MAX_LINE:,} bytes")
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"it is no JSON ({error})") from error
        if not isinstance(found, dict):
            raise self._wrong("it is no JSON object")
        return found

    def _node(self, line: dict[str, Any]) -> None:
        depth, name, properties = line.get("depth"), line.get("name"), line.get("properties")
        if type(depth) is not int or not isinstance(properties, dict):
            raise self._wrong("it is no node: depth, name and properties")
        first = not self._open
        if first != (depth == 0) or not 0 <= depth <= min(len(self._open), MAX_DEPTH):
            raise self._wrong(f"a node of depth {depth} cannot stand here")
        self._close(depth)
        told = self._text(name)
        if not first:
            if not told or self._open[-1][1].has_child(told):
                raise self._wrong(f"there is a child {told!r:.80} already, or it has no name")
            self._digester.child(told)
        builder = NodeBuilder()
        self._open.append((told, builder))
        self._digester.enter()
        for each in sorted(properties, key=lambda name: utf16_key(self._text(name))):
            builder.set(each, self._property(each, properties[each]))

    def _close(self, depth: int) -> None:
        """Write the open nodes from `depth` on; the one above gets each as a child."""
        while len(self._open) > depth:
            name, builder = self._open.pop()
            state = self._writer.write(builder)
            self._digester.leave()
            if self._open:
                self._open[-1][1].set_child(name, state)
            else:
                self._state = state

    def _text(self, found: object) -> str:
        if not isinstance(found, str):
            raise self._wrong(f"{found!r:.80} is no text")
        try:
            found.encode()
        except UnicodeEncodeError as error:
            raise self._wrong(f"{found!r:.80} has a lone surrogate") from error
        return found

    def _property(self, name: str, found: object) -> Property:
        if not isinstance(found, dict) or ("value" in found) == ("values" in found):
            raise self._wrong(f"property {name!r:.80} has no type, or neither value nor values")
        kind = PropertyType.__members__.get(str(found.get("type")))
        array = "values" in found
        values = found["values"] if array else [found["value"]]
        if kind is None or not isinstance(values, list):
            raise self._wrong(f"property {name!r:.80} has no type that there is, or no list")
        self._digester.property(name, kind, array, len(values))
        return Property(kind, tuple(self._value(name, kind, each) for each in values), array)

    def _value(self, name: str, kind: PropertyType, found: object) -> Value:
        if kind != PropertyType.BINARY:
            text = self._text(found)
            self._digester.text(text)
            return text
        if isinstance(found, dict) and "external" in found:
            return self._external(name, found["external"])
        length = found.get("length") if isinstance(found, dict) else None
        if type(length) is not int or length < 0:
            raise self._wrong(f"a value of property {name!r:.80} is no binary")
        self._digester.binary(length)
        return self._writer.blob(_Data(self._pieces(length)))

    def _external(self, name: str, blob_id: object) -> Value:
        """A binary that is only named; it must be in the blob store."""
        try:
            blob = self._writer.external(self._text(blob_id))
            length = binaries.length(self._writer.reader, blob)
            self._by_id += length
            self._digester.binary(length)
            for piece in binaries.pieces(self._writer.reader, blob):
                self._digester.data(piece)
        except (ContentError, FormatError, BlobMissingError) as error:
            raise self._wrong(f"property {name!r:.80}: {error}") from error
        return blob

    def _pieces(self, length: int) -> Iterator[bytes]:
        """The bytes of a binary, a line each."""
        while length:
            try:
                piece = base64.b64decode(self._text(self._line().get("data")), validate=True)
            except ValueError as error:
                raise self._wrong(f"the bytes of a binary are no base64 ({error})") from error
            if not 0 < len(piece) <= length:
                raise self._wrong(f"{len(piece)} bytes where {length} are left of a binary")
            length -= len(piece)
            self._digester.data(piece)
            yield piece


class _Data:
    """Pieces as a file to be read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""
        if not self._held:
            self._held = next(self._pieces, b"")
        taken, self._held = self._held[:size], self._held[size:]
        return taken
