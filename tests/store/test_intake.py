"""The gate: what a segment must be before it may be stored, and which blobs it mentions."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from format_samples import data_segment, flipped
from hypothesis import given
from hypothesis import strategies as st
from stores import bulk, bulk_id, content, data_id, leaf

from tarfailover.errors import FormatError, SegmentMissingError
from tarfailover.ids import NO_GENERATION, Generation
from tarfailover.store import blobids
from tarfailover.store.durable import Buffer
from tarfailover.store.intake import Arrival, verify

BIG = bulk(1, 700)
LEAF = leaf(2, [BIG.segment], generation=Generation(3, 2, True))


def nothing(segment: bytes) -> bytes:
    raise SegmentMissingError(segment.hex())


@given(st.lists(st.integers(0, 700), max_size=4))
def test_pieces_are_what_the_whole_is(cuts: list[int]) -> None:
    for sample in (BIG, LEAF):
        borders = [0, *sorted(min(cut, len(sample.data)) for cut in cuts), len(sample.data)]
        pieces: list[Buffer] = [memoryview(sample.data)[a:b] for a, b in pairwise(borders)]
        crc = zlib.crc32(sample.data)
        found = verify(Arrival(sample.segment, crc, len(sample.data), pieces), nothing)
        assert b"".join(found.chunks) == sample.data
        assert (found.segment, found.crc, found.length) == (sample.segment, crc, len(sample.data))
        assert found.references == sample.references and found.blobs == ()
        assert found.generation == sample.generation


@given(st.integers(0, 8 * 700 - 1))
def test_a_flipped_bit_is_found(bit: int) -> None:
    for sample in (BIG, LEAF):
        wrong = flipped(sample.data, bit % (8 * len(sample.data)))
        crc = zlib.crc32(sample.data)
        with pytest.raises(FormatError, match=f"announced was {crc:08x}"):
            verify(Arrival(sample.segment, crc, len(wrong), [wrong]), nothing)


def test_another_length_than_announced_is_refused() -> None:
    with pytest.raises(FormatError, match="of its 699 bytes"):
        verify(Arrival(BIG.segment, zlib.crc32(BIG.data), 699, [BIG.data]), nothing)


@pytest.mark.parametrize(
    ("segment", "data", "what"),
    [
        (bulk_id(1), b"", "cannot be 0 bytes"),
        (bulk_id(1), bytes(262145), "cannot be 262145 bytes"),
        (data_id(1), b"", "no data segment"),
        (data_id(1), BIG.data, "segment magic"),
        (bytes(16), LEAF.data, "neither a data nor a bulk segment"),
        (LEAF.segment, data_segment(references=[LEAF.segment]), "names no other segment"),
        (LEAF.segment, data_segment(references=[bytes(16)]), "names no other segment"),
    ],
)
def test_what_is_no_segment_is_refused_by_its_name(segment: bytes, data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what) as caught:
        verify(Arrival.of(segment, data), nothing)
    assert caught.value.source.startswith("segment ")


# external blobs


def value(content: bytes) -> tuple[int, bytes]:
    """A string of 128 to 16511 bytes."""
    return 4, struct.pack(">H", 0x8000 | len(content) - 128) + content


def long_value(length: int, reference: int, number: int) -> tuple[int, bytes]:
    return 4, struct.pack(">QHI", 0xC000000000000000 | length - 16512, reference, number)


def pointer(reference: int, number: int) -> tuple[int, bytes]:
    """A blob id that is a string elsewhere."""
    return 8, b"\xf0" + struct.pack(">HI", reference, number)


def short(blob: bytes) -> tuple[int, bytes]:
    return 8, struct.pack(">H", 0xE000 | len(blob)) + blob


def blobs(
    records: list[tuple[int, bytes]],
    others: dict[bytes, bytes] | None = None,
) -> tuple[bytes, ...]:
    """The blob ids in a segment of `records`; its references are `others`."""
    found = others or {}
    data = data_segment(NO_GENERATION, list(found), records)
    return blobids.mentioned(data_id(1), data, list(found), found.__getitem__)


def test_short_ids_are_told_once() -> None:
    assert blobs([short(b"a#1"), short(b"b#2"), short(b"a#1"), value(b"x" * 200)]) == (
        b"a#1",
        b"b#2",
    )


def test_long_ids_stand_in_the_same_or_another_segment() -> None:
    other = data_segment(records=[value(b"other" * 900)])
    found = blobs([value(b"own" * 1500), pointer(0, 0), pointer(1, 0)], {data_id(2): other})
    assert found == (b"own" * 1500, b"other" * 900)


def test_an_id_cut_into_blocks_in_data_and_bulk_segments() -> None:
    whole = content(7, 5 * 4096 + 100)
    parts = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    in_bulk = b"".join(parts[:3])
    bulk_numbers = [262144 - len(in_bulk) + 4096 * place for place in range(3)]
    row = [*((1, number) for number in bulk_numbers), *((0, number) for number in range(3))]
    bucket = b"".join(struct.pack(">HI", *each) for each in row)
    records = [
        *((5, part) for part in parts[3:]),
        (2, bucket),
        long_value(len(whole), 0, 3),
        pointer(0, 4),
    ]
    assert blobs(records, {bulk_id(1): in_bulk}) == (whole,)


def test_an_id_of_more_blocks_than_one_bucket_holds() -> None:
    count = 256
    whole = b"i" * (4096 * (count - 1) + 5)
    in_bulk = [whole[:262144]] * 4
    rows = [
        struct.pack(">HI", 1 + n // 64, 262144 - len(in_bulk[0]) + 4096 * (n % 64))
        for n in range(count - 1)
    ]
    records = [
        (5, whole[-5:]),
        (2, b"".join(rows[:255])),
        (2, struct.pack(">HIHI", 0, 1, 0, 0)),
        long_value(len(whole), 0, 2),
        pointer(0, 3),
    ]
    others = {bulk_id(n): each for n, each in enumerate(in_bulk)}
    assert blobs(records, others) == (whole,)


def test_an_id_of_one_block_more_in_another_segment() -> None:
    """The list of another segment is resolved through that segment's own table."""
    blocks = data_segment(records=[(5, b"b" * 4096)])
    whole = b"b" * 4096 * 5
    bucket = struct.pack(">HI", 1, 0) * 5
    other = data_segment(
        references=[data_id(3)], records=[(2, bucket), long_value(len(whole), 0, 0)]
    )
    kept = {data_id(2): other, data_id(3): blocks}
    data = data_segment(references=[data_id(2)], records=[pointer(1, 1)])
    assert blobids.mentioned(data_id(1), data, [data_id(2)], kept.__getitem__) == (whole,)


WRONG: list[tuple[str, Callable[[], object], str]] = [
    ("a reference that is not in the table", lambda: blobs([pointer(3, 0)]), "reference number 3"),
    ("no such string", lambda: blobs([pointer(0, 7)]), "no value record 7"),
    (
        "longer than any id",
        lambda: blobs([long_value(2**40, 0, 0), pointer(0, 0)]),
        "a blob id of 1099511627776 bytes",
    ),
    (
        "a block that is not there",
        lambda: blobs([long_value(20000, 0, 9), pointer(0, 0)]),
        "has no record 9",
    ),
    (
        "a list that runs out of its segment",
        lambda: blobs([(2, b"12"), long_value(20000, 0, 0), pointer(0, 1)]),
        "lies outside of it",
    ),
    (
        "a bulk address below the segment",
        lambda: blobs([long_value(20000, 1, 5), pointer(0, 0)], {bulk_id(1): b"short"}),
        "lies outside of it",
    ),
    (
        "a reference too high in another segment",
        lambda: blobs(
            [pointer(1, 1)],
            {
                data_id(2): data_segment(
                    records=[(2, struct.pack(">HI", 9, 0) * 5), long_value(20480, 0, 0)]
                )
            },
        ),
        "has no reference 9",
    ),
]


@pytest.mark.parametrize(("name", "read", "what"), WRONG, ids=[name for name, _, _ in WRONG])
def test_damage_is_named(name: str, read: Callable[[], object], what: str) -> None:
    del name
    with pytest.raises(FormatError, match=what):
        read()


def test_a_segment_passes_the_gate_with_its_blobs() -> None:
    data = data_segment(records=[short(b"a#1")])
    assert verify(Arrival.of(data_id(1), data), nothing).blobs == (b"a#1",)
