"""The content digest: one number for all that a tree holds, whatever its segments.

SHA-256 over ``node(super root)``, numbers big-endian, strings with a u32 byte length::

    node  = 'N' prop* ('C' str(child name) node)* 'E'
    prop  = 'P' str(name) u32(type tag) u8(is array) u32(count) value*
    value = BINARY: u64 length, bytes; all others: str(the value as text)

Children and properties are sorted by name in UTF-16 code unit order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.errors import ContentError, FormatError
from tarfailover.ids import RecordId
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.values import ExternalBlob, Property, StoredBlob, Value

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_SHAPE = struct.Struct(">IBI")


class ContentDigest(NamedTuple):
    """What walking a tree found: counts by path, not by record, and the digest in hex."""

    nodes: int
    properties: int
    blob_bytes: int
    sha256: str


def content_digest(root: NodeState) -> ContentDigest:
    """Walk everything under `root`, usually the super root, without recursion.

    Raises FormatError or SegmentMissingError for a damaged tree, ContentError for a
    binary that lies in an external blob store.
    """
    return _Walk(root).run()


class _Walk:
    def __init__(self, root: NodeState) -> None:
        self._root = root
        self._hash = hashlib.sha256()
        self._nodes = 0
        self._properties = 0
        self._blob_bytes = 0
        self._path: list[tuple[RecordId, Iterator[tuple[str, RecordId]]]] = []
        self._above: set[RecordId] = set()

    def run(self) -> ContentDigest:
        self._enter(self._root)
        while self._path:
            record, children = self._path[-1]
            child = next(children, None)
            if child is None:
                self._hash.update(b"E")
                self._path.pop()
                self._above.remove(record)
                continue
            self._hash.update(b"C")
            self._string(child[0].encode())
            self._enter(NodeState(self._root.reader, child[1]))
        return ContentDigest(
            self._nodes, self._properties, self._blob_bytes, self._hash.hexdigest()
        )

    def _enter(self, node: NodeState) -> None:
        if node.id in self._above:
            raise FormatError("a node is its own ancestor", 0, f"record {node.id}")
        self._nodes += 1
        self._hash.update(b"N")
        for name, prop in sorted(node.properties(), key=lambda item: utf16_key(item[0])):
            self._property(name, prop)
        children = sorted(node.child_ids(), key=lambda item: utf16_key(item[0]))
        self._path.append((node.id, iter(children)))
        self._above.add(node.id)

    def _property(self, name: str, prop: Property) -> None:
        self._properties += 1
        self._hash.update(b"P")
        self._string(name.encode())
        self._hash.update(_SHAPE.pack(prop.type, prop.array, len(prop.values)))
        for value in prop.values:
            self._value(name, value)

    def _value(self, name: str, value: Value) -> None:
        if isinstance(value, StoredBlob):
            self._blob(value)
        elif isinstance(value, str):
            self._string(value.encode())
        elif isinstance(value, ExternalBlob):
            raise ContentError(
                f"property {name} is kept in an external blob store as {value.blob_id:.80}; "
                "the digest needs its bytes"
            )

    def _blob(self, blob: StoredBlob) -> None:
        self._hash.update(_U64.pack(blob.length))
        self._blob_bytes += blob.length
        for piece in self._root.reader.blob_pieces(blob):
            self._hash.update(piece)

    def _string(self, raw: bytes) -> None:
        self._hash.update(_U32.pack(len(raw)))
        self._hash.update(raw)
