"""The file journal.log: read from its end, and looked through for one head.

Facts: storage format, section 1.3. The file only grows and may be hundreds of
megabytes long, so it is read backwards in blocks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tarfailover.format import journal
from tarfailover.format.journal import JournalLine
from tarfailover.ids import SegmentId, text
from tarfailover.store.durable import told

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
    if not path.exists():
        return
    with told("read", path), path.open("rb") as file:
        at = min(file.seek(0, os.SEEK_END), sys.maxsize if end is None else end)
        rest = b""
        while at > 0:
            size = min(_BLOCK, at)
            at = file.seek(at - size)
            rest = file.read(size) + rest[:_LONGEST_LINE]
            first, feed, whole = rest.partition(b"\n")
            if at and feed:
                yield from _backwards(whole, at + len(first) + 1)
                rest = first
            elif not at:
                yield from _backwards(rest, 0)


def _backwards(data: bytes, offset: int) -> Iterator[JournalLine]:
    return reversed(list(journal.parse(data, offset)))


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
