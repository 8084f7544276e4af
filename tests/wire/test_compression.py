"""Compressed pieces of the stream: cut as the stream is, bounded whatever comes."""

from __future__ import annotations

import functools
import random
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from format_samples import damaged
from hypothesis import example, given
from hypothesis import strategies as st
from wire_samples import MESSAGES, ZSTD_HEADER, frames, value_or_refusal

from tarfailover.errors import ProtocolError
from tarfailover.wire.compression import (
    LEVELS,
    SAMPLE,
    SAMPLED,
    Packer,
    Unpacker,
    packed_parts,
    pays,
)
from tarfailover.wire.limits import WINDOW_LOG
from tarfailover.wire.messages import MAX_PACKED, MAX_PART, Packed, Part, decode_answer
from tarfailover.wire.stream import Piece

RAW, RLE, LAST = 0, 2, 1
"""What the three lowest bits of a block's header say: RFC 8878, 3.1.1.2."""
BIGGEST_BLOCK = 128 * 1024


def block(kind: int, size: int, data: bytes) -> bytes:
    """A block of `size` bytes of content."""
    return (size << 3 | kind).to_bytes(3, "little") + data


@functools.cache
def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that nothing makes smaller."""
    return random.Random(seed).randbytes(size)


@functools.cache
def words(size: int, seed: int = 0) -> bytes:
    """Bytes that get smaller."""
    rng = random.Random(seed)
    return b" ".join(rng.choice([b"node", b"property", b"text"]) for _ in range(size))[:size]


def answers(framed: bytes) -> list[Part | Packed]:
    """The messages in `framed`, all for request 7."""
    found: list[Part | Packed] = []
    for frame in frames(framed):
        request, answer = decode_answer(frame)
        assert request == 7
        assert isinstance(answer, (Part, Packed))
        found.append(answer)
    return found


def unpacked(found: Iterable[Part | Packed], unpacker: Unpacker | None = None) -> list[bytes]:
    """What each of the messages brings."""
    unpacker = unpacker or Unpacker()
    return [unpacker.unpack(one) if isinstance(one, Packed) else one.data for one in found]


class TestVectors:
    def test_are_unpacked(self) -> None:
        unpacker = Unpacker()
        packed = [MESSAGES["packed"][1], MESSAGES["packed, going on"][1]]
        assert [unpacker.unpack(one) for one in packed if isinstance(one, Packed)] == [
            b"abcdef",
            b"xxxxxxxxxxghijkl",
        ]

    def test_a_packed_stream_begins_once_and_refers_back(self) -> None:
        packer = Packer(1)
        first, second = packer.pack(noise(3000)), packer.pack(noise(3000))
        assert (first.begins, second.begins) == (True, False)
        assert len(second.data) < 100
        assert unpacked([first, second]) == [noise(3000)] * 2

    def test_another_stream_may_begin_at_any_time(self) -> None:
        unpacker = Unpacker()
        for _ in range(3):
            packer = Packer(3)
            cut = [packer.pack(b"abc"), packer.pack(b"defabc")]
            assert unpacked(cut, unpacker) == [b"abc", b"defabc"]


class TestParts:
    # Few sizes, about the borders: half of what is done here is to make them smaller.
    pieces = st.lists(
        st.binary(max_size=100)
        | st.builds(noise, st.sampled_from([1, SAMPLED - 1, SAMPLED, MAX_PART + 1]))
        | st.builds(words, st.sampled_from([1, SAMPLED, MAX_PART, MAX_PART + 1])),
        max_size=4,
    )

    @given(st.lists(pieces, max_size=3))
    @example([[], [b""]])
    def test_bring_what_was_put_in_in_this_order(self, answered: Sequence[Sequence[Piece]]) -> None:
        packer, unpacker = Packer(1), Unpacker()
        for pieces in answered:
            framed, size = packed_parts(7, pieces, packer)
            whole = b"".join(pieces)
            assert b"".join(unpacked(answers(framed), unpacker)) == whole
            assert size == len(whole)

    def test_each_can_be_read_when_it_comes(self) -> None:
        packer, unpacker = Packer(1), Unpacker()
        text = words(3 * MAX_PART + 5)
        framed, _ = packed_parts(7, [text], packer, b"")
        sizes = [len(unpacked([one], unpacker)[0]) for one in answers(framed)]
        assert sizes == [MAX_PART] * 3 + [5]
        assert len(framed) < len(text) / 3

    def test_what_does_not_get_smaller_goes_as_it_is_and_what_is_beside_it_does_not(self) -> None:
        pieces = [b"head", noise(256 * 1024), b"head", words(256 * 1024), b"head", noise(SAMPLED)]
        found = answers(packed_parts(7, pieces, Packer(1))[0])
        plain = b"".join(one.data for one in found if isinstance(one, Part))
        assert plain == noise(256 * 1024) + b"head" + noise(SAMPLED)
        assert b"".join(unpacked(found)) == b"".join(pieces)

    def test_what_was_framed_before_can_be_put_behind(self) -> None:
        framed, size = packed_parts(7, [b"a" * 100], Packer(1), b"behind")
        assert framed.endswith(b"behind")
        assert size == 100

    @pytest.mark.parametrize("level", range(LEVELS[0], LEVELS[1] + 1))
    def test_the_worst_that_can_be_packed_is_not_too_long(self, level: int) -> None:
        packer = Packer(level)
        for seed in range(3):
            assert MAX_PART < len(packer.pack(noise(MAX_PART, seed)).data) <= MAX_PACKED

    @pytest.mark.parametrize("size", [0, MAX_PART + 1])
    def test_nothing_and_too_much_are_not_packed(self, size: int) -> None:
        with pytest.raises(ProtocolError, match=f"what is packed is {size}; 1 to 65536 are"):
            Packer(1).pack(bytes(size))


class TestPays:
    @pytest.mark.parametrize("size", [3 * SAMPLE, SAMPLED, 100_000, 256 * 1024])
    def test_text_and_not_noise(self, size: int) -> None:
        assert pays(words(size))
        assert not pays(noise(size))
        assert not pays(memoryview(noise(size)))

    def test_a_table_before_what_cannot_get_smaller(self) -> None:
        assert pays(bytes(SAMPLE) + noise(SAMPLED))


class TestBadStreams:
    @pytest.mark.parametrize(
        ("packed", "told"),
        [
            (Packed(False, ZSTD_HEADER), "goes on with a stream that never began"),
            (Packed(True, b"no zstd"), "is no zstd stream for us: "),
            (Packed(True, ZSTD_HEADER), "what is in PACKED is 0; 1 to 65536 are"),
            (Packed(True, ZSTD_HEADER + block(RAW | LAST, 1, b"x")), "ends its stream"),
            (Packed(True, ZSTD_HEADER + block(RLE, MAX_PART + 1, b"x")), "PACKED is 65537; 1 to"),
            (Packed(True, b"\x50\x2a\x4d\x18\x01\0\0\0x"), "PACKED (ends its|is 0)"),
            # A block of a kind that is not used, a table that is none, and a dictionary.
            (Packed(True, ZSTD_HEADER + b"\x0e\0\0x"), "is no zstd stream"),
            (Packed(True, ZSTD_HEADER + b"\x2c\0\0\xff\xff\xff\xff\xff"), "is no zstd stream"),
            (Packed(True, b"\x28\xb5\x2f\xfd\x01\x48\x07" + block(RAW, 1, b"x")), "is no zstd"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_are_refused(self, packed: Packed, told: str) -> None:
        with pytest.raises(ProtocolError, match=told):
            Unpacker().unpack(packed)

    def test_a_window_beyond_the_limit_is_refused(self) -> None:
        exponent = WINDOW_LOG - 10
        for log, fits in ((exponent, True), (exponent + 1, False), (21, False)):
            header = b"\x28\xb5\x2f\xfd\x00" + bytes([log << 3])
            packed = Packed(True, header + block(RAW, 1, b"x"))
            assert (value_or_refusal(lambda: Unpacker().unpack(packed)) == b"x") is fits  # noqa: B023

    @pytest.mark.parametrize("size", [2**20, 2**40, 2**62])
    def test_a_size_that_is_announced_costs_no_memory(self, size: int) -> None:
        header = b"\x28\xb5\x2f\xfd\xc0\x48" + size.to_bytes(8, "little")
        tracemalloc.start()
        try:
            assert Unpacker().unpack(Packed(True, header + block(RAW, 1, b"x"))) == b"x"
            assert tracemalloc.get_traced_memory()[1] < 4 * MAX_PART
        finally:
            tracemalloc.stop()

    def test_a_bomb_is_refused_before_it_is_large(self) -> None:
        blocks = block(RLE, BIGGEST_BLOCK, b"x") * ((MAX_PACKED - len(ZSTD_HEADER)) // 4)
        bomb = Packed(True, ZSTD_HEADER + blocks)
        assert len(blocks) // 4 * BIGGEST_BLOCK > 2 * 10**9
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="PACKED is 65537; 1 to 65536 are allowed"):
                Unpacker().unpack(bomb)
            assert tracemalloc.get_traced_memory()[1] < 6 * MAX_PART
        finally:
            tracemalloc.stop()

    @given(
        st.lists(st.builds(Packed, st.booleans(), st.binary(min_size=1, max_size=60)), max_size=3)
    )
    def test_any_bytes_are_a_piece_or_are_refused(self, found: list[Packed]) -> None:
        value_or_refusal(lambda: unpacked(found))

    @given(st.data())
    def test_a_damaged_stream_is_a_piece_or_is_refused(self, data: st.DataObject) -> None:
        packer = Packer(1)
        good = [packer.pack(words(500)), packer.pack(words(700, 1))]
        bad = [Packed(one.begins, data.draw(damaged(one.data)) or b"x") for one in good]
        pieces = value_or_refusal(lambda: unpacked(bad))
        assert pieces is None or all(0 < len(piece) <= MAX_PART for piece in pieces)

    @given(st.integers(0, 600))
    def test_a_cut_stream_is_never_misread(self, at: int) -> None:
        whole = Packer(1).pack(words(900))
        cut = Packed(True, whole.data[:at] or b"\x28")
        found = value_or_refusal(lambda: Unpacker().unpack(cut))
        assert found is None or words(900).startswith(found)
