"""DEFECTS.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TABLE = (CHECKOUT / "DEFECTS.md").read_text("utf-8")
TESTS = "\n".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("*.py"))
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| OAK-")
]
"""The rows of Oak's history: numbers first, and last the tests, or why there is none."""

HISTORY = """
1915 2086 2145 2150 2189 2260 2347 2355 2372 2396 2398 2430 2440 2535 2541 2658 2764 2817 2861
3109 3113 3273 3612 3762 3794 3927 3961 3963 3967 4004 4058 4083 4089 4110 4247 4704 4708 4722
4736 4737 4738 4744 4766 4775 4784 4785 4798 4801 4803 4813 4877 4878 4880 4883 4884 4886 4897
4917 4926 4958 4965 4969 5029 5034 5087 5094 5106 5137 5350 5465 5474 5514 5521 5522 5834 5902
6068 6323 6538 6564 6565 6567 6626 6641 6653 6659 6661 6667 6673 6678 6749 6829 6874 6901 7027
7030 7031 7112 7157 8006 8063 8202 9210 9451 9473 9539 9600 9611 9677 9711 9837 9911 10076 10234
10386 10591 10691 10960 11004 11020 11078 11104
"""
"""The issues that changed Oak's cold standby, by its commits from 2014 to 2024."""


def numbers(row: list[str]) -> list[str]:
    """The issues that a row is about."""
    return re.findall(r"\d+", row[0])


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


def test_each_issue_of_the_history_is_in_a_row() -> None:
    named = {number for row in ROWS for number in numbers(row)}
    assert sorted(set(HISTORY.split()) ^ named, key=int) == []


def test_each_row_of_the_history_has_a_test_by_its_number_or_a_reason() -> None:
    for row in ROWS:
        tested = set(re.findall(r"`test_oak_(\d+)_", row[-1]))
        assert tested <= set(numbers(row)), row
        assert tested or (len(row) == 2 and len(row[1]) > 20), row


def test_each_test_of_the_history_is_in_a_row() -> None:
    begins = [name for row in ROWS for name in re.findall(r"`(test_oak_\w+_)…`", row[-1])]
    tests = re.findall(r"^(?:async )?def (test_oak_\w+)", TESTS, re.MULTILINE)
    assert tests
    assert [name for name in tests if not name.startswith(tuple(begins))] == []
