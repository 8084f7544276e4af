"""DEFECTS.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TABLE = (CHECKOUT / "DEFECTS.md").read_text("utf-8")
TESTS = "\n".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("*.py"))


def test_all_defects_are_in_the_table() -> None:
    rows = re.findall(r"^\| (D\d+)", TABLE, re.MULTILINE)
    assert sorted(rows, key=lambda each: int(each[1:])) == [f"D{n}" for n in range(1, 22)]


def test_each_test_of_the_table_is_there() -> None:
    begins = re.findall(r"`(test_\w+_)…`", TABLE)
    assert begins
    assert [name for name in begins if f"def {name}" not in TESTS] == []


def test_each_test_of_a_defect_is_in_the_table() -> None:
    numbers = set(re.findall(r"^(?:async )?def test_(d\d\d)_", TESTS, re.MULTILINE))
    assert [number for number in sorted(numbers) if f"test_{number}_" not in TABLE] == []


def test_each_file_of_the_table_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TABLE)
    assert named
    for file, test in named:
        text = (CHECKOUT / file).read_text("utf-8")
        assert f"def {test}" in text or not test, (file, test)
