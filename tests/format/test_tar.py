"""Tar files: names, headers, entry names."""

from __future__ import annotations

import io
import tarfile
from functools import partial

import pytest
from format_samples import damaged, flipped, ids, is_refused, value_or_refusal, vector
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import tar
from tarfailover.format.tar import BLOCK, Entry, SegmentName, TarName

DATA = bytes.fromhex("c7c4568a55a24052ab61df77298103ae")
ENTRY = b"c7c4568a-55a2-4052-ab61-df77298103ae"
EXAMPLE = vector("empty-store.tar")[:BLOCK]

entry_names = st.binary(max_size=99).filter(lambda name: b"\0" not in name)
octals = st.integers(0, 8**11 - 1)


class TestFileNames:
    @pytest.mark.parametrize(
        ("name", "number", "letter"),
        [
            ("data00000a.tar", 0, "a"),
            ("data00007z.tar", 7, "z"),
            ("data99999b.tar", 99999, "b"),
            ("data100000a.tar", 100000, "a"),
            ("data1234567890c.tar", 1234567890, "c"),
        ],
    )
    def test_number_and_letter(self, name: str, number: int, letter: str) -> None:
        parsed = TarName.parse(name)
        assert parsed == TarName(number, letter) == (number, letter, False)
        assert str(parsed) == name

    def test_a_missing_letter_counts_as_a_and_is_kept_in_the_name(self) -> None:
        bare = TarName.parse("data00003.tar")
        assert bare is not None
        assert (bare.number, bare.letter, str(bare)) == (3, "a", "data00003.tar")
        assert str(bare._replace(letter="b")) == "data00003b.tar"

    @pytest.mark.parametrize(
        "name",
        ["", "data.tar", "data0000a.tar", "data000001a.tar", "data00000A.tar", "data00000ab.tar",
         "data00000a.tar.bak", "data00000a.tar.2.bak", "data00000a.tar.ro.bak", "bulk00000a.tar",
         "data00000axtar", "xdata00000a.tar", "data00000a.tar\n", "data-0001a.tar",
         "data" + "1" * 5000 + "a.tar", "data\N{ARABIC-INDIC DIGIT SEVEN}0000a.tar"],
        ids=lambda name: repr(name[:24]),
    )  # fmt: skip
    def test_other_files_are_none_of_the_tars(self, name: str) -> None:
        assert TarName.parse(name) is None

    @given(st.text(max_size=30) | st.from_regex(r"\Adata[0-9]{3,12}[a-z]?\.tar\Z"))
    def test_what_is_taken_is_written_back_the_same(self, name: str) -> None:
        parsed = TarName.parse(name)
        assert parsed is None or str(parsed) == name

    def test_names_sort_by_number_then_letter(self) -> None:
        names = ["data00000b.tar", "data00001a.tar", "data99999a.tar", "data100000a.tar"]
        assert [
            str(name) for name in sorted(TarName.parse(n) or TarName(-1) for n in names)
        ] == names


class TestHeaders:
    def test_the_worked_example_both_ways(self) -> None:
        name = ENTRY + b".b5f68e2a"
        assert tar.parse_header(EXAMPLE) == Entry(name, 192, 1795374757)
        assert tar.encode_header(name, 192, 1795374757) == EXAMPLE

    @given(entry_names, octals, octals)
    @example(b"x" * 99, 8**11 - 1, 8**11 - 1)
    @example(b"", 0, 0)
    def test_survive_both_ways_at_any_offset(self, name: bytes, size: int, mtime: int) -> None:
        block = tar.encode_header(name, size, mtime)
        assert len(block) == BLOCK
        assert tar.parse_header(memoryview(b"\1\2\3" + block + b"\4"), 3) == (name, size, mtime)

    @given(ids, st.integers(1, 262144), octals, st.integers(0, 2**32 - 1))
    def test_pythons_tarfile_reads_them(
        self, segment: bytes, size: int, mtime: int, crc: int
    ) -> None:
        name = tar.segment_entry_name(segment, crc)
        block = tar.encode_header(name, size, mtime)
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        assert (info.name, info.size, info.mtime) == (name.decode(), size, mtime)
        assert (info.mode, info.uid, info.gid, info.isreg()) == (0o400, 0, 0, True)

    def test_pythons_tarfile_lists_the_worked_example(self) -> None:
        with tarfile.open(fileobj=io.BytesIO(vector("empty-store.tar"))) as opened:
            listed = [(member.name, member.size) for member in opened]
        trailing = [(f"data00000a.tar.{kind}", 512) for kind in ("brf", "gph", "idx")]
        assert listed == [(f"{ENTRY.decode()}.b5f68e2a", 192), *trailing]

    @pytest.mark.parametrize(
        ("name", "size", "mtime"),
        [
            (b"x" * 100, 1, 0),
            (b"a\0b", 1, 0),
            (b"x", -1, 0),
            (b"x", 1, -1),
            (b"x", 8**11, 0),
            (b"x", 1, 8**11),
        ],
    )
    def test_what_does_not_fit_is_refused(self, name: bytes, size: int, mtime: int) -> None:
        with pytest.raises(FormatError, match=f"{size} bytes and time {mtime} does not fit"):
            tar.encode_header(name, size, mtime)

    def test_a_block_of_zeros_is_no_entry(self) -> None:
        assert tar.parse_header(tar.END_OF_ARCHIVE) is None
        assert tar.parse_header(tar.END_OF_ARCHIVE, BLOCK) is None

    def test_no_bit_flips_unseen(self) -> None:
        for bit in range(BLOCK * 8):
            changed = value_or_refusal(partial(tar.parse_header, flipped(EXAMPLE, bit)))
            # Only padding of the checksum's own field says the same after a change.
            padding = 148 <= bit // 8 < 156 and changed == tar.parse_header(EXAMPLE)
            assert changed is None or padding, bit

    def test_a_wrong_checksum_tells_both_sums(self) -> None:
        with pytest.raises(FormatError, match="is 5388, the bytes sum up to 5389") as refused:
            tar.parse_header(bytes(BLOCK) + flipped(EXAMPLE, 8 * 511), BLOCK)
        assert refused.value.offset == BLOCK

    @pytest.mark.parametrize(
        ("at", "field"), [(124, b"0000000008\0 "), (124, bytes(12)), (136, b"-0000000001\0")]
    )
    def test_an_unreadable_number_is_told_with_its_offset(self, at: int, field: bytes) -> None:
        block = bytearray(EXAMPLE)
        block[at : at + 12] = field
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        with pytest.raises(FormatError, match="is not an octal number") as refused:
            tar.parse_header(bytes(BLOCK) + block, BLOCK)
        assert refused.value.offset == BLOCK + at

    def test_an_unreadable_checksum_is_told_with_its_offset(self) -> None:
        with pytest.raises(FormatError, match="is not an octal number") as refused:
            tar.parse_header(EXAMPLE[:148] + b"x" * 8 + EXAMPLE[156:])
        assert refused.value.offset == 148

    @pytest.mark.parametrize("length", [0, 1, 511])
    def test_a_cut_header_tells_what_is_left(self, length: int) -> None:
        with pytest.raises(FormatError, match=f"needs 512 bytes, {length} are left") as refused:
            tar.parse_header(bytes(7) + EXAMPLE[:length], 7)
        assert refused.value.offset == 7

    def test_no_cut_passes(self) -> None:
        for length in range(BLOCK):
            assert is_refused(partial(tar.parse_header, EXAMPLE[:length])), length

    @given(st.integers(0, 600), st.binary(max_size=40), st.integers(0, 600), st.integers(0, 600))
    def test_any_bytes_give_an_entry_or_our_error(
        self, before: int, some: bytes, after: int, offset: int
    ) -> None:
        data = bytes(before) + some + bytes(after)
        value_or_refusal(lambda: tar.parse_header(data, offset))

    @given(damaged(EXAMPLE), st.booleans())
    def test_damage_gives_an_entry_or_our_error(self, data: bytes, summed: bool) -> None:
        block = bytearray(data[:BLOCK])
        if summed and len(block) == BLOCK:  # so that what lies behind the checksum is reached
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        entry = value_or_refusal(lambda: tar.parse_header(bytes(block)))
        assert entry is None or (entry.size >= 0 and entry.extent % BLOCK == 0)

    @pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2)])
    def test_data_is_padded_to_whole_blocks(self, size: int, blocks: int) -> None:
        assert tar.padded(size) == blocks * BLOCK
        assert Entry(b"", size, 0).extent == (1 + blocks) * BLOCK


class TestEntryNames:
    @given(ids, st.integers(0, 2**32 - 1))
    @example(bytes(16), 0)
    def test_a_segments_name_carries_id_and_checksum(self, segment: bytes, crc: int) -> None:
        name = tar.segment_entry_name(segment, crc)
        assert tar.parse_segment_name(name) == SegmentName(segment, crc)

    @pytest.mark.parametrize(
        ("tail", "crc"),
        [(b"", None), (b".b5f68e2a", 0xB5F68E2A), (b".b5f68e2a.more", 0xB5F68E2A),
         (b".more", None), (b".", None), (b".B5F68E2A", None), (b".b5f68e2", None)],
    )  # fmt: skip
    def test_the_checksum_may_be_missing_and_more_may_follow(
        self, tail: bytes, crc: int | None
    ) -> None:
        assert tar.parse_segment_name(ENTRY + tail) == (DATA, crc)

    @pytest.mark.parametrize(
        "name",
        [b"", b"data00000a.tar.idx", ENTRY.upper(), ENTRY[:-1], ENTRY + b"0", b"x" + ENTRY,
         ENTRY.replace(b"-", b""), ENTRY + b"b5f68e2a", ENTRY + b"\n", ENTRY + b".a\nb"],
    )  # fmt: skip
    def test_other_names_are_no_segments(self, name: bytes) -> None:
        assert tar.parse_segment_name(name) is None

    @given(st.binary(max_size=100))
    def test_any_bytes_name_a_segment_or_none(self, name: bytes) -> None:
        parsed = tar.parse_segment_name(name)
        assert parsed is None or len(parsed.segment) == 16
