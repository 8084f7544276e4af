"""Learns a closure: looks up in the store what a primary tells, and asks about the rest."""

from __future__ import annotations

from collections.abc import Callable

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

_SIZE = MAX_SEGMENT.to_bytes(4, "big")
"""A primary does not tell how long a segment is."""
_ITEM = 20

Ask = Callable[[list[SegmentId]], None]


class Lesson:
    """One listing of the closure of the segment `head`; see `Link.list` for the rest.

    `ask` asks the primary what some data segments refer to, and comes back with `learned`.
    """

    def __init__(self, head: SegmentId, ask: Ask, on_items: OnItems, lacking: Lacking) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._closure = Closure(head)
        self._ask = ask
        self._on_items = on_items
        self._lacking = lacking

    def go_on(self) -> None:
        """Look up and ask what there is to look up and to ask; hand on what is ready."""
        if self.done.called:
            return
        found = self._closure.to_look_up()
        if found:
            lacking = self._lacking(_rows(found))
            lacking.addCallback(self._looked_up, found).addErrback(self.fail)
        if ids := self._closure.to_ask(MOST_ASKED):
            self._ask(ids)
        if ready := self._closure.ready():
            self._on_items(_rows(ready))
        if self._closure.complete and not self.done.called:
            self.done.callback(b"")

    def learned(self, answer: ReferencesAnswer) -> None:
        """What a segment refers to; raises ProtocolError."""
        self._closure.learned(answer.segment, answer.references)

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
