"""The check of a store: every byte of every tar, the logs, and the closure of the head.

Reads only, takes no lock, goes on after a fault, and keeps in memory what an open store
keeps, and one chunk. The directory may be in use: the journal is measured before the
tars are opened, and what was opened stays readable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tarfailover.errors import FormatError, StoreError, StoreIOError, TarFailoverError
from tarfailover.format import journal as lines
from tarfailover.format import segment as segments
from tarfailover.format.journal import JournalLine
from tarfailover.format.tar import TarName
from tarfailover.ids import is_data, text
from tarfailover.store import closure, journal
from tarfailover.store import directory as directories
from tarfailover.store.check import logs
from tarfailover.store.check.content import ContentCheck
from tarfailover.store.check.opentars import OpenTarCheck
from tarfailover.store.check.tars import ClosedTarCheck, TarCheck
from tarfailover.store.durable import told
from tarfailover.store.finding import (
    FAULT,
    NOTE,
    Checked,
    Finding,
    Progress,
    many,
    restore,
    unseen,
)
from tarfailover.store.follower import ATTEMPTS
from tarfailover.store.heads import HEADS_TRIED
from tarfailover.store.snapshot import Head, Snapshot, snapshot_of
from tarfailover.store.tarreader import TarReader

_END = 1024 * 1024
"""Bytes at the end of a superseded tar in which its index is looked for."""


class _Loser(NamedTuple):
    """A tar that does not count."""

    name: TarName
    size: int
    """As it was found; -1 if it had vanished."""
    winner: TarName
    """The letter that counts."""


class _View(NamedTuple):
    """The store as it was found."""

    snapshot: Snapshot
    journal_end: int
    losers: list[_Loser]


class StoreCheck:
    """One check of the store in `directory`; `run` once, and read `checked` meanwhile."""

    def __init__(self, directory: Path, progress: Progress = unseen) -> None:
        self.directory = directory
        self.checked = Checked()
        self._progress = progress
        self._total = 0
        self._broken = False
        """Whether the head of the newest line lacks something."""
        self._needed: bytearray | None = None

    def run(self) -> Iterator[Finding]:
        """Everything found, in no particular order.

        Raises NotAStoreError or UnsupportedStoreError where there is nothing to check,
        and StoreIOError if the system refuses to read.
        """
        return map(self.checked.count, self._run())

    def _run(self) -> Iterator[Finding]:
        yield from logs.check_manifest(self.directory)
        yield from logs.check_names(self.directory)
        view = _open(self.directory)
        snapshot = view.snapshot
        try:
            self._total = sum(reader.size() for reader in snapshot.tars.readers)
            yield from self._losers(view)
            path = self.directory / lines.NAME
            yield from logs.check_journal(path, view.journal_end, snapshot)
            yield from logs.check_gclog(self.directory, snapshot)
            yield from self._head(path, view)
            yield from self._tars(snapshot)
        finally:
            snapshot.release()

    def _losers(self, view: _View) -> Iterator[Finding]:
        for loser in view.losers:
            if loser.name < loser.winner:
                yield Finding(
                    NOTE,
                    str(loser.name),
                    None,
                    f"superseded by {loser.winner}",
                    "nothing to do: its writer, or the next open for writing, removes it",
                )
            else:
                yield self._bad_letter(*loser)

    def _bad_letter(self, name: TarName, found: int, winner: TarName) -> Finding:
        """`name` has the higher letter, but had no valid index when it was `found` bytes long."""
        path = self.directory / str(name)
        try:
            reader = TarReader.open(path, name)
        except StoreError as error:
            return Finding(NOTE, str(name), None, f"{winner} counts instead: {error}")
        size = reader.size()
        closed = f"{name}.idx\0".encode() in reader.read(max(0, size - _END), _END)
        fault = reader.index_fault
        reader.release()
        if fault is None or size != found:
            return Finding(
                NOTE,
                str(name),
                size,
                f"a cleanup is at work on it; {winner} counted when this check began",
                "nothing to do",
            )
        if closed:
            return Finding(
                FAULT,
                str(name),
                fault.offset,
                f"its index cannot be used ({fault.what}), so {winner} counts instead, which the "
                "cleanup had superseded",
                "restore the file from a copy of the store before the next open for writing: "
                "that removes it",
            )
        return Finding(
            NOTE,
            str(name),
            size,
            f"written in part by a cleanup that is at work or was stopped; {winner} counts",
            "nothing to do: the next open for writing removes it",
        )

    # the head and what it needs

    def _head(self, path: Path, view: _View) -> Iterator[Finding]:
        tried = 0
        for line in journal.newest_first(path, view.journal_end):
            self.checked.newest = self.checked.newest or line.head
            found = list(self._usable(view.snapshot, line, newest=tried == 0))
            yield from found
            if not found:
                return
            self._broken = True
            tried += 1
            if tried == HEADS_TRIED:
                break
        yield from self._no_head(view.snapshot, tried)

    def _no_head(self, snapshot: Snapshot, tried: int) -> Iterator[Finding]:
        self._broken = True
        if not snapshot.count and not tried:
            yield Finding(
                NOTE, lines.NAME, None, "the store is empty: no segments, no head", "nothing to do"
            )
            return
        why = f"none of its newest {tried} heads can be used" if tried else "it names no head"
        yield Finding(
            FAULT,
            lines.NAME,
            None,
            f"{why}, but the tars hold {many(snapshot.count, 'segment')}: Oak would start with an "
            "empty repository, or not at all",
            "if a slave is making its first copy here, let it finish; else restore journal.log "
            "and the tars from a copy",
        )

    def _usable(self, snapshot: Snapshot, line: JournalLine, *, newest: bool) -> Iterator[Finding]:
        """Why the head of `line` cannot be used; nothing if it can, and then it is the head."""

        def unusable(what: str, file: str = lines.NAME, offset: int = line.offset) -> Finding:
            if newest:
                remedy = f"an older head is used instead; {restore(needed=True)}"
                return Finding(FAULT, file, offset, what, remedy)
            return Finding(NOTE, file, offset, what, "see the faults of the newest head")

        segment = line.head.segment
        if not snapshot.contains(segment):
            yield unusable(f"the head {line.head} lies in a segment that is in no tar")
            return
        wrong = _record_fault(snapshot, line)
        if wrong:
            yield unusable(f"the head {line.head} cannot be used: {wrong}")
            return
        try:
            found = closure.walk(snapshot, [segment])
        except TarFailoverError as error:
            yield unusable(f"what the head {line.head} needs cannot be told: {error}")
            return
        if found.missing and not newest:
            yield unusable(f"the head {line.head} lacks {many(len(found.missing), 'segment')} too")
            return
        for missing in found.missing:
            reader, entry = snapshot.entry(missing.referrer or segment)
            what = (
                f"segment {text(entry.segment)}, which the head {line.head} needs, refers to "
                f"segment {text(missing.segment)}, which is in no tar"
            )
            yield unusable(what, reader.path.name, entry.position)
        if not found.missing:
            self._take(snapshot, line, found)

    def _take(self, snapshot: Snapshot, line: JournalLine, found: closure.Closure) -> None:
        _, entry = snapshot.entry(line.head.segment)
        self.checked.head = Head(line.head, line.time_ms or 0, entry.generation)
        self.checked.closure_segments = len(found.ranks)
        lengths = snapshot.table.extents(found.ranks)[1]
        self.checked.closure_bytes = int(lengths.sum(dtype="i8"))
        needed = np.zeros(snapshot.count, "u1")
        needed[found.ranks] = 1
        self._needed = bytearray(needed.tobytes())

    # the tars

    def _tars(self, snapshot: Snapshot) -> Iterator[Finding]:
        head = self.checked.head
        # An older head tells nothing about what the newest one needs.
        needed = None if self._broken else self._needed
        content = ContentCheck(snapshot, needed, head.record.segment if head else None)
        readers = snapshot.tars.readers
        torn: list[Finding] = []
        for reader in readers:
            newest = reader.name.number == readers[-1].name.number
            check = _tar_check(reader, content, self._watch(), newest=newest)
            yield from check.run()
            reader.release_rows()
            self.checked.tars += 1
            self.checked.segments += check.segments
            self.checked.bytes += check.size
            torn += check.torn
        self._progress(self._total, self._total)
        yield from (each._replace(severity=FAULT) if self._broken else each for each in torn)
        yield from self._left_out(snapshot, content)
        yield from content.summary()

    def _watch(self) -> Callable[[int], None]:
        before = self.checked.bytes
        return lambda done: self._progress(min(before + done, self._total), self._total)

    def _left_out(self, snapshot: Snapshot, content: ContentCheck) -> Iterator[Finding]:
        """What the head needs by tables, but not by the graphs that its closure was read from."""
        if not content.unmet or self._needed is None or self._broken:
            return
        found = closure.walk(snapshot, content.unmet, self._needed)
        for missing in found.missing:
            yield Finding(
                FAULT,
                lines.NAME,
                None,
                f"the head needs segment {text(missing.segment)}, which is in no tar",
                restore(needed=True),
            )


def _record_fault(snapshot: Snapshot, line: JournalLine) -> str:
    """Why the record of a head is no node; empty if it is one."""
    segment, number = line.head
    if not is_data(segment):
        return "it is no data segment"
    reader, entry = snapshot.entry(segment)
    try:
        records = segments.records(reader.read(entry.position, entry.length))
    except FormatError:
        # Told where the segment itself is checked.
        return ""
    found = [record for record in records if record.number == number]
    if not found:
        return f"its segment has no record {number}"
    if found[0].type != segments.NODE:
        return f"record {number} is no node"
    return ""


def _tar_check(
    reader: TarReader, content: ContentCheck, watch: Callable[[int], None], *, newest: bool
) -> TarCheck:
    """The check that fits the tar as it is now: it may have been closed a moment ago."""
    size = reader.size()
    # Also reads the rows again that are not kept for tars which nobody looks at.
    if reader.load_index() and reader.index is not None:
        return ClosedTarCheck(reader, content, reader.index, watch)
    return OpenTarCheck(reader, content, size, watch, newest=newest)


def _open(directory: Path) -> _View:
    """The store as it is; begins anew when a file vanishes under it."""
    for attempt in range(1, ATTEMPTS + 1):
        readers: list[TarReader] = []
        try:
            return _open_once(directory, readers)
        except StoreIOError as error:
            if not isinstance(error.__cause__, FileNotFoundError) or attempt == ATTEMPTS:
                raise
        finally:
            for reader in readers:
                reader.release()
    raise AssertionError("the loop returns or raises")


def _size(path: Path) -> int:
    try:
        with told("look at", path):
            return path.stat().st_size
    except StoreIOError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return -1
        raise


def _open_once(directory: Path, readers: list[TarReader]) -> _View:
    """The store as it is; puts the tars that it opens into `readers`."""
    end = journal.size(directory / lines.NAME)
    losers: list[_Loser] = []
    for _, letters in groupby(directories.tar_names(directory), key=lambda name: name.number):
        choice = directories.choose(directory, list(letters))
        readers += choice.winners
        winner = choice.winners[0].name
        losers += [_Loser(name, _size(directory / str(name)), winner) for name in choice.losers]
    return _View(snapshot_of(readers), end, losers)
