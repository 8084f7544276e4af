"""Damaged segments: every read gives a value or our error, with the segment's name."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import MemorySink, Model, build

from tarfailover.errors import ContentError, FormatError, SegmentMissingError
from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, text
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.digest import content_digest
from tarfailover.repository.reader import CACHED_BYTES, RecordReader, Segment
from tarfailover.repository.records import Draft, list_draft, long_value_draft, value_draft
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.values import Property


def small_store() -> MemorySink:
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    super_root = writer.super_root()
    many = {f"n{i}": Model({"x": Property.of(i)}) for i in range(40)}
    properties = {
        "jcr:primaryType": Property.name("nt:base"),
        "jcr:mixinTypes": Property.names(["mix:a"]),
        "binary": Property.of(bytes(17_000)),
        "longs": Property.of([1, 2, 3]),
        "text": Property.of("t" * 17_000),
        "medium": Property.of("m" * 300),
    }
    build(Model(properties, {"many": Model({}, many)}), super_root.child("root"))
    writer.commit(super_root)
    return sink


STORE = small_store()
DATA = next(segment for segment in STORE.segments if segment[8] >> 4 == 0xA)
SOUND = content_digest(STORE.node())


def test_the_store_of_these_tests_is_sound() -> None:
    assert (SOUND.nodes, SOUND.properties, SOUND.blob_bytes) == (43, 46, 17_000)


def digest_with(data: bytes) -> None:
    """Walk the store with `data` in place of its data segment; only our errors are fine."""
    sink = MemorySink()
    sink.segments = {**STORE.segments, DATA: data}
    sink.journal = STORE.journal
    with contextlib.suppress(FormatError, SegmentMissingError, ContentError):
        content_digest(sink.node())


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_anywhere_gives_a_value_or_our_error(data: st.DataObject) -> None:
    sound = STORE.segments[DATA]
    interesting = st.integers(0, 2500) | st.integers(len(sound) - 4000, len(sound) - 1)
    place = data.draw(interesting | st.integers(0, len(sound) - 1))
    value = data.draw(st.integers(0, 255))
    digest_with(sound[:place] + bytes([value]) + sound[place + 1 :])


@settings(max_examples=50)
@given(st.integers(0, len(STORE.segments[DATA])))
def test_a_cut_anywhere_gives_a_value_or_our_error(length: int) -> None:
    digest_with(STORE.segments[DATA][:length])
    digest_with(STORE.segments[DATA][length:])


@given(st.binary(max_size=200))
def test_any_bytes_as_a_segment_give_a_value_or_our_error(data: bytes) -> None:
    digest_with(data)
    digest_with(STORE.segments[DATA][:32] + data)


def test_a_fault_names_the_segment_and_the_offset() -> None:
    with pytest.raises(FormatError) as caught:
        Segment(DATA, b"nothing")
    assert text(DATA) in str(caught.value) and "offset 0" in str(caught.value)


def bench() -> tuple[SegmentWriter, RecordReader]:
    segments = SegmentWriter(MemorySink(), random.Random(1).randbytes, wid="test", now=lambda: 1)
    return segments, RecordReader(segments)


def test_a_record_of_another_type_is_not_read() -> None:
    segments, reader = bench()
    record = segments.write(value_draft(b"text"))
    with pytest.raises(FormatError, match="type 4"):
        reader.template(record)
    with pytest.raises(FormatError, match="no record 9"):
        reader.string(RecordId(record.segment, 9))


def test_numbers_with_gaps_are_found() -> None:
    sink = MemorySink()
    segments = SegmentWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    record = segments.write(value_draft(b"text"))
    segments.seal()
    raw = bytearray(sink.segments[record.segment])
    raw[41:45] = (77).to_bytes(4, "big")
    sink.segments[record.segment] = bytes(raw)
    reader = RecordReader(sink)
    assert reader.string(RecordId(record.segment, 77)) == "text"
    assert reader.string(RecordId(record.segment, 0)).startswith('{"wid"')
    with pytest.raises(FormatError, match="no record 1"):
        reader.string(RecordId(record.segment, 1))


def test_impossible_values_are_refused() -> None:
    segments, reader = bench()
    one = segments.write(value_draft(b"\xff"))
    with pytest.raises(FormatError, match="not UTF-8"):
        reader.string(one)
    with pytest.raises(FormatError, match="too long for Oak"):
        reader.string(segments.write(long_value_draft(2**31, one)))
    with pytest.raises(FormatError, match="cannot have 16777216 elements"):
        list(reader.blob_pieces(reader.blob(segments.write(long_value_draft(2**36, one)))))
    with pytest.raises(FormatError, match="starts with byte 0xf8"):
        reader.blob(segments.write(Draft(layout.VALUE, b"\xf8")))
    with pytest.raises(FormatError, match="starts with byte 0xe0"):
        reader.string(segments.write(Draft(layout.VALUE, b"\xe0\0")))
    with pytest.raises(FormatError, match="no property type -13"):
        reader.property(one, -13)
    with pytest.raises(FormatError, match="cannot have 4294967295 elements"):
        reader.property(segments.write(list_draft(2**32 - 1, one)), -1)


def test_the_cache_of_segments_is_bounded() -> None:
    sink = MemorySink()
    segments = SegmentWriter(sink, random.Random(1).randbytes, wid="test", now=lambda: 1)
    ids = [segments.bulk(bytes(262144)) for _ in range(CACHED_BYTES // 262144 + 5)]
    reader = RecordReader(sink)
    for segment in ids:
        reader.segment(segment)
    assert len(reader._segments) == CACHED_BYTES // 262144
    assert reader.segment(ids[-1]) is reader.segment(ids[-1])
