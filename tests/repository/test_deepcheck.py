"""The deep check: whole stores are whole, damage is named, and nothing is endless."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import content
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import MemorySink, Model, build, models
from snapshots import damages, deep_check

from tarfailover import repository
from tarfailover.errors import ConfigError, FormatError, SegmentMissingError
from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, is_bulk, is_data
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.deepcheck import Books, Counts, DeepCheck, load, save, whole_heads
from tarfailover.repository.deepcheck import walk as walks
from tarfailover.repository.deepcheck.marks import MAX_BITS, Marks
from tarfailover.repository.maps import Branch, Diff, Leaf, MapWriter, parse
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.records import Draft, Template, bucket_draft, list_draft, node_draft
from tarfailover.repository.sample import write_sample
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import Node
from tarfailover.repository.values import Property, StoredBlob

pytestmark = pytest.mark.load


def opened(sink: MemorySink, seed: int = 1) -> RepositoryWriter:
    return RepositoryWriter(sink, random.Random(seed).randbytes, wid="test", now=lambda: 1)


def store() -> MemorySink:
    """A head and the one before it, a checkpoint, a diff, and a value of every form."""
    sink = MemorySink()
    writer = opened(sink)
    super_root = writer.super_root()
    many = {f"n{i}": Model({"x": Property.of(i)}) for i in range(80)}
    properties = {
        "jcr:primaryType": Property.name("nt:base"),
        "jcr:mixinTypes": Property.names(["mix:a"]),
        "binary": Property.of(bytes(17_000)),
        "binaries": Property.of([b"a", bytes(20_000)]),
        "longs": Property.of([1, 2, 3]),
        "text": Property.of("t" * 17_000),
        "medium": Property.of("m" * 300),
        "far": Property.of(content.external(writer, "abc#5")),
    }
    build(
        Model(
            properties, {"many": Model({}, many), "few": Model({}, {"a": Model(), "b": Model()})}
        ),
        super_root.child("root"),
    )
    writer.commit(super_root)
    super_root = writer.super_root()
    super_root.child("root").child("many").child("n7").set("x", Property.of(-7))
    kept = super_root.child("checkpoints").child("kept")
    assert writer.head is not None
    kept.set_child("root", writer.head.child("root"))
    writer.commit(super_root)
    return sink


STORE = store()
DATA = [segment for segment in STORE.segments if is_data(segment)]
BULK = next(segment for segment in STORE.segments if is_bulk(segment))


def copy_of(sink: MemorySink = STORE) -> MemorySink:
    twin = MemorySink()
    twin.segments, twin.journal = dict(sink.segments), list(sink.journal)
    return twin


def test_a_whole_store_is_whole_and_counted() -> None:
    sink = copy_of()
    check = deep_check(sink)
    assert list(check.run(sink.head)) == []
    assert check.finished
    assert check.books.counts == Counts(nodes=91, properties=97, binary_bytes=37_001, external=1)


@settings(max_examples=40)
@given(models())
def test_whatever_is_written_is_whole(model: Model) -> None:
    sink = MemorySink()
    writer = opened(sink)
    super_root = writer.super_root()
    build(model, super_root.child("root"))
    writer.commit(super_root)
    assert damages(sink) == []


@pytest.mark.parametrize("name", ["fresh", "compacted", "killed"])
def test_what_real_oak_wrote_is_whole(fixture_store: Callable[[str], Path], name: str) -> None:
    with repository.open(fixture_store(name)) as opened_store:
        books = Books()
        check = DeepCheck(opened_store.snapshot, books, clock=lambda: 0.0)
        assert list(check.run(opened_store.head.record)) == []
        if name == "killed":  # no checkpoint, so that no record has two paths
            assert (books.counts.nodes, books.counts.properties) == (1582, 6259)
            assert books.counts.binary_bytes == 1014990


def test_a_sample_is_whole() -> None:
    sink = MemorySink()
    write_sample(sink, nodes=200, binary_kib=40, commits=4, seed=1)
    assert damages(sink) == []


# Damage anywhere


def can_be_read(sink: MemorySink) -> bool:
    try:
        for node in Node(NodeState(RecordReader(sink), sink.head)).walk():
            for each in node.properties.values():
                for value in each.stored.values:
                    if isinstance(value, StoredBlob):
                        Binary(each.reader, value).read()
    except (FormatError, SegmentMissingError):
        return False
    return True


@settings(max_examples=150)
@given(st.sampled_from(DATA), st.data())
def test_a_changed_byte_anywhere_is_told_if_it_breaks_reading(
    segment: bytes, data: st.DataObject
) -> None:
    sink = copy_of()
    sound = sink.segments[segment]
    place = data.draw(st.integers(0, 2000) | st.integers(0, len(sound) - 1))
    value = data.draw(st.integers(0, 255))
    sink.segments[segment] = sound[:place] + bytes([value]) + sound[place + 1 :]
    found = damages(sink)
    assert found or can_be_read(sink)
    for each in found:
        assert each.path and each.part and each.record and each.lost and each.what
        assert each.file == "data00000a.tar"
        assert each.offset is not None


@settings(max_examples=60)
@given(st.sampled_from(DATA), st.data())
def test_many_changed_bytes_are_neither_endless_nor_a_traceback(
    segment: bytes, data: st.DataObject
) -> None:
    sink = copy_of()
    raw = bytearray(sink.segments[segment])
    rng = random.Random(data.draw(st.integers(0, 10**6)))
    for _ in range(data.draw(st.integers(1, 300))):
        raw[rng.randrange(32 + 16, len(raw))] = rng.randrange(256)
    sink.segments[segment] = bytes(raw)
    damages(sink)


@settings(max_examples=30)
@given(st.sampled_from(DATA), st.binary(max_size=100), st.booleans())
def test_any_bytes_as_a_segment(segment: bytes, data: bytes, headed: bool) -> None:
    sink = copy_of()
    sink.segments[segment] = (sink.segments[segment][:32] if headed else b"") + data
    assert damages(sink)


@pytest.mark.parametrize("segment", [*DATA, BULK])
def test_a_missing_segment_is_told_with_what_needs_it(segment: bytes) -> None:
    sink = copy_of()
    del sink.segments[segment]
    found = damages(sink)
    assert found
    assert all("is in no tar of the store" in each.what for each in found)
    if segment != sink.head.segment:
        assert all(each.file and each.offset for each in found)


# Damage in one place, named


def changed(
    change: Callable[[bytearray, RecordReader, Node], RecordId],
) -> tuple[MemorySink, RecordId]:
    """The store with one record changed in place: `change` gets its segment, and says which."""
    sink = copy_of()
    reader = RecordReader(copy_of())
    top = Node(NodeState(reader, sink.head))
    raws = {segment: bytearray(data) for segment, data in sink.segments.items()}
    record = change(raws, reader, top)
    sink.segments = {segment: bytes(raw) for segment, raw in raws.items()}
    return sink, record


def at(reader: RecordReader, record: RecordId) -> int:
    return reader.segment(record.segment).locate(record.number, *range(9))


def value_of(top: Node, path: str, name: str) -> RecordId:
    record = top.node(path).properties[name].value_record
    assert record is not None
    return record


def spoil_text(raws, reader, top):
    record = value_of(top, "root", "medium")
    raws[record.segment][at(reader, record) + 5] = 0xFF
    return record


def spoil_value_type(raws, _, top):
    record = value_of(top, "root", "longs")
    raw = raws[record.segment]
    header = layout.parse_header(bytes(raw))
    raw[32 + 16 * header.references + 9 * record.number + 4] = layout.TEMPLATE
    return record


def spoil_block(raws, reader, top):
    record = value_of(top, "root", "text")
    blocks = list(reader.list(reader.value(record).blocks, 5))
    raw = raws[blocks[2].segment]
    header = layout.parse_header(bytes(raw))
    raw[32 + 16 * header.references + 9 * blocks[2].number + 4] = layout.LEAF
    return blocks[2]


def spoil_length(raws, reader, top):
    record = value_of(top, "root", "binary")
    raws[record.segment][at(reader, record) : at(reader, record) + 8] = struct.pack(
        ">Q", 0xC000000000000000 | 10**15
    )


def spoil_array(raws, reader, top):
    record = value_of(top, "root", "longs")
    start = at(reader, record)
    raws[record.segment][start : start + 4] = b"\xff\xff\xff\xff"
    return record


def spoil_tag(raws, reader, top):
    node = top.node("root")
    template = node.state.template_id
    start = at(reader, template) + 4 + 6 * 3
    raws[template.segment][start] = 99


def spoil_order(raws, reader, top):
    leaf = the_leaf(reader, top)
    start = at(reader, leaf)
    raw = raws[leaf.segment]
    raw[start + 4 : start + 8], raw[start + 8 : start + 12] = (
        raw[start + 8 : start + 12],
        raw[start + 4 : start + 8],
    )
    return leaf


def the_leaf(reader: RecordReader, top: Node) -> RecordId:
    record = top.node("root/many").state.child_record
    parsed = parse(reader, record)
    while not isinstance(parsed, Leaf) or len(parsed.hashes) < 2:
        record = parsed.base if isinstance(parsed, Diff) else biggest(reader, parsed)
        parsed = parse(reader, record)
    return record


def biggest(reader: RecordReader, branch: Branch) -> RecordId:
    def size(record: RecordId) -> int:
        parsed = parse(reader, record)
        return parsed.size if isinstance(parsed, Branch) else len(parsed.hashes)

    return max(branch.buckets.values(), key=size)


def spoil_size(raws, reader, top):
    record = top.node("root/many").state.child_record
    record = parse(reader, record).base
    raws[record.segment][at(reader, record) + 3] += 1
    return record


def spoil_level(raws, reader, top):
    leaf = the_leaf(reader, top)
    raws[leaf.segment][at(reader, leaf)] ^= 0x60
    return leaf


def spoil_diff(raws, reader, top):
    record = top.node("root/many").state.child_record
    raws[record.segment][at(reader, record) + 4] ^= 1
    return record


def spoil_bucket(raws, reader, top):
    record = parse(reader, top.node("root/many").state.child_record).base
    start = at(reader, record) + 4
    bitmap = int.from_bytes(raws[record.segment][start : start + 4], "big")
    raws[record.segment][start : start + 4] = (
        (bitmap ^ 0b11).to_bytes(4, "big")
        if bitmap & 3 in (1, 2)
        else (((bitmap << 1) | (bitmap >> 31)) & 0xFFFFFFFF).to_bytes(4, "big")
    )


def spoil_stable_id(raws, reader, top):
    record = top.node("root/few/a").record
    start = at(reader, record)
    raws[record.segment][start + 2 : start + 6] = (0).to_bytes(4, "big")
    # the wrong place is that of the record it names


def loop(raws, reader, top):
    parent, child = top.node("root").record, top.node("checkpoints/kept").record
    node = top.node("checkpoints")
    raw = raws[child.segment]
    start = at(reader, child) + 12
    raw[start : start + 6] = b"\0\0" + node.record.number.to_bytes(4, "big")
    assert parent.segment == child.segment == node.record.segment
    return node.record


NAMED = [
    (spoil_text, "/", "property medium", "the text is not UTF-8", "the value"),
    (spoil_value_type, "/", "property longs", "has type 6", "the property"),
    (spoil_block, "/", "property text", "has type 0", "4,096 of 17,000 bytes, from byte 8,192 on"),
    (spoil_length, "/", "property binary", "a list cannot have", "bytes, from byte 0 on"),
    (spoil_array, "/", "property longs", "4294967295 values", "the property"),
    (spoil_tag, "/", "property", "there is no property type 99", "the property"),
    (spoil_order, "/many", "its children", "another hash than its name", "looking it up by name"),
    (spoil_size, "/many", "its children", "a map of 81 children has 80", "some of the children"),
    (spoil_level, "/many", "its children", "stands below one of 0", "some of the children"),
    (spoil_diff, "/many", "its children", "another hash than 'n7'", "with all below it"),
    (spoil_bucket, "/many", "its children", "belongs into another bucket", "looking it up by name"),
    (spoil_stable_id, "/few/a", "its stable id", "has type 4", "nothing that is read"),
    (loop, "checkpoint kept, /", "the node", "its own ancestor", "an endless path"),
]


@pytest.mark.parametrize(
    ("change", "path", "part", "what", "lost"), NAMED, ids=[each[0].__name__ for each in NAMED]
)
def test_damage_is_named(change, path: str, part: str, what: str, lost: str) -> None:
    sink, record = changed(change)
    found = damages(sink)
    [first, *_] = [each for each in found if what in each.what]
    assert first.path in (path, f"checkpoint kept, {path}")
    assert first.part.startswith(part)
    assert lost in first.lost
    if record is not None:
        assert first.record == str(record)
        reader = deep_check(sink)._reader
        start = 512 + sum(
            512 + -(-len(sink.segments[each]) // 512) * 512 for each in before(sink, record)
        )
        places = {start + at(reader, record), start + table_place(sink, record)}
        assert first.offset in places or first.offset - 5 in places or first.offset - 4 in places


def before(sink: MemorySink, record: RecordId) -> list[bytes]:
    every = list(sink.segments)
    return every[: every.index(record.segment)]


def table_place(sink: MemorySink, record: RecordId) -> int:
    header = layout.parse_header(sink.segments[record.segment])
    return 32 + 16 * header.references + 9 * record.number


def hostile(write: Callable[[SegmentWriter, RecordWriter], RecordId]) -> MemorySink:
    """A store whose super root is what `write` makes, whatever that is."""
    sink = MemorySink()
    segments = SegmentWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    record = write(segments, RecordWriter(segments))
    segments.seal()
    sink.journal.append((record, 1))
    return sink


def own_number(records: RecordWriter) -> RecordId:
    """The id that the next record gets."""
    last = records.segments.write(Draft(layout.BLOCK, b"x"))
    return RecordId(last.segment, last.number + 1)


def test_a_list_that_contains_itself_ends() -> None:
    def write(segments: SegmentWriter, records: RecordWriter) -> RecordId:
        names = tuple((f"p{i}", 1) for i in range(600))
        template = records.template(Template(properties=tuple(sorted(names))))
        me = own_number(records)
        assert segments.write(bucket_draft([me] * 255)) == me
        return records.node(template, None, me)

    found = damages(hostile(write))
    assert any("has type 2" in each.what for each in found)


def test_an_array_of_itself_ends() -> None:
    def write(segments: SegmentWriter, records: RecordWriter) -> RecordId:
        template = records.template(Template(properties=(("p", -1),)))
        me = own_number(records)
        assert segments.write(bucket_draft([me] * 255)) == me
        value = segments.write(list_draft(60_000, me))
        return records.node(template, None, value)

    found = damages(hostile(write))
    assert [each.part for each in found] == ["property p, value 0"]


def test_a_tree_that_doubles_at_each_level_is_walked_once() -> None:
    def write(segments: SegmentWriter, records: RecordWriter) -> RecordId:
        maps = MapWriter(RecordReader(segments), segments.write, records.string)
        node = records.node(records.template(Template()), None, None)
        template = records.template(Template(many=True))
        for _ in range(200):
            node = segments.write(node_draft(template, maps.create({"a": node, "b": node}), None))
        return node

    sink = hostile(write)
    check = deep_check(sink)
    assert list(check.run(sink.head)) == []
    assert check.books.counts.nodes == 201


def chain(length: int) -> MemorySink:
    def write(_: SegmentWriter, records: RecordWriter) -> RecordId:
        node = records.node(records.template(Template()), None, None)
        template = records.template(Template(child="c"))
        for _ in range(length):
            node = records.node(template, node, None)
        return node

    return hostile(write)


def test_a_chain_deeper_than_the_stack_is_fine_and_too_deep_a_one_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert damages(chain(20_000)) == []
    monkeypatch.setattr(walks, "MAX_DEPTH", 5000)
    [found] = damages(chain(20_000))
    assert "more than 5,000 levels" in found.what
    assert len(found.path) < 2200


def test_records_with_numbers_beyond_what_a_segment_holds_take_no_memory() -> None:
    marks = Marks()
    marks.add(RecordId(DATA[0], 0xFFFFFFFF))
    assert RecordId(DATA[0], 0xFFFFFFFF) in marks
    assert len(str(marks.dump())) < 200


RECORDS = st.builds(
    RecordId, st.sampled_from(DATA), st.integers(0, 40) | st.integers(MAX_BITS - 2, MAX_BITS + 2)
)


@given(st.lists(st.tuples(st.booleans(), RECORDS)))
def test_marks_are_a_set_that_survives_being_dumped(steps: list[tuple[bool, RecordId]]) -> None:
    marks, model = Marks(), set()
    for add, record in steps:
        (marks.add if add else marks.discard)(record)
        (model.add if add else model.discard)(record)
    twin = Marks.load(marks.dump())
    for _, record in steps:
        assert (record in marks) == (record in twin) == (record in model)


# Cut off and resumed


class Ticking:
    """A clock that goes on by one at each look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("seconds", [4, 50])
def test_a_check_that_is_cut_off_again_and_again_finds_the_same(
    tmp_path: Path, damaged: bool, seconds: int
) -> None:
    sink = changed(spoil_block)[0] if damaged else copy_of()
    if damaged:
        sink.segments[BULK] = sink.segments[BULK][:4096]
    at_once = deep_check(sink)
    expected = list(at_once.run(sink.head))
    books, runs, found = Books(), 0, []
    while True:
        runs += 1
        check = deep_check(sink, books, clock=Ticking(), seconds=seconds)
        found += check.run(sink.head)
        if check.finished:
            break
        save(tmp_path / "resume", tmp_path, books)
        books = load(tmp_path / "resume", tmp_path)
        assert runs < 2000
    assert runs > 5
    assert bool(expected) == damaged
    assert sorted(found) == sorted(expected) == sorted(books.told)
    assert astuple(books.counts) == astuple(at_once.books.counts)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resume"
    save(path, tmp_path, Books())
    whole = path.read_bytes()
    with pytest.raises(ConfigError, match="about the store"):
        load(path, tmp_path / "other")
    for wrong in (b"", b"{}", whole[:-9], whole[:20] + b"x" + whole[21:], whole[:-1] + b"\1"):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError, match="is not what a check keeps"):
            load(path, tmp_path)


# Which state is whole


def edit(number: int) -> content.Edit:
    def change(root: NodeBuilder, writer: RepositoryWriter) -> None:
        blob = writer.blob(random.Random(number).randbytes(17_000))
        root.child("content").child(f"page{number}").set("data", Property.of(blob))

    return change


@pytest.mark.parametrize(("broken", "whole"), [(0, None), (1, 0), (6, 5), (8, 7), (9, 8)])
def test_the_newest_head_that_is_whole_is_found(
    tmp_path: Path, broken: int, whole: int | None
) -> None:
    directory = tmp_path / "store"
    heads = content.write(directory, *map(edit, range(10)))
    with repository.open(directory) as opened_store:
        node = opened_store.node(f"/content/page{broken}")
        blob = node.properties["data"].binary.blob
        [block, *_] = opened_store.reader.block_ids(blob)
        tar, entry = opened_store.snapshot.entry(block.segment)
    with tar.path.open("r+b") as file:
        file.seek(entry.position + 9)
        byte = file.read(1)[0]
        file.seek(entry.position + 9)
        file.write(bytes([byte ^ 1]))
    with repository.open(directory) as opened_store:
        check = DeepCheck(opened_store.snapshot, Books(), clock=lambda: 0.0)
        [found] = check.run(opened_store.head.record)
        assert found.path == f"/content/page{broken}"
        assert (found.file, found.offset) == (tar.path.name, entry.position)
        assert found.lost == "17,000 of 17,000 bytes, from byte 0 on"
        counts = replace(check.books.counts)
        line, complete = whole_heads(check, opened_store)
        assert complete
        assert (line and line.head) == (None if whole is None else heads[whole])
        assert check.books.counts == counts
        late = DeepCheck(opened_store.snapshot, Books(), clock=Ticking(), seconds=1)
        list(late.run(opened_store.head.record))
        assert not late.finished
