"""The index of a tar: both versions, the legacy one, and all that makes Oak reject one."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from format_samples import (
    ABSURD,
    damaged,
    flipped,
    footer,
    generations,
    ids,
    is_refused,
    numbers,
    value_or_refusal,
    vector,
)
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import index, trailer
from tarfailover.format.index import Index, IndexEntry
from tarfailover.ids import NO_GENERATION, Generation

DATA = bytes.fromhex("87c4568a55a24052ab61df77298103ae")
BULK = bytes.fromhex("07c4568a55a24052bb61df77298103ae")
END = bytes(1024)
LENGTH = 6144
"""Of a tar of two segments of up to 512 bytes: five entries of two blocks each, and the end."""
LARGE = 2**31 - 512

Row = tuple[bytes, int, int, Generation]
RISING: list[Row] = [
    (DATA, 0x200, 192, Generation(7, 5, True)),
    (BULK, 0x600, 1, NO_GENERATION),
]

positions = st.integers(1, 2**20).map(lambda block: 512 * block)
lengths = st.integers(1, 262144)
rows = st.tuples(ids, positions, lengths, generations)
tables = st.lists(rows, min_size=1, max_size=20, unique_by=lambda row: row[0])


def packed(row: Row, version: int = 2) -> bytes:
    segment, position, length, (generation, full, compacted) = row
    front = segment + struct.pack(">III", position, length, generation)
    return front + struct.pack(">IB", full, compacted) if version == 2 else front


def tail(
    rows: Sequence[Row],
    version: int = 2,
    count: int | None = None,
    size: int | None = None,
    magic: int | None = None,
) -> bytes:
    """The end of a tar with these rows in this order, the footer as told."""
    body = b"".join(packed(row, version) for row in rows)
    full = -(-(len(body) + 16) // 512) * 512
    end = footer(
        body,
        len(rows) if count is None else count,
        full if size is None else size,
        magic or (trailer.INDEX_V2 if version == 2 else trailer.INDEX_V1),
    )
    return bytes(full - len(body) - 16) + body + end + END


def rows_of(parsed: Index) -> list[Row]:
    table = parsed.entries
    return [
        (
            struct.pack(">qq", row["msb"], row["lsb"]),
            int(row["position"]),
            int(row["length"]),
            Generation(int(row["generation"]), int(row["full"]), bool(row["compacted"]))
            if parsed.version == 2
            else Generation(int(row["generation"]), int(row["generation"]), True),
        )
        for row in table
    ]


def java_order(row: Row) -> tuple[int, int]:
    value = uuid.UUID(bytes=row[0]).int
    msb, lsb = value >> 64, value & (2**64 - 1)
    return (msb ^ 1 << 63, lsb ^ 1 << 63)


class TestBothWays:
    def test_the_worked_example(self) -> None:
        whole = vector("empty-store.tar")
        segment = bytes.fromhex("c7c4568a55a24052ab61df77298103ae")
        parsed = index.parse(whole, len(whole))
        assert rows_of(parsed) == [(segment, 0x200, 192, NO_GENERATION)]
        assert (parsed.version, parsed.start) == (2, 0xC00)
        assert index.tail_size(whole, len(whole)) == len(whole) - 0xC00
        assert index.encode([IndexEntry(*rows_of(parsed)[0])]) == whole[0xE00:0x1000]

    def test_version_1(self) -> None:
        data = vector("index-v1")
        parsed = index.parse(data, LENGTH)
        assert rows_of(parsed) == [
            (DATA, 0x200, 192, Generation(7, 7, True)),
            (BULK, 0x600, 1, Generation(0, 0, True)),
        ]
        assert (parsed.version, parsed.start) == (1, LENGTH - 2048)
        assert index.tail_size(data, LENGTH) == 2048

    @given(tables)
    def test_any_set_of_segments_survives_in_signed_order(self, table: list[Row]) -> None:
        encoded = index.encode([IndexEntry(*row) for row in table])
        ordered = sorted(table, key=java_order)
        assert encoded + END == tail(ordered)
        parsed = index.parse(encoded + END, LARGE)
        assert rows_of(parsed) == ordered
        assert index.tail_size(encoded + END, LARGE) == 512 + len(encoded) + 1024
        assert parsed.start == LARGE - 512 - len(encoded) - 1024

    @given(tables)
    def test_version_1_is_read(self, table: list[Row]) -> None:
        ordered = sorted(table, key=java_order)
        expected = [(*row[:3], Generation(row[3].generation, row[3].generation, True))
                    for row in ordered]  # fmt: skip
        parsed = index.parse(tail(ordered, version=1), LARGE)
        assert (parsed.version, rows_of(parsed)) == (1, expected)

    @given(tables, st.binary(max_size=50))
    def test_what_lies_in_front_does_not_matter(self, table: list[Row], before: bytes) -> None:
        encoded = index.encode([IndexEntry(*row) for row in table]) + END
        longer = memoryview(before + encoded)
        assert rows_of(index.parse(longer, LARGE)) == rows_of(index.parse(encoded, LARGE))
        assert index.tail_size(longer[-1040:], LARGE) == index.tail_size(encoded, LARGE)

    def test_ids_from_8_to_f_come_first(self) -> None:
        table: list[Row] = [
            (bytes([first]) + bytes(15), 512, 1, NO_GENERATION) for first in range(0, 256, 16)
        ]
        parsed = index.parse(index.encode([IndexEntry(*row) for row in table]) + END, LARGE)
        firsts = [row[0][0] >> 4 for row in rows_of(parsed)]
        assert firsts == [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]

    def test_a_full_block_has_no_padding(self) -> None:
        table: list[Row] = [(bytes([n]) + bytes(15), 512, 1, NO_GENERATION) for n in range(31)]
        encoded = index.encode([IndexEntry(*row) for row in table])
        assert len(encoded) == 31 * 33 + 16 + (-(31 * 33 + 16) % 512)
        assert len(index.parse(encoded + END, LARGE).entries) == 31

    def test_entries_are_a_view_of_the_bytes(self) -> None:
        data = tail(RISING)
        assert np.shares_memory(index.parse(data, LENGTH).entries, np.frombuffer(data, np.uint8))


class TestRejected:
    """The list of the storage format, section 3.1, and bounds that every real store keeps."""

    def refused(self, data: bytes, what: str, offset: int, length: int = LENGTH) -> None:
        with pytest.raises(FormatError, match=what) as refused:
            index.parse(data, length)
        assert refused.value.offset == offset

    def test_the_samples_pass_unchanged(self) -> None:
        assert rows_of(index.parse(tail(RISING), LENGTH)) == RISING
        assert len(index.parse(tail(RISING, version=1), LENGTH).entries) == 2

    @pytest.mark.parametrize("magic", [trailer.GRAPH, trailer.BINARY_REFERENCES_V2, 0, ABSURD])
    def test_another_magic(self, magic: int) -> None:
        data = tail(RISING, magic=magic or 1)
        self.refused(data, "is not that of a tar index", 508)
        assert is_refused(lambda: index.tail_size(data, LENGTH))

    def test_a_wrong_checksum(self) -> None:
        data = tail(RISING)
        self.refused(flipped(data, 8 * 450), "checksum of the index does not match", 430)

    def test_no_segment_at_all(self) -> None:
        data = tail([])
        self.refused(data, "an index of 0 segments does not fit", 500)
        assert is_refused(lambda: index.tail_size(data, LENGTH))

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("size", [0, 16, 71, 511, 513, 600, ABSURD])
    def test_an_impossible_size(self, version: int, size: int) -> None:
        data = tail(RISING, version, size=size)
        self.refused(data, f"2 segments in an index of {size} bytes", 504)

    def test_a_size_too_small_for_the_count(self) -> None:
        table: list[Row] = [(bytes([n]) + bytes(15), 512, 1, NO_GENERATION) for n in range(40)]
        self.refused(tail(table, size=1024), "40 segments in an index of 1024", 1528, LARGE)
        assert len(index.parse(tail(table, size=1536), LARGE).entries) == 40

    def test_a_larger_size_than_needed_is_accepted_as_by_oak(self) -> None:
        assert rows_of(index.parse(tail(RISING, size=5120), LENGTH)) == RISING

    @pytest.mark.parametrize("version", [1, 2])
    def test_an_unsorted_index(self, version: int) -> None:
        data = tail(RISING[::-1], version)
        width = 33 if version == 2 else 28
        self.refused(data, "not sorted, or names a segment twice", 512 - 16 - width)

    def test_an_index_in_unsigned_order(self) -> None:
        unsigned = sorted(RISING, key=lambda row: row[0])
        self.refused(tail(unsigned), "not sorted", 512 - 16 - 33)

    def test_a_segment_twice(self) -> None:
        self.refused(tail([RISING[0], RISING[0]]), "names a segment twice", 512 - 16 - 33)

    def test_order_looks_at_both_halves(self) -> None:
        low, high = bytes(8) + b"\xff" + bytes(7), bytes(8) + b"\x01" + bytes(7)
        table: list[Row] = [(low, 512, 1, NO_GENERATION), (high, 1536, 1, NO_GENERATION)]
        assert len(index.parse(tail(table), LENGTH).entries) == 2
        self.refused(tail(table[::-1]), "not sorted", 512 - 16 - 33)

    @pytest.mark.parametrize(
        "position", [0, 1, 511, 513, 2**31, 2**32 - 512, LENGTH, LENGTH - 1024, LENGTH - 2048]
    )
    def test_a_position_off_the_blocks_or_behind_the_segments(self, position: int) -> None:
        table = [RISING[0], (BULK, position, 1, NO_GENERATION)]
        self.refused(tail(table), "lies off the blocks", 512 - 16 - 33)

    def test_a_segment_that_runs_into_the_index(self) -> None:
        start = LENGTH - 2048
        fits = [RISING[0], (BULK, start - 512, 512, NO_GENERATION)]
        assert rows_of(index.parse(tail(fits), LENGTH)) == fits
        runs = [RISING[0], (BULK, start - 512, 513, NO_GENERATION)]
        self.refused(tail(runs), "lies off the blocks", 512 - 16 - 33)

    @pytest.mark.parametrize("length", [0, 262145])
    def test_an_impossible_length(self, length: int) -> None:
        table = [RISING[0], (BULK, 512, length, NO_GENERATION)]
        self.refused(tail(table), "length is impossible", 512 - 16 - 33, LARGE)

    def test_a_negative_length(self) -> None:
        assert is_refused(lambda: index.parse(tail([(BULK, 512, 2**31, NO_GENERATION)]), LARGE))

    @pytest.mark.parametrize("length", [0, 512, 2560, 3073, LENGTH + 1, 2**31, 2**31 + 512])
    def test_a_tar_of_a_length_that_no_index_has(self, length: int) -> None:
        data = tail(RISING[:1])
        self.refused(data, f"a tar of {length} bytes has no index", 0, length)
        with pytest.raises(FormatError, match=f"a tar of {length} bytes has no index"):
            index.tail_size(data, length)

    def test_the_smallest_tar(self) -> None:
        table: list[Row] = [(BULK, 512, 512, NO_GENERATION)]
        assert index.parse(tail(table), 3072).start == 1024
        with pytest.raises(FormatError, match="a tar of 2560 bytes"):
            index.parse(tail(table), 2560)

    def test_an_index_larger_than_the_file(self) -> None:
        table: list[Row] = [
            (n.to_bytes(2, "big") + bytes(14), 512, 1, NO_GENERATION) for n in range(100)
        ]
        self.refused(tail(table), "an index of 100 segments does not fit", 3584 - 12, 3072)

    @pytest.mark.parametrize("length", [0, 16, 1024, 1039])
    def test_less_than_a_footer(self, length: int) -> None:
        data = tail(RISING)[-length:] if length else b""
        for parse in (index.parse, index.tail_size):
            with pytest.raises(FormatError, match="no room for the footer"):
                parse(data, LENGTH)


class TestLegacy:
    def test_is_named_with_a_remedy(self) -> None:
        data = vector("index-legacy")
        assert index.tail_size(data, LENGTH) == 2048
        with pytest.raises(FormatError, match=r"legacy oak-segment .*oak-upgrade") as refused:
            index.parse(data, LENGTH)
        assert refused.value.offset == 508

    @pytest.mark.parametrize("count", [1, 17, 20, 200])
    def test_is_told_apart_at_every_count(self, count: int) -> None:
        body = b"".join(
            bytes([n]) + bytes(15) + struct.pack(">II", 512 + 1024 * n, 1) for n in range(count)
        )
        size = -(-(len(body) + 16) // 512) * 512
        encoded = bytes(size - len(body) - 16) + body
        encoded += footer(body, count, size, trailer.INDEX_V1) + END
        length = 1024 * count + 2 * 1024 + 512 + size + 1024
        # A reader that reads `tail_size` bytes has some of what lies in front of the index.
        data = bytes(index.tail_size(encoded, length) - len(encoded)) + encoded
        with pytest.raises(FormatError, match="legacy oak-segment"):
            index.parse(data, length)

    def test_damage_is_not_taken_for_it(self) -> None:
        with pytest.raises(FormatError, match="checksum of the index does not match"):
            index.parse(flipped(vector("index-v1"), 8 * 460), LENGTH)
        with pytest.raises(FormatError, match="larger than what is there"):
            index.parse(tail(RISING, version=1, count=24), 2**20)


class TestAnyBytes:
    @given(st.binary(max_size=300), numbers, numbers, st.booleans(), st.integers(1, 2**22))
    @example(b"", ABSURD, ABSURD, True, 2**22 - 1)
    @example(b"", ABSURD, 0, False, 6)
    @example(bytes(33), 1, 512, True, 6)
    def test_with_a_right_checksum_give_an_index_or_our_error(
        self, body: bytes, count: int, size: int, new: bool, blocks: int
    ) -> None:
        magic = trailer.INDEX_V2 if new else trailer.INDEX_V1
        data = bytes(512) + body + footer(body, count, size, magic) + END
        value_or_refusal(lambda: index.parse(data, 512 * blocks))
        value_or_refusal(lambda: index.tail_size(data, 512 * blocks))

    @given(st.lists(rows, max_size=6), st.sampled_from([1, 2]), st.sampled_from([LENGTH, LARGE]))
    def test_what_is_accepted_is_sorted_and_inside_of_the_file(
        self, table: list[Row], version: int, length: int
    ) -> None:
        parsed = value_or_refusal(lambda: index.parse(tail(table, version), length))
        rising = [java_order(row) for row in table]
        good = all(a < b for a, b in itertools.pairwise(rising)) and all(
            position + size <= length - 2048 for _, position, size, _ in table
        )
        assert (parsed is not None) == (good and bool(table))

    @given(damaged(tail(RISING)), st.sampled_from([LENGTH, LENGTH + 512, 3072]))
    def test_damage_gives_an_index_or_our_error(self, data: bytes, length: int) -> None:
        value_or_refusal(lambda: index.parse(data, length))
        value_or_refusal(lambda: index.tail_size(data, length))

    def test_no_bit_of_entries_checksum_count_and_magic_flips_unseen(self) -> None:
        data = tail(RISING)
        size_field = range(504, 508)
        for bit in range(8 * (512 - 16 - 66), 8 * 512):
            if bit // 8 not in size_field:
                changed = flipped(data, bit)
                assert is_refused(lambda c=changed: index.parse(c, LENGTH)), bit  # type: ignore[misc]

    def test_no_cut_of_the_worked_example_passes(self) -> None:
        whole = vector("empty-store.tar")
        for length in range(len(whole)):
            cut = whole[:length]
            assert is_refused(lambda c=cut: index.parse(c, len(c))), length  # type: ignore[misc]

    @pytest.mark.parametrize("magic", [trailer.INDEX_V1, trailer.INDEX_V2])
    @pytest.mark.parametrize("size", [0, 512, 2**32 - 512, ABSURD])
    def test_an_absurd_count_costs_no_memory(self, magic: int, size: int) -> None:
        data = bytes(512) + footer(b"", ABSURD, size, magic) + END
        tracemalloc.start()
        try:
            assert is_refused(lambda: index.parse(data, LARGE))
            assert is_refused(lambda: index.tail_size(data, LARGE))
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
