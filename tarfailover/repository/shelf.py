"""Finished segments on their way into a store, for several threads.

Data segments wait in memory until a head that needs them becomes durable, or until they are
many; bulk segments go into the store at once. All can be read at any time: a thread that
reads never waits for the disk of one that commits.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from tarfailover.ids import RecordId, SegmentId, is_bulk
from tarfailover.store.intake import Arrival, verify
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.writer import StoreWriter

MAX_WAITING = 4 * 1024 * 1024
"""Bytes of data segments that wait in memory, about."""


class Shelf:
    """Segments between who writes them and a store, in the order of writing.

    One thread at a time may append data segments and `take` them; bulk segments may be
    appended, and all be read, by any.
    """

    def __init__(self, store: StoreWriter) -> None:
        self._store = store
        self.disk = threading.RLock()
        """Held by who uses the store."""
        self._guard = threading.Lock()
        self._waiting: dict[SegmentId, bytes] = {}
        self._held = 0
        self._shown = store.snapshot()

    @property
    def head(self) -> RecordId | None:
        """The head that is durable."""
        return self._store.head

    def contains(self, segment: SegmentId) -> bool:
        """Whether `segment` was appended, or is in the store."""
        with self._guard:
            return segment in self._waiting or self._store.contains(segment)

    def append(self, segment: SegmentId, data: bytes) -> None:
        """Take a segment whose references were taken before; raises what `StoreWriter` does."""
        if is_bulk(segment):
            with self.disk:
                self._store.append(segment, data)
            return
        with self._guard:
            self._waiting[segment] = data
            self._held += len(data)
        # Never lost, even if this raises: later records may refer to it.
        self.relieve()

    def relieve(self) -> None:
        """Write what waits, if it is much; raises what `write` does, and all goes on waiting.

        Who is about to append asks for this first: while the disk takes nothing, nothing
        more comes into memory.
        """
        if self._held >= MAX_WAITING:
            with self.disk:
                self.write(self.take())

    def read(self, segment: SegmentId) -> bytes:
        """The bytes of a segment; raises SegmentMissingError, DamagedStoreError."""
        with self._guard:
            data = self._waiting.get(segment)
            if data is not None:
                return data
            shown = self._shown.acquire()
        with shown:
            if shown.contains(segment):
                return shown.read(segment)
        with self.disk:
            return self._store.read(segment)

    def missing(self, segment: SegmentId) -> list[SegmentId]:
        """What a stored segment needs and the store lacks; empty for one that waits."""
        with self._guard:
            if segment in self._waiting:
                return []
        with self.disk:
            return self._store.missing(segment)

    def take(self) -> Mapping[SegmentId, bytes]:
        """What waits now, to be written by the caller before anything else is."""
        with self._guard:
            return dict(self._waiting)

    def write(self, taken: Mapping[SegmentId, bytes]) -> None:
        """Write what was taken, under `disk`; raises StoreIOError, FormatError."""
        arrivals = (Arrival.of(segment, data) for segment, data in taken.items())
        self._store.store([verify(each, self.read) for each in arrivals])
        self._show(taken)

    def commit(self, head: RecordId, time_ms: int) -> None:
        """Make `head` durable, under `disk`; raises what `StoreWriter.commit` does."""
        self._store.commit(head, time_ms)

    def _show(self, written: Mapping[SegmentId, bytes]) -> None:
        """Let `written` be read from the store instead of from memory."""
        before, shown = self._shown, self._store.snapshot()
        with self._guard:
            self._shown = shown
            for segment in written:
                self._held -= len(self._waiting.pop(segment, b""))
        before.release()

    def close(self) -> None:
        """Let go of the files."""
        shown: Snapshot = self._shown
        shown.release()
