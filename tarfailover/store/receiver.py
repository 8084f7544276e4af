"""Takes segments as they come from a peer and stores them, references first.

Every segment is verified. One that came before something in its table is kept in
memory until that has come; segments that refer to each other in a circle are stored
together once the whole circle is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tarfailover.errors import FormatError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.store.intake import Arrival, verify
from tarfailover.store.opentar import Incoming
from tarfailover.store.writer import StoreWriter

SYNC_EVERY = 64 * 1024 * 1024
"""Bytes after which what was stored is synced: bounds what a power failure costs and
what is left to sync when the process is told to stop."""

_ITEM = np.dtype([("segment", "V16"), ("length", ">u4")])


class Receipt(NamedTuple):
    """What became of a batch."""

    stored: tuple[SegmentId, ...] = ()
    missing: tuple[SegmentId, ...] = ()
    """Segments that something needs and that are neither stored nor waiting."""
    rejected: tuple[tuple[SegmentId, str], ...] = ()
    """Segments that were not what they claimed to be, and why."""
    waiting: int = 0
    """Bytes of the segments that are kept until what they need has come."""


class Receiver:
    """The slave's way into a store; one thread at a time may use it."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self._waiting: dict[SegmentId, tuple[Incoming, set[SegmentId]]] = {}
        self._needed_by: dict[SegmentId, list[SegmentId]] = {}
        self._unsynced = 0

    def lacking(self, items: bytes) -> bytes:
        """Those of `items`, n × (16 bytes id | u32 length), that are not stored."""
        rows = np.frombuffer(items, _ITEM)
        return rows[self.writer.absent(rows["segment"].tobytes())].tobytes()

    def take(self, arrivals: Iterable[Arrival]) -> Receipt:
        """Verify `arrivals` and store what can be stored; raises StoreIOError."""
        rejected: list[tuple[SegmentId, str]] = []
        verified: list[Incoming] = []
        for arrival in arrivals:
            try:
                verified.append(verify(arrival, self.writer.read))
            except FormatError as error:
                rejected.append((arrival.segment, str(error)))
        ready, missing = self._sort(verified)
        return self._store(ready, missing, rejected)

    def _sort(self, verified: Sequence[Incoming]) -> tuple[list[Incoming], list[SegmentId]]:
        """What can be stored now, in order; and what is missing for the rest."""
        references = [each for segment in verified for each in segment.references]
        absent = set(self.writer.lacking(references))
        ready: dict[SegmentId, Incoming] = {}
        missing: list[SegmentId] = []
        for segment in verified:
            lacks = {r for r in segment.references if r in absent and r not in ready}
            lacks.discard(segment.segment)
            if lacks:
                self._keep(segment, lacks)
                missing += lacks
            else:
                self._release(segment, ready)
        return list(ready.values()), [m for m in missing if m not in ready]

    def _keep(self, segment: Incoming, lacks: set[SegmentId]) -> None:
        self._waiting[segment.segment] = segment, lacks
        for each in lacks:
            self._needed_by.setdefault(each, []).append(segment.segment)

    def _release(self, segment: Incoming, ready: dict[SegmentId, Incoming]) -> None:
        """Let `segment` pass, and all that waited for it and for nothing else."""
        passing = [segment]
        while passing:
            each = passing.pop()
            ready[each.segment] = each
            self._waiting.pop(each.segment, None)
            for name in self._needed_by.pop(each.segment, ()):
                if name in self._waiting:
                    waiter, lacks = self._waiting[name]
                    lacks.discard(each.segment)
                    if not lacks:
                        passing.append(waiter)

    def _store(
        self,
        ready: Sequence[Incoming],
        missing: Iterable[SegmentId],
        rejected: Iterable[tuple[SegmentId, str]] = (),
    ) -> Receipt:
        self.writer.store(ready)
        self._unsynced += sum(each.length for each in ready)
        if self._unsynced >= SYNC_EVERY:
            self.flush()
        waiting = sum(segment.length for segment, _ in self._waiting.values())
        wanted = dict.fromkeys(each for each in missing if each not in self._waiting)
        stored = tuple(each.segment for each in ready)
        return Receipt(stored, tuple(wanted), tuple(rejected), waiting)

    def flush(self) -> None:
        """Sync what was stored."""
        self.writer.flush()
        self._unsynced = 0

    def close_circles(self) -> Receipt:
        """Store the segments that wait only for each other; says what the others lack."""
        missing = {
            each
            for _, lacks in self._waiting.values()
            for each in lacks
            if each not in self._waiting
        }
        if missing:
            return self._store([], missing)
        ready = [segment for segment, _ in self._waiting.values()]
        self.forget()
        return self._store(ready, ())

    def forget(self) -> None:
        """Drop what waits: the attempt to complete its head is given up."""
        self._waiting.clear()
        self._needed_by.clear()

    def missing(self, head: SegmentId) -> list[SegmentId]:
        """What the closure of the segment `head` still lacks."""
        return self.writer.missing(head)

    def commit(self, head: RecordId, time_ms: int) -> None:
        """Move the head; raises SegmentMissingError, StoreIOError."""
        self.writer.commit(head, time_ms)
        self._unsynced = 0
