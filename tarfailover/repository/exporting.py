r"""A tree as lines of JSON, which `importing` reads; neither holds more than a node of it.

::

    {"tarfailover": "tree", "version": 1, "path": "/content", "head": "…", "time_ms": …}
    {"depth": 0, "name": "", "properties": {"title": {"type": "STRING", "value": "…"}}}
    {"depth": 1, "name": "page", "properties": {"data": {"type": "BINARY", "value": {"length": 5}}}}
    {"data": "aGVsbG8="}
    {"end": true, "nodes": 2, "properties": 2, "binary_bytes": 5, "sha256": "…"}

A node follows its parent, which is the last node one level up; children and properties are
in the order of their names (UTF-16 code units). An array has ``"values": [...]``. All values
are text, except binaries: ``{"length": bytes}``, of which the bytes follow the node, in the
same order, as lines of base64; and ``{"external": id}`` for one in a blob store that is not
at hand, or not to be copied, of which no bytes follow. ``sha256`` is the content digest of
the tree (see `digest`), null if it has such.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from tarfailover.repository import binaries
from tarfailover.repository.digest import Digester
from tarfailover.repository.hashes import utf16_key
from tarfailover.repository.opened import Revision
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.tree import Node, NodeProperty
from tarfailover.repository.values import ExternalBlob, StoredBlob, Value
from tarfailover.repository.walk import ordered

VERSION = 1
DATA = 48 * 1024
"""Bytes of a binary in one line."""

Line = dict[str, Any]


def export(revision: Revision, node: Node, *, by_id: bool = False) -> Iterator[Line]:
    """The lines of `node` of `revision` with all below it; raises what reading raises.

    `by_id` names external binaries, even if their bytes are at hand.
    """
    by_id = by_id or node.state.reader.blobs is None
    yield {
        "tarfailover": "tree",
        "version": VERSION,
        "path": node.path,
        "head": str(revision.record),
        "time_ms": revision.time_ms,
    }
    digester, external, depth = Digester(), 0, -1
    for step in ordered(node):
        for _ in range(depth - step.depth + 1):
            digester.leave()
        if step.depth:
            digester.child(step.node.name)
        depth = step.depth
        properties = sorted(step.node.properties.values(), key=lambda each: utf16_key(each.name))
        yield {
            "depth": depth,
            "name": step.node.name if depth else "",
            "properties": {each.name: _property(each, by_id=by_id) for each in properties},
        }
        digester.enter()
        for each in properties:
            external += by_id and any(isinstance(v, ExternalBlob) for v in each.stored.values)
            yield from _values(each, digester, by_id=by_id)
    for _ in range(depth + 1):
        digester.leave()
    found = digester.result()
    yield {
        "end": True,
        "nodes": found.nodes,
        "properties": found.properties,
        "binary_bytes": found.blob_bytes,
        "sha256": None if external else found.sha256,
    }


def _property(found: NodeProperty, *, by_id: bool) -> Line:
    """A property in the line of its node."""
    told = [_value(found.reader, each, by_id=by_id) for each in found.stored.values]
    return {"type": found.type.name, **({"values": told} if found.array else {"value": told[0]})}


def _value(reader: RecordReader, value: Value, *, by_id: bool) -> str | Line:
    if isinstance(value, (str, bytes)):
        return str(value)
    if isinstance(value, ExternalBlob) and by_id:
        return {"external": value.blob_id}
    return {"length": binaries.length(reader, value)}


def _values(found: NodeProperty, digester: Digester, *, by_id: bool) -> Iterator[Line]:
    """Give the values to the digest; the bytes of binaries come back as lines."""
    prop = found.stored
    digester.property(found.name, prop.type, prop.array, len(prop.values))
    for value in prop.values:
        if isinstance(value, str):
            digester.text(value)
        elif isinstance(value, StoredBlob) or (isinstance(value, ExternalBlob) and not by_id):
            digester.binary(binaries.length(found.reader, value))
            for chunk in _chunks(binaries.pieces(found.reader, value)):
                digester.data(chunk)
                yield {"data": base64.b64encode(chunk).decode("ascii")}


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `DATA`; the last may be shorter, none is empty."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= DATA:
            yield bytes(held[:DATA])
            del held[:DATA]
    if held:
        yield bytes(held)
