"""The stream of segments: framed, cut anywhere, put together again."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from format_samples import damaged, ids, numbers
from hypothesis import example, given
from hypothesis import strategies as st
from wire_samples import BULK, DATA, frames, value_or_refusal, vectors

from tarfailover.errors import ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.wire.messages import (
    FRAME_HEADER,
    MAX_PART,
    ErrorCode,
    Part,
    decode_answer,
)
from tarfailover.wire.stream import (
    ITEM_HEADER,
    REFUSAL,
    Piece,
    Refusal,
    Segment,
    StreamParser,
    item,
    parts,
    refusal,
)

NAMED = dict(vectors("stream"))
WHOLE = b"".join(NAMED.values())


class Whole(NamedTuple):
    """A segment of a stream with its bytes in one."""

    segment: bytes
    crc: int
    data: bytes


Item = Whole | Refusal

ITEMS: dict[str, Item] = {
    "segment": Whole(BULK, 0x4B8E39EF, b"abcdef"),
    "refusal": Refusal(DATA, ErrorCode.SEGMENT_GONE, "gone, past"),
    "segment without bytes": Whole(b"\xff" * 16, 2**32 - 1, b""),
    "refusal without words": Refusal(bytes(16), 0, ""),
}

contents = st.binary(max_size=100) | st.builds(
    lambda size, byte: byte * size,
    st.sampled_from(
        [
            MAX_PART - ITEM_HEADER - 1,
            MAX_PART - ITEM_HEADER,
            MAX_PART - ITEM_HEADER + 1,
            MAX_PART,
            MAX_PART + 1,
            2 * MAX_PART - ITEM_HEADER,
            MAX_SEGMENT,
        ]
    ),
    st.binary(min_size=1, max_size=1),
)
items = st.lists(
    st.builds(Whole, ids, numbers, contents)
    | st.builds(Refusal, ids, numbers, st.text(max_size=256)),
    max_size=6,
)


def pieces(wanted: Iterable[Item]) -> list[Piece]:
    """The pieces of a stream of `wanted`."""
    made: list[Piece] = []
    for one in wanted:
        made += refusal(*one) if isinstance(one, Refusal) else item(*one)
    return made


def whole(found: Iterable[Segment | Refusal]) -> list[Item]:
    """What a parser found, with the chunks of segments joined."""
    result: list[Item] = []
    for one in found:
        if isinstance(one, Segment):
            data = b"".join(one.chunks)
            assert len(data) == one.length
            result.append(Whole(one.segment, one.crc, data))
        else:
            result.append(one)
    return result


def parsed(cut: Iterable[Piece]) -> list[Item]:
    """The items of a whole stream that comes as `cut`; raises ProtocolError."""
    parser, size = StreamParser(), 0
    found: list[Segment | Refusal] = []
    for piece in cut:
        found += parser.feed(piece)
        size += len(piece)
    parser.end()
    assert parser.size == size
    return whole(found)


def cut_at(data: bytes, places: Sequence[int]) -> list[bytes]:
    """`data` cut at `places`."""
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


class TestVectors:
    @pytest.mark.parametrize("name", NAMED)
    def test_is_written(self, name: str) -> None:
        assert b"".join(pieces([ITEMS[name]])).hex(" ") == NAMED[name].hex(" ")

    def test_all_are_read_at_once_or_byte_by_byte(self) -> None:
        assert parsed([WHOLE]) == list(ITEMS.values())
        assert parsed([bytes([byte]) for byte in WHOLE]) == list(ITEMS.values())

    def test_each_comes_as_soon_as_it_is_whole(self) -> None:
        parser, came = StreamParser(), []
        for at, byte in enumerate(WHOLE, 1):
            came += [at] * len(parser.feed(bytes([byte])))
        lengths = [len(data) for data in NAMED.values()]
        assert came == [sum(lengths[: n + 1]) for n in range(len(lengths))]

    def test_a_stream_that_ends_in_an_item_is_noticed(self) -> None:
        lengths = [len(data) for data in NAMED.values()]
        borders = {sum(lengths[:n]) for n in range(len(lengths) + 1)}
        for end in range(len(WHOLE) + 1):
            parser = StreamParser()
            parser.feed(WHOLE[:end])
            if end in borders:
                parser.end()
            else:
                with pytest.raises(ProtocolError, match="ended in the middle of a segment"):
                    parser.end()


class TestParts:
    @given(items, st.lists(st.integers(0, 300_000), max_size=20))
    @example([Whole(DATA, 0, bytes(MAX_PART - ITEM_HEADER))], [])
    @example([Whole(DATA, 0, b"1" * MAX_SEGMENT), Whole(BULK, 0, b"2" * MAX_SEGMENT)], [1, 24, 25])
    @example([], [])
    def test_whatever_is_framed_and_cut_comes_out_again(
        self, wanted: list[Item], places: list[int]
    ) -> None:
        framed, size = parts(7, pieces(wanted))
        stream = b""
        for frame in frames(framed):
            request, part = decode_answer(frame)
            assert request == 7
            assert isinstance(part, Part)
            assert len(frame) <= MAX_PART + FRAME_HEADER
            stream += part.data
        assert stream == b"".join(pieces(wanted))
        assert size == len(stream)
        assert parsed(cut_at(stream, places)) == wanted

    @given(st.lists(st.integers(0, 3 * MAX_PART).map(bytes), max_size=5))
    def test_are_full_but_for_the_last(self, made: list[bytes]) -> None:
        framed, size = parts(0, made)
        lengths = [len(frame) - FRAME_HEADER for frame in frames(framed)]
        assert size == sum(map(len, made)) == sum(lengths)
        assert all(length == MAX_PART for length in lengths[:-1])
        assert not lengths or 0 < lengths[-1] <= MAX_PART

    def test_take_views_and_empty_pieces(self) -> None:
        framed, size = parts(1, [b"", memoryview(b"ab"), b"", memoryview(bytearray(b"cd"))])
        assert framed == struct.pack(">IBI", 9, Part.TYPE, 1) + b"abcd"
        assert size == 4

    @pytest.mark.parametrize("request_number", [-1, 2**32])
    def test_of_an_impossible_request_are_not_made(self, request_number: int) -> None:
        with pytest.raises(ProtocolError, match=f"request number of PART is {request_number}; 0"):
            parts(request_number, [b"x"])


class TestItems:
    @pytest.mark.parametrize(
        ("segment", "crc", "size", "told"),
        [
            (DATA[:15], 0, 1, "a segment id in the stream has 15 bytes; 16 are"),
            (DATA + b"x", 0, 1, "a segment id in the stream has 17 bytes; 16 are"),
            (DATA, -1, 1, "the checksum of a segment is -1; 0 to 4294967295 are"),
            (DATA, 2**32, 1, "the checksum of a segment is 4294967296; 0 to 4294967295 are"),
            (DATA, 0, MAX_SEGMENT + 1, "the length of a segment is 262145; 0 to 262144 are"),
        ],
    )
    def test_that_do_not_fit_are_not_made(
        self, segment: bytes, crc: int, size: int, told: str
    ) -> None:
        with pytest.raises(ProtocolError, match=told):
            item(segment, crc, bytes(size))

    @pytest.mark.parametrize(
        ("segment", "code", "told"),
        [
            (b"", 1, "a segment id in the stream has 0 bytes; 16 are"),
            (DATA, -1, "the code of a refusal is -1; 0 to 4294967295 are"),
            (DATA, 2**32, "the code of a refusal is 4294967296; 0 to"),
        ],
    )
    def test_nor_are_refusals(self, segment: bytes, code: int, told: str) -> None:
        with pytest.raises(ProtocolError, match=told):
            refusal(segment, code, "")

    def test_the_words_of_a_refusal_are_cut_between_characters(self) -> None:
        assert parsed(refusal(DATA, 8, "x" + "ä" * 512)) == [Refusal(DATA, 8, "x" + "ä" * 511)]

    def test_a_segment_is_not_copied(self) -> None:
        data = bytes(MAX_SEGMENT)
        header, same = item(DATA, 0, data)
        assert same is data
        parser = StreamParser()
        parser.feed(header)
        cut = [data[:100_000], data[100_000:200_000], data[200_000:]]
        found = [one for piece in cut for one in parser.feed(piece)]
        assert isinstance(found[0], Segment)
        assert [chunk.obj for chunk in found[0].chunks] == cut
        assert all(a.obj is b for a, b in zip(found[0].chunks, cut, strict=True))


class TestBadStreams:
    @pytest.mark.parametrize(
        ("length", "told"),
        [
            (MAX_SEGMENT + 1, "has 262145 bytes; 262144 are allowed"),
            (REFUSAL - 1, "has 2147483647 bytes; 262144 are allowed"),
            (REFUSAL | 1025, "is refused with 1025 bytes; 1024 are allowed"),
            (2**32 - 1, "is refused with 2147483647 bytes; 1024 are allowed"),
        ],
    )
    def test_an_absurd_length_is_refused_with_the_last_byte_of_the_header(
        self, length: int, told: str
    ) -> None:
        header = struct.pack(">16sII", DATA, length, 0)
        parser = StreamParser()
        assert parser.feed(header[:-1]) == []
        with pytest.raises(ProtocolError, match=f"c7c4568a-55a2-4052-ab61-df77298103ae {told}"):
            parser.feed(header[-1:])

    def test_the_words_of_a_refusal_are_utf_8(self) -> None:
        bad = struct.pack(">16sII", DATA, REFUSAL | 2, 7) + b"\xc3\x28"
        with pytest.raises(ProtocolError, match=r"the refusal of segment c7c4568a-.* is not UTF-8"):
            parsed([bad])

    @pytest.mark.parametrize("size", [1, 7, 100, 1000, 1023, 1024])
    def test_a_segment_in_crumbs_is_kept_in_few_chunks(self, size: int) -> None:
        data = bytes(range(256)) * (MAX_SEGMENT // 256)
        stream = b"".join(item(DATA, 0, data))
        parser = StreamParser()
        found: list[Segment | Refusal] = []
        for at in range(0, len(stream), size):
            found += parser.feed(stream[at : at + size])
        assert whole(found) == [Whole(DATA, 0, data)]
        assert isinstance(found[0], Segment)
        assert len(found[0].chunks) <= 300

    def test_crumbs_between_large_pieces_keep_their_places(self) -> None:
        data = bytes(range(256)) * (MAX_SEGMENT // 256)
        sizes = [1, 2, 5000, 3, 4, 70_000, 5, 100_000, 6]
        places = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
        cut = [ITEM_HEADER + place for place in places]
        assert parsed(cut_at(b"".join(item(DATA, 3, data)), cut)) == [Whole(DATA, 3, data)]

    @given(
        st.lists(st.binary(max_size=60), max_size=4)
        | damaged(WHOLE).map(lambda data: [data])
        | st.lists(damaged(NAMED["segment"]), max_size=3)
    )
    def test_any_bytes_are_items_or_are_refused(self, cut: list[bytes]) -> None:
        found = value_or_refusal(lambda: parsed(cut))
        assert found is None or b"".join(pieces(found)) == b"".join(cut)
