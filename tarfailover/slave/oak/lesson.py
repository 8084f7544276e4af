"""Learns a closure: looks up in the store what a primary tells, and asks about the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId
from tarfailover.slave.asked import OnItems
from tarfailover.slave.link import Lacking
from tarfailover.slave.oak.closure import Closure
from tarfailover.wire.oak.frames import ReferencesAnswer

MOST_ASKED = 1000
"""Segments asked about and not answered: short answers, many in a round trip."""

MOST_KEPT = 1_000_000
"""References that are kept from one connection to the next: less than 100 MiB."""

_SIZE = MAX_SEGMENT.to_bytes(4, "big")
"""A primary does not tell how long a segment is."""
_ITEM = 20

Learned = Callable[[ReferencesAnswer], None]
Ask = Callable[[list[SegmentId], Learned], None]


class Tables:
    """What was learned and is not all stored, so that the next connection need not ask again.

    Long chains are learned one round trip after the other: a line that breaks before the end
    would never get there. What a segment refers to never changes; but nothing proves what was
    told, so it is forgotten once something of it cannot be had.
    """

    def __init__(self) -> None:
        self._tables: dict[SegmentId, Sequence[SegmentId]] = {}
        self._count = 0

    def keep(self, segment: SegmentId, references: Sequence[SegmentId]) -> None:
        """Keep what `segment` refers to, if there is room."""
        if self._count < MOST_KEPT and segment not in self._tables:
            self._tables[segment] = references
            self._count += 1 + len(references)

    def get(self, segment: SegmentId) -> Sequence[SegmentId] | None:
        """What `segment` refers to, if it is kept."""
        return self._tables.get(segment)

    def clear(self) -> None:
        """All is stored, or not all is true."""
        self._tables, self._count = {}, 0


class Lesson:
    """One listing of the closure of the segment `head`; see `Link.list` for the rest.

    `ask` asks the primary what some data segments refer to, and calls back with each answer.
    """

    def __init__(
        self, head: SegmentId, tables: Tables, ask: Ask, on_items: OnItems, lacking: Lacking
    ) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._closure = Closure(head)
        self._tables = tables
        self._ask = ask
        self._on_items = on_items
        self._lacking = lacking

    def go_on(self) -> None:
        """Look up and ask what there is to look up and to ask; hand on what is ready."""
        if self.done.called:
            return
        if ids := self._unknown():
            self._ask(ids, self.learned)
        if found := self._closure.to_look_up():
            lacking = self._lacking(_rows(found))
            lacking.addCallback(self._looked_up, found).addErrback(self.fail)
        if ready := self._closure.ready():
            self._on_items(_rows(ready))
        if self._closure.complete and not self.done.called:
            self.done.callback(b"")

    def _unknown(self) -> list[SegmentId]:
        """Whom to ask about, now that what is kept is told."""
        unknown: list[SegmentId] = []
        while ids := self._closure.to_ask(MOST_ASKED):
            for each in ids:
                kept = self._tables.get(each)
                if kept is None:
                    unknown.append(each)
                else:
                    self._closure.learned(each, kept)
        return unknown

    def learned(self, answer: ReferencesAnswer) -> None:
        """What a segment refers to; raises ProtocolError."""
        self._closure.learned(answer.segment, answer.references)
        self._tables.keep(answer.segment, answer.references)

    def _looked_up(self, lacking: bytes, found: list[SegmentId]) -> None:
        lacks = [lacking[at : at + 16] for at in range(0, len(lacking), _ITEM)]
        self._closure.looked_up(found, lacks)
        self.go_on()

    def fail(self, failure: Failure) -> None:
        """It is given up."""
        if not self.done.called:
            self.done.errback(failure)


def _rows(ids: list[SegmentId]) -> bytes:
    return b"".join([each + _SIZE for each in ids])
