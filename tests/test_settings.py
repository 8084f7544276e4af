"""How the value of one setting is read, by kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.access.ranges import entries
from tarfailover.settings import GIB, MIB, Kind, Setting, flag, seconds, setting, table


def row(
    kind: Kind,
    lowest: float = 0,
    highest: float = 0,
    default: object = "",
    choices: tuple[str, ...] = (),
) -> Setting:
    return Setting("some_name", kind, default, lowest, highest, "words", None, choices=choices)


@pytest.mark.parametrize(
    ("made", "value", "result"),
    [
        (row("whole", 0, 65535), "0", 0),
        (row("whole", 0, 65535), "065535", 65535),
        (row("whole", 0, 65535), 65535, 65535),
        (row("bytes", 0, GIB), "4096", 4096),
        (row("bytes", 0, GIB), "3KiB", 3072),
        (row("bytes", 0, GIB), "4 MiB", 4 * MIB),
        (row("bytes", 0, GIB), "1GiB", GIB),
        (row("bytes", 0, GIB), 5, 5),
        (row("seconds", 0.1, 10), "0.1", 0.1),
        (row("seconds", 0.1, 10), "10", 10.0),
        (row("seconds", 0.1, 10), 5, 5.0),
        (row("seconds", 0.1, 10), 0.25, 0.25),
        (row("text", 0, 3), "", ""),
        (row("text", 1, 3), "äb ", "äb "),
        (row("path"), "a/b c", Path("a/b c")),
        (row("flag"), True, True),
        (row("flag"), False, False),
        (row("flag"), "YES", True),
        (row("flag"), "on", True),
        (row("flag"), "1", True),
        (row("flag"), "no", False),
        (row("flag"), "Off", False),
        (row("flag"), "0", False),
        (row("mode", default="slave"), "slave", "slave"),
        (row("list", 0, 2), "", ""),
        (row("list", 0, 2), " a ,b,", "a,b"),
        (row("list", 0, 2), ("a", "b"), "a,b"),
        (row("list", 0, 2), (), ""),
        (row("list", 0, 2), ("a,b",), "a,b"),
        (row("ranges", 0, 2), "10.0.0.0/8, oak", "10.0.0.0/8,oak"),
        (row("rate", 5, GIB), "0", 0),
        (row("rate", 5, GIB), 0, 0),
        (row("rate", 5, GIB), 5, 5),
        (row("rate", 5, GIB), "1MiB", MIB),
        (row("compression"), "zstd", "zstd"),
        (row("choice", choices=("a", "b")), "b", "b"),
    ],
)
def test_good_values(made: Setting, value: Any, result: object) -> None:
    converted = made.convert(value)
    assert converted == result and type(converted) is type(result)


@pytest.mark.parametrize(
    ("made", "value", "told"),
    [
        (row("whole", 1, 9), "0", "is not a whole number from 1 to 9"),
        (row("whole", 1, 9), 10, "is not a whole number from 1 to 9"),
        (row("whole", 1, 9), "", "is not a whole number"),
        (row("whole", 1, 9), " 1", "is not a whole number"),
        (row("whole", 1, 9), "1_0", "is not a whole number"),
        (row("whole", 1, 9), "\u0661", "is not a whole number"),
        (row("whole", 1, 9), True, "is not a whole number"),
        (row("whole", 1, 9), 1.0, "is not a whole number"),
        (row("whole", 1, 9), (1,), "is not a whole number"),
        (row("whole", 1, 9), "9" * 5000, "is not a whole number"),
        (row("bytes", 0, 9), "1KiB", "from 0 to 9; KiB, MiB or GiB may follow"),
        (row("bytes", 0, 9), "1kb", "is not a number of bytes"),
        (row("bytes", 0, 9), "-1", "is not a number of bytes"),
        (row("bytes", 0, 9), False, "is not a number of bytes"),
        (row("seconds", 0.1, 10), "0", "is not a number of seconds from 0.1 to 10"),
        (row("seconds", 0.1, 10), "10.1", "is not a number of seconds"),
        (row("seconds", 0.1, 10), "nan", "is not a number of seconds"),
        (row("seconds", 0.1, 10), "1e0", "is not a number of seconds"),
        (row("seconds", 0.1, 10), "5s", "is not a number of seconds"),
        (row("seconds", 0.1, 10), float("nan"), "is not a number of seconds"),
        (row("seconds", 0.1, 10), 2.5e-323, 'raw bits in Felix, write some.name="0.5"'),
        (row("seconds", 0.1, 10), True, "is not a number of seconds"),
        (row("seconds", 0.1, 10), ("1",), "is not a number of seconds"),
        (row("text", 1, 3), "", "is not a text of 1 to 3 printable characters"),
        (row("text", 1, 3), "abcd", "is not a text"),
        (row("text", 1, 3), "a\n", "is not a text"),
        (row("text", 1, 3), 1, "is not a text"),
        (row("path"), "", "is not a path"),
        (row("path"), "a\0", "is not a path"),
        (row("path"), ("a",), "is not a path"),
        (row("flag"), "ture", "is neither true nor false"),
        (row("flag"), "", "is neither true nor false"),
        (row("flag"), 1, "is neither true nor false"),
        (row("list", 0, 2), "a,b,c", "is not a list of at most 2 texts"),
        (row("list", 0, 2), ("a", 1), "is not a list of at most 2 texts"),
        (row("list", 0, 2), 1, "is not a list"),
        (row("list", 0, 2), "a\n", "is not a list"),
        (row("rate", 5, 9), "4", "is not a number of bytes from 5 to 9; KiB, MiB or GiB may"),
        (row("rate", 5, 9), "1", "follow it; 0 means no limit"),
        (row("rate", 5, 9), False, "0 means no limit"),
        (row("rate", 5, 9), 0.0, "0 means no limit"),
        (row("compression"), "gzip", "is no compression; write auto, zstd or none"),
        (row("choice", choices=("a", "b")), "c", "is not one of a, b"),
        (row("choice", choices=("a", "b")), ("a",), "is not one of a, b"),
        (row("compression"), ("zstd",), "is no compression"),
        (row("mode", default="slave"), "master", 'name a file with mode="slave"'),
        (row("mode", default="slave"), "primary", "is the other side"),
        (row("mode", default="slave"), "salve", 'is no mode; write mode="slave"'),
        (row("mode", default="slave"), ("slave",), "is no mode"),
    ],
)
def test_bad_values_are_told_with_the_bounds(made: Setting, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r"^is ") as caught:
        made.convert(value)
    assert told in str(caught.value)


ROWS = [
    row("whole", 1, 9),
    row("bytes", 1, GIB),
    row("seconds", 0.1, 10),
    row("text", 1, 3),
    row("path"),
    row("flag"),
    row("mode", default="slave"),
    row("list", 0, 2),
    row("rate", 0, GIB),
    row("compression"),
    row("choice", choices=("a", "b")),
]
ANY_VALUE = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()).map(tuple)
)


def converted_or_refused(made: Setting, value: Any) -> Any:
    try:
        return made.convert(value)
    except ValueError as error:
        return error


# Drawn and not parametrized: pytest-twisted wraps a property anew for every parameter.
@given(st.sampled_from(ROWS), ANY_VALUE)
def test_any_value_is_within_the_bounds_or_refused(made: Setting, value: Any) -> None:
    converted = converted_or_refused(made, value)
    if isinstance(converted, ValueError):
        assert str(converted).startswith("is ")
    elif made.highest:
        measured = len(converted) if made.kind == "text" else converted
        measured = len(entries(converted)) if made.kind == "list" else measured
        assert made.lowest <= measured <= made.highest


@given(st.floats(0.1, 10))
def test_seconds_are_read_as_written(value: float) -> None:
    text = f"{value:.15f}"
    assert row("seconds", 0.05, 11).convert(text) == float(text)


def test_names_follow_from_the_field() -> None:
    made = row("text")
    assert made.option == "--some-name"
    assert made.osgi == "some.name"
    assert made.environment == "TARFAILOVER_SOME_NAME"


def test_the_mode_stands_in_a_file_only() -> None:
    made = row("mode", default="slave")
    assert (made.option, made.environment) == ("", "")


def test_oaks_name_stands_in_a_file() -> None:
    made = Setting("some_name", "list", "", 0, 9, "words", None, ("oak.some-name", "older.name"))
    assert (made.option, made.osgi) == ("--some-name", "oak.some-name")


@dataclasses.dataclass(frozen=True)
class Example:
    place: Path = dataclasses.field(
        metadata={"kind": "path", "doc": "d", "bounds": (0, 0), "short": "s"}
    )
    size: int = setting("bytes", 4 * MIB, "a size", (0, GIB))
    small: int = setting("bytes", 512, "a small size", (0, GIB))
    pause: float = seconds(0.5, "a pause", short="p")
    word: str = setting("text", "", "a word", (0, 9))
    count: int = setting("whole", 7, "a count", (1, 9))
    quick: bool = flag("be quick")


def test_the_table_reads_the_fields_back() -> None:
    rows = table(Example)
    assert [r.field for r in rows] == [f.name for f in dataclasses.fields(Example)]
    assert [r.required for r in rows] == [True] + [False] * 6
    assert [r.unit for r in rows] == ["", "bytes", "bytes", "s", "", "", ""]
    assert [r.short for r in rows] == ["s", None, None, "p", None, None, None]
    assert [r.help for r in rows] == [
        "d [required]",
        "a size [default: 4 MiB]",
        "a small size [default: 512 bytes]",
        "a pause [default: 0.5 s]",
        "a word [default: empty]",
        "a count [default: 7]",
        "be quick",
    ]
    assert (rows[3].lowest, rows[3].highest) == (0.1, 86400.0)
