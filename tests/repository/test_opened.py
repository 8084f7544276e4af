"""The public way into a repository: states, nodes, properties, binaries; beside a writer."""

from __future__ import annotations

import datetime as dt
import io
import random
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from pathlib import Path

import content
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_models import MemorySink

from tarfailover import repository
from tarfailover.errors import ConfigError, ContentError, FormatError, NoHeadError, NotFoundError
from tarfailover.format.segment import NODE, records
from tarfailover.ids import RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader, Segment
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import Node
from tarfailover.repository.values import Property, PropertyType
from tarfailover.repository.walk import ordered

pytestmark = pytest.mark.load

SIZES = (0, 1, 127, 128, 16511, 16512, 16513, 262144, 300_000, 255 * 4096 + 1)
LARGE = random.Random(3).randbytes(max(SIZES))
DATE = dt.datetime(2026, 11, 22, 19, 12, 16, 264000, dt.timezone.utc)
BLOB_ID = "9bd7c3d157e82753fd2bf3a9df26bea49bc29caf#20000"

TYPED: dict[str, object] = {
    "text": "é😀",
    "long": -5,
    "double": 0.5,
    "decimal": Decimal("1.50"),
    "yes": True,
    "date": DATE,
    "longs": (1, 2, 3),
    "none": (),
}


def first(root: NodeBuilder, writer: RepositoryWriter) -> None:
    page = root.child("content").child("page")
    page.set("jcr:primaryType", Property.name("nt:unstructured"))
    page.set("jcr:mixinTypes", Property.names(["mix:title"]))
    for name, value in TYPED.items():
        page.set(name, Property.of(value))
    for size in SIZES:
        page.child("binaries").set(f"b{size}", Property.of(writer.blob(LARGE[:size])))
    page.child("binaries").set("far", Property.of(content.external(writer, BLOB_ID)))
    page.set("wrong", Property(PropertyType.LONG, ("seven",)))
    wide = root.child("wide")
    for number in range(1000):
        wide.child(f"n{number}").set("x", Property.of(number))


def second(root: NodeBuilder, _: RepositoryWriter) -> None:
    root.child("content").child("page").set("text", Property.of("new"))


def third(super_root: NodeBuilder, writer: RepositoryWriter) -> None:
    before = writer.head
    assert before is not None
    state = before.child("root")
    assert state is not None
    made = super_root.child("checkpoints").child("kept")
    made.set("created", Property.of(5)).set("timestamp", Property.of(10**15))
    made.child("properties").set("creator", Property.of("me"))
    made.set_child("root", state)
    super_root.child("root").child("content").remove_child("page")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    content.write(directory, first, second)
    content.write(directory, third, seed=2, top=True)
    return directory


def text_at(opened: repository.Repository, when: object) -> str:
    value = opened.at(when).node("/content/page").properties["text"].value
    assert isinstance(value, str)
    return value


def test_states_by_every_name(store: Path) -> None:
    with repository.open(store) as opened:
        lines = list(opened.heads())
        assert lines[0].head == opened.head.record
        assert len(lines) == 3
        newest, middle, oldest = lines
        assert opened.at(None).record == opened.at("head").record == opened.at("HEAD~0").record
        assert "page" not in opened.node("/content").children
        assert text_at(opened, "head~1") == text_at(opened, middle.head) == "new"
        assert text_at(opened, str(oldest.head)) == text_at(opened, oldest.head.hex) == "é😀"
        assert text_at(opened, "kept") == "new"
        when = dt.datetime.fromtimestamp(middle.time_ms / 1000, dt.timezone.utc)
        assert text_at(opened, when) == "new"
        assert text_at(opened, when - dt.timedelta(milliseconds=1)) == "é😀"
        assert text_at(opened, when.isoformat().replace("+00:00", "Z")) == "new"
        assert text_at(opened, when.replace(tzinfo=None).isoformat()) == "new"
        assert opened.at(middle.head).time == when
        assert opened.at("2999-01-01").record == newest.head


def test_states_that_are_not_there(store: Path) -> None:
    with repository.open(store) as opened:
        for when, why in [
            ("head~3", "no 3 older heads"),
            (str(RecordId(bytes(16), 1)), "names no head"),
            ("2001-01-01", "no head that is as old"),
            ("tomorrow", "names no state of the repository: give head"),
        ]:
            with pytest.raises(NotFoundError, match=why):
                opened.at(when)


def test_a_head_that_cleanup_removed_is_told_as_such(store: Path) -> None:
    gone = f"{RecordId(bytes(8) + bytes([0xA0]) + bytes(7), 1)}"
    journal = store / "journal.log"
    journal.write_text(f"{gone} root 1000\n" + journal.read_text())
    with repository.open(store) as opened:
        assert len(list(opened.heads())) == 3
        for when in (gone, "1970-01-02"):
            with pytest.raises(NoHeadError, match="cleanup removed it"):
                opened.at(when)


def test_a_record_that_is_no_state(store: Path) -> None:
    with repository.open(store) as opened:
        page = opened.node("/wide/n1").record
        with pytest.raises(ContentError, match="no state of a repository"):
            opened.revision(page)


def test_checkpoints(store: Path) -> None:
    with repository.open(store) as opened:
        [kept] = opened.checkpoints()
        assert (kept.name, kept.created_ms, kept.expires_ms) == ("kept", 5, 10**15)
        assert kept.info == {"creator": "me"}
        assert kept.revision().name == "kept"
        assert "page" in kept.revision().node("content").children
        assert opened.at("head~1").root.state.id == kept.revision().root.record


def test_properties_of_every_type(store: Path) -> None:
    with repository.open(store) as opened:
        page = opened.at("head~2").node("/content/page")
        found = page.properties
        assert {name: found[name].value for name in TYPED} == TYPED
        assert found["jcr:primaryType"].value == "nt:unstructured"
        assert found["jcr:mixinTypes"].value == ("mix:title",)
        assert set(found) == {*TYPED, "jcr:primaryType", "jcr:mixinTypes", "wrong"}
        assert len(found) == len(TYPED) + 3
        assert [found[name].kind for name in ("long", "longs", "none")] == [
            "LONG",
            "LONG[]",
            "STRING[]",
        ]
        assert found["date"].texts == ("2026-11-22T19:12:16.264Z",)
        assert "nothing" not in found
        with pytest.raises(ContentError, match="'seven' is no LONG"):
            found["wrong"].value  # noqa: B018
        assert found["wrong"].texts == ("seven",)
        with pytest.raises(ContentError, match="not one BINARY but LONG"):
            found["long"].binary  # noqa: B018
        with pytest.raises(NotFoundError, match="no property lnog; did you mean long"):
            page.find_property("lnog")


@pytest.fixture
def binaries(store: Path) -> repository.Properties:
    with repository.open(store) as opened:
        yield opened.at("head~1").node("/content/page/binaries").properties


def test_binaries_are_files(binaries: repository.Properties) -> None:
    for size in SIZES:
        binary = binaries[f"b{size}"].binary
        assert (binary.length, binary.blob_id) == (size, None)
        with binary.open() as file:
            assert file.read() == LARGE[:size]
            assert file.read(1) == b""
        assert binary.read() == LARGE[:size]


def test_external_binaries_are_named(binaries: repository.Properties) -> None:
    binary = binaries["far"].binary
    assert (binary.blob_id, binary.length) == (BLOB_ID, 20000)
    with pytest.raises(ContentError, match="external blob store"):
        binary.open()
    with pytest.raises(ContentError, match="has no text"):
        binaries["far"].texts  # noqa: B018
    unsized = repository.Binary(
        binaries["far"]._state.reader, binary.blob.__class__(binary.blob.record, "x")
    )
    assert unsized.length is None


MOVES = st.lists(
    st.tuples(st.sampled_from([0, 1, 2]), st.integers(-20_000, 20_000), st.integers(0, 9000))
)


@given(st.sampled_from([1, 128, 16511, 16512, 255 * 4096 + 1]), MOVES)
def test_seeking_is_that_of_a_file(size: int, moves: list[tuple[int, int, int]]) -> None:
    stream = BINARIES[size].open()
    twin = io.BytesIO(LARGE[:size])
    for whence, offset, count in moves:
        place = {0: 0, 1: twin.tell(), 2: size}[whence] + offset
        if place < 0:
            with pytest.raises(ValueError, match="no position"):
                stream.seek(place)
            continue
        assert stream.seek(offset, whence) == twin.seek(place)
        assert stream.read(count) == twin.read(count)
        assert stream.tell() == twin.tell()


def _binaries() -> dict[int, Binary]:
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="t", now=lambda: 1)
    super_root = writer.super_root()
    for size in SIZES:
        super_root.child("root").set(f"b{size}", Property.of(writer.blob(LARGE[:size])))
    writer.commit(super_root)
    root = Node(sink.node()).node("root")
    return {size: root.properties[f"b{size}"].binary for size in SIZES}


BINARIES = _binaries()


class Counting:
    """A source of segments that remembers which ones were read."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink
        self.read_ids: list[bytes] = []

    def read(self, segment: bytes) -> bytes:
        self.read_ids.append(segment)
        return self._sink.read(segment)


def test_a_seek_reads_only_the_segments_it_needs() -> None:
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="t", now=lambda: 1)
    super_root = writer.super_root()
    super_root.child("root").set("big", Property.of(writer.blob(bytes(8 * 262144))))
    head = writer.commit(super_root)
    source = Counting(sink)
    binary = Node(NodeState(RecordReader(source), head)).node("root").properties["big"].binary
    with binary.open() as file:
        file.seek(5 * 262144 + 17)
        assert file.read(1) == b"\0"
    assert len(source.read_ids) == 2


def test_what_lies_before_in_a_long_list_is_not_read() -> None:
    sink = MemorySink()
    segments = SegmentWriter(sink, random.Random(1).randbytes, wid="t", now=lambda: 1)
    writer = RecordWriter(segments)
    elements = [writer.string(str(number)) for number in range(100)] * 800
    record = writer.list(elements)
    segments.seal()
    looked_at: list[RecordId] = []

    class Reader(RecordReader):
        def locate(self, record: RecordId, *types: int) -> tuple[Segment, int]:
            looked_at.append(record)
            return super().locate(record, *types)

    for start in (0, 254, 255, 64_999, 65_025, 79_999):
        looked_at.clear()
        found = list(islice(Reader(sink).list(record, 80_000, start), 3))
        assert found == elements[start : start + 3]
        assert len(looked_at) <= 6
    assert list(Reader(sink).list(record, 80_000, 80_000)) == []


def test_children_are_a_mapping_that_reads_on_demand(store: Path) -> None:
    with repository.open(store) as opened:
        wide = opened.node("wide")
        assert len(wide.children) == 1000
        assert wide.children["n77"].properties["x"].value == 77
        assert "n77" in wide.children and "n1000" not in wide.children
        assert 7 not in wide.children
        assert set(wide.children) == {f"n{number}" for number in range(1000)}
        assert {name: node.name for name, node in wide.children.items()} == {
            name: name for name in wide.children
        }
        assert sum(1 for _ in wide.children.values()) == 1000
        with pytest.raises(KeyError):
            wide.children["n1000"]
        child = wide.children["n5"]
        assert (child.path, child.parent, child.names) == ("/wide/n5", wide, ["wide", "n5"])
        assert child == opened.node("/wide/n5") != opened.node("/wide/n6")
        assert len({child, opened.node("/wide/n5")}) == 1


def test_a_name_that_is_not_there_is_told_with_similar_ones(store: Path) -> None:
    with repository.open(store) as opened:
        for path, why in [
            ("/contnet", "no /contnet; did you mean /content?"),
            ("/wide/x", "`tarfailover ls` of /wide shows what is there: 1,000"),
            ("/wide/n1/a/b", "no /wide/n1/a: /wide/n1 has no children"),
            ("/\x1b", r"no /\\u001b"),
        ]:
            with pytest.raises(NotFoundError, match=why.replace("?", r"\?")):
                opened.node(path)
        with pytest.raises(ConfigError):
            opened.node("\\")


def test_what_was_opened_stays_as_it_was_beside_a_writer(store: Path) -> None:
    with repository.open(store) as opened:
        before = opened.head.record
        content.write(
            store, lambda root, _: root.child("late").set("x", Property.of(1)) and None, seed=3
        )
        assert opened.head.record == before
        assert "late" not in opened.root.children
        for tar in store.glob("*.tar"):
            tar.unlink()
        assert len(list(opened.root.walk())) == 1003
        assert len(list(opened.heads())) == 3
    with pytest.raises(NoHeadError):
        repository.open(store)


def test_a_deep_chain_is_walked_without_recursion() -> None:
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="t", now=lambda: 1)
    super_root = writer.super_root()
    node = super_root.child("root")
    for _ in range(5000):
        node = node.child("c")
    writer.commit(super_root)
    top = Node(sink.node())
    deepest = list(top.walk())[-1]
    assert len(deepest.names) == 5001
    assert top.node(deepest.path) == deepest
    assert sum(1 for _ in ordered(top)) == 5002
    assert [step.depth for step in ordered(top, 2)] == [0, 1, 2]


def test_nodes_come_in_the_order_of_their_names(store: Path) -> None:
    with repository.open(store) as opened:
        names = [step.node.name for step in ordered(opened.node("wide"))][1:]
        assert names == sorted(f"n{number}" for number in range(1000))
        steps = list(ordered(opened.node("/"), 1))
        assert [(step.node.name, step.last) for step in steps] == [
            ("", True),
            ("content", False),
            ("wide", True),
        ]


def looping() -> Node:
    """A node that damage has made its own grandchild."""
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="t", now=lambda: 1)
    super_root = writer.super_root()
    super_root.child("root").child("a").child("b").child("c")
    head = writer.commit(super_root)
    [(segment, data)] = sink.segments.items()
    raw = bytearray(data)
    reader = RecordReader(sink)
    a = Node(sink.node()).node("root/a")
    b = Node(sink.node()).node("root/a/b")
    _, at = reader.locate(b.record, NODE)
    raw[at + 14 : at + 18] = a.record.number.to_bytes(4, "big")
    sink.segments[segment] = bytes(raw)
    assert {each.type for each in records(bytes(raw))} >= {NODE}
    return Node(NodeState(RecordReader(sink), head))


@pytest.mark.parametrize("walk", [lambda top: top.walk(), ordered])
def test_a_loop_is_a_fault_and_no_endless_walk(walk: Callable[[Node], object]) -> None:
    with pytest.raises(FormatError, match="its own ancestor"):
        list(walk(looping()))


def test_what_real_oak_wrote(fixture_store: Callable[[str], Path]) -> None:
    with repository.open(fixture_store("fresh")) as opened:
        assert sum(1 for _ in opened.head.super_root.walk()) == 990
        [kept] = opened.checkpoints()
        assert kept.expires_ms > kept.created_ms > 1_700_000_000_000
        nodes = properties = size = 0
        for node in opened.head.super_root.walk():
            nodes += 1
            for each in node.properties.values():
                properties += 1
                for value in each.values:
                    size += len(value.open().read()) if isinstance(value, Binary) else 0
        assert (nodes, properties, size) == (990, 5789, 1902260)
