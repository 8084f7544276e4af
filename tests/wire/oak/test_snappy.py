"""Snappy's framing: sliced as Oak's server slices, checked, and bounded whatever comes."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import cramjam
import google_crc32c
import pytest
from format_samples import damaged
from hypothesis import example, given
from hypothesis import strategies as st
from oak_samples import FRAMES, PACKED, contents
from wire_samples import value_or_refusal

from tarfailover.errors import ProtocolError
from tarfailover.wire.oak import snappy
from tarfailover.wire.oak.limits import MAX_UNPACKED, SLICE
from tarfailover.wire.oak.snappy import IDENTIFIER, Packer, Unpacker, checksum, netty_checksum


def unpacked(pieces: Iterable[bytes]) -> bytes:
    """What an unpacker makes of `pieces`."""
    unpacker = Unpacker()
    return b"".join(part for piece in pieces for part in unpacker.feed(piece))


def chunks(packed: bytes) -> list[tuple[int, int, bytes]]:
    """Type, bytes and unpacked content of each chunk, read by other rules than the code's."""
    found, at = [], 0
    while at < len(packed):
        kind, low, high = struct.unpack_from("<BHB", packed, at)
        payload = packed[at + 8 : at + 4 + low + (high << 16)]
        at += 4 + low + (high << 16)
        data = bytes(cramjam.snappy.decompress_raw(payload)) if kind == 0 else payload
        found.append((kind, len(payload), data))
    return found


def chunk(kind: int, data: bytes, payload: bytes | None = None) -> bytes:
    """A chunk by hand."""
    body = struct.pack("<I", checksum(data)) + (data if payload is None else payload)
    return bytes([kind]) + len(body).to_bytes(3, "little") + body


@pytest.mark.parametrize("name", PACKED)
def test_the_bytes_of_a_real_server_are_unpacked(name: str) -> None:
    packed = PACKED[name]
    assert unpacked([packed]) == FRAMES[name]
    assert unpacked(packed[at : at + 1] for at in range(len(packed))) == FRAMES[name]
    for cut in range(len(packed)):
        assert unpacked((packed[:cut], packed[cut:])) == FRAMES[name]


def test_what_cannot_be_made_smaller_is_packed_as_a_real_server_packs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the place of a cut, without which old Netty would refuse it."""
    name = "head of a real store"
    packed = Packer().pack(FRAMES[name])
    assert len(chunks(packed)) == 3
    assert unpacked([packed]) == FRAMES[name]
    monkeypatch.setattr(snappy, "_suits_all", lambda _: True)
    assert Packer().pack(FRAMES[name]) == PACKED[name]


def test_the_identifier_comes_once() -> None:
    packer = Packer()
    assert packer.pack(b"a" * 40).startswith(IDENTIFIER)
    assert IDENTIFIER not in packer.pack(b"a" * 40)


SLICES = {
    1: [(1, 1)],
    17: [(1, 17)],
    18: [(1, 18)],
    19: [(0, 19)],
    50: [(0, 50)],
    SLICE: [(0, SLICE)],
    SLICE + 17: [(0, SLICE), (1, 17)],
    SLICE + 18: [(0, SLICE), (0, 18)],
    2 * SLICE: [(0, SLICE), (0, SLICE)],
    3 * SLICE + 37: [(0, SLICE)] * 3 + [(0, 37)],
}


def suits_all(data: bytes) -> bool:
    """Whether each slice that Netty would make has a checksum that all of them compute alike."""
    slices = (data[at : at + SLICE] for at in range(0, len(data), SLICE))
    return all(checksum(each) == netty_checksum(each) for each in slices)


@pytest.mark.parametrize("size", SLICES)
def test_slices_are_those_of_netty(size: int) -> None:
    bases = (bytes((at * at + base) % 251 for at in range(size)) for base in range(251))
    data = next(filter(suits_all, bases))
    packer = Packer()
    packer.pack(b"the first answer")
    found = chunks(packer.pack(data[:30], memoryview(data)[30:]))
    assert [(kind, len(part)) for kind, _, part in found] == SLICES[size]
    assert b"".join(part for *_, part in found) == data


@example(b"\xf4'\xbe\xc7\xb8\x98\xf6")
@given(st.binary(max_size=50))
def test_a_checksum_as_old_netty_masks_it(data: bytes) -> None:
    """Oak 1.22 has Netty 4.1.14, whose shift to the right copies the sign: found with real Oak."""
    crc = google_crc32c.value(data)
    signed = crc - (1 << 32) if crc >> 31 else crc
    assert netty_checksum(data) == ((signed >> 15 | signed << 17) + 0xA282EAD8) & 0xFFFFFFFF
    # The copies of the sign stand where the lowest 15 bits belong, which may be ones, too.
    assert (netty_checksum(data) == checksum(data)) == (signed >= 0 or crc & 0x7FFF == 0x7FFF)


@given(contents | st.randoms(use_true_random=False).map(lambda r: r.randbytes(r.randint(37, 99))))
def test_what_we_pack_suits_old_netty_and_new(message: bytes) -> None:
    found = [part for *_, part in chunks(Packer().pack(message))[1:]]
    assert b"".join(found) == message
    if len(message) >= 37 and len(set(message)) > 1:  # other answers there are not
        assert all(checksum(each) == netty_checksum(each) for each in found)


def test_what_old_netty_packs_is_unpacked() -> None:
    for data in (b"abc%d" % number for number in range(20)):
        body = struct.pack("<I", netty_checksum(data)) + data
        assert unpacked([IDENTIFIER, bytes([1, len(body), 0, 0]) + body]) == data


@given(st.lists(contents, max_size=5), st.lists(st.integers(0, 300_000), max_size=5))
def test_what_was_packed_is_unpacked(messages: list[bytes], cuts: list[int]) -> None:
    packer = Packer()
    packed = b"".join(map(packer.pack, messages))
    ends = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    assert unpacked(packed[a:b] for a, b in pairwise(ends)) == b"".join(messages)


@given(st.one_of([damaged(packed) for packed in PACKED.values()]))
def test_any_bytes_are_unpacked_or_a_protocol_error(data: bytes) -> None:
    at_once = value_or_refusal(lambda: unpacked([data]))
    one_by_one = value_or_refusal(lambda: unpacked(data[at : at + 1] for at in range(len(data))))
    assert one_by_one == at_once


def test_what_may_be_skipped_is_skipped_and_not_kept() -> None:
    padding = b"\xfe\xff\xff\xff" + bytes(2**24 - 1)
    stream = IDENTIFIER + padding + chunk(1, b"abc") + b"\x80\0\0\0" + IDENTIFIER + chunk(1, b"def")
    assert unpacked([stream]) == b"abcdef"
    unpacker = Unpacker()
    unpacker.feed(IDENTIFIER)
    tracemalloc.start()
    for at in range(0, len(padding), 4096):
        unpacker.feed(padding[at : at + 4096])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert unpacker.feed(chunk(1, b"abc")) == [b"abc"]


GOOD = chunk(1, b"abcdef")
BOMB = bytes(cramjam.snappy.compress_raw(bytes(MAX_UNPACKED + 1)))
BAD = {
    "nothing names the stream": (GOOD, "no Snappy stream"),
    "another name": (b"\xff\x06\0\0sNaPpX", "names itself b'sNaPpX'"),
    "a name of another length": (b"\xff\x07\0\0", "has 7 bytes; 6 to 6"),
    "padding before the name": (b"\xfe\1\0\0", "no Snappy stream"),
    "HTTP": (b"HTTP/1.1 400 Bad Request", "type 0x48; is this an Oak primary"),
    "TLS": (b"\x15\x03\x03\0\x02", "type 0x15; is this an Oak primary, and with TLS"),
    "a type that must be known": (IDENTIFIER + b"\x02\4\0\0", "type 0x02"),
    "a stored chunk too long": (IDENTIFIER + b"\x01\5\0\1", "has 65541 bytes; 4 to 65540"),
    "a packed chunk too long": (IDENTIFIER + b"\x00\xff\xff\xff", "has 16777215 bytes"),
    "no checksum": (IDENTIFIER + b"\x01\3\0\0", "has 3 bytes"),
    "damage": (IDENTIFIER + GOOD[:-1] + b"F", "checksum of a Snappy chunk"),
    "no Snappy": (IDENTIFIER + chunk(0, b"", b"\x09abc"), "cannot be unpacked"),
    "a bomb": (IDENTIFIER + chunk(0, b"", BOMB), "would unpack to 65537 bytes"),
    "an absurd length": (IDENTIFIER + chunk(0, b"", b"\xff\xff\xff\xff\x0f"), "would unpack to 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stream_is_refused(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(ProtocolError, match=words):
        unpacked([data])


def test_an_empty_chunk_is_nothing() -> None:
    assert Unpacker().feed(IDENTIFIER + chunk(1, b"") + GOOD) == [b"abcdef"]


def test_the_greatest_chunks_are_taken() -> None:
    data = bytes(at * at % 251 for at in range(MAX_UNPACKED))
    packed = bytes(cramjam.snappy.compress_raw(data))
    assert unpacked([IDENTIFIER, chunk(0, data, packed), chunk(1, data)]) == 2 * data
