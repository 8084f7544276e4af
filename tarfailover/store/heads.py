"""Which line of the journal is the head.

Facts: storage format, sections 1.3 and 8. Oak takes the newest line whose segment
exists. Here the whole closure of the head must exist too: Oak never checks, and a head
without its closure fails when somebody reads the missing part.
"""

from __future__ import annotations

from pathlib import Path

from tarfailover.errors import NoHeadError
from tarfailover.format import journal as lines
from tarfailover.format.journal import JournalLine
from tarfailover.ids import text
from tarfailover.store import closure, journal
from tarfailover.store.closure import Closure
from tarfailover.store.snapshot import Head, Snapshot

HEADS_TRIED = 64
"""Heads whose closure is looked at before giving up."""


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
        skipped: list[str] = []
        tried = 0
        for line in journal.newest_first(self.path, end):
            if not snapshot.contains(line.head.segment):
                skipped.append(f"{line.head}: its segment is in no tar")
                continue
            tried += 1
            found = closure.walk(snapshot, [line.head.segment], self.known)
            if not found.missing:
                self.learn(found, snapshot.count)
                return _head(snapshot, line, skipped)
            skipped.append(f"{line.head}: {missing_text(found)}")
            if tried == HEADS_TRIED:
                break
        raise NoHeadError(self._complaint(snapshot, skipped))

    def learn(self, found: Closure, count: int) -> None:
        """Remember that what a walk reached is closed."""
        self.known.extend(bytes(max(0, count - len(self.known))))
        for rank in found.ranks.tolist():
            self.known[rank] = 1

    def _complaint(self, snapshot: Snapshot, skipped: list[str]) -> str:
        if not snapshot.count:
            return f"{self.path.parent}: the store has no segments and so no head"
        if not skipped:
            why = "names no head" if self.path.exists() else "is missing"
            return (
                f"{self.path} {why}, but the tars hold {snapshot.count} segments: restore the "
                "journal from a copy, or rebuild it with oak-run recover-journal"
            )
        return (
            f"{self.path}: none of its newest {len(skipped)} heads is whole; the newest is "
            f"{skipped[0]}; restore the missing tars from a copy"
        )


def missing_text(found: Closure) -> str:
    """One sentence on what a closure lacks."""
    first = found.missing[0]
    by = f", needed by {text(first.referrer)}" if first.referrer else ""
    more = f" and {len(found.missing) - 1} more are" if len(found.missing) > 1 else " is"
    return f"segment {text(first.segment)}{by}{more} missing"


def _head(snapshot: Snapshot, line: JournalLine, skipped: list[str]) -> Head:
    generation = snapshot.entry(line.head.segment)[1].generation
    return Head(line.head, line.time_ms or 0, generation, tuple(skipped))
