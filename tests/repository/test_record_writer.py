"""Values and lists: every length class, written and read back."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_models import MemorySink

from tarfailover.errors import ContentError
from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, is_bulk
from tarfailover.repository import record_writer
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import ListWriter, RecordWriter
from tarfailover.repository.records import Template
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.values import Property, PropertyType, StoredBlob


class Bench:
    """A writer and a reader over one store in memory."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.segments = SegmentWriter(
            self.sink, random.Random(5).randbytes, wid="test", now=lambda: 1
        )
        self.writer = RecordWriter(self.segments)
        self.reader = RecordReader(self.segments)

    def raw(self, record: RecordId, size: int) -> bytes:
        segment, at = self.reader.locate(record, *range(9))
        return segment.cut(at, size)

    def bulk_sizes(self) -> list[int]:
        return [len(data) for segment, data in self.sink.segments.items() if is_bulk(segment)]


FORMS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "8000"),
    (129, "8001"),
    (16511, "bfff"),
    (16512, "c000000000000000"),
    (16513, "c000000000000001"),
    (300_000, "c0000000000453" + "60"),
]


@pytest.mark.parametrize(("size", "head"), FORMS)
def test_the_length_decides_the_form(size: int, head: str) -> None:
    bench = Bench()
    record = bench.writer.string("s" * size)
    assert bench.raw(record, len(head) // 2).hex() == head
    assert bench.reader.string(record) == "s" * size
    blob = bench.writer.blob(b"b" * size)
    assert bench.raw(blob.record, len(head) // 2).hex() == head
    assert bench.reader.blob(blob.record) == blob == StoredBlob(blob.record, size)
    assert b"".join(bench.reader.blob_pieces(blob)) == b"b" * size


def test_binaries_go_to_bulk_as_a_whole_and_strings_by_whole_pieces() -> None:
    bench = Bench()
    bench.writer.blob(bytes(2 * 262144 + 5))
    assert bench.bulk_sizes() == [262144, 262144, 5]
    bench = Bench()
    bench.writer.string("x" * (262144 + 4096 + 5))
    bench.segments.seal()
    assert bench.bulk_sizes() == [262144]
    blocks = [r for r in layout.records(list(bench.sink.segments.values())[-1]) if r.type == 5]
    assert len(blocks) == 2


def test_a_string_of_pieces_keeps_characters_that_lie_across_a_border() -> None:
    bench = Bench()
    text = "x" + "😀" * 70_000
    assert bench.reader.string(bench.writer.string(text)) == text


class Dribble(io.BytesIO):
    """A stream that gives less than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 10_007))


@given(st.sampled_from([0, 16511, 16512, 262143, 262144, 262145, 700_001]))
def test_a_stream_of_short_reads_gives_the_same_blob(size: int) -> None:
    data = random.Random(size).randbytes(size)
    bench = Bench()
    blob = bench.writer.blob(Dribble(data))
    assert b"".join(bench.reader.blob_pieces(blob)) == data and blob.length == size


@pytest.mark.parametrize("count", [1, 2, 254, 255, 256, 257, 510, 511, 65025, 65026, 65281])
def test_lists_around_the_fan_out(count: int) -> None:
    bench = Bench()
    stored = bench.segments.bulk(b"x")
    elements = [RecordId(stored, number) for number in range(count)]
    record = bench.writer.list(elements)
    assert list(bench.reader.list(record, count)) == elements
    assert (record == elements[0]) == (count == 1)


def test_buckets_hold_two_to_255_ids_and_a_last_single_stays_itself() -> None:
    bench = Bench()
    elements = [bench.writer.string(f"{number}") for number in range(256)]
    record = bench.writer.list(elements)
    segment, at = bench.reader.locate(record, layout.BUCKET)
    below, last = segment.record_ids(at, 2)
    assert last == elements[255]
    inner, at = bench.reader.locate(below, layout.BUCKET)
    assert inner.record_ids(at, 255) == elements[:255]


def test_a_list_of_nothing_and_one_of_too_much_are_refused() -> None:
    row = ListWriter(Bench().segments)
    with pytest.raises(ContentError, match="no elements"):
        row.finish()
    row.count = 255**3
    with pytest.raises(ContentError, match="more than 16581375"):
        row.add(RecordId(bytes(16), 0))


def test_short_strings_and_templates_are_written_once() -> None:
    bench = Bench()
    assert bench.writer.string("twice") == bench.writer.string("twice")
    assert bench.writer.string("t" * 500) != bench.writer.string("t" * 500)
    shape = Template("nt:base", ("mix:a", "mix:b"), "only", False, (("b", 1), ("a", -3)))
    assert bench.writer.template(shape) == bench.writer.template(shape)
    assert bench.reader.template(bench.writer.template(shape)) == shape


def test_the_memory_for_strings_and_templates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_writer, "CACHED_STRINGS", 10)
    monkeypatch.setattr(record_writer, "CACHED_TEMPLATES", 10)
    bench = Bench()
    for number in range(35):
        bench.writer.template(Template(primary=f"type {number}"))
    assert len(bench.writer._strings) == len(bench.writer._templates) == 5


def test_a_template_byte_for_byte() -> None:
    bench = Bench()
    names = {name: bench.writer.string(name).number for name in ("nt:base", "mix:a", "p", "q")}
    record = bench.writer.template(
        Template("nt:base", ("mix:a",), None, True, (("p", 2), ("q", -12)))
    )
    raw = bench.raw(record, 4 + 6 * 3 + 2)
    assert raw[:4].hex() == f"{1 << 31 | 1 << 30 | 1 << 28 | 1 << 18 | 2:08x}"
    assert raw[4:10].hex() == f"0000{names['nt:base']:08x}"
    assert raw[10:16].hex() == f"0000{names['mix:a']:08x}"
    assert raw[22:].hex() == "02f4"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ContentError, match="lone surrogate"):
        Bench().writer.string("a\ud800")


def test_too_many_mixins_are_refused() -> None:
    with pytest.raises(ContentError, match="1024 mixins"):
        Bench().writer.template(Template(mixins=("m",) * 1024))


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_arrays(count: int) -> None:
    bench = Bench()
    prop = Property(PropertyType.LONG, tuple(str(number) for number in range(count)), True)
    assert bench.reader.property(bench.writer.property(prop), prop.tag) == prop
