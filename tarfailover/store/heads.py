"""Which line of the journal is the head.

Facts: storage format, sections 1.3 and 8. Oak takes the newest line whose segment
exists. Here the whole closure of the head must exist too: Oak never checks, and a head
without its closure fails when somebody reads the missing part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tarfailover.errors import NoHeadError
from tarfailover.format import journal as lines
from tarfailover.format.journal import JournalLine
from tarfailover.ids import is_data, text
from tarfailover.store import closure, journal
from tarfailover.store.closure import Closure
from tarfailover.store.snapshot import Head, Snapshot

HEADS_TRIED = 64
"""Heads whose closure is looked at before giving up."""
REASONS_KEPT = 64
"""Lines of the journal of which it is told why they are not the head."""


class HeadFinder:
    """Finds heads in snapshots that grow, and remembers what is known to be closed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / lines.NAME
        self.known = bytearray()
        """One byte a rank: 1 if the segment and all that it needs are there."""

    def find(self, snapshot: Snapshot, end: int | None = None) -> Head:
        """The newest head in the first `end` bytes of the journal whose closure is whole.

        Raises NoHeadError if there is none.
        """
        skipped = _Skipped()
        tried = 0
        for line in journal.newest_first(self.path, end):
            if not is_data(line.head.segment) or not snapshot.contains(line.head.segment):
                skipped.add(line, "its segment is in no tar")
                continue
            found = closure.walk(snapshot, [line.head.segment], self.known)
            if not found.missing:
                self.learn(found, snapshot.count)
                return _head(snapshot, line, skipped)
            skipped.add(line, missing_text(found))
            tried += 1
            if tried == HEADS_TRIED:
                break
        raise NoHeadError(self._complaint(snapshot, skipped))

    def learn(self, found: Closure, count: int) -> None:
        """Remember that what a walk reached is closed."""
        self.known.extend(bytes(max(0, count - len(self.known))))
        np.frombuffer(self.known, "u1")[found.ranks] = 1

    def _complaint(self, snapshot: Snapshot, skipped: _Skipped) -> str:
        if not snapshot.count:
            return f"{self.path.parent}: the store has no segments and so no head"
        if not skipped.count:
            why = "names no head" if self.path.exists() else "is missing"
            return (
                f"{self.path} {why}, but the tars hold {snapshot.count} segments: restore the "
                "journal from a copy, or rebuild it with oak-run recover-journal"
            )
        return (
            f"{self.path}: none of its newest {skipped.count} heads is whole; the newest is "
            f"{skipped.reasons[0]}; restore the missing tars from a copy"
        )


class _Skipped:
    """The lines that are no head: how many, and of the newest why; old journals have millions."""

    def __init__(self) -> None:
        self.count = 0
        self.reasons: list[str] = []

    def add(self, line: JournalLine, why: str) -> None:
        self.count += 1
        if self.count <= REASONS_KEPT:
            self.reasons.append(f"{line.head}: {why}")

    def told(self) -> tuple[str, ...]:
        rest = self.count - len(self.reasons)
        return (*self.reasons, *([f"and {rest} older heads"] if rest else []))


def missing_text(found: Closure) -> str:
    """One sentence on what a closure lacks."""
    first = found.missing[0]
    by = f", needed by {text(first.referrer)}" if first.referrer else ""
    more = f" and {len(found.missing) - 1} more are" if len(found.missing) > 1 else " is"
    return f"segment {text(first.segment)}{by}{more} missing"


def _head(snapshot: Snapshot, line: JournalLine, skipped: _Skipped) -> Head:
    generation = snapshot.entry(line.head.segment)[1].generation
    return Head(line.head, line.time_ms or 0, generation, skipped.told())
