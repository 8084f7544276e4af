"""Vectors, requests and strategies for the tests of Oak's dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from format_samples import ids, numbers
from hypothesis import strategies as st
from wire_samples import vectors

from tarfailover.ids import RecordId, parse, text
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.frames import AnswerParser, AnyAnswer, BlobPart, SegmentAnswer
from tarfailover.wire.stream import Piece

FRAMES = dict(vectors("oak"))
PACKED = dict(vectors("oak-packed"))

SEGMENT = parse("11111111-2222-4333-a444-555555555555")
HEAD = RecordId(SEGMENT, 7)


class Whole(NamedTuple):
    """A segment, or a chunk of a blob, with its bytes in one."""

    what: object
    data: bytes


def whole(found: Iterable[AnyAnswer]) -> list[object]:
    """The answers as values to compare, the parts of blobs' chunks joined."""
    out: list[object] = []
    data = b""
    for each in found:
        if isinstance(each, SegmentAnswer):
            out.append(Whole(each.segment, b"".join(each.chunks)))
        elif isinstance(each, BlobPart):
            data += each.data
            if each.ends:
                out.append(Whole(each[:4], data))
                data = b""
        else:
            out.append(each)
    return out


def read(pieces: Iterable[Piece]) -> list[object]:
    """What a parser finds in `pieces`."""
    parser = AnswerParser()
    return whole([found for piece in pieces for found in parser.feed(piece)])


contents = st.binary(min_size=1, max_size=100) | st.builds(
    lambda size, byte: byte * size,
    st.sampled_from([17, 18, 19, 32766, 32767, 32768, 32784, 32785, 65534, 65551, 262144]),
    st.binary(min_size=1, max_size=1),
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)


def _segment(name: bytes, data: bytes) -> tuple[bytes, object]:
    return b"".join(answers.segment(name, data)), Whole(name, data)


def _chunk(name: str, data: bytes, more: int, flags: int) -> tuple[bytes, object]:
    total, first, last = len(data) + more, bool(flags & 1), bool(flags & 2)
    frame = b"".join(answers.blob_chunk(name, total, data, first=first, last=last))
    return frame, Whole((name, total, first, last), data)


def _references(name: bytes, listed: list[bytes]) -> tuple[bytes, object]:
    return answers.references(text(name), listed), (name, listed)


frames_and_values = (
    st.builds(lambda s, n: (answers.head(RecordId(s, n)), (RecordId(s, n),)), ids, numbers)
    | st.builds(_references, ids, st.lists(ids, max_size=5))
    | st.builds(_segment, ids, contents)
    | st.builds(_chunk, names, contents | st.just(b""), numbers, st.integers(0, 3))
)
"""A frame, and what is to be read out of it."""
