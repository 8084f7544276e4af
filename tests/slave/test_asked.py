"""Slices of binaries as a slave takes them: from masters that behave, lie, and vanish."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import Rig
from sides import SlaveEnd

from tarfailover.errors import ConnectionLostError, PeerError, ProtocolError
from tarfailover.wire import messages as m
from tarfailover.wire.compression import Packer, packed_parts
from tarfailover.wire.stream import parts

BLOB = b"0123456789"


@pytest.fixture
def end() -> SlaveEnd:
    return SlaveEnd(Rig()).welcomed()


def slice_of(data: bytes, offset: int, most: int) -> list[m.Answer]:
    """The answer of a master that has `data`."""
    cut = data[offset : offset + most]
    pieces: list[m.Answer] = [
        m.Part(cut[at : at + m.MAX_PART]) for at in range(0, len(cut), m.MAX_PART)
    ]
    return [*pieces, m.BlobEnd(len(data), len(cut), zlib.crc32(cut))]


def refused(end: SlaveEnd, *answers: m.Answer, offset: int = 0, most: int = 4) -> str:
    """Why the connection ends when a slice is answered so."""
    end.master.answer(end.blob(offset, most), *answers)
    error = end.error()
    assert isinstance(error, ProtocolError)
    assert not end.results
    return str(error)


@pytest.mark.parametrize(
    ("offset", "most", "came"),
    [
        (0, 4, [b"0123"]),
        (4, 4, [b"4567"]),
        (8, 4, [b"89"]),
        (10, 4, []),
        (11, 4, []),
        (0, m.MAX_SLICE, [BLOB]),
    ],
)
def test_a_slice_comes_whole(end: SlaveEnd, offset: int, most: int, came: list[bytes]) -> None:
    end.master.answer(end.blob(offset, most), *slice_of(BLOB, offset, most))
    end.rig.settle()
    assert (end.items, end.results) == (came, [10])
    assert not end.rig.delayed


def test_an_empty_binary(end: SlaveEnd) -> None:
    end.master.answer(end.blob(0, 4), *slice_of(b"", 0, 4))
    end.rig.settle()
    assert (end.items, end.results) == ([], [0])


def test_slices_and_segments_are_answered_in_turn(end: SlaveEnd) -> None:
    first, second = end.blob(0, 4), end.blob(4, 6)
    end.master.answer(first, *slice_of(BLOB, 0, 4))
    end.master.answer(second, *slice_of(BLOB, 4, 6))
    end.rig.settle()
    assert (end.items, end.results) == ([b"0123", b"456789"], [10, 10])


def test_a_compressed_one() -> None:
    end = SlaveEnd(Rig(), m.Hello("slave", ("zstd", "blobs")))
    end.master.welcome(features=("zstd", "blobs"))
    end.rig.settle()
    assert end.protocol.gives_blobs
    data = b"words " * 50_000
    number = end.blob(0, m.MAX_SLICE)
    framed, size = packed_parts(number, [data], Packer(1))
    assert size == len(data) > 100 * len(framed)
    end.master.transport.write(framed)
    end.master.answer(number, m.BlobEnd(len(data), len(data), zlib.crc32(data)))
    end.rig.settle()
    assert (end.items, end.results) == ([data], [len(data)])


def test_a_refusal_fails_this_slice_alone(end: SlaveEnd) -> None:
    first, second = end.blob(0, 4), end.blob(4, 4)
    end.master.answer(first, m.Error(m.ErrorCode.BLOB_GONE, "gone"))
    end.master.answer(second, *slice_of(BLOB, 4, 4))
    end.rig.settle()
    (gone,) = end.failures
    assert isinstance(gone, PeerError) and gone.code == m.ErrorCode.BLOB_GONE
    assert (end.items, end.results) == ([b"4567"], [10])
    assert not end.lost


def test_what_was_changed_on_its_way_is_not_taken(end: SlaveEnd) -> None:
    wrong = [m.Part(b"0124"), m.BlobEnd(10, 4, zlib.crc32(b"0123"))]
    assert "changed on its way" in refused(end, *wrong)
    assert not end.items


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([m.Part(b"01234")], "more than the 4 bytes of a blob that were asked for"),
        ([m.BlobEnd(10, 0, 0)], "0 bytes from 0 on are not what was asked for of a blob of 10"),
        ([m.Part(b"0"), m.BlobEnd(2, 1, zlib.crc32(b"0"))], "1 bytes from 0 on are not what"),
        ([m.Part(b"0123"), m.BlobEnd(3, 4, zlib.crc32(b"0123"))], "of a blob of 3 bytes"),
        ([m.End(0, 0)], "BLOB is answered with pieces of another kind"),
        ([m.Listed(0, 0, b"")], "pieces of another kind"),
        ([m.ListEnd(b"")], "pieces of another kind"),
    ],
)
def test_what_was_not_asked_for_ends_the_connection(
    end: SlaveEnd, answers: list[m.Answer], told: str
) -> None:
    assert told in refused(end, *answers)


def test_the_end_of_a_binary_ends_no_get(end: SlaveEnd) -> None:
    end.master.answer(end.get(bytes(16)), m.BlobEnd(0, 0, 0))
    assert "GET is answered with pieces of another kind" in str(end.error())


def test_what_came_before_a_cut_is_kept(end: SlaveEnd) -> None:
    first = end.blob(0, 4)
    end.blob(4, 4)
    end.master.answer(first, m.Part(b"01"), m.Part(b"2"))
    end.rig.settle()
    assert not end.items
    end.link.cut()
    assert isinstance(end.error(), ConnectionLostError)
    assert end.items == [b"012"]


def test_silence_in_a_slice_has_a_deadline(end: SlaveEnd) -> None:
    end.master.answer(end.blob(0, 4), m.Part(b"01"))
    end.rig.settle()
    end.rig.pass_time(31, step=1)
    assert "deadline idle" in str(end.error())
    assert end.items == [b"01"]


@given(st.binary(max_size=200_000), st.integers(0, 200_100), st.integers(1, 200_000))
def test_any_slice_cut_anyhow(data: bytes, offset: int, most: int) -> None:
    end = SlaveEnd(Rig()).welcomed()
    number = end.blob(offset, most)
    cut = data[offset : offset + most]
    framed, _ = parts(number, [cut])
    end.master.transport.write(framed)
    end.master.answer(number, m.BlobEnd(len(data), len(cut), zlib.crc32(cut)))
    end.rig.settle()
    assert (b"".join(end.items), end.results) == (cut, [len(data)])
