"""Takes segments as they come from a peer and stores them, references first.

Every segment is verified. One that came before something in its table is kept in
memory until that has come; segments that refer to each other in a circle are stored
together once the whole circle is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tarfailover.errors import FormatError
from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.store.intake import Arrival, checked, mentions_blobs, with_blobs
from tarfailover.store.opentar import Incoming
from tarfailover.store.writer import StoreWriter

SYNC_EVERY = 256 * 1024 * 1024
"""Bytes after which what was stored is synced: bounds what a power failure costs and
what is left to sync when the process is told to stop."""

_ITEM = np.dtype([("segment", "V16"), ("length", ">u4")])


Rejection = tuple[SegmentId, str]
"""A segment, and what is wrong with it."""


class Receipt(NamedTuple):
    """What became of a batch."""

    stored: tuple[SegmentId, ...] = ()
    missing: tuple[SegmentId, ...] = ()
    """Segments that something needs and that are neither stored nor waiting."""
    rejected: tuple[Rejection, ...] = ()
    """Segments that were not what they claimed to be, and why."""
    waiting: int = 0
    """Bytes of the segments that are kept until what they need has come."""


class _Batch:
    """Segments that came together."""

    def __init__(self) -> None:
        self.ready: dict[SegmentId, Incoming] = {}
        """What can be stored, in order."""
        self.absent: set[SegmentId] = set()
        """What is referred to and neither stored nor ready."""
        self.rejected: list[Rejection] = []


class Receiver:
    """The slave's way into a store; one thread at a time may use it."""

    def __init__(self, writer: StoreWriter) -> None:
        self.writer = writer
        self._waiting: dict[SegmentId, tuple[Incoming, set[SegmentId]]] = {}
        self._needed_by: dict[SegmentId, list[SegmentId]] = {}
        self._unsynced = 0

    def lacking(self, items: bytes) -> bytes:
        """Those of `items`, n × (16 bytes id | u32 length), that are neither stored nor waiting."""
        rows = np.frombuffer(items, _ITEM)
        absent = rows[self.writer.absent(rows["segment"].tobytes())].tobytes()
        if not self._waiting:
            return absent
        pieces = (absent[at : at + _ITEM.itemsize] for at in range(0, len(absent), _ITEM.itemsize))
        return b"".join(piece for piece in pieces if piece[:16] not in self._waiting)

    def take(self, arrivals: Iterable[Arrival]) -> Receipt:
        """Verify `arrivals` and store what can be stored; raises StoreIOError."""
        batch = _Batch()
        verified: list[Incoming] = []
        for arrival in arrivals:
            try:
                verified.append(checked(arrival))
            except FormatError as error:
                batch.rejected.append((arrival.segment, str(error)))
        missing = self._sort(verified, batch)
        return self._store(list(batch.ready.values()), missing, batch.rejected)

    def _sort(self, verified: Sequence[Incoming], batch: _Batch) -> list[SegmentId]:
        """Let pass what can be stored now, in order; what is missing for the rest."""
        references = set[SegmentId]().union(*[segment.references for segment in verified])
        batch.absent = set(self.writer.lacking(references))
        missing: list[SegmentId] = []
        for segment in verified:
            if batch.absent.isdisjoint(segment.references):
                self._release(segment, batch)
            else:
                lacks = batch.absent.intersection(segment.references)
                self._keep(segment, lacks)
                missing += lacks
        return [each for each in missing if each not in batch.ready]

    def _keep(self, segment: Incoming, lacks: set[SegmentId]) -> None:
        self._waiting[segment.segment] = segment, lacks
        for each in lacks:
            self._needed_by.setdefault(each, []).append(segment.segment)

    def _release(self, segment: Incoming, batch: _Batch) -> None:
        """Let `segment` pass, and all that waited for it and for nothing else."""
        passing = [segment]
        while passing:
            each = passing.pop()
            self._waiting.pop(each.segment, None)
            # Only now is there all that it refers to, where long blob ids may lie.
            whole = self._with_blobs(each, batch.ready, batch.rejected)
            if whole is None:
                continue
            batch.ready[each.segment] = whole
            batch.absent.discard(each.segment)
            for name in self._needed_by.pop(each.segment, ()):
                if name in self._waiting:
                    waiter, lacks = self._waiting[name]
                    lacks.discard(each.segment)
                    if not lacks:
                        passing.append(waiter)

    def _with_blobs(
        self, segment: Incoming, beside: Mapping[SegmentId, Incoming], rejected: list[Rejection]
    ) -> Incoming | None:
        """The segment with its blob ids, read from what is stored or `beside` it."""
        if not mentions_blobs(segment):
            return segment

        def read(wanted: SegmentId) -> bytes:
            near = beside.get(wanted)
            return b"".join(near.chunks) if near else self.writer.read(wanted)

        try:
            return with_blobs(segment, read)
        except FormatError as error:
            rejected.append((segment.segment, f"segment {text(segment.segment)}: {error}"))
            return None

    def _store(
        self,
        ready: Sequence[Incoming],
        missing: Iterable[SegmentId],
        rejected: Iterable[Rejection] = (),
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
        circles = {name: segment for name, (segment, _) in self._waiting.items()}
        rejected: list[Rejection] = []
        found = [self._with_blobs(each, circles, rejected) for each in _references_first(circles)]
        self.forget()
        # A circle with a bad segment is brought anew: none of it may be stored without that.
        return self._store([] if rejected else [each for each in found if each], (), rejected)

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


def _references_first(segments: Mapping[SegmentId, Incoming]) -> Iterator[Incoming]:
    """All of `segments`; only within a circle one may stand before what it refers to."""
    entered: set[SegmentId] = set()
    for root in segments:
        path = [(root, iter((root,)))] if root not in entered else []
        while path:
            name, targets = path[-1]
            target = next((t for t in targets if t in segments and t not in entered), None)
            if target is not None:
                entered.add(target)
                path.append((target, iter(segments[target].references)))
                continue
            path.pop()
            if path:
                yield segments[name]
