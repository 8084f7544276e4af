"""Answers of Oak's dialect: as Oak writes them, cut anywhere, refused when they are not."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import pairwise

import pytest
from format_samples import damaged
from hypothesis import example, given
from hypothesis import strategies as st
from oak_samples import FRAMES, HEAD, SEGMENT, Whole, frames_and_values, read
from wire_samples import value_or_refusal

from tarfailover.errors import ProtocolError
from tarfailover.ids import RecordId, parse
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.frames import AnswerParser, HeadAnswer, ReferencesAnswer
from tarfailover.wire.oak.hashes import Murmur, murmur

LISTED = [
    parse("aaaaaaaa-bbbb-4ccc-bddd-eeeeeeeeeeee"),
    parse("12345678-1234-4234-a234-123456789012"),
]
REAL = RecordId(parse("a01b3b76-b3a2-4401-a24f-fd945b709527"), 0x37A)
LONELY = parse("3e26153e-ef28-4a95-addb-877642ba9433")
CODEC = bytes.fromhex("00000000000000010000000000000002")
HASHES = {b"": 0, b"\3\4\5": 0xD977B104, b"hello": 0x248BFA47}


def chunk(name: str, total: int, data: bytes, flags: int) -> bytes:
    """One chunk's frame."""
    return b"".join(
        answers.blob_chunk(name, total, data, first=bool(flags & 1), last=bool(flags & 2))
    )


WRITTEN = {
    "head": answers.head(HEAD),
    "head of a real store": answers.head(REAL),
    "head of the codec's test": answers.text_frame(answers.HEAD, "recordId"),
    "segment": b"".join(answers.segment(SEGMENT, b"\3\4\5")),
    "segment of the codec's test": b"".join(answers.segment(CODEC, b"\3\4\5")),
    "references": answers.references("11111111-2222-4333-a444-555555555555", LISTED),
    "no references": answers.references("3e26153e-ef28-4a95-addb-877642ba9433", []),
    "references of the codec's test": answers.text_frame(answers.REFERENCES, "a:b,c"),
    "first chunk": chunk("x#11", 11, b"hell", 1),
    "middle chunk": chunk("x#11", 11, b"o, b", 0),
    "last chunk": chunk("x#11", 11, b"lob", 2),
    "only chunk of the codec's test": chunk("blobId", 3, b"\1\2\3", 3),
    "first of two chunks of the codec's test": chunk("blobId", 4, b"\1\2", 1),
    "second of two chunks of the codec's test": chunk("blobId", 4, b"\3\4", 2),
}
READ: dict[str, object] = {
    "head": HeadAnswer(HEAD),
    "head of a real store": HeadAnswer(REAL),
    "segment": Whole(SEGMENT, b"\3\4\5"),
    "segment of the codec's test": Whole(CODEC, b"\3\4\5"),
    "references": ReferencesAnswer(SEGMENT, LISTED),
    "no references": ReferencesAnswer(LONELY, []),
    "first chunk": Whole(("x#11", 11, True, False), b"hell"),
    "middle chunk": Whole(("x#11", 11, False, False), b"o, b"),
    "last chunk": Whole(("x#11", 11, False, True), b"lob"),
    "only chunk of the codec's test": Whole(("blobId", 3, True, True), b"\1\2\3"),
    "first of two chunks of the codec's test": Whole(("blobId", 4, True, False), b"\1\2"),
    "second of two chunks of the codec's test": Whole(("blobId", 4, False, True), b"\3\4"),
}


@pytest.mark.parametrize("data", HASHES, ids=repr)
def test_hashes_are_those_of_guava(data: bytes) -> None:
    assert murmur(data) == HASHES[data]
    assert murmur(*(data[at : at + 1] for at in range(len(data)))) == HASHES[data]
    pieces = Murmur()
    pieces.add(data)
    assert pieces.value == HASHES[data]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_written_as_oak_writes_it(name: str) -> None:
    assert WRITTEN[name].hex() == FRAMES[name].hex()


@pytest.mark.parametrize("name", READ)
def test_a_frame_of_oak_is_read(name: str) -> None:
    assert read([FRAMES[name]]) == [READ[name]]


@pytest.mark.parametrize("name", sorted(set(FRAMES) - set(READ)))
def test_texts_that_name_no_record_and_no_segment_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match=r"is not a|the length of a head answer is 9|is 6"):
        read([FRAMES[name]])


def test_the_old_text_of_a_record_is_read() -> None:
    written = str(HEAD)
    assert read([answers.text_frame(answers.HEAD, written)]) == [HeadAnswer(HEAD)]


def test_whatever_the_cuts_the_answers_are_the_same() -> None:
    stream = b"".join(FRAMES[name] for name in READ)
    expected = [READ[name] for name in READ]
    assert read(stream[at : at + 1] for at in range(len(stream))) == expected
    for cut in range(len(stream)):
        assert read((stream[:cut], stream[cut:])) == expected


@given(st.lists(frames_and_values, max_size=6), st.lists(st.integers(0, 600_000), max_size=6))
def test_what_was_written_is_read(frames: list[tuple[bytes, object]], cuts: list[int]) -> None:
    stream = b"".join(frame for frame, _ in frames)
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read(stream[a:b] for a, b in pairwise(ends)) == [value for _, value in frames]


@given(st.one_of([damaged(FRAMES[name]) for name in READ]))
@example(b"")
@example(b"\0\0\0\0")
def test_any_bytes_are_answers_or_a_protocol_error(data: bytes) -> None:
    at_once = value_or_refusal(lambda: read([data]))
    assert value_or_refusal(lambda: read(data[at : at + 1] for at in range(len(data)))) == at_once


BAD = {
    "a type that is not known": (b"\0\0\0\5\4abcd", "unknown type 0x04"),
    "no type": (b"\0\0\0\0\0", "length of a head answer is 0"),
    "a head too long": (b"\0\0\0\x42\0", "head answer is 66"),
    "a segment too long": (struct.pack(">IB", 25 + 262145, 1), "segment answer is 262170"),
    "a segment without bytes": (b"\0\0\0\x19\1", "segment answer is 25"),
    "references without end": (b"\x7f\xff\xff\xff\3", "references answer is 2147483647"),
    "a frame of 4 GiB": (b"\xff\xff\xff\xff\2", "blob answer is 4294967295"),
    "a damaged segment": (FRAMES["segment"][:-1] + b"\6", "11111111-2222-4333-a444-5.* damaged"),
    "a damaged chunk": (FRAMES["last chunk"][:-1] + b"p", "chunk of blob x#11 .* damaged"),
    "a chunk longer than its blob": (
        FRAMES["only chunk of the codec's test"].replace(b"\0\3\0\0\0\6", b"\0\2\0\0\0\6"),
        "length of a chunk of blob blobId is 3; 0 to 2",
    ),
    "a blob's id longer than its frame": (
        b"\0\0\0\x1e\2\1" + bytes(8) + b"\0\0\1\0",
        "length of a blob's id is 256; 0 to 8",
    ),
    "a blob's id that is no text": (
        FRAMES["first chunk"].replace(b"x#11", b"\xff\xfe\xff\xfe"),
        "not UTF-8",
    ),
    "references of nothing": (
        answers.text_frame(answers.REFERENCES, "x" * 40),
        "of which segment",
    ),
    "a reference that is none": (
        answers.text_frame(answers.REFERENCES, "11111111-2222-4333-a444-555555555555:a,b"),
        "'a' is not",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_refused_as_soon_as_that_is_seen(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(ProtocolError, match=words):
        read([data])


def test_a_chunk_of_a_blob_is_handed_on_as_it_comes() -> None:
    frame = chunk("x", 2**40, bytes(100_000), 1)
    parser = AnswerParser()
    assert parser.between
    parts = [part for at in range(0, len(frame), 1000) for part in parser.feed(frame[at:][:1000])]
    assert parser.between
    assert len(parts) == 102
    assert [part.ends for part in parts[-2:]] == [False, True]


def test_a_segment_in_crumbs_takes_the_memory_of_a_segment() -> None:
    frame = b"".join(answers.segment(SEGMENT, bytes(200_000)))
    parser = AnswerParser()
    tracemalloc.start()
    for at in range(len(frame) - 1):
        parser.feed(frame[at : at + 1])
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert not parser.between
    assert used < 500_000


REFUSED = {
    "a segment too long": lambda: answers.segment(SEGMENT, bytes(262145)),
    "an id too short": lambda: answers.segment(SEGMENT[1:], b"x"),
    "a blob's id too long": lambda: chunk("x" * 8193, 1, b"x", 3),
    "a text too long": lambda: answers.text_frame(answers.HEAD, "x" * 65),
    "a blob of less than nothing": lambda: chunk("x", -1, b"", 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_could_read_is_not_written(name: str) -> None:
    with pytest.raises(ProtocolError):
        REFUSED[name]()
