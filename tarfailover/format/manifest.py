"""The manifest of a store: a Java properties file with one key of interest.

Facts: storage format, section 1.5.
"""

from __future__ import annotations

from tarfailover.errors import FormatError

NAME = "manifest"
KEY = "store.version"
CURRENT = 2
READABLE = (1, 2)


def parse(data: bytes) -> int:
    """The store version that the manifest states; the current one if it states none.

    Raises FormatError if the value is no number. Whether the version can be read is
    the caller's question: see `READABLE`.
    """
    version = CURRENT
    offset = 0
    for line in data.split(b"\n"):
        key, separator, value = _split(line.decode("latin-1"))
        if separator and key == KEY:
            if not value.lstrip("-").isdigit() or len(value) > 9:
                raise FormatError(f"{KEY} is {value!r}, not a number", offset)
            version = int(value)
        offset += len(line) + 1
    return version


def _split(line: str) -> tuple[str, bool, str]:
    stripped = line.strip()
    if stripped.startswith(("#", "!")):
        return "", False, ""
    for place, character in enumerate(stripped):
        if character in "=: \t":
            return stripped[:place], True, stripped[place:].lstrip("=: \t")
    return stripped, False, ""


def encode(version: int = CURRENT) -> bytes:
    """A manifest that states `version`."""
    return f"#Segment store\n{KEY}={version}\n".encode("latin-1")
