"""Binary references of a tar: which external blob ids its segments mention."""

from __future__ import annotations

import struct
import tracemalloc

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
from tarfailover.format import binrefs, trailer
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.ids import NO_GENERATION, Generation

SEGMENT = bytes.fromhex("f8c152357f0742fea4e1a5b96fe78e52")
OTHER = bytes.fromhex("7652abc09bdd42ada2d22bbe90711833")
BLOB = b"9bd7c3d157e82753fd2bf3a9df26bea49bc29caf#20000"
EXAMPLE = {NO_GENERATION: {SEGMENT: [BLOB]}}

blobs = st.lists(st.binary(max_size=40), min_size=1, max_size=4, unique=True)
all_references = st.dictionaries(
    generations, st.dictionaries(ids, blobs, min_size=1, max_size=3), max_size=3
)


def u32(*values: int) -> bytes:
    return b"".join(struct.pack(">I", value) for value in values)


def closed(body: bytes, count: int, size: int | None = None, version: int = 2) -> bytes:
    magic = trailer.BINARY_REFERENCES_V2 if version == 2 else trailer.BINARY_REFERENCES_V1
    return body + footer(body, count, len(body) + 16 if size is None else size, magic)


def read(data: bytes, end: int | None = None) -> BinaryReferences:
    return binrefs.parse(data, len(data) if end is None else end)


class TestBothWays:
    def test_the_example_of_real_oak(self) -> None:
        data = vector("one-reference.brf")
        assert read(data) == EXAMPLE
        assert binrefs.encode(EXAMPLE) == data
        assert binrefs.parse_footer(data, len(data)).size == 99

    def test_none_at_all_as_in_the_worked_example(self) -> None:
        whole = vector("empty-store.tar")
        assert read(whole, 0x800) == {}
        assert binrefs.encode({}) == whole[0x600:0x800]

    @given(all_references, st.binary(max_size=40), st.binary(max_size=40))
    def test_any_references_survive_inside_of_any_file(
        self, references: BinaryReferences, before: bytes, after: bytes
    ) -> None:
        encoded = binrefs.encode(references)
        assert len(encoded) % 512 == 0
        assert read(before + encoded + after, len(before) + len(encoded)) == references

    def test_what_is_empty_is_left_out(self) -> None:
        fuller: BinaryReferences = {
            NO_GENERATION: {SEGMENT: [BLOB], OTHER: []},
            Generation(1, 1, True): {},
            Generation(2, 1, False): {OTHER: []},
        }
        assert binrefs.encode(fuller) == vector("one-reference.brf")

    def test_version_1_has_one_generation_and_is_compacted(self) -> None:
        body = u32(7, 1) + SEGMENT + u32(2, 3) + b"abc" + u32(0)
        assert read(closed(body, 1, version=1)) == {
            Generation(7, 7, True): {SEGMENT: [b"abc", b""]}
        }
        assert read(closed(b"", 0, version=1)) == {}

    def test_groups_and_segments_that_come_twice_are_merged(self) -> None:
        group = u32(1, 1) + b"\1" + u32(2)
        first = group + (SEGMENT + u32(1, 1) + b"a") + (SEGMENT + u32(1, 1) + b"b")
        second = group + (OTHER + u32(1, 1) + b"c") + (SEGMENT + u32(1, 1) + b"d")
        assert read(closed(first + second, 2)) == {
            Generation(1, 1, True): {SEGMENT: [b"a", b"b", b"d"], OTHER: [b"c"]}
        }


class TestRefused:
    def refused(self, data: bytes, what: str, offset: int) -> None:
        with pytest.raises(FormatError, match=what) as refused:
            binrefs.parse(data, len(data))
        assert refused.value.offset == offset

    def test_another_magic(self) -> None:
        data = footer(b"", 0, 16, trailer.GRAPH)
        self.refused(data, "is not that of a list of binary references", 12)

    @pytest.mark.parametrize("size", [0, 15])
    def test_a_size_below_that_of_a_footer(self, size: int) -> None:
        self.refused(bytes(8) + closed(b"", 0, size), f"size {size} is below", 8 + 8)

    def test_a_size_that_begins_before_the_file(self) -> None:
        self.refused(closed(b"", 0, 17), "larger than what is there", 0)

    def test_a_wrong_checksum(self) -> None:
        data = flipped(vector("one-reference.brf"), 8 * 470)
        self.refused(data, "checksum of the list of binary references does not match", 413)

    @pytest.mark.parametrize(
        ("body", "what", "offset"),
        [
            (u32(0, 0), "9 bytes run past the end", 0),
            (u32(0, 0) + b"\0", "4 bytes run past the end", 9),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT[:15], "16 bytes run past the end", 13),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT, "4 bytes run past the end", 29),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT + u32(1), "4 bytes run past the end", 33),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT + u32(1, 2) + b"a", "2 bytes run past", 37),
            (u32(0, 0) + b"\0" + u32(ABSURD) + SEGMENT + u32(0), "16 bytes run past", 33),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT + u32(ABSURD, 0), "4 bytes run past", 37),
            (u32(0, 0) + b"\0" + u32(1) + SEGMENT + u32(1, ABSURD), "4294967295 bytes", 37),
            (u32(0, 0) + b"\0" + u32(0) + b"x", "bytes follow the last binary reference", 13),
        ],
    )
    def test_counts_that_the_payload_does_not_keep(
        self, body: bytes, what: str, offset: int
    ) -> None:
        self.refused(bytes(8) + closed(body, 1), what, 8 + offset)

    def test_version_1_that_is_cut(self) -> None:
        self.refused(closed(b"\0\0\0", 1, version=1), "4 bytes run past the end", 0)


class TestAnyBytes:
    @given(st.binary(max_size=200), numbers, numbers, st.sampled_from([1, 2]))
    @example(b"", ABSURD, ABSURD, 2)
    @example(bytes(200), 10, 216, 1)
    def test_with_a_right_checksum_give_references_or_our_error(
        self, body: bytes, count: int, size: int, version: int
    ) -> None:
        for declared_count, declared in ((count, size), (count % 8, len(body) + 16)):
            data = closed(body, declared_count, declared, version)
            value_or_refusal(lambda d=data: binrefs.parse(d, len(d)))  # type: ignore[misc]

    @given(damaged(vector("one-reference.brf")[400:]))
    def test_damage_is_refused_or_changes_nothing(self, data: bytes) -> None:
        assert value_or_refusal(lambda: read(data)) in (None, EXAMPLE)

    def test_no_bit_flips_unseen(self) -> None:
        data = vector("one-reference.brf")
        for bit in range(8 * 413, 8 * 512):
            changed = flipped(data, bit)
            assert is_refused(lambda c=changed: binrefs.parse(c, len(c))), bit  # type: ignore[misc]

    def test_no_cut_passes(self) -> None:
        data = vector("one-reference.brf")
        for length in range(len(data)):
            cut = data[:length]
            assert is_refused(lambda c=cut: binrefs.parse(c, len(c))), length  # type: ignore[misc]

    @pytest.mark.parametrize("version", [1, 2])
    def test_absurd_counts_cost_no_memory(self, version: int) -> None:
        data = bytes(512) + closed(b"\xff" * 40, ABSURD, version=version)
        tracemalloc.start()
        try:
            assert is_refused(lambda: binrefs.parse(data, len(data)))
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
