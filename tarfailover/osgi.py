r"""Read the ``.config`` files of Apache Felix, which Oak's operators know.

One property after another, ``name=value``; nothing here knows what a name means::

    # a comment, wherever a property may begin
    mode="slave"
    port=I"8023"
    secure=B"false"
    hosts=["a","b\ c"]           an array, or a collection in ( )
    hosts=[ \
      "a", \
      "b", \
      ]

The letter before the quote is the type: T or none is a string, I an integer, L a
long, S a short, X a byte, C a character, B a boolean, F a float, D a double; small
letters are Java's primitives and read alike. F and D hold the raw bits of the
number as a whole number, so a person writes a decimal number as a string. Inside
quotes ``"``, ``\``, space and ``=`` stand behind a backslash.

Fact: class ConfigurationHandler of Felix's Configuration Admin. Where that class
silently drops a property, cuts it at a space or reads a typing error as ``false``,
this module refuses the file: a line that was not understood is never passed over.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from tarfailover.errors import ConfigError

MAX_FILE_BYTES = 64 * 1024
"""Largest configuration file that is read; a real one has a few hundred bytes."""

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]


class Entry(NamedTuple):
    """A property's value with the file and the line (from 1) where its name stands."""

    value: Value
    line: int
    source: str

    @property
    def where(self) -> str:
        """The place as error messages name it."""
        return f"{self.source}, line {self.line}"


def read(path: Path) -> dict[str, Entry]:
    """The properties in the file `path`; raises ConfigError if it cannot be read or parsed."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """All of a configuration file; raises ConfigError if it cannot be read."""
    try:
        # A pipe or a terminal would make the reader wait without a limit.
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a regular file; name a .config file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); name a readable .config file"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes; is it a .config file?")
    return _decode(data, str(path))


def parse(text: str, source: str) -> dict[str, Entry]:
    """The properties in `text`, by name, in their order; `source` names it in errors.

    Strings and characters become str, integers int, floats float, booleans bool,
    arrays and collections tuple. Raises ConfigError with file, line and remedy.
    """
    return _Reader(text, source).properties()


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}, line {line}: not UTF-8; save the file as UTF-8") from error


_BETWEEN = re.compile(r"(?:[ \t\n\f\v]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t\n\f\v]*")
_SPACE_OR_BREAK = re.compile(r"(?:[ \t\n\f\v]|\\\n)*")
_NAME = re.compile(r"(?:[A-Za-z0-9_.:$/@-]|\\[^\n])+")
_OPENING = re.compile(r'([TILFDXSCBilfdxscb]?)(["\[(])')
_QUOTED = re.compile(r'(?:[^"\\\n =]|\\[^\n])*')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_CLOSING = {"[": "]", "(": ")"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")


class _Reader:
    """One walk over one text; `at` is the place of the next character."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.source = source
        self.at = 0
        self.line_ends = [match.start() for match in re.finditer("\n", self.text)]

    def properties(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        self.skip(_BETWEEN)
        while self.at < len(self.text):
            begin = self.at
            name = self.name()
            if name in found:
                self.fail(
                    begin,
                    f"{name} was already set in line {found[name].line}; remove one of the two",
                )
            found[name] = Entry(self.value(name), self.line(begin), self.source)
            self.skip(_BETWEEN)
        return found

    def name(self) -> str:
        begin = self.at
        match = _NAME.match(self.text, begin)
        if match is None:
            self.fail(begin, f'a line must begin like name="value", not with {self.seen(begin)}')
        self.at = match.end()
        self.skip(_SPACE)
        if self.text[self.at : self.at + 1] != "=":
            self.fail(
                begin,
                f"'=' is missing after {match[0]!r}, found {self.seen(self.at)}; "
                f'write {match[0]}="value"',
            )
        self.at += 1
        return self.unescape(match[0], begin)

    def value(self, name: str) -> Value:
        self.skip(_SPACE)
        match = _OPENING.match(self.text, self.at)
        if match is None:
            self.fail(
                self.at,
                f"the value of {name} begins with {self.seen(self.at)}; write "
                f'{name}="text", {name}=I"number", {name}=B"true" or {name}=["a","b"]',
            )
        letter, bracket = match.groups()
        self.at = match.end()
        if bracket == '"':
            return self.scalar(name, letter)
        return tuple(self.elements(name, letter, _CLOSING[bracket]))

    def elements(self, name: str, letter: str, closing: str) -> list[Scalar]:
        values: list[Scalar] = []
        begin = self.at
        self.skip(_SPACE_OR_BREAK)
        while (char := self.take()) != closing:
            if char != '"':
                self.fail_list(name, begin, closing)
            values.append(self.scalar(name, letter))
            self.skip(_SPACE_OR_BREAK)
            if self.text[self.at : self.at + 1] == ",":
                self.at += 1
                self.skip(_SPACE_OR_BREAK)
            elif self.text[self.at : self.at + 1] != closing:
                self.fail_list(name, begin, closing)
        return values

    def scalar(self, name: str, letter: str) -> Scalar:
        begin = self.at
        self.skip(_QUOTED)
        raw = self.text[begin : self.at]
        stopped = self.take()
        if stopped != '"':
            self.fail_quoted(name, begin, stopped)
        word = self.unescape(raw, begin)
        try:
            return _CONVERT[letter.upper() or "T"](word)
        except ValueError as error:
            self.fail(begin, f"{name}: {letter}{word!r} {error}")

    def unescape(self, raw: str, begin: int) -> str:
        """`raw` without its backslashes; UTF-16 pairs, as Java writes them, joined."""
        if "\\u" in raw and any(match[2] == "u" for match in _ESCAPE.finditer(raw)):
            self.fail(begin, f"\\u in {raw!r} needs four hexadecimal digits, such as \\u0020")
        word = _ESCAPE.sub(_unescaped, raw)
        try:
            return word.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.fail(begin, f"{raw!r} holds half a UTF-16 pair; write the character itself")

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Move behind `pattern`, which also matches nothing."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self) -> str:
        """The next character, or '' at the end."""
        char = self.text[self.at : self.at + 1]
        self.at += len(char)
        return char

    def line(self, at: int) -> int:
        return bisect_left(self.line_ends, at) + 1

    def seen(self, at: int) -> str:
        return repr(self.text[at]) if at < len(self.text) else "the end of the file"

    def fail(self, at: int, what: str) -> NoReturn:
        raise ConfigError(f"{self.source}, line {self.line(at)}: {what}")

    def fail_list(self, name: str, begin: int, closing: str) -> NoReturn:
        self.fail(
            begin,
            f"the list of {name} is not well formed; write quoted values with commas "
            f"between them and {closing!r} at the end",
        )

    def fail_quoted(self, name: str, begin: int, stopped: str) -> NoReturn:
        if stopped in (" ", "="):
            self.fail(begin, f"{name}: put a backslash before {stopped!r} inside quotes")
        self.fail(begin, f"{name}: the quote is not closed on its line; end the value with '\"'")


def _unescaped(match: re.Match[str]) -> str:
    unit, char = match.groups()
    return chr(int(unit, 16)) if unit else _ESCAPED.get(char, char)


def _whole(bits: int) -> Callable[[str], int]:
    """A converter for Java's signed whole numbers of so many bits."""
    limit = 1 << (bits - 1)

    def convert(word: str) -> int:
        if _WHOLE.fullmatch(word) is None or not -limit <= int(word) < limit:
            raise ValueError(f"is not a whole number from {-limit} to {limit - 1}")
        return int(word)

    return convert


def _floating(bits: int, whole: str, floating: str) -> Callable[[str], float]:
    """A converter for numbers that Felix keeps as raw bits; `whole`, `floating` for struct."""
    to_bits = _whole(bits)

    def convert(word: str) -> float:
        try:
            raw = to_bits(word)
        except ValueError as error:
            raise ValueError(
                "is not the raw bits of a number, which F and D need; "
                'leave the letter out and write name="0.5"'
            ) from error
        value: float = struct.unpack(floating, struct.pack(whole, raw))[0]
        return value

    return convert


def _character(word: str) -> str:
    if len(word) != 1:
        raise ValueError("is not one character; leave the C out for a string")
    return word


def _boolean(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return word.lower() == "true"


_CONVERT: dict[str, Callable[[str], Scalar]] = {
    "T": str,
    "I": _whole(32),
    "L": _whole(64),
    "S": _whole(16),
    "X": _whole(8),
    "F": _floating(32, ">i", ">f"),
    "D": _floating(64, ">q", ">d"),
    "C": _character,
    "B": _boolean,
}
