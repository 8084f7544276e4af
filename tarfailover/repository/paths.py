r"""Paths of nodes as text that is safe to print and can be given back.

``/content/page`` names the child ``page`` of the child ``content`` of the top. A name may
hold any character: a slash, a backslash, and what would move or recolour the text of a
terminal are written as escapes: ``\\`` and ``\u002f``; an empty name as ``\e``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tarfailover.errors import ConfigError

_UNSAFE = re.compile("[\\x00-\\x1f\\x7f-\\x9f/\\\\\u2028-\u202e\u2066-\u2069\ufeff]")
_ESCAPE = re.compile(r"\\(?:(\\)|(e)|u([0-9a-fA-F]{4})|)")

SHOWN = 2000
"""Characters of a path that are shown by `shortened`."""


def escape(name: str) -> str:
    """`name` as one part of a path."""
    return _UNSAFE.sub(_escaped, name) if name else "\\e"


def _escaped(match: re.Match[str]) -> str:
    return "\\\\" if match[0] == "\\" else f"\\u{ord(match[0]):04x}"


def join(names: Iterable[str]) -> str:
    """The path of the node that `names` lead to from the top; ``/`` for no names."""
    return "/" + "/".join(map(escape, names))


def split(path: str) -> list[str]:
    """The names in `path`, with or without a slash in front; raises ConfigError."""
    return [_unescaped(part, path) for part in path.split("/") if part]


def _unescaped(part: str, path: str) -> str:
    def plain(match: re.Match[str]) -> str:
        backslash, empty, code = match.groups()
        if code is not None:
            return chr(int(code, 16))
        if backslash is None and empty is None:
            raise ConfigError(
                f"path {path[:SHOWN]!r}: a backslash in a name is written \\\\, another character "
                "that cannot be typed as \\u and four hexadecimal digits"
            )
        return backslash or ""

    return _ESCAPE.sub(plain, part)


def shortened(path: str, limit: int = SHOWN) -> str:
    """`path`, with dots for its middle if it is longer than `limit` characters."""
    if len(path) <= limit:
        return path
    half = limit // 2
    return f"{path[:half]}…({len(path):,} characters)…{path[-half:]}"
