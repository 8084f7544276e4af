"""Lines of gc.log, one for each garbage collection that ended well.

Facts: storage format, section 1.4. Fields: repository size after cleanup, reclaimed
bytes, milliseconds since 1970, generation, full generation, compacted nodes,
compacted root.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.ids import NULL_ID, RecordId

NAME = "gc.log"
_FIELDS = 7
_NO_ROOT = RecordId(NULL_ID, 0)


class GcLine(NamedTuple):
    """One run of Oak's garbage collection."""

    repository_bytes: int
    reclaimed_bytes: int
    time_ms: int
    generation: int
    full_generation: int
    nodes: int
    root: RecordId


def parse(data: bytes) -> Iterator[GcLine]:
    """The lines of `data` that can be read, oldest first; others are passed over as by Oak."""
    for line in data.split(b"\n"):
        parsed = parse_line(line)
        if parsed is not None:
            yield parsed


def parse_line(line: bytes) -> GcLine | None:
    """The run that `line` tells of; None for an empty or unreadable line.

    A line of Oak 1.6 has fewer fields: its generation counts as the full one too, and
    it may lack the root.
    """
    fields = line.decode("latin-1").strip().split(",")
    try:
        root = RecordId.parse(fields[-1]) if "-" in fields[-1] else _NO_ROOT
        numbers = [int(field) for field in fields if "-" not in field]
    except (ValueError, FormatError):
        return None
    if len(fields) == _FIELDS and len(numbers) == _FIELDS - 1:
        return GcLine(*numbers, root)
    if len(numbers) < 4:
        return None
    nodes = numbers[4] if len(numbers) > 4 else 0
    return GcLine(*numbers[:4], numbers[3], nodes, root)
