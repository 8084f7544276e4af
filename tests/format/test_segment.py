"""Segments: header, tables, records, external blob ids; formats 12 and 13."""

from __future__ import annotations

import struct
from functools import partial

import pytest
from format_samples import (
    ABSURD,
    bulk_ids,
    damaged,
    data_ids,
    data_segment,
    header_generations,
    is_refused,
    segment_ids,
    value_or_refusal,
    vector,
)
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.format.segment import BLOB_ID, MAX_REFERENCES, MAX_SEGMENT, NODE, VALUE
from tarfailover.ids import NO_GENERATION, NULL_ID, Generation

DATA = bytes.fromhex("c7c4568a55a24052ab61df77298103ae")
BULK = bytes.fromhex("87c4568a55a24052bb61df77298103ae")
INFO = (VALUE, b"\x02{}")

records = st.lists(st.tuples(st.integers(0, 8), st.binary(min_size=1, max_size=30)), max_size=40)
references = st.lists(segment_ids.filter(lambda i: i != DATA), max_size=8, unique=True)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


class TestHeader:
    @given(header_generations, references, records)
    def test_says_what_was_written(
        self, generation: Generation, refs: list[bytes], content: list[tuple[int, bytes]]
    ) -> None:
        data = data_segment(generation, refs, content)
        header = segments.parse_header(data)
        assert header == (13, generation, len(refs), len(content))
        assert header.tables_end == 32 + 16 * len(refs) + 9 * len(content)
        assert segments.references(data) == tuple(refs)
        assert segments.inspect(DATA, data) == (generation, tuple(refs))
        segments.check_records(data)

    @given(header_generations, references, st.integers(0, 100), st.binary(max_size=40))
    def test_is_found_at_an_offset_of_a_larger_buffer(
        self, generation: Generation, refs: list[bytes], before: int, after: bytes
    ) -> None:
        data = data_segment(generation, refs, [INFO])
        buffer = memoryview(b"\xff" * before + data + after)
        header = segments.parse_header(buffer, before, len(data))
        assert header.generation == generation
        assert segments.references(buffer, before) == tuple(refs)

    def test_format_12_has_one_generation_and_is_compacted(self) -> None:
        data = vector("segment-12")
        assert segments.parse_header(data) == (12, Generation(7, 7, True), 1, 1)
        assert segments.references(data) == (BULK,)
        assert data_segment(Generation(7, 7, True), [BULK], [INFO], version=12) == data
        segments.check_records(data)
        assert segments.string_at(data, 0) == b"{}"

    def test_the_top_bit_of_the_full_generation_is_the_compacted_flag(self) -> None:
        data = data_segment(Generation(2**32 - 1, 2**31 - 1, True))
        assert data[4:8] == b"\xff\xff\xff\xff"
        assert segments.parse_header(data).generation == (2**32 - 1, 2**31 - 1, True)

    @pytest.mark.parametrize("version", [10, 11])
    def test_legacy_formats_are_named_with_a_remedy(self, version: int) -> None:
        with pytest.raises(FormatError, match=f"format {version} .*oak-upgrade") as refused:
            segments.parse_header(b"\0" * 16 + patched(data_segment(), 3, bytes([version])), 16)
        assert refused.value.offset == 16 + 3

    @pytest.mark.parametrize("version", [0, 9, 14, 255])
    def test_unknown_formats_are_named(self, version: int) -> None:
        with pytest.raises(FormatError, match=f"format {version} is not known") as refused:
            segments.parse_header(patched(data_segment(), 3, bytes([version])))
        assert refused.value.offset == 3

    @pytest.mark.parametrize(
        ("at", "new", "what", "offset"),
        [
            (0, b"0aL", "magic is b'0aL', not b'0aK'", 0),
            (8, b"\1\0", "bytes 8 and 9 are 0x0100", 8),
            (14, struct.pack(">I", 2), "2 references and 1 records do not fit", 14),
            (14, struct.pack(">I", ABSURD), "4294967295 references", 14),
            (18, struct.pack(">I", 4), "0 references and 4 records do not fit", 14),
            (18, struct.pack(">I", ABSURD), "4294967295 records", 14),
        ],
    )
    def test_faults_are_told_with_their_offset(
        self, at: int, new: bytes, what: str, offset: int
    ) -> None:
        data = data_segment(records=[INFO])
        with pytest.raises(FormatError, match=what) as refused:
            segments.parse_header(bytes(48) + patched(data, at, new), 48)
        assert refused.value.offset == 48 + offset

    def test_the_tables_may_fill_the_segment_to_its_end(self) -> None:
        data = data_segment(references=[BULK, DATA])
        assert segments.parse_header(data).tables_end == len(data)

    def test_more_references_than_oak_can_count_are_refused(self) -> None:
        data = patched(data_segment(), 14, struct.pack(">I", MAX_REFERENCES + 1))
        with pytest.raises(FormatError, match="65534 references"):
            segments.parse_header(data + bytes(MAX_SEGMENT - len(data)))

    @pytest.mark.parametrize("length", [33, 40, MAX_SEGMENT + 16])
    def test_lengths_that_no_data_segment_has(self, length: int) -> None:
        with pytest.raises(FormatError, match=f"cannot be {length} bytes long"):
            segments.parse_header(data_segment().ljust(length, b"\0"))

    def test_the_largest_length_passes(self) -> None:
        data = data_segment().ljust(MAX_SEGMENT, b"\0")
        assert segments.parse_header(data).records == 0

    @pytest.mark.parametrize(
        ("offset", "length", "what"),
        [
            (0, 16, "no data segment of 16 bytes fits, 32 are there"),
            (16, 32, "no data segment of 32 bytes fits, 16 are there"),
            (16, None, "no data segment of 16 bytes fits"),
            (64, 32, "no data segment of 32 bytes fits, 0 are there"),
        ],
    )
    def test_a_header_needs_room(self, offset: int, length: int | None, what: str) -> None:
        with pytest.raises(FormatError, match=what) as refused:
            segments.parse_header(data_segment(), offset, length)
        assert refused.value.offset == offset


class TestReferences:
    @pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 2000])
    def test_tables_of_every_size_are_read(self, count: int) -> None:
        refs = tuple(n.to_bytes(8, "big") + b"\xb0" + bytes(7) for n in range(count))
        data = data_segment(references=refs)
        assert segments.references(data) == refs
        assert segments.references(memoryview(b"\0" * 7 + data), 7) == refs

    @given(st.binary(min_size=1, max_size=64))
    def test_a_bulk_segment_is_any_bytes_and_refers_to_nothing(self, data: bytes) -> None:
        assert segments.inspect(BULK, data) == (NO_GENERATION, ())

    def test_a_bulk_segment_has_1_to_262144_bytes(self) -> None:
        assert segments.inspect(BULK, bytes(MAX_SEGMENT)) == (NO_GENERATION, ())
        for length in (0, MAX_SEGMENT + 1):
            with pytest.raises(FormatError, match=f"a bulk segment cannot be {length} bytes"):
                segments.inspect(BULK, bytes(length))

    @pytest.mark.parametrize("name", [NULL_ID, b"\xc0" * 16])
    def test_an_id_of_no_kind_is_no_segment(self, name: bytes) -> None:
        with pytest.raises(FormatError, match="neither a data nor a bulk segment"):
            segments.inspect(name, data_segment())

    def test_a_data_segment_must_be_one(self) -> None:
        with pytest.raises(FormatError, match="magic"):
            segments.inspect(DATA, b"bulk" * 16)

    @pytest.mark.parametrize("wrong", [NULL_ID, b"\xc0" * 16, DATA])
    def test_a_reference_names_another_segment(self, wrong: bytes) -> None:
        with pytest.raises(FormatError, match="names no other segment") as refused:
            segments.inspect(DATA, data_segment(references=[BULK, wrong]))
        assert refused.value.offset == 32 + 16

    @given(data_ids, st.lists(data_ids | bulk_ids, max_size=4, unique=True))
    def test_inspect_takes_views(self, name: bytes, refs: list[bytes]) -> None:
        others = tuple(ref for ref in refs if ref != name)
        view = memoryview(data_segment(references=others))
        assert segments.inspect(name, view) == (NO_GENERATION, others)


class TestRecords:
    @given(references, records)
    def test_each_record_lies_where_its_entry_says(
        self, refs: list[bytes], content: list[tuple[int, bytes]]
    ) -> None:
        data = data_segment(references=refs, records=content)
        listed = list(segments.records(memoryview(data)))
        assert [record.number for record in listed] == list(range(len(content)))
        for record, (kind, expected) in zip(listed, content, strict=True):
            at = segments.byte_index(record.address, len(data))
            assert (record.type, data[at : at + len(expected)]) == (kind, expected)

    def test_addresses_count_from_the_end_of_a_space_of_256_kib(self) -> None:
        assert segments.byte_index(262044, 192) == 92
        assert segments.byte_index(MAX_SEGMENT, 192) == 192
        assert segments.byte_index(4096, MAX_SEGMENT) == 4096

    @pytest.mark.parametrize(
        ("entry", "new", "what", "offset"),
        [
            (0, struct.pack(">IBI", 0, 9, 262140), "record 0 has the unknown type 9", 4),
            (0, struct.pack(">IBI", 0, 4, 262144), "record 0 has address 262144", 5),
            (0, struct.pack(">IBI", 0, 4, 262141), "record 0 has address 262141", 5),
            (0, struct.pack(">IBI", 0, 4, ABSURD - 3), "record 0 has address", 5),
            (1, struct.pack(">IBI", 1, 4, 262140), "record 1 has address 262140", 5),
            (1, struct.pack(">IBI", 1, 4, 262144 - 80 + 48), "record 1 has address", 5),
            (1, struct.pack(">IBI", 2, 4, 262136), "record number 2 stands at place 1", 0),
            (1, struct.pack(">IBI", 0, 4, 262136), "record number 0 stands at place 1", 0),
        ],
    )
    def test_a_faulty_entry_is_told_with_its_offset(
        self, entry: int, new: bytes, what: str, offset: int
    ) -> None:
        data = data_segment(references=[BULK], records=[INFO, INFO])
        assert len(data) == 80
        with pytest.raises(FormatError, match=what) as refused:
            segments.check_records(patched(data, 48 + 9 * entry, new))
        assert refused.value.offset == 48 + 9 * entry + offset

    def test_the_lowest_address_is_the_end_of_the_tables(self) -> None:
        data = data_segment(records=[(VALUE, b"\x0e" + bytes(14)), (VALUE, b"\0")])
        assert len(data) == 80
        lowest = patched(data, 32 + 9, struct.pack(">IBI", 1, 4, 262144 - 80 + 52))
        segments.check_records(lowest)


class TestExternalBlobIds:
    def test_other_records_name_none(self) -> None:
        assert segments.external_blob_ids(data_segment()) == ([], [])
        assert segments.external_blob_ids(data_segment(records=[INFO, (NODE, bytes(12))])) == (
            [],
            [],
        )

    @given(st.lists(st.binary(max_size=70)), references)
    @example([b"x" * 4095, b""], [])
    def test_short_ids_stand_in_the_record(self, blobs: list[bytes], refs: list[bytes]) -> None:
        content = [(BLOB_ID, struct.pack(">H", 0xE000 | len(blob)) + blob) for blob in blobs]
        data = data_segment(references=refs, records=[INFO, *content, INFO])
        assert segments.external_blob_ids(data) == (blobs, [])
        assert segments.external_blob_ids(memoryview(data)) == (blobs, [])
        assert segments.has_blob_ids(data) == segments.has_blob_ids(memoryview(data)) == bool(blobs)

    def test_the_example_of_real_oak(self) -> None:
        blob = b"9bd7c3d157e82753fd2bf3a9df26bea49bc29caf#20000"
        data = data_segment(records=[INFO, (BLOB_ID, bytes.fromhex("e02e") + blob)])
        assert segments.external_blob_ids(data) == ([blob], [])

    @pytest.mark.parametrize("first", range(0xF0, 0xF8))
    def test_long_ids_are_named_by_their_string(self, first: int) -> None:
        content = [(BLOB_ID, bytes([first]) + struct.pack(">HI", *ref)) for ref in [(0, 3), (1, 9)]]
        data = data_segment(references=[DATA], records=[INFO, *content])
        assert segments.external_blob_ids(data) == ([], [(0, 3), (1, 9)])

    @pytest.mark.parametrize("first", [0x00, 0x7F, 0x80, 0xC0, 0xDF, 0xF8, 0xFF])
    def test_other_forms_are_no_blob_id(self, first: int) -> None:
        data = data_segment(records=[(BLOB_ID, bytes([first]) + bytes(15))])
        with pytest.raises(FormatError, match="no external blob id") as refused:
            segments.external_blob_ids(data)
        assert refused.value.offset == len(data) - 16

    @pytest.mark.parametrize("content", [b"\xe0\x03ab", b"\xef\xffab", b"\xf0\0\0\0"])
    def test_an_id_that_runs_past_the_end_is_refused(self, content: bytes) -> None:
        data = data_segment(records=[(BLOB_ID, content)])
        with pytest.raises(FormatError, match="runs past the segment's end") as refused:
            segments.external_blob_ids(data)
        assert refused.value.offset == len(data) - 4

    def test_a_reference_number_beyond_the_table_is_refused(self) -> None:
        data = data_segment(references=[DATA], records=[(BLOB_ID, b"\xf0\0\2\0\0\0\1")])
        with pytest.raises(FormatError, match="reference number 2 of 1") as refused:
            segments.external_blob_ids(data)
        assert refused.value.offset == len(data) - 8 + 1

    @pytest.mark.parametrize("address", [0, 262144 - 64, 262144 - 64 + 40, 262144, ABSURD])
    def test_an_address_outside_of_the_records_is_refused(self, address: int) -> None:
        data = data_segment(records=[(BLOB_ID, b"\xe0\x02ab")])
        assert len(data) == 48
        with pytest.raises(FormatError, match=f"record 0 has address {address}") as refused:
            segments.external_blob_ids(patched(data, 32 + 5, struct.pack(">I", address)))
        assert refused.value.offset == 32 + 5


class TestStrings:
    @given(st.binary(max_size=300), st.integers(0, 3))
    @example(b"x" * 127, 0)
    @example(b"x" * 128, 0)
    @example(b"x" * 16511, 1)
    def test_small_and_medium_values_stand_in_the_record(self, value: bytes, before: int) -> None:
        head = (
            bytes([len(value)])
            if len(value) < 128
            else struct.pack(">H", 0x8000 | len(value) - 128)
        )
        data = data_segment(records=[INFO] * before + [(VALUE, head + value), INFO])
        assert segments.string_at(data, before) == value
        assert segments.string_at(memoryview(data), before) == value

    @given(st.integers(16512, 2**61 + 16511), st.integers(0, 1), st.integers(0, 2**32 - 1))
    @example(16512, 0, 0)
    @example(2**61 + 16511, 1, 2**32 - 1)
    def test_a_long_value_is_told_by_length_and_list(
        self, length: int, reference: int, number: int
    ) -> None:
        head = struct.pack(">QHI", 0xC0 << 56 | length - 16512, reference, number)
        data = data_segment(references=[BULK], records=[(VALUE, head)])
        assert segments.string_at(data, 0) == (length, reference, number)

    def test_a_long_value_names_a_list_of_its_table(self) -> None:
        data = data_segment(records=[(VALUE, struct.pack(">QHI", 0xC0 << 56, 1, 0))])
        with pytest.raises(FormatError, match="reference number 1 of 0") as refused:
            segments.string_at(data, 0)
        assert refused.value.offset == len(data) - 16 + 8

    @pytest.mark.parametrize("number", [1, 3, ABSURD])
    def test_only_value_records_are_strings(self, number: int) -> None:
        data = data_segment(records=[INFO, (NODE, bytes(12)), INFO])
        assert segments.string_at(data, 2) == b"{}"
        with pytest.raises(FormatError, match=f"no value record {number}"):
            segments.string_at(data, number)

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"\x04abc", "a value of 4 bytes runs past"),
            (b"\x80\x00ab", "a value of 128 bytes runs past"),
            (b"\xbf\xffab", "a value of 16511 bytes runs past"),
            (b"\xc0\0\0\0", "a value of 14 bytes runs past"),
            (b"\xe0\x02ab", "no value record here"),
            (b"\xf0\0\0\0", "no value record here"),
            (b"\xff\0\0\0", "no value record here"),
        ],
    )
    def test_what_is_no_value_is_refused(self, content: bytes, what: str) -> None:
        data = data_segment(records=[(VALUE, content)])
        with pytest.raises(FormatError, match=what) as refused:
            segments.string_at(data, 0)
        assert refused.value.offset == len(data) - 4

    def test_an_address_outside_of_the_records_is_refused(self) -> None:
        data = patched(data_segment(records=[INFO]), 32 + 5, struct.pack(">I", 17))
        with pytest.raises(FormatError, match="record 0 has address 17") as refused:
            segments.string_at(data, 0)
        assert refused.value.offset == 32 + 5

    @pytest.mark.parametrize("at", [-1, 16, 4096])
    def test_a_value_lies_in_the_segment(self, at: int) -> None:
        with pytest.raises(FormatError, match="no value record here"):
            segments.value_at(bytes(16), at)

    def test_a_medium_length_of_one_byte_is_refused(self) -> None:
        with pytest.raises(FormatError, match="runs past"):
            segments.value_at(b"\0\0\0\x80", 3)


SAMPLE = data_segment(
    Generation(1, 1, True),
    [BULK, bytes(8) + b"\xa0" + bytes(7)],
    [
        INFO,
        (BLOB_ID, b"\xe0\x03abc"),
        (BLOB_ID, b"\xf0\0\1\0\0\0\7"),
        (VALUE, b"\x80\0" + b"v" * 128),
    ],
)


def everything_of(data: bytes) -> tuple[object, ...]:
    """Each parser on its own: the one must not rely on what another refuses."""
    return (
        value_or_refusal(lambda: segments.inspect(DATA, data)),
        value_or_refusal(lambda: segments.check_records(data)),
        value_or_refusal(lambda: list(segments.records(data))),
        value_or_refusal(lambda: segments.external_blob_ids(data)),
        *(value_or_refusal(partial(segments.string_at, data, number)) for number in range(4)),
    )


class TestAnyBytes:
    @given(st.binary(max_size=200), st.booleans())
    def test_give_a_value_or_our_error(self, data: bytes, headed: bool) -> None:
        everything_of(b"0aK\x0d" + bytes(6) + data if headed else data)

    @given(damaged(SAMPLE))
    def test_damage_gives_a_value_or_our_error(self, data: bytes) -> None:
        everything_of(data)

    def test_no_cut_passes_the_check(self) -> None:
        segments.check_records(SAMPLE)
        for length in range(len(SAMPLE)):
            assert is_refused(partial(segments.check_records, SAMPLE[:length])), length
