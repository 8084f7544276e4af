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

from tarfailover.errors import FormatError
from tarfailover.ids import RecordId
from tarfailover.repository import binaries
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.nodes import NodeState

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

    Raises FormatError or SegmentMissingError for a damaged tree; for a binary that lies in
    an external blob store what `binaries.pieces` raises.
    """
    digester = Digester()
    above: list[tuple[RecordId, Iterator[tuple[str, RecordId]]]] = []
    records: set[RecordId] = set()
    node: NodeState | None = root
    while node is not None or above:
        if node is not None:
            if node.id in records:
                raise FormatError("a node is its own ancestor", 0, f"record {node.id}")
            _own(node, digester)
            children = sorted(node.child_ids(), key=lambda item: utf16_key(item[0]))
            above.append((node.id, iter(children)))
            records.add(node.id)
        record, left = above[-1]
        child = next(left, None)
        if child is None:
            digester.leave()
            above.pop()
            records.remove(record)
            node = None
        else:
            digester.child(child[0])
            node = NodeState(root.reader, child[1])
    return digester.result()


def _own(node: NodeState, digester: Digester) -> None:
    """Take the properties of one node."""
    digester.enter()
    for name, prop in sorted(node.properties(), key=lambda item: utf16_key(item[0])):
        digester.property(name, prop.type, prop.array, len(prop.values))
        for value in prop.values:
            if isinstance(value, str):
                digester.text(value)
            elif not isinstance(value, bytes):
                digester.binary(binaries.length(node.reader, value))
                for piece in binaries.pieces(node.reader, value):
                    digester.data(piece)


class Digester:
    """Computes the digest of a tree that is told part by part, in the order of the definition."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._nodes = 0
        self._properties = 0
        self._blob_bytes = 0

    def child(self, name: str) -> None:
        """A child `name` follows: its `enter` is next."""
        self._hash.update(b"C")
        self.text(name)

    def enter(self) -> None:
        """A node begins: its properties follow, then its children."""
        self._nodes += 1
        self._hash.update(b"N")

    def leave(self) -> None:
        """A node, with all that is below it, ends."""
        self._hash.update(b"E")

    def property(self, name: str, kind: int, array: bool, count: int) -> None:
        """A property of `count` values begins; they follow."""
        self._properties += 1
        self._hash.update(b"P")
        self.text(name)
        self._hash.update(_SHAPE.pack(kind, array, count))

    def text(self, value: str) -> None:
        """A value that is no binary, or a name."""
        raw = value.encode()
        self._hash.update(_U32.pack(len(raw)))
        self._hash.update(raw)

    def binary(self, length: int) -> None:
        """A binary of `length` bytes begins; they follow as `data`."""
        self._hash.update(_U64.pack(length))
        self._blob_bytes += length

    def data(self, piece: bytes) -> None:
        """The next bytes of the binary."""
        self._hash.update(piece)

    def result(self) -> ContentDigest:
        """The counts and the digest, when the first node has ended."""
        return ContentDigest(
            self._nodes, self._properties, self._blob_bytes, self._hash.hexdigest()
        )
