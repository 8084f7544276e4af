"""Garbage collection of a store that is open for writing: a compaction, and its cleanup.

Afterwards `gc.log` has a line, on which the next tail compaction builds, Oak's or ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import StoreIOError
from tarfailover.format.gclog import GcLine
from tarfailover.repository.compaction import Compacted, Random, compact
from tarfailover.repository.segment_writer import Clock
from tarfailover.store import base, closure, gcfile
from tarfailover.store.base import Base
from tarfailover.store.cleanup.marks import OAK
from tarfailover.store.cleanup.run import SPARE, Cleanup, Report
from tarfailover.store.writer import StoreWriter

WRITER = "compact"
"""The name of the writer in the segments."""
MIB = 1024 * 1024


class Collected(NamedTuple):
    """What was done; sizes are bytes of all tars."""

    compacted: Compacted
    why_full: str
    """Why it was a full compaction though a tail was asked for, else empty."""
    report: Report
    before: int
    after: int


def collect(
    writer: StoreWriter,
    random: Random,
    *,
    now: Clock,
    tail: bool = False,
    retained: int = OAK.retained,
    progress: Callable[[int], None] | None = None,
) -> Collected:
    """Compact the head of `writer`, then remove what generations before `retained` leave.

    `tail` shares what the last compaction left; a full one is done if there was none.
    `progress` is told of the nodes copied so far, `now` gives milliseconds since 1970. A tar
    that cannot be cleaned up is in the report, and the next cleanup tries again.

    Raises StoreIOError if there is no room for a copy of what is to be copied, and what
    `compact` raises; then the head stays as it was.
    """
    before, head = _size(writer.directory), writer.head
    keep, why_full = _base(writer) if tail else (None, "")
    _check_room(writer, keep)
    compacted = compact(writer, random, wid=WRITER, now=now, keep=keep, progress=progress)
    report = _clean(Cleanup(writer, OAK._replace(retained=retained)))
    writer.seal()
    after = _size(writer.directory)
    if compacted.head != head:
        number, full, _ = compacted.generation
        line = GcLine(after, report.freed, now(), number, full, compacted.nodes, compacted.head)
        gcfile.append(writer.directory, line, writer.disk)
    return Collected(compacted, why_full, report, before, after)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.tar"))


def _base(writer: StoreWriter) -> tuple[Base | None, str]:
    """What a tail compaction shares, or why there can be none."""
    with writer.snapshot() as snapshot:
        try:
            return base.find(snapshot, writer.directory), ""
        except base.NoBaseError as error:
            return None, str(error)


def _check_room(writer: StoreWriter, keep: Base | None) -> None:
    """Raise StoreIOError unless the data segments that are copied can be there twice."""
    if writer.head is None:
        return
    known = b"" if keep is None else keep.marks
    with writer.snapshot() as snapshot:
        needed = closure.data_size(snapshot, writer.head.segment, known)
    free = writer.disk.free(writer.directory)
    if free < needed + SPARE:
        raise StoreIOError(
            f"{writer.directory}: to compact it may take {-(-(needed + SPARE) // MIB)} MiB of "
            f"free space, and there are {free // MIB}; free some"
        )


def _clean(cleanup: Cleanup) -> Report:
    try:
        while cleanup.step():
            pass
    finally:
        cleanup.close()
    return cleanup.report
