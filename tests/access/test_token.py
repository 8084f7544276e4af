"""The token in a file: what is one, who shows it, and that nobody is told what it is."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tarfailover.access.token import MIN_TOKEN, Token
from tarfailover.errors import ConfigError
from tarfailover.wire.messages import MAX_TOKEN

GOOD, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    """A new file in the place of the old one, as whoever changes a token should write it."""
    beside = path.with_suffix(".new")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(mode)
    beside.replace(path)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nmore\n"])
def test_the_first_line_is_the_token(tmp_path: Path, log: list[str], end: str) -> None:
    token = Token(str(written(tmp_path / "t", GOOD + end)))
    assert token.value == GOOD
    assert token.refuses(GOOD) == ""
    assert not log


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ("", "this master demands a token, and the slave has none; give it token_file"),
        (OTHER, "the token of the slave is not that of the master; compare both token_file"),
        (GOOD[:-1], "the token of the slave is not"),
        (GOOD + "0", "the token of the slave is not"),
        (GOOD.upper(), "the token of the slave is not"),
        ("ä" * 32, "the token of the slave is not"),
    ],
)
def test_who_is_refused(tmp_path: Path, offered: str, told: str) -> None:
    assert Token(str(written(tmp_path / "t", GOOD))).refuses(offered).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no token in its first line"),
        ("\n" + GOOD, "holds no token in its first line"),
        ("a" * (MIN_TOKEN - 1), "a token of 31 characters; 32 to 256 are allowed; make one with"),
        ("a" * (MAX_TOKEN + 1), "a token of 257 characters"),
        ("a" * 70_000, "is no file with a token: it is larger than"),
        (GOOD + " ", "with blanks or other than ASCII"),
        (GOOD + "ä", "with blanks or other than ASCII"),
        (GOOD + "\t", "with blanks or other than ASCII"),
    ],
)
def test_what_is_no_token(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path / "t", text)
    with pytest.raises(ConfigError, match=told) as caught:
        Token(str(path))
    assert str(path) in str(caught.value)
    if len(text) > 4:
        told = "".join(traceback.format_exception(caught.value)).replace(str(path), "")
        assert text.strip() not in told


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; check path and rights"):
        Token(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="is no file; check the path"):
        Token(str(tmp_path))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_a_file_that_others_can_read(
    tmp_path: Path, log: list[str], mode: int, warned: int
) -> None:
    path = written(tmp_path / "t", GOOD, mode)
    Token(str(path))
    assert [line for line in log if line.startswith("warn")] == [
        f"warn {path} can be read by others; chmod 600 it"
    ] * warned


def test_a_new_token_counts_and_a_broken_file_does_not(tmp_path: Path, log: list[str]) -> None:
    path = written(tmp_path / "t", GOOD)
    token = Token(str(path))
    written(path, OTHER)
    assert token.refuses(GOOD) and not token.refuses(OTHER)
    written(path, "short")
    assert token.value == OTHER and token.value == OTHER
    path.unlink()
    assert token.value == OTHER
    written(path, GOOD)
    assert token.value == GOOD
    assert [line.split()[0] for line in log] == ["info", "error", "error", "info"]
    assert "the token read before stays in use" in log[1]
    assert not any(GOOD in line or OTHER in line for line in log)


def test_it_is_in_no_repr(tmp_path: Path) -> None:
    token = Token(str(written(tmp_path / "t", GOOD)))
    assert GOOD not in repr(token) + str(token)
