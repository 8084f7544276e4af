"""Data segments byte for byte, the fits rule, and the order in which segments leave."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository_models import MemorySink

from tarfailover.errors import ContentError
from tarfailover.format import segment as layout
from tarfailover.ids import Generation, RecordId, is_bulk, is_data, parse
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.records import Draft, Template, block_draft
from tarfailover.repository.segment_writer import OpenSegment, SegmentWriter, aligned, segment_id

INITIAL = parse("c7c4568a-55a2-4052-ab61-df77298103ae")
INITIAL_TIME = 1795374757345
INITIAL_BYTES = bytes.fromhex(
    "30614b0d 00000000 0000 00000000 00000000 00000006 00000000000000000000"
    "00000000 04 0003ffd4"
    "00000001 04 0003ffcc"
    "00000002 06 0003ffc0"
    "00000003 06 0003ffbc"
    "00000004 07 0003ffb0"
    "00000005 07 0003ff9c"
    "000000000000"
    "0000 00000005 0000 00000002 0000 00000004 0000"
    "0000 00000004 0000 00000003"
    "20000000"
    "00000000 0000 00000001 0000"
    "04 726f6f74 000000"
    "28 7b22776964223a22696e6974222c22736e6f223a302c2274223a313739353337343735373334357d 000000"
)


def writer(sink: MemorySink, wid: str = "test", seed: int = 1) -> SegmentWriter:
    return SegmentWriter(sink, random.Random(seed).randbytes, wid=wid, now=lambda: 7)


def test_the_store_that_oak_makes_of_an_empty_directory_byte_for_byte() -> None:
    sink = MemorySink()
    segments = SegmentWriter(sink, lambda _: INITIAL, wid="init", now=lambda: INITIAL_TIME)
    records = RecordWriter(segments)
    with_root = records.template(Template(child="root"))
    bare = records.template(Template())
    root = records.node(bare, None, None)
    head = records.node(with_root, root, None)
    segments.seal()
    assert head == RecordId(INITIAL, 5)
    assert sink.segments == {INITIAL: INITIAL_BYTES}


def test_ids_tell_data_from_bulk_and_are_version_four() -> None:
    assert segment_id(b"\xff" * 16, False).hex() == "ffffffffffff4fffafffffffffffffff"
    assert segment_id(bytes(16), True).hex() == "0000000000004000b000000000000000"


def test_an_id_that_is_taken_is_not_used_again() -> None:
    sink = MemorySink()
    first = writer(sink).bulk(b"left by a run that died")
    second = writer(sink).bulk(b"other")
    assert first != second and len(sink.segments) == 2


def test_references_stand_in_order_of_first_use_and_number_zero_is_the_segment_itself() -> None:
    segment = OpenSegment(INITIAL, Generation(3, 2, True), "{}")
    one, two = segment_id(bytes(16), True), segment_id(bytes(range(16)), False)
    own = segment.add(block_draft(b"12345"))
    assert own is not None
    segment.add(Draft(layout.BUCKET, b"", [RecordId(two, 9), own, RecordId(one, 8)]))
    segment.add(Draft(layout.BUCKET, b"", [RecordId(one, 7), RecordId(two, 6)]))
    data = segment.finish()
    assert layout.inspect(INITIAL, data) == (Generation(3, 2, True), (two, one))
    last = layout.byte_index(list(layout.records(data))[-1].address, len(data))
    assert data[last : last + 12].hex() == "0002000000070001" + "00000006"
    assert data[last + 12 : last + 30].hex() == "000100000009000000000001000200000008"


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 20)), max_size=120), st.booleans())
def test_a_segment_takes_exactly_what_fits(sizes: list[tuple[int, int]], repeat: bool) -> None:
    """The fits rule of section 4.4, against a count made independently."""
    segment = OpenSegment(INITIAL, Generation(0, 0, False), "{}")
    used, records, references = 4, 1, 0
    rng = random.Random(1)
    for size, others in sizes * (3 if repeat else 1):
        ids = [RecordId(rng.randbytes(16), 0) for _ in range(others)]
        draft = Draft(layout.BLOCK, bytes(size), ids)
        grown = used + aligned(size + 6 * others, 4)
        length = aligned(32 + 16 * (references + others) + 9 * (records + 1) + grown, 16)
        added = segment.add(draft)
        assert (added is not None) == (length <= 262144)
        if added is not None:
            used, records, references = grown, records + 1, references + others
    data = segment.finish()
    layout.check_records(data)
    assert len(data) in (aligned(32 + 16 * references + 9 * records + used, 16), 262144)


def test_a_full_segment_leaves_and_the_record_goes_into_the_next() -> None:
    sink = MemorySink()
    segments = writer(sink)
    first = segments.write(block_draft(bytes(4096)))
    last = first
    while last.segment == first.segment:
        assert not sink.segments
        last = segments.write(block_draft(bytes(4096)))
    assert list(sink.segments) == [first.segment]
    assert last.number == 1
    segments.seal()
    segments.seal()
    assert list(sink.segments) == [first.segment, last.segment]


def test_bulk_leaves_before_the_data_that_names_it() -> None:
    sink = MemorySink()
    segments = writer(sink)
    RecordWriter(segments).blob(bytes(600_000))
    segments.seal()
    kinds = [is_bulk(segment) for segment in sink.segments]
    assert kinds == [True, True, True, False]
    assert [len(data) for s, data in sink.segments.items() if is_bulk(s)] == [262144, 262144, 75712]


def test_reading_the_open_segment_seals_it() -> None:
    sink = MemorySink()
    segments = writer(sink)
    record = segments.write(block_draft(b"x"))
    assert is_data(record.segment) and not sink.segments
    assert segments.read(record.segment) == sink.segments[record.segment]
    assert segments.write(block_draft(b"y")).segment != record.segment


def test_a_record_larger_than_a_segment_is_refused() -> None:
    segments = writer(MemorySink())
    with pytest.raises(ContentError, match="does not fit a segment of 262144 bytes"):
        segments.write(block_draft(bytes(262144)))
