"""How much lies below a node: nodes, properties, texts, binaries."""

from __future__ import annotations

from dataclasses import dataclass

from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import Node, NodeProperty
from tarfailover.repository.values import ExternalBlob, PropertyType, StoredBlob


@dataclass
class Usage:
    """What is below a node, itself included, counted by path: what two paths share counts twice."""

    nodes: int = 0
    properties: int = 0
    text_bytes: int = 0
    """Of all values that are no binaries, in UTF-8."""
    binary_bytes: int = 0
    """Of binaries that the store's own segments hold."""
    external: int = 0
    """Binaries in an external blob store."""
    external_bytes: int = 0
    """Of those whose id tells their length."""

    def add(self, other: Usage) -> None:
        """Add what `other` counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def bytes(self) -> int:
        """All bytes of values that the store's own segments hold."""
        return self.text_bytes + self.binary_bytes


def usage(node: Node, *, below: bool = True) -> Usage:
    """Count what `node` holds, with all below it; no byte of a binary is read."""
    found = Usage()
    for each in node.walk() if below else (node,):
        found.nodes += 1
        for prop in each.properties.values():
            found.properties += 1
            _values(prop, found)
    return found


def _values(prop: NodeProperty, found: Usage) -> None:
    reader, record = prop.reader, prop.value_record
    if record is not None and not prop.array and prop.type != PropertyType.BINARY:
        found.text_bytes += reader.value(record).length
        return
    for value in prop.stored.values:
        if isinstance(value, str):
            found.text_bytes += len(value.encode())
        elif isinstance(value, StoredBlob):
            found.binary_bytes += value.length
        elif isinstance(value, ExternalBlob):
            found.external += 1
            found.external_bytes += Binary(reader, value).length or 0
