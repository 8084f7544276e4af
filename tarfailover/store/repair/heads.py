"""The newest line of the journal, and the manifest: what can be known of them, and mended.

A line has no checksum. Of the newest one more is known: its head must be a node that is there, a
slave keeps the same in its state file, and its master may have it. Of older lines, of
times, and of ``gc.log`` nothing else tells: what can still be read counts as it stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import DamagedStoreError, FormatError, StoreError
from tarfailover.format import journal, manifest
from tarfailover.format import segment as segments
from tarfailover.ids import RecordId, is_data
from tarfailover.store.durable import Disk, told
from tarfailover.store.repair.damage import distance
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.state import SlaveState

LIKENESS = 16
"""Bits in which a line may differ from a head that is known, and still be taken for it."""
_LONGEST = 64 * 1024


class Line(NamedTuple):
    """The newest line of the journal."""

    offset: int
    data: bytes
    """Without its line feed."""


def newest(path: Path) -> Line | None:
    """The last line that ends with a line feed; None if there is none."""
    if not path.exists():
        return None
    with told("read", path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        base = max(0, size - _LONGEST)
        file.seek(base)
        tail = file.read()
    end = tail.rfind(b"\n")
    if end < 0:
        return None
    start = tail.rfind(b"\n", 0, end) + 1
    return Line(base + start, tail[start:end])


def fault(snapshot: Snapshot, line: Line) -> str:
    """Why `line` names no head of `snapshot`; empty if it does."""
    parsed = journal.parse_line(line.data)
    if parsed is None:
        return "the newest line cannot be read"
    if not is_data(parsed.head.segment) or not snapshot.contains(parsed.head.segment):
        return f"the newest line names {parsed.head}, whose segment is in no tar"
    try:
        records = list(segments.records(snapshot.read(parsed.head.segment)))
    except (FormatError, StoreError):
        return ""  # told where the segment is
    if (parsed.head.number, segments.NODE) in {(each.number, each.type) for each in records}:
        return ""
    return f"the newest line names {parsed.head}, which is no node"


def known(directory: Path) -> list[RecordId]:
    """The heads that a slave remembers to have written, the newest first."""
    try:
        state = SlaveState.load(directory)
    except DamagedStoreError:
        return []
    return [RecordId.parse(head) for head in state.heads] if state else []


def mended(line: Line, heads: Iterable[RecordId]) -> bytes | None:
    """The line as it should be, if one of `heads` is what it once said; without line feed."""
    for head in heads:
        name = str(head).encode()
        if distance(name, line.data[: len(name)]) > LIKENESS or len(line.data) <= len(name):
            continue
        rest = line.data[len(name) :]
        word, stamp = rest[:6], rest[6:]
        if distance(word, b" root ") > LIKENESS:
            continue
        return name + b" root " + bytes(map(_digit, stamp))
    return None


def _digit(byte: int) -> int:
    """The digit that `byte` is, or that it is nearest to."""
    return min(b"0123456789", key=lambda each: (each ^ byte).bit_count())


def write(path: Path, line: Line, right: bytes, disk: Disk) -> None:
    """Put `right`, of the same length, in place of `line`."""
    fd = disk.open(path)
    try:
        disk.write(fd, path, [right], line.offset)
        disk.sync(fd, path)
    finally:
        os.close(fd)


def manifest_fault(directory: Path) -> str:
    """What is wrong with the manifest; empty if nothing is that can be known."""
    path = directory / manifest.NAME
    if not path.exists():
        return ""
    with told("read", path):
        data = path.read_bytes()
    try:
        version = manifest.parse(data)
    except FormatError as error:
        return error.what
    # A higher one is that of a newer Oak, until somebody who knows says otherwise.
    return "" if version >= min(manifest.READABLE) else f"store.version is {version}"
