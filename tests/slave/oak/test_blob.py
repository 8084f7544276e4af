"""Binaries from an Oak primary: whole, in chunks, left out, and cut short."""

from __future__ import annotations

import pytest
from links import Rig
from oak_sides import OakEnd
from stores import bulk, head_in, leaf

from tarfailover.errors import PeerError, ProtocolError
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak import answers

BLOB = f"{'ab' * 32}#11"
EMPTY = f"{'cd' * 32}#0"
LARGE = f"{'ef' * 32}#{64 * 1024 * 1024}"
DATA = b"hello, blob"
HEAD = head_in(leaf(1).segment)
FIRST, LAST = True, True


@pytest.fixture
def end() -> OakEnd:
    end = OakEnd(Rig()).welcomed(HEAD)
    assert end.protocol.gives_blobs
    assert end.protocol.blob_step == 0
    return end


def asks(end: OakEnd, blob: str = BLOB, offset: int = 0) -> None:
    assert end.asked(end.protocol.blob(blob, offset, 0, end.items.append)) == [f"b.{blob}", "h"]


def chunk(end: OakEnd, data: bytes, *, first: bool, last: bool, total: int = len(DATA)) -> None:
    end.primary.frame(*answers.blob_chunk(BLOB, total, data, first=first, last=last))
    end.rig.settle()


@pytest.mark.parametrize("offset", [0, 3, 4, 9, 11])
def test_it_comes_whole_and_what_is_here_is_passed_over(end: OakEnd, offset: int) -> None:
    asks(end, offset=offset)
    chunk(end, DATA[:4], first=True, last=False)
    chunk(end, DATA[4:8], first=False, last=False)
    assert not end.results
    chunk(end, DATA[8:], first=False, last=True)
    assert b"".join(end.items) == DATA[offset:]
    assert end.results == [11]
    end.primary.head(HEAD)
    end.rig.settle()
    assert not end.rig.delayed


def test_one_that_the_primary_lacks_is_known_at_once_and_the_others_come(end: OakEnd) -> None:
    end.asked(end.protocol.blob(LARGE, 0, 0, end.items.append))
    assert end.asked(end.protocol.blob(BLOB, 0, 0, end.items.append)) == []
    end.primary.head(HEAD)
    end.rig.settle()
    (error,) = end.failures
    assert isinstance(error, PeerError) and error.code == ErrorCode.BLOB_GONE
    assert end.primary.take() == [f"b.{BLOB}", "h"]
    chunk(end, DATA, first=True, last=True)
    assert (end.results, b"".join(end.items)) == ([11], DATA)
    assert not end.lost


def test_one_whose_stream_ends_early_is_damaged(end: OakEnd) -> None:
    asks(end)
    chunk(end, DATA[:4], first=True, last=False)
    end.primary.head(HEAD)
    end.rig.settle()
    (error,) = end.failures
    assert isinstance(error, PeerError) and error.code == ErrorCode.DAMAGED
    assert "ended after 4 of 11 bytes" in str(error)


def test_one_without_bytes_has_no_answer(end: OakEnd) -> None:
    asks(end, EMPTY)
    end.primary.head(HEAD)
    end.rig.settle()
    assert (end.results, end.items) == ([0], [])


@pytest.mark.parametrize(
    "chunks",
    [
        [(DATA[:4], False, False, 11)],
        [(DATA[:4], True, True, 11)],
        [(DATA, True, False, 11)],
        [(DATA[:4], True, False, 11), (DATA[4:], True, True, 11)],
        [(DATA[:4], True, False, 11), (DATA[4:], False, True, 12)],
        [(DATA[:8], True, False, 11), (DATA[4:], False, True, 11)],
        [(DATA, True, True, 12)],
        [(DATA + b"!", True, True, 12)],
    ],
)
def test_one_that_is_not_what_it_says_costs_no_other(
    end: OakEnd, chunks: list[tuple[bytes, bool, bool, int]]
) -> None:
    asks(end)
    for data, first, last, total in chunks:
        chunk(end, data, first=first, last=last, total=total)
    end.primary.head(HEAD)
    end.rig.settle()
    (error,) = end.failures
    assert isinstance(error, PeerError) and error.code == ErrorCode.DAMAGED
    assert b"".join(end.items) in (b"", DATA[:4], DATA[:8], DATA)
    assert not end.lost


def test_chunks_behind_the_last_one(end: OakEnd) -> None:
    asks(end)
    chunk(end, DATA, first=True, last=True)
    chunk(end, DATA, first=True, last=True)
    assert isinstance(end.error(), ProtocolError)


def test_a_head_is_in_a_data_segment(end: OakEnd) -> None:
    end.asked(end.protocol.head(head_in(bulk(1, 9).segment), 0))
    end.primary.head(head_in(bulk(1, 9).segment))
    assert "is in no data segment" in str(end.error())
