"""The manifest: a Java properties file, and the one number in it."""

from __future__ import annotations

import re

import pytest
from format_samples import is_refused, value_or_refusal
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import manifest

OAK = b"#Sun Nov 22 19:24:41 UTC 2026\nstore.version=2\n"


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (OAK, 2),
        (b"", 2),
        (b"\n\n", 2),
        (b"#Sun Nov 22 19:24:41 UTC 2026\n", 2),
        (b"#Sun Nov", 2),
        (b"other=7\n", 2),
        (b"store.vers", 2),
        (b"store.version.old=1\n", 2),
        (b"Store.Version=1\n", 2),
        (b"my.store.version=1\n", 2),
        (b"#store.version=1\n", 2),
        (b"  ! store.version=1\n", 2),
        (b"store.version=1", 1),
        (b"store.version=3\n", 3),
        (b"store.version=0\n", 0),
        (b"store.version=-1\n", -1),
        (b"store.version=+1\n", 1),
        (b"store.version=02\n", 2),
        (b"store.version=999999999\n", 999999999),
    ],
)
def test_the_version_that_a_manifest_states(data: bytes, version: int) -> None:
    assert manifest.parse(data) == version


@pytest.mark.parametrize(
    "data",
    [
        b"store.version:1\n",
        b"store.version 1\n",
        b"store.version\t1\n",
        b"store.version\f1\n",
        b" \t\fstore.version = 1 \n",
        b"store.version  :  1\n",
        b"store.version=1\r\n",
        b"#a\r\nstore.version=1\r\nz=2\r\n",
        b"#a\rstore.version=1\r",
        b"#a\\\nstore.version=1\n",
        b"a=b\\\\\nstore.version=1\n",
        b"store.version=2\nstore.version=1\n",
        b"a=\xe4\nstore.version=1\n",
        b"a=store.version\nstore.version=1\n",
        b"store.\\\n   version=1\n",
        b"store.version\\\r\n = \\\r1",
        b"store.version=1\\",
        b"store.version=1\\\n",
        b"store.version=1\\\n\nstore.version.x=2\n",
        b"\\u0073tore\\.version=\\u0031\n",
        b"\n\n  \nstore.version=1",
        b"=5\nstore.version=1",
        b"\\\nstore.version=1",
    ],
)
def test_every_way_to_write_properties(data: bytes) -> None:
    assert manifest.parse(data) == 1


def test_continued_lines_hide_a_key() -> None:
    assert manifest.parse(b"a=b\\\nstore.version=1\n") == 2
    assert manifest.parse(b"a=b\\\\\\\n  store.version=1\n") == 2
    assert manifest.parse(b"store.versio\\n=1\n") == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", "''"),
        (b"two", "'two'"),
        (b"2x", "'2x'"),
        (b"--2", "'--2'"),
        (b"=2", "'=2'"),
        (b"2.0", "'2.0'"),
        (b"1 2", "'1 2'"),
        (b"1_0", "'1_0'"),
        (b"0x2", "'0x2'"),
        (b"\xb2", "'\N{SUPERSCRIPT TWO}'"),
        (b"\\u0662", "'\N{ARABIC-INDIC DIGIT TWO}'"),
        (b"1234567890", "'1234567890'"),
        (b"-", "'-'"),
    ],
)
def test_what_is_no_number_is_told_with_offset_and_remedy(value: bytes, shown: str) -> None:
    with pytest.raises(
        FormatError, match=re.escape(f"store.version is {shown}; it must be 1 or 2")
    ) as refused:
        manifest.parse(b"#comment\r\nstore.version=" + value + b"\n")
    assert refused.value.offset == 10


def test_a_key_without_a_value_is_refused_as_by_java() -> None:
    assert is_refused(lambda: manifest.parse(b"store.version"))
    assert is_refused(lambda: manifest.parse(b"store.version\n"))


def test_the_offset_of_a_continued_line_is_that_of_its_start() -> None:
    with pytest.raises(FormatError) as refused:
        manifest.parse(b"#x\na=\\\nb\nstore.\\\n  version=y\n")
    assert refused.value.offset == 9


@given(st.integers(-999999999, 999999999))
@example(manifest.CURRENT)
def test_what_is_written_is_read(version: int) -> None:
    assert manifest.parse(manifest.encode(version)) == version


def test_what_is_written_by_default_is_what_oak_writes_but_for_the_comment() -> None:
    written = manifest.encode().split(b"\n")
    assert written[0].startswith(b"#")
    assert written[1:] == OAK.split(b"\n")[1:]
    assert manifest.CURRENT in manifest.READABLE


def test_no_cut_says_another_number() -> None:
    """A cut manifest is one that states nothing, or is refused; never a smaller version."""
    for length in range(len(OAK)):
        assert value_or_refusal(lambda n=length: manifest.parse(OAK[:n])) in (None, 2)  # type: ignore[misc]


@given(st.binary(max_size=80))
def test_any_bytes_give_a_number_or_our_error(data: bytes) -> None:
    value_or_refusal(lambda: manifest.parse(data))


@given(st.lists(st.sampled_from(
    ["store.version", "store", ".version", "=", ":", " ", "\t", "\f", "\\", "\r", "\n", "#", "!",
     "1", "2", "-", "\\u0031", "\\u00", "x"]
), max_size=14))  # fmt: skip
def test_pieces_of_properties_give_a_number_or_our_error(pieces: list[str]) -> None:
    value_or_refusal(lambda: manifest.parse("".join(pieces).encode("latin-1")))
