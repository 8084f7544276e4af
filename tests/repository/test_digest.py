"""The content digest: of stores that real Oak wrote, and its definition."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from repository_models import MemorySink, Model, build, models, scan

from tarfailover.errors import ContentError, FormatError
from tarfailover.ids import RecordId
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.digest import content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.records import Draft, Template, block_draft, node_draft
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.values import ExternalBlob, Property

OAK = [
    (
        "fresh",
        (990, 5789, 1902260),
        "26eb72c4e0695faf26574c3e1d0192b74cd9b89bb4d4ccd7161921f297ba1cb3",
    ),
    (
        "compacted",
        (794, 4161, 832944),
        "8bdd227ef18bccd21f9cf4300d24fab3f8bbbb0da9b3a884f75079918fd0309a",
    ),
    (
        "killed",
        (1582, 6259, 1014990),
        "498035742158f7ea10111ac9372062eea5974b650460abe4a95f646ea3e20888",
    ),
]


@pytest.mark.parametrize(("name", "counts", "sha256"), OAK)
def test_the_digest_that_oak_itself_computes(
    fixture_store: Callable[[str], Path],
    name: str,
    counts: tuple[int, int, int],
    sha256: str,
) -> None:
    sink = scan(fixture_store(name))
    assert content_digest(sink.node()) == (*counts, sha256)


@pytest.mark.parametrize(("name", "moved"), [("fresh", 0), ("compacted", 552), ("killed", 0)])
def test_compaction_leaves_the_stable_ids_of_the_originals(
    fixture_store: Callable[[str], Path], name: str, moved: int
) -> None:
    pending = [scan(fixture_store(name)).node()]
    found = 0
    while pending:
        node = pending.pop()
        found += node.stable_id != node.id
        pending.extend(child for _, child in node.children())
    assert found == moved


def digest_of(model: Model) -> bytes:
    """The definition, said as directly as can be (and so with recursion)."""

    def string(text: str) -> bytes:
        return struct.pack(">I", len(text.encode())) + text.encode()

    def order(name: str) -> bytes:
        return name.encode("utf-16-be")

    told = b"N"
    for name in sorted(model.properties, key=order):
        prop = model.properties[name]
        told += b"P" + string(name) + struct.pack(">IBI", prop.type, prop.array, len(prop.values))
        for value in prop.values:
            told += (
                string(value) if isinstance(value, str) else struct.pack(">Q", len(value)) + value
            )
    for name in sorted(model.children, key=order):
        told += b"C" + string(name) + digest_of(model.children[name])
    return told + b"E"


@settings(max_examples=40)
@given(models())
def test_the_digest_is_what_its_definition_says(model: Model) -> None:
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    super_root = writer.super_root()
    build(model, super_root.child("root"))
    writer.commit(super_root)
    told = digest_of(Model({}, {"root": model}))
    assert content_digest(sink.node()).sha256 == hashlib.sha256(told).hexdigest()


def bench() -> tuple[MemorySink, SegmentWriter, RecordWriter]:
    sink = MemorySink()
    segments = SegmentWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    return sink, segments, RecordWriter(segments)


def test_an_external_binary_is_named_but_cannot_be_digested() -> None:
    _, segments, records = bench()
    blob_id = "9bd7c3d1#20000"
    short = segments.write(Draft(8, b"\xe0\x0e" + blob_id.encode()))
    long_id = "x" * 5000
    long = segments.write(Draft(8, b"\xf0", [records.string(long_id)]))
    reader = RecordReader(segments)
    assert reader.blob(short) == ExternalBlob(short, blob_id)
    assert reader.blob(long) == ExternalBlob(long, long_id)
    template = records.template(Template(properties=(("data", 2),)))
    node = NodeState(reader, records.node(template, None, short))
    assert dict(node.properties()) == {"data": Property.of(ExternalBlob(short, blob_id))}
    with pytest.raises(ContentError, match="9bd7c3d1#20000' is kept in an external blob store"):
        content_digest(node)


def test_a_node_below_itself_is_a_fault_and_no_endless_walk() -> None:
    sink, segments, records = bench()
    template = records.template(Template(child="me"))
    segments.write(block_draft(b"any"))
    number = records.string("only to see the number").number + 1
    segment = records.string("only to see the number").segment
    record = segments.write(node_draft(template, RecordId(segment, number), None))
    assert record.number == number
    segments.seal()
    with pytest.raises(FormatError, match="its own ancestor"):
        content_digest(sink.node(record))
