"""The check of the small files of a store: manifest, journal.log, gc.log, and strangers.

Facts: storage format, sections 1.1 to 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import FormatError
from tarfailover.format import gclog, journal, manifest
from tarfailover.format.tar import TarName
from tarfailover.ids import NULL_ID
from tarfailover.store import directory as directories
from tarfailover.store.durable import told
from tarfailover.store.finding import FAULT, NOTE, Finding
from tarfailover.store.snapshot import Snapshot

_BLOCK = 1024 * 1024
_LONGEST = 64 * 1024
"""Bytes without a line feed of which no more is kept."""
TOLD = 20
"""Unreadable lines that are told one by one; the others are counted."""

_KEY = re.compile(rb"(?m)^[ \t\f]*store\.version\b")
_RESTORE_JOURNAL = "restore journal.log from a copy, or rebuild it with oak-run recover-journal"


class _Line(NamedTuple):
    offset: int
    data: bytes
    """Without its line feed; only the beginning of an overlong line."""
    whole: bool
    """Whether a line feed ends it."""


def check_manifest(directory: Path) -> Iterator[Finding]:
    """The manifest.

    Raises NotAStoreError where there is no store, UnsupportedStoreError for a legacy or
    a newer one.
    """
    if not (directory / manifest.NAME).exists():
        directories.check_manifest(directory)
    with told("read", directory / manifest.NAME):
        data = (directory / manifest.NAME).read_bytes()
    try:
        version = manifest.parse(data)
    except FormatError as error:
        version = 0
        yield _manifest_fault(error.offset, error.what)
    else:
        if version > manifest.CURRENT:
            directories.check_manifest(directory)
        if version not in manifest.READABLE:
            yield _manifest_fault(0, f"store.version is {version}")
    if version == 1:
        yield _note(manifest.NAME, 0, "store.version is 1: the last writer was Oak 1.6")
    elif version in manifest.READABLE and _KEY.search(data) is None:
        yield _note(
            manifest.NAME, 0, f"store.version is not stated; it is taken for {manifest.CURRENT}"
        )


def _manifest_fault(offset: int, what: str) -> Finding:
    return Finding(
        FAULT,
        manifest.NAME,
        offset,
        f"{what}: Oak refuses to open the store",
        f"write the one line store.version={manifest.CURRENT} into it",
    )


def _note(file: str, offset: int | None, what: str, remedy: str = "nothing to do") -> Finding:
    return Finding(NOTE, file, offset, what, remedy)


def check_names(directory: Path) -> Iterator[Finding]:
    """Files that look like tars and are none of the store."""
    with told("list", directory):
        names = sorted(path.name for path in directory.iterdir())
    for name in names:
        if name.endswith(".tar") and TarName.parse(name) is None:
            yield _note(
                name, None, "this is no name of the store's tars; nothing reads it", "move it away"
            )
        elif re.fullmatch(r"data[0-9]+[a-z]?\.tar(\.[0-9]+)?(\.ro)?\.bak", name):
            yield _note(
                name,
                None,
                "left by the recovery after a crash; nothing reads it",
                "remove it when the store is known to be good",
            )


def check_journal(path: Path, end: int, snapshot: Snapshot) -> Iterator[Finding]:
    """All lines in the first `end` bytes of the journal; which is the head is not asked here."""
    gone = unreadable = 0
    first_gone, bad = None, None
    for line in _lines(path, end):
        parsed = journal.parse_line(line.data, line.offset)
        bad = None
        if parsed is not None:
            if not snapshot.contains(parsed.head.segment):
                gone += 1
                first_gone = line.offset if first_gone is None else first_gone
            if parsed.time_ms is None:
                yield _note(journal.NAME, line.offset, "the line tells no time")
        elif line.data.strip():
            unreadable += 1
            bad = line
            if unreadable <= TOLD and line.whole:
                yield _note(
                    journal.NAME, line.offset, f"the line cannot be read: {line.data[:60]!r}"
                )
    yield from _summary(gone, first_gone, unreadable)
    if bad is not None:
        yield _unreadable_end(bad)


def _summary(gone: int, first: int | None, unreadable: int) -> Iterator[Finding]:
    if gone:
        heads = "1 head lies" if gone == 1 else f"{gone} heads lie"
        yield _note(
            journal.NAME,
            first,
            f"{heads} in segments that are gone; normal after a cleanup, and in a copy",
        )
    if unreadable > TOLD:
        yield _note(journal.NAME, None, f"{unreadable - TOLD} more lines cannot be read")


def _unreadable_end(line: _Line) -> Finding:
    if not line.whole:
        return _note(
            journal.NAME,
            line.offset,
            "the last line is torn: its writer was stopped in the middle; the one before it counts",
        )
    return Finding(
        FAULT,
        journal.NAME,
        line.offset,
        f"the newest line cannot be read: {line.data[:60]!r}; an older head is used instead",
        _RESTORE_JOURNAL,
    )


def _lines(path: Path, end: int) -> Iterator[_Line]:
    """The lines in the first `end` bytes of `path`, oldest first; none if there is no file."""
    if not path.exists():
        return
    with told("read", path), path.open("rb") as file:
        rest, at = b"", 0
        while at < end and (block := file.read(min(_BLOCK, end - at))):
            start, at = at - len(rest), at + len(block)
            *whole, rest = (rest + block).split(b"\n")
            for data in whole:
                yield _Line(start, data, whole=True)
                start += len(data) + 1
            rest = _shortened(rest)
        if rest:
            yield _Line(at - len(rest), rest, whole=False)


def _shortened(rest: bytes) -> bytes:
    """The unfinished line `rest`; an overlong one is no head, so its end will do."""
    return rest if len(rest) <= _LONGEST else rest[-_LONGEST:]


def check_gclog(directory: Path, snapshot: Snapshot) -> Iterator[Finding]:
    """gc.log, if there is one: a store without works as well."""
    path = directory / gclog.NAME
    if not path.exists():
        return
    with told("look at", path):
        end = path.stat().st_size
    last = None
    for line in filter(lambda each: each.data.strip(), _lines(path, end)):
        last = line
        if gclog.parse_line(line.data) is None:
            yield _note(
                gclog.NAME,
                line.offset,
                f"the line cannot be read: {line.data[:60]!r}",
                "nothing to do: at worst, the next tail compaction becomes a full one",
            )
    parsed = gclog.parse_line(last.data) if last is not None else None
    if last is None or parsed is None or parsed.root.segment == NULL_ID:
        return
    if not snapshot.contains(parsed.root.segment):
        yield _note(
            gclog.NAME,
            last.offset,
            "the root of the last compaction is not in the store",
            "nothing to do: the next tail compaction becomes a full one",
        )
