"""Lines of gc.log, one for each garbage collection that ended well.

Facts: storage format, section 1.4. Fields: repository size after cleanup, reclaimed
bytes, milliseconds since 1970, generation, full generation, compacted nodes,
compacted root. Oak 1.6 wrote no full generation, and in its first releases no root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.ids import NULL_ID, RecordId

NAME = "gc.log"
_FIELDS = 7
_FULL_GENERATION = 4
_NUMBER = re.compile(r"-?[0-9]{1,19}")
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
    """What the compaction wrote; the null record if the line does not say."""

    def encode(self) -> bytes:
        """The line as Oak writes it, with its line feed."""
        return f"{','.join(map(str, self))}\n".encode("ascii")


def parse(data: bytes) -> Iterator[GcLine]:
    """The lines of `data` that can be read, oldest first; others are passed over."""
    for line in data.split(b"\n"):
        parsed = parse_line(line)
        if parsed is not None:
            yield parsed


def parse_line(line: bytes) -> GcLine | None:
    """The run that `line` tells of; None for an empty or unreadable line.

    A line of other than seven fields is one of Oak 1.6: its generation counts as the
    full one too, and it may lack the root.
    """
    fields = line.decode("latin-1").strip(" \r").split(",")
    if len(fields) != _FIELDS:
        fields.insert(_FULL_GENERATION, fields[_FULL_GENERATION - 1] if len(fields) > 4 else "")
    numbers, root = fields[: _FIELDS - 1], fields[_FIELDS - 1 : _FIELDS]
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        return None
    size, reclaimed, time_ms, generation, full, nodes = map(int, numbers)
    try:
        record = RecordId.parse(root[0]) if root else _NO_ROOT
    except FormatError:
        return None
    return GcLine(size, reclaimed, time_ms, generation, full, nodes, record)
