"""The manifest of a store: a Java properties file with one key of interest.

Facts: storage format, section 1.5. Of the properties syntax all is read that can bear
on a number: comments, every kind of line end and separator, continued lines, escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tarfailover.errors import FormatError

NAME = "manifest"
KEY = "store.version"
CURRENT = 2
READABLE = (1, 2)

_BLANKS = " \t\f"
_LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)")
_PAIR = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


def parse(data: bytes) -> int:
    """The store version that the manifest states; the current one if it states none.

    Raises FormatError if the value is no number. Whether the version can be read is
    the caller's question: see `READABLE`.
    """
    version = CURRENT
    for offset, line in _logical_lines(data.decode("latin-1")):
        key, value = map(_unescaped, _PAIR.findall(line)[0])
        if key != KEY:
            continue
        if _NUMBER.fullmatch(value.strip(_BLANKS)) is None:
            raise FormatError(f"{KEY} is {value!r}; it must be 1 or {CURRENT}", offset)
        version = int(value)
    return version


def _logical_lines(written: str) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that is no comment, with the lines that continue it."""
    # The pattern's last match is the empty one at the end, so nothing is left in `parts`.
    start, parts = 0, list[str]()
    for match in _LINE.finditer(written):
        line = match[1].lstrip(_BLANKS)
        if not parts:
            start = match.start()
            if not line or line[0] in "#!":
                continue
        if (len(line) - len(line.rstrip("\\"))) % 2:
            parts.append(line[:-1])
        else:
            yield start, "".join((*parts, line))
            parts = []


def _unescaped(written: str) -> str:
    return _ESCAPE.sub(_character, written)


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _CONTROLS.get(escape[2], escape[2])


def encode(version: int = CURRENT) -> bytes:
    """A manifest that states `version`."""
    return f"#Segment store\n{KEY}={version}\n".encode("latin-1")
