"""The file journal.log: read from its end, and looked through for one head.

Facts: storage format, section 1.3. The file only grows and may be hundreds of
megabytes long, so it is read backwards in blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tarfailover.format import journal
from tarfailover.format.journal import JournalLine
from tarfailover.ids import SegmentId, text
from tarfailover.store.durable import told

_FIRST_BLOCK = 1024
"""The newest lines are mostly all that anybody wants."""
_BLOCK = 64 * 1024
_LONGEST_LINE = 1024 * 1024
"""Bytes without a line feed that are taken for one line; the rest of it is skipped."""


def size(path: Path) -> int:
    """Bytes in the journal at `path`, 0 if there is none."""
    with told("look at", path):
        return path.stat().st_size if path.exists() else 0


def newest_first(path: Path, end: int | None = None) -> Iterator[JournalLine]:
    """The heads in the first `end` bytes of the journal at `path`, the newest first.

    None if there is no file. Without `end` the whole file counts.
    """
    rest = b""
    for at, block in _blocks(path, end):
        rest = block + rest[:_LONGEST_LINE]
        first, feed, whole = rest.partition(b"\n")
        if not at:
            yield from _backwards(rest, 0)
        elif feed:
            yield from _backwards(whole, at + len(first) + 1)
            rest = first


def _blocks(path: Path, end: int | None) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file and their offsets, the last first."""
    if not path.exists():
        return
    with told("open", path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with told("look at", path):
            whole = os.fstat(fd).st_size
        at, block = whole if end is None else min(end, whole), _FIRST_BLOCK
        while at > 0:
            start = max(0, at - block)
            with told("read", path):
                data = os.pread(fd, at - start, start)
            yield start, data
            at, block = start, _BLOCK
    finally:
        os.close(fd)


def _backwards(data: bytes, offset: int) -> Iterator[JournalLine]:
    end = len(data)
    for line in reversed(data.split(b"\n")):
        parsed = journal.parse_line(line, offset + end - len(line))
        if parsed is not None:
            yield parsed
        end -= len(line) + 1


def names(path: Path, segment: SegmentId) -> bool:
    """Whether any line of the journal at `path` names a head in `segment`."""
    if not path.exists():
        return False
    needle = text(segment).encode("ascii")
    kept = b""
    with told("read", path), path.open("rb") as file:
        while block := file.read(1024 * 1024):
            if needle in kept + block:
                return True
            kept = block[-len(needle) :]
    return False
