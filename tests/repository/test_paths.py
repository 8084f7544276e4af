"""Paths as text: escapes, and that every name comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import ConfigError
from tarfailover.repository import paths

ANY_NAME = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("names", "path"),
    [
        ([], "/"),
        (["content", "page"], "/content/page"),
        (["a/b", "c"], "/a\\u002fb/c"),
        (["a\\b"], "/a\\\\b"),
        (["", "x"], "/\\e/x"),
        (["red\x1b[31m\n"], "/red\\u001b[31m\\u000a"),
        (["right\u202eto left"], "/right\\u202eto left"),
        (
            ["Ünhäppily [named] wide:node 'with' %2F 😀"],
            "/Ünhäppily [named] wide:node 'with' %2F 😀",
        ),
        ([".", ".."], "/./.."),
    ],
)
def test_names_and_their_path(names: list[str], path: str) -> None:
    assert paths.join(names) == path
    assert paths.split(path) == names


@given(st.lists(ANY_NAME))
def test_any_names_come_back_and_print_harmlessly(names: list[str]) -> None:
    path = paths.join(names)
    assert paths.split(path) == names
    assert not any(ord(each) < 32 or ord(each) == 127 for each in path)


@pytest.mark.parametrize("path", ["content/page", "//content//page/", "/content/page"])
def test_slashes_that_may_be_left_out_or_doubled(path: str) -> None:
    assert paths.split(path) == ["content", "page"]


@pytest.mark.parametrize("path", ["a\\", "a\\x", "\\u12", "\\U0041"])
def test_a_backslash_that_begins_no_escape_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="a backslash in a name is written"):
        paths.split(path)


def test_long_paths_lose_their_middle() -> None:
    assert paths.shortened("/abc") == "/abc"
    assert paths.shortened("/" + "a" * 99, 10) == "/aaaa…(100 characters)…aaaaa"
