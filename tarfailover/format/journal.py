"""Lines of journal.log, the history of heads.

Facts: storage format, section 1.3. Reading is as forgiving as Oak: a line that does
not qualify is skipped, so torn lines and NUL bytes do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.ids import RecordId

NAME = "journal.log"
_WORD = "root"


class JournalLine(NamedTuple):
    """A head that was persisted."""

    head: RecordId
    time_ms: int | None
    """Milliseconds since 1970; None if the line does not say."""
    offset: int = 0
    """Of the line's first byte in the file."""

    def encode(self) -> bytes:
        """The line as Oak writes it, with its line feed."""
        return f"{self.head} {_WORD} {self.time_ms or 0}\n".encode("ascii")


def parse_line(line: bytes, offset: int = 0) -> JournalLine | None:
    """The head that `line` (without line feed) names, or None if it names none."""
    fields = line.rstrip(b"\r").decode("latin-1").split(" ")
    if len(fields) < 2:
        return None
    try:
        head = RecordId.parse(fields[0])
    except FormatError:
        return None
    stamp = fields[2] if len(fields) > 2 else ""
    time_ms = int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 19 else None
    return JournalLine(head, time_ms, offset)


def parse(data: bytes, base: int = 0) -> Iterator[JournalLine]:
    """The lines of `data` that name a head, oldest first; `base` is its offset in the file.

    A torn last line counts if its record id is complete, as it does for Oak.
    """
    at = base
    for line in data.split(b"\n"):
        parsed = parse_line(line, at)
        if parsed is not None:
            yield parsed
        at += len(line) + 1
