"""The syntax of Felix: vectors, places of errors, and properties of any text."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover import osgi
from tarfailover.errors import ConfigError

VECTORS = Path(__file__).parent / "vectors" / "osgi"
NAMES = sorted(path.stem for path in VECTORS.glob("*.config"))


def listed(values: dict[str, osgi.Entry]) -> list[list[object]]:
    """`values` as the vectors write them: name, value (tuples as lists), line."""
    return [
        [name, list(entry.value) if isinstance(entry.value, tuple) else entry.value, entry.line]
        for name, entry in values.items()
    ]


def values_of(text: str) -> dict[str, osgi.Value]:
    return {name: entry.value for name, entry in osgi.parse(text, "f").items()}


@pytest.mark.parametrize("name", NAMES)
def test_vector(name: str) -> None:
    path = VECTORS / f"{name}.config"
    found = listed(osgi.read(path))
    expected = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    assert found == expected
    assert [type(row[1]) for row in found] == [type(row[1]) for row in expected]


def test_there_are_vectors() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(name: str, end: str) -> None:
    text = (VECTORS / f"{name}.config").read_bytes().decode()
    plain = "\n".join(text.splitlines())
    assert osgi.parse(plain.replace("\n", end), "f") == osgi.parse(plain, "f")


@pytest.mark.parametrize("text", ["", "\n", " \t\r\n", "# only a comment", "#", "# a\n#b\n"])
def test_nothing_is_in_a_file_without_properties(text: str) -> None:
    assert osgi.parse(text, "f") == {}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('a="1"\n\nb', 3, "'=' is missing after 'b', found the end of the file"),
        ('a "1"', 1, "'=' is missing after 'a'"),
        ('\n="1"', 2, "must begin like name="),
        ('"a"="1"', 1, "must begin like name="),
        ('ä="1"', 1, "must begin like name="),
        ("a=1", 1, "the value of a begins with '1'"),
        ("a=", 1, "the value of a begins with the end of the file"),
        ('a=Q"1"', 1, "the value of a begins with 'Q'"),
        ('a=I "1"', 1, "the value of a begins with 'I'"),
        ("a=true", 1, 'write a="text"'),
        ('a="1"\n# x\na="2"', 3, "a was already set in line 1; remove one"),
        ('a="b c"', 1, "a: put a backslash before ' ' inside quotes"),
        ('a="b=c"', 1, "a: put a backslash before '=' inside quotes"),
        ('a="b', 1, "a: the quote is not closed"),
        ('a="b\\ ', 1, "a: the quote is not closed"),
        ('a="b\\', 1, "a: the quote is not closed"),
        ('\na="b\nc="d"', 2, "a: the quote is not closed"),
        ('a="b\\\nc"', 1, "a: the quote is not closed"),
        ('a="\\u12"', 1, "needs four hexadecimal digits"),
        ('a="\\u00_1"', 1, "needs four hexadecimal digits"),
        ('a="\\ud83d"', 1, "half a UTF-16 pair"),
        ('\n\na="\udc80"', 3, "half a UTF-16 pair"),
        ('a\\ud83d="1"', 1, "half a UTF-16 pair"),
        ('a=["1"', 1, "the list of a is not well formed"),
        ('a=["1" "2"]', 1, "the list of a is not well formed"),
        ('a=["1",,"2"]', 1, "the list of a is not well formed"),
        ('a=[,"1"]', 1, "the list of a is not well formed"),
        ('a=["1")', 1, "']' at the end"),
        ('a=("1"]', 1, "')' at the end"),
        ("a=[1]", 1, "the list of a is not well formed"),
        ('a=[\n"1",\n"b c"]', 3, "put a backslash before ' '"),
        ('a=I[\n"1",\n"x"]', 3, "not a whole number"),
        ('a=I"2147483648"', 1, "from -2147483648 to 2147483647"),
        ('a=I"-2147483649"', 1, "not a whole number"),
        ('a=I""', 1, "not a whole number"),
        ('a=I"1_0"', 1, "not a whole number"),
        ('a=I"\u0661"', 1, "not a whole number"),
        (f'a=L"{"9" * 5000}"', 1, "not a whole number"),
        ('a=L"9223372036854775808"', 1, "not a whole number"),
        ('a=S"32768"', 1, "from -32768 to 32767"),
        ('a=X"128"', 1, "from -128 to 127"),
        ('a=B"ture"', 1, "neither true nor false"),
        ('a=B""', 1, "neither true nor false"),
        ('a=C""', 1, "not one character"),
        ('a=C"ab"', 1, "not one character"),
        ('a=F"0.5"', 1, 'leave the letter out and write name="0.5"'),
        ('a=D"1e3"', 1, "raw bits"),
    ],
)
def test_errors_name_file_line_and_remedy(text: str, line: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        osgi.parse(text, "conf/a.config")
    assert str(caught.value).startswith(f"conf/a.config, line {line}: ")
    assert told in str(caught.value)


SCALARS: dict[str, st.SearchStrategy[object]] = {
    "": st.text(),
    "T": st.text(),
    "I": st.integers(-(2**31), 2**31 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "L": st.integers(-(2**63), 2**63 - 1),
    "S": st.integers(-(2**15), 2**15 - 1),
    "X": st.integers(-128, 127),
    "B": st.booleans(),
    "C": st.characters(exclude_categories=["Cs"]),
    "F": st.floats(width=32, allow_nan=False),
    "D": st.floats(allow_nan=False),
}
NAME = st.text('abcXYZ019._- ="\\#[]ä', min_size=1, max_size=12)


def quoted(word: str, *, name: bool = False) -> str:
    """`word` behind backslashes as Felix writes it; in a name also what is no name character."""
    signs = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    bare = "._-" if name else None
    parts = []
    for char in word:
        if char in signs:
            parts.append(signs[char])
        elif ord(char) < 32:
            parts.append(f"\\u{ord(char):04x}")
        elif char in '\\" =' or (
            bare and not (char.isascii() and char.isalnum()) and char not in bare
        ):
            parts.append("\\" + char)
        else:
            parts.append(char)
    return "".join(parts)


def written(letter: str, value: object) -> str:
    """One quoted value as Felix writes it, without its letter."""
    if letter == "F":
        value = struct.unpack(">i", struct.pack(">f", value))[0]
    elif letter == "D":
        value = struct.unpack(">q", struct.pack(">d", value))[0]
    return f'"{quoted(str(value))}"'


@st.composite
def properties(draw: st.DrawFn) -> tuple[str, dict[str, object], dict[str, int]]:
    """A text, what must be read from it, and on which lines."""
    text, values, lines = "", {}, {}
    for name in draw(st.lists(NAME, unique=True, max_size=6)):
        gap = draw(st.sampled_from(["", "\n", "  ", '# "a" = [\n', "\t\n # b\n\n"]))
        letter = draw(st.sampled_from(sorted(SCALARS)))
        form = draw(st.sampled_from(["one", "[]", "()", "[ \\\n", "(\n"]))
        text += gap
        lines[name] = text.count("\n") + 1
        text += quoted(name, name=True) + draw(st.sampled_from(["=", " = "])) + letter
        if form == "one":
            values[name] = draw(SCALARS[letter])
            text += written(letter, values[name])
        else:
            items = draw(st.lists(SCALARS[letter], max_size=3))
            values[name] = tuple(items)
            close = {"[": "]", "(": ")"}[form[0]]
            between = form[1:] if form[1:] != close else ""
            text += form[0] + between
            text += "".join(f"{written(letter, item)},{between}" for item in items) + close
        text += draw(st.sampled_from(["\n", "\r\n", "  \n", " "])).replace("\r\n", "\n")
    return text, values, lines


@given(properties())
def test_what_is_written_is_read(made: tuple[str, dict[str, object], dict[str, int]]) -> None:
    text, values, lines = made
    found = osgi.parse(text, "f")
    assert {name: entry.value for name, entry in found.items()} == values
    assert {name: entry.line for name, entry in found.items()} == lines
    assert {name: entry.where for name, entry in found.items()} == {
        name: f"f, line {line}" for name, line in lines.items()
    }


def only_values_or_refusal(text: str) -> None:
    try:
        found = osgi.parse(text, "f")
    except ConfigError as error:
        told = re.match(r"f, line ([0-9]+): ", str(error))
        lines = [int(told[1])] if told else [0]
    else:
        lines = [entry.line for entry in found.values()]
    assert all(1 <= line <= text.count("\n") + text.count("\r") + 1 for line in lines)


@given(st.text(st.characters()))
def test_any_text_gives_values_or_an_error(text: str) -> None:
    only_values_or_refusal(text)


@given(st.text('ab=" \\u0d8[](),\n\r#TILBF'))
def test_any_text_of_signs_gives_values_or_an_error(text: str) -> None:
    only_values_or_refusal(text)


@given(properties(), st.data())
def test_a_text_cut_anywhere_gives_values_or_an_error(
    made: tuple[str, dict[str, object], dict[str, int]], data: st.DataObject
) -> None:
    text = made[0]
    only_values_or_refusal(text[: data.draw(st.integers(0, len(text)))])


def test_not_a_number_is_a_float() -> None:
    (value,) = values_of('a=F"2143289344"').values()
    assert isinstance(value, float) and math.isnan(value)


def test_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.config"
    path.write_text('a="1"\nb=oops\n')
    with pytest.raises(ConfigError, match=r"a\.config, line 2: the value of b"):
        osgi.read(path)


def test_read_takes_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.config"
    path.write_bytes(b'\xef\xbb\xbfa="1"')
    assert osgi.read(path) == {"a": osgi.Entry("1", 1, str(path))}


def test_read_refuses_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.config"
    path.write_bytes('a="1"\nb="ä"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.config, line 2: not UTF-8; save"):
        osgi.read(path)


def test_read_refuses_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.config"
    path.write_bytes(b"#" * osgi.MAX_FILE_BYTES)
    assert osgi.read(path) == {}
    path.write_bytes(b"#" * (osgi.MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 65536 bytes"):
        osgi.read(path)


def test_read_refuses_what_is_absent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.config cannot be read \(No such file"):
        osgi.read(tmp_path / "no.config")


def test_read_refuses_a_directory_and_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(ConfigError, match="not a regular file"):
            osgi.read(path)
