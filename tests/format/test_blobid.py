"""Ids of external binaries: those of real Oak, any other way to write them, and hostile ones."""

from __future__ import annotations

import pytest
from blob_samples import vectors
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import blobid
from tarfailover.format.blobid import BlobId, Block, encode_entry, parse_block_store, parse_entries

A40, A64 = "a" * 40, "0123456789abcdef" * 4


@pytest.mark.parametrize(("store", "content", "text"), vectors())
def test_the_ids_that_oak_wrote(store: str, content: bytes, text: str) -> None:
    parse = blobid.parse_data_store if store == "file" else parse_block_store
    for raw in (text, text.encode()):
        found = parse(raw)
        assert (found.text, found.length) == (text, len(content))
    if store != "file":
        assert b"".join(map(encode_entry, found.parts)).hex() == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (A64, BlobId(A64, (Block(A64, None),), None)),
        (A40 + "#0", BlobId(A40 + "#0", (Block(A40, 0),), 0)),
        (f"{A64}#{2**63 - 1}", BlobId(f"{A64}#{2**63 - 1}", (Block(A64, 2**63 - 1),), 2**63 - 1)),
        ("0x", BlobId("0x", (), 0)),
        ("0x00ff", BlobId("0x00ff", (b"\0\xff",), 2)),
        ("0x00ff#2", BlobId("0x00ff#2", (b"\0\xff",), 2)),
    ],
)
def test_ids_of_a_data_store(text: str, expected: BlobId) -> None:
    assert blobid.parse_data_store(text) == expected


HOSTILE = [
    "",
    "#5",
    "../../a/b/secret",
    "../" * 20 + "etc/passwd#5",
    "/etc/passwd",
    "aa/../" + A64[6:],
    "aabbcc/..",
    "c:\\" + A64[3:],
    A64[:-1] + "\0",
    A64 + "\n",
    A64 + "#5\n",
    "\n" + A64,
    A64[:-1],
    A64 + "a",
    A64.upper(),
    A64[:-1] + "g",
    A64[:-1] + "\uff11",
    A64 + "#",
    A64 + "#+5",
    A64 + "# 5",
    A64 + "#05",
    A64 + "#-1",
    A64 + "#5#5",
    A64 + "#\u0665",
    A64 + "#0x5",
    f"{A64}#{2**63}",
    f"{A64}#{2**64}",
    A64 + "#1" + "0" * 400,
    "0X00",
    "0x0",
    "0xzz",
    "0xAB",
    "0x00#2",
    "0x00#",
    "0x" + "00" * blobid.LONGEST,
    "01234567-89ab-cdef-0123-456789abcdef-1700000000000#5",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_everything_else_is_refused_and_told_in_a_line(text: str) -> None:
    for raw in (text, text.encode()):
        with pytest.raises(FormatError) as caught:
            blobid.parse_data_store(raw)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "raw",
    [
        "0",
        "zz",
        "AA",
        "02",  # an unknown kind
        "0005",  # data that is not there
        "00" + "ff" * 12,  # a number without an end
        "00" + "ff" * 9 + "01" + "00",  # 2^63 and more
        "0000" + "01",  # a hash without anything
        "01008020" + "1f" + "00" * 31,  # a digest of 31 bytes
        "01" + "41" + "8020" + "8020" + "20" + "00" * 32,  # level 65
        "01" + "ffffffff07" + "8020" + "8020" + "20" + "00" * 32,  # level 2^31
        "01008020" + "20" + "00" * 31,
        "0100" + "ffffffffffffffff7f" + "20" + "00" * 32 + "0001ff",  # 2^63 bytes in sum
        b"\xff\xfe",
        "00" * (blobid.LONGEST // 2 + 1),
        "../../etc/passwd",
    ],
)
def test_hostile_ids_of_a_block_store(raw: str | bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse_block_store(raw)
    assert len(str(caught.value)) < 300


def parts() -> st.SearchStrategy[bytes | Block]:
    digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
    numbers = st.integers(0, 2**55)
    return st.one_of(
        st.binary(max_size=300),
        st.builds(Block, digests, numbers, st.just(0), st.none()),
        st.builds(Block, digests, numbers, st.integers(1, blobid.MAX_DEPTH), numbers),
    )


@given(st.lists(parts(), max_size=5))
def test_entries_come_back(written: list[bytes | Block]) -> None:
    raw = b"".join(map(encode_entry, written))
    assert list(parse_entries(raw)) == written
    found = parse_block_store(raw.hex())
    assert found.length == sum(len(p) if isinstance(p, bytes) else p.length or 0 for p in written)


@given(st.binary(max_size=80))
def test_any_bytes_are_entries_or_our_error(raw: bytes) -> None:
    for parse in (parse_entries, lambda raw: parse_block_store(raw.hex()), parse_block_store):
        try:
            found = parse(raw)
        except FormatError:
            continue
        if isinstance(found, tuple) and not isinstance(found, BlobId):
            assert parse_entries(b"".join(map(encode_entry, found))) == found


@given(st.text(max_size=80))
def test_any_text_is_an_id_or_our_error(text: str) -> None:
    try:
        found = blobid.parse_data_store(text)
    except FormatError:
        return
    assert found.text == text
