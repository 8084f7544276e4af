"""The footer that index, graph and binary references share."""

from __future__ import annotations

import struct
import zlib

import pytest
from format_samples import ABSURD, footer, value_or_refusal
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import trailer
from tarfailover.format.trailer import Footer

MAGICS = (trailer.GRAPH, trailer.INDEX_V2)


@pytest.mark.parametrize(
    ("magic", "written"),
    [
        (trailer.INDEX_V1, b"\n0K\n"),
        (trailer.INDEX_V2, b"\n1K\n"),
        (trailer.GRAPH, b"\n0G\n"),
        (trailer.BINARY_REFERENCES_V1, b"\n0B\n"),
        (trailer.BINARY_REFERENCES_V2, b"\n1B\n"),
    ],
)
def test_magics_are_readable_in_the_file(magic: int, written: bytes) -> None:
    assert struct.pack(">I", magic) == written
    assert trailer.encode(b"", 0, magic, padded_size=False).endswith(written)


@given(st.binary(max_size=1500), st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=20))
@example(bytes(496), 1, True, b"")
@example(bytes(497), 1, True, b"")
def test_padding_comes_first_and_the_footer_ends_on_a_block(
    body: bytes, count: int, padded_size: bool, after: bytes
) -> None:
    data = trailer.encode(body, count, trailer.GRAPH, padded_size=padded_size)
    padding = len(data) - len(body) - 16
    assert len(data) % 512 == 0
    assert 0 <= padding < 512
    assert data[:padding] == bytes(padding)
    assert len(data) + 512 == trailer.extent(len(body))
    read = trailer.parse_footer(data + after, len(data), MAGICS, "graph")
    size = len(data) if padded_size else len(body) + 16
    assert read == Footer(zlib.crc32(body), count, size, trailer.GRAPH)
    assert data.endswith(footer(body, count, size, trailer.GRAPH))
    assert trailer.payload(data + after, len(data), read, len(body), "graph") == body


@pytest.mark.parametrize(("end", "offset"), [(0, 0), (15, 0), (-1, 0), (33, 17)])
def test_a_footer_needs_room(end: int, offset: int) -> None:
    with pytest.raises(FormatError, match="no room for the footer of the graph") as refused:
        trailer.parse_footer(bytes(32), end, MAGICS, "graph")
    assert refused.value.offset == offset


def test_another_magic_is_told_in_hex_with_its_offset() -> None:
    data = bytes(16) + footer(b"", 0, 16, 0x0A30420A)
    with pytest.raises(FormatError, match="magic 0x0a30420a is not that of a graph") as refused:
        trailer.parse_footer(data, 32, MAGICS, "graph")
    assert refused.value.offset == 28


@pytest.mark.parametrize("size", [17, 512, ABSURD * ABSURD])
def test_a_payload_that_begins_before_the_file_is_refused(size: int) -> None:
    data = bytes(16) + footer(b"", 0, 16, trailer.GRAPH)
    read = trailer.parse_footer(data, 32, MAGICS, "graph")
    with pytest.raises(FormatError, match="the graph is larger than what is there") as refused:
        trailer.payload(data, 32, read, size, "graph")
    assert refused.value.offset == 16


def test_a_wrong_checksum_is_told_with_the_offset_of_the_payload() -> None:
    data = bytes(8) + b"payload." + footer(b"Payload.", 1, 24, trailer.GRAPH)
    read = trailer.parse_footer(data, 32, MAGICS, "graph")
    with pytest.raises(FormatError, match="checksum of the graph does not match") as refused:
        trailer.payload(data, 32, read, 8, "graph")
    assert refused.value.offset == 8


@given(st.binary(max_size=64), st.integers(-5, 70), st.integers(0, 2**40))
def test_any_bytes_give_a_payload_or_our_error(data: bytes, end: int, size: int) -> None:
    found = value_or_refusal(lambda: trailer.parse_footer(data, end, MAGICS, "graph"))
    read = found or Footer(0, 0, 0, 0)
    if 16 <= end <= len(data):
        payload = value_or_refusal(lambda: trailer.payload(data, end, read, size, "graph"))
        assert payload is None or zlib.crc32(payload) == read.crc
