"""Builds segments: packs records downwards, keeps the tables, hands out finished segments.

One data segment is open at a time, and a record can only name records that were
written before it. So segments leave in an order in which every segment comes after
all that it refers to: bulk segments at once, data segments when full or sealed.
Facts: storage format, sections 4 and 9.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from tarfailover.errors import ContentError
from tarfailover.format.segment import (
    ALIGNMENT,
    COMPACTED,
    FORMAT_13,
    HEADER_SIZE,
    MAGIC,
    MAX_SEGMENT,
    RECORD_ALIGNMENT,
    RECORD_ENTRY_SIZE,
    REFERENCE_SIZE,
)
from tarfailover.ids import NO_GENERATION, Generation, RecordId, SegmentId
from tarfailover.repository.records import ID_SIZE, Draft, value_draft

_HEADER = struct.Struct(">3sBIHIII10x")
_ENTRY = struct.Struct(">IBI")

DATA_NIBBLE = 0xA0
BULK_NIBBLE = 0xB0
VERSION_NIBBLE = 0x40

Clock = Callable[[], int]
"""Gives the time, milliseconds since 1970."""


class SegmentSink(Protocol):
    """Where finished segments go: the writer of a store, or a dictionary in a test."""

    @property
    def head(self) -> RecordId | None:
        """The head that the store has now, None in a fresh one."""

    def contains(self, segment: SegmentId, /) -> bool:
        """Whether `segment` is stored."""

    def append(self, segment: SegmentId, data: bytes, /) -> None:
        """Store `data`; everything that it refers to has been appended before."""

    def read(self, segment: SegmentId, /) -> bytes:
        """The bytes of a stored segment; raises SegmentMissingError."""

    def commit(self, head: RecordId, time_ms: int, /) -> None:
        """Make `head` the head, durably."""


def segment_id(random: bytes, bulk: bool) -> SegmentId:
    """The version 4 id made of 16 `random` bytes, its variant nibble telling data from bulk."""
    made = bytearray(random)
    made[6] = VERSION_NIBBLE | made[6] & 0x0F
    made[8] = (BULK_NIBBLE if bulk else DATA_NIBBLE) | made[8] & 0x0F
    return bytes(made)


def aligned(size: int, to: int) -> int:
    """`size` rounded up to a multiple of `to`."""
    return -(-size // to) * to


class OpenSegment:
    """A data segment while records are added; `finish` gives its bytes."""

    def __init__(self, segment: SegmentId, generation: Generation, info: str) -> None:
        self.id = segment
        self.generation = generation
        self._numbers: dict[SegmentId, int] = {segment: 0}
        self._table = bytearray()
        self._chunks: list[bytes] = []
        self._count = 0
        self._used = 0
        self.add(value_draft(info.encode()))

    def add(self, draft: Draft) -> RecordId | None:
        """Write `draft` and return its id, or return None if it does not fit any more."""
        kind, head, ids, tail, stable = draft
        numbers = self._numbers
        fresh: dict[SegmentId, None] | None = None
        if ids:
            fresh = dict.fromkeys([record[0] for record in ids if record[0] not in numbers])
        size = len(head) + ID_SIZE * (len(ids) + stable) + len(tail)
        used = self._used + aligned(size, RECORD_ALIGNMENT)
        references = len(numbers) - 1 + len(fresh or ())
        if self._length(references, self._count + 1, used) > MAX_SEGMENT:
            return None
        if fresh:
            for segment in fresh:
                numbers[segment] = len(numbers)
        body = b"".join((head, self._spell(ids, stable=stable), tail)) if ids or stable else head
        self._chunks.append(body + bytes(used - self._used - len(body)))
        self._table += _ENTRY.pack(self._count, kind, MAX_SEGMENT - used)
        self._count += 1
        self._used = used
        return RecordId(self.id, self._count - 1)

    @staticmethod
    def _length(references: int, records: int, used: int) -> int:
        tables = HEADER_SIZE + REFERENCE_SIZE * references + RECORD_ENTRY_SIZE * records
        return aligned(tables + used, ALIGNMENT)

    def _spell(self, ids: Sequence[RecordId], *, stable: bool) -> bytes:
        row: list[int] = [0, self._count] if stable else []
        numbers = self._numbers
        for segment, number in ids:
            row += (numbers[segment], number)
        return struct.pack(">" + "HI" * (len(row) // 2), *row)

    def finish(self) -> bytes:
        """The segment's bytes: header, tables, filler, records from the end downwards."""
        references = list(self._numbers)[1:]
        length = self._length(len(references), self._count, self._used)
        # Oak pads what has no room for one more header to the full size; so do we.
        if length > MAX_SEGMENT - HEADER_SIZE:
            length = MAX_SEGMENT
        full = self.generation.full | (COMPACTED if self.generation.compacted else 0)
        header = _HEADER.pack(
            MAGIC, FORMAT_13, full, 0, self.generation.generation, len(references), self._count
        )
        tables = b"".join((header, *references, self._table))
        filler = bytes(length - len(tables) - self._used)
        return b"".join((tables, filler, *reversed(self._chunks)))


class SegmentWriter:
    """Writes records and bulk segments to a sink, opening and sealing data segments."""

    def __init__(
        self,
        sink: SegmentSink,
        random: Callable[[int], bytes],
        *,
        wid: str,
        now: Clock,
        generation: Generation = NO_GENERATION,
    ) -> None:
        """Segments named by `random(16)`; their info records tell `wid` and `now()`."""
        self.sink = sink
        self.generation = generation
        self._now = now
        self._random = random
        self._wid = wid
        self._serial = 0
        self._open: OpenSegment | None = None

    def write(self, draft: Draft) -> RecordId:
        """Write one record; raises ContentError if not even an empty segment can take it."""
        record = self._segment().add(draft)
        if record is None:
            self.seal()
            record = self._segment().add(draft)
        if record is None:
            raise ContentError(
                f"a record of {draft.size} bytes does not fit a segment of {MAX_SEGMENT} bytes"
            )
        return record

    def bulk(self, data: bytes) -> SegmentId:
        """Store `data`, 1 to 262144 bytes, as a bulk segment and return its id."""
        segment = self._new_id(bulk=True)
        self.sink.append(segment, data)
        return segment

    def seal(self) -> None:
        """Hand the open data segment to the sink; a no-op if nothing was written since."""
        if self._open is not None:
            finished, self._open = self._open, None
            self.sink.append(finished.id, finished.finish())

    def is_open(self, segment: SegmentId) -> bool:
        """Whether `segment` is the data segment to which records are being added."""
        now = self._open
        return now is not None and now.id == segment

    def read(self, segment: SegmentId) -> bytes:
        """The bytes of any segment written here or stored before; seals it if it is open."""
        if self.is_open(segment):
            self.seal()
        return self.sink.read(segment)

    def _segment(self) -> OpenSegment:
        if self._open is None:
            info = json.dumps(
                {"wid": self._wid, "sno": self._serial, "t": self._now()}, separators=(",", ":")
            )
            self._serial += 1
            self._open = OpenSegment(self._new_id(bulk=False), self.generation, info)
        return self._open

    def _new_id(self, *, bulk: bool) -> SegmentId:
        made = segment_id(self._random(16), bulk)
        # A run that died before its commit may have left segments under the same names.
        while self.sink.contains(made):
            made = segment_id(self._random(16), bulk)
        return made
