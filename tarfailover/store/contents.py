"""What a store that is open for writing holds, synced or not."""

from __future__ import annotations

from collections.abc import Iterable

from tarfailover.ids import RecordId, SegmentId
from tarfailover.store.snapshot import Head, Snapshot, no_tars, tars_of
from tarfailover.store.table import Array, SegmentTable
from tarfailover.store.tarreader import TarReader


class Contents:
    """The tars, the table of their segments, and the head; one thread at a time may use it."""

    def __init__(self) -> None:
        self.head: RecordId | None = None
        self._time_ms = 0
        """When the head was persisted."""
        self._readers: list[TarReader] = []
        self._starts: list[int] = []
        self._tars = no_tars().acquire()
        self._table = SegmentTable()

    def _renew_tars(self) -> None:
        self._tars.release()
        self._tars = tars_of(self._readers, self._starts).acquire()

    def _bare(self) -> Snapshot:
        return Snapshot(self._table, self._tars, None)

    @property
    def time_ms(self) -> int:
        """When the head was persisted, in milliseconds since 1970."""
        return self._time_ms

    def snapshot(self) -> Snapshot:
        """All that is stored now, synced or not, under the current head; to be released."""
        shown = self._bare()
        if self.head is not None:
            generation = shown.entry(self.head.segment)[1].generation
            shown.head = Head(self.head, self._time_ms, generation)
        return shown

    def contains(self, segment: SegmentId) -> bool:
        """Whether `segment` is stored."""
        return self._table.find(segment) >= 0

    def absent(self, ids: bytes) -> Array:
        """For each id in `ids`, one after the other, whether it is not stored."""
        return self._table.find_all(ids) < 0

    def lacking(self, ids: Iterable[SegmentId]) -> list[SegmentId]:
        """Those of `ids` that are not stored, in their order."""
        return self._table.lacking(ids)

    def read(self, segment: SegmentId) -> bytes:
        """The data of `segment`; raises SegmentMissingError, DamagedStoreError."""
        with self._bare() as snapshot:
            return snapshot.read(segment)
