r"""Read the ``.cfg.json`` files of OSGi, the later form of ``.config`` files.

One object of properties; a type may stand behind the name, and comments anywhere::

    {
      // the primary
      "mode": "standby",
      "port:Integer": 8023,
      "primary.allowed-client-ip-ranges": ["10.0.0.1", "10.0.0.2"]
    }

Names that begin with ``:configurator:`` are for the tool that installs the file, and
are passed over. Fact: OSGi Compendium 7, 150.3. As in `tarfailover.osgi`, what was not
understood is refused and never passed over.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from pathlib import Path
from typing import Any, NoReturn

from tarfailover.errors import ConfigError
from tarfailover.osgi import Entry, Scalar, Value, read_text

SUFFIX = ".cfg.json"
_FOR_TOOLS = ":configurator:"
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|//[^\n]*', re.DOTALL)
_NOT_A_LINE_END = re.compile(r"[^\n]")
_LIST = re.compile(r"Collection<(\w+)>|(\w+)\[\]")
_FLOATING = ("float", "double")
_BITS = {"int": 32, "integer": 32, "long": 64, "short": 16, "byte": 8}


def read(path: Path) -> dict[str, Entry]:
    """The properties in the file `path`; raises ConfigError if it cannot be read or parsed."""
    return parse(read_text(path), str(path))


def parse(text: str, source: str) -> dict[str, Entry]:
    """The properties in `text`, by name without type, in their order; as `osgi.parse`."""
    return _Reader(text, source).properties()


def _blanked(match: re.Match[str]) -> str:
    """A string as it is, and blanks in the place of a comment, so that all places stay."""
    found = match[0]
    return found if found[0] == '"' else _NOT_A_LINE_END.sub(" ", found)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no value of JSON")


class _Reader:
    """One walk over one text; `at` is the place of the next character."""

    def __init__(self, text: str, source: str) -> None:
        plain = text.replace("\r\n", "\n").replace("\r", "\n")
        self.text = _STRING_OR_COMMENT.sub(_blanked, plain)
        self.source = source
        self.at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", self.text)]
        self._json = json.JSONDecoder(parse_constant=_no_constant)

    def properties(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        self.expect("{", "the file must hold one object, { … }")
        first = True
        while not self.taken("}"):
            if not first and not self.taken(","):
                self.fail(self.at, "a comma or } is missing")
            first = False
            self.skip()
            begin = self.at
            name, kind = self.name(found)
            value = self.value(name, kind)
            if not name.startswith(_FOR_TOOLS):
                found[name] = Entry(value, self.line(begin), self.source)
        self.skip()
        if self.at < len(self.text):
            self.fail(self.at, "nothing may follow the object")
        return found

    def name(self, found: dict[str, Entry]) -> tuple[str, str]:
        begin = self.at
        written = self.scalar("a name")
        if not isinstance(written, str):
            self.fail(begin, "a name in quotes must stand here")
        name, kind = written, ""
        if not written.startswith(_FOR_TOOLS):
            name, _, kind = written.partition(":")
        if name in found:
            self.fail(
                begin,
                f"{name} was already set in line {found[name].line}; remove one of the two",
            )
        self.expect(":", f"a colon is missing behind {written!r}")
        return name, kind

    def value(self, name: str, kind: str) -> Value:
        self.skip()
        listed = _LIST.fullmatch(kind)
        if self.text[self.at : self.at + 1] != "[":
            if listed is not None:
                self.fail(self.at, f"{name} is a list, {kind}; write [ … ]")
            return self.typed(name, kind)
        if kind and listed is None:
            self.fail(self.at, f"{name} is one {kind}; write {name}:{kind}[] for a list")
        self.at += 1
        return tuple(self.elements(name, (listed[1] or listed[2]) if listed else ""))

    def elements(self, name: str, kind: str) -> list[Scalar]:
        values: list[Scalar] = []
        while not self.taken("]"):
            if values and not self.taken(","):
                self.fail(self.at, f"a comma or ] is missing in the list of {name}")
            self.skip()
            values.append(self.typed(name, kind))
        return values

    def typed(self, name: str, kind: str) -> Scalar:
        """The next value, which must be of the type `kind`."""
        begin = self.at
        value = self.scalar(f"the value of {name}")
        if kind and not _is(value, kind.lower()):
            self.fail(begin, f"{name}: {value!r} is no {kind}")
        return float(value) if kind.lower() in _FLOATING else value

    def scalar(self, what: str) -> Scalar:
        begin = self.at
        if self.text[begin : begin + 1] in ("{", "["):
            self.fail(begin, f"{what} must be a text, a number, true or false")
        try:
            value: Any
            value, self.at = self._json.raw_decode(self.text, begin)
        except ValueError as error:
            seen = repr(self.text[begin]) if begin < len(self.text) else "the end of the file"
            self.fail(begin, f"{what} begins with {seen}, which is not JSON ({error})")
        if value is None:
            self.fail(begin, f"{what} is null; remove the property for its default")
        kept: Scalar = value
        return kept

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def taken(self, char: str) -> bool:
        """Whether `char` comes next; then it is taken."""
        self.skip()
        found = self.text[self.at : self.at + 1] == char
        self.at += found
        return found

    def expect(self, char: str, why: str) -> None:
        if not self.taken(char):
            self.fail(self.at, why)

    def line(self, at: int) -> int:
        return bisect_right(self._line_ends, at) + 1

    def fail(self, at: int, what: str) -> NoReturn:
        raise ConfigError(f"{self.source}, line {self.line(at)}: {what}")


def _is(value: Scalar, kind: str) -> bool:
    """Whether `value` is of the type of Java, in small letters; of an unknown type is none."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        limit = 1 << (_BITS[kind] - 1) if kind in _BITS else 0
        return kind in _FLOATING or -limit <= value < limit
    if isinstance(value, float):
        return kind in _FLOATING
    return kind == "string" or (kind in ("char", "character") and len(value) == 1)
