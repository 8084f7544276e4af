"""The segments of a head: what to ask a master for next, and when all are there.

Sans-IO: a `Transfer` brings the closure of one head. Whoever drives it tells it what
was listed, what came off the wire and what became of it in the store, and asks it for
requests to send. It holds no data, waits for nothing and reads no clock.

::

    listed ──► wanted ──► asked ──► arrived ──► stored        (per segment)
                 ▲          │          │
                 └──────────┴──────────┘  rejected: asked for again, a few times
                 ▲
    a segment's table names what nobody listed: wanted at once

When nothing is wanted, asked or on its way to the disk, the store is asked what the
head's closure still lacks; only an empty answer lets the head move.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable

from tarfailover.errors import PeerError, ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId, text
from tarfailover.store.receiver import Receipt
from tarfailover.sync.window import Progress, Window
from tarfailover.wire.messages import MAX_IDS

WAITING_LIMIT = 64 * 1024 * 1024
"""Bytes of segments that came before what they refer to."""
TRIES = 3
"""Times a segment is asked for that fails its checks."""
UNLISTED_LIMIT = 1000
"""Segments found missing behind a cursor before the whole list is asked for."""
UNLISTED_TURNS = 8
"""Times that something is found missing behind a cursor before that: each is a round trip."""
ROUNDS = 1000
"""Times a closure may turn out to lack something after all was stored."""

_ITEM = struct.Struct(">16sI")


class Transfer:
    """Brings the closure of the head in the segment `head`."""

    def __init__(self, head: SegmentId, window: Window, *, cursor: bool) -> None:
        self.head = head
        self.came_segments = 0
        self.came_bytes = 0
        self._window = window
        self._behind_cursor = cursor
        self._blocks: deque[bytes] = deque()
        self._offset = 0
        self._listed = 0
        self._listed_bytes = 0
        self._first: dict[SegmentId, int] = {}
        self._asked: dict[SegmentId, int] = {}
        self._asked_bytes = 0
        self._storing: set[SegmentId] = set()
        self._tries: dict[SegmentId, int] = {}
        self._listing = True
        self._relist = False
        self._ahead: set[SegmentId] = set()
        """Asked for before their turn in the list came, if they are listed at all."""
        self._unlisted = 0
        self._unlisted_turns = 0
        self._rounds = 0

    # what is told

    def listed(self, lacking: bytes) -> None:
        """Listed and not stored: items as in LISTED, n × (16 bytes id | u32 length).

        Raises ProtocolError for an impossible length.
        """
        lengths = [length for _, length in _ITEM.iter_unpack(lacking)]
        if not lengths:
            return
        # Nor 0: a window in bytes would not bound how many of them are asked for.
        for length in (min(lengths), max(lengths)):
            if not 1 <= length <= MAX_SEGMENT:
                raise ProtocolError(f"a segment is listed with {length} bytes")
        self._blocks.append(lacking)
        self._listed += len(lengths)
        self._listed_bytes += sum(lengths)

    def list_ended(self) -> None:
        """Nothing more will be listed."""
        self._listing = False

    def list_again(self) -> None:
        """The whole list was asked for, in place of what is left of the old one."""
        self._relist, self._behind_cursor, self._listing = False, False, True
        self._blocks.clear()
        self._first.clear()
        self._ahead.clear()
        self._offset = self._listed = self._listed_bytes = 0

    def arrived(self, segment: SegmentId, size: int) -> None:
        """A whole segment came off the wire; raises ProtocolError if it was not asked for so."""
        expected = self._asked.pop(segment, None)
        if expected is None:
            raise ProtocolError(f"segment {text(segment)} came without being asked for")
        if expected not in (size, MAX_SEGMENT):
            raise ProtocolError(
                f"segment {text(segment)} came with {size} bytes and was listed with {expected}"
            )
        if self._wanting and self._asked_bytes + self._window.request >= self._window.size:
            self._window.came(expected)
        self._asked_bytes -= expected
        self._storing.add(segment)
        self.came_segments += 1
        self.came_bytes += size

    def refused(self, segment: SegmentId, code: int, why: str) -> None:
        """The master cannot give a segment; raises PeerError, since the head needs it."""
        self._asked_bytes -= self._asked.pop(segment, 0)
        raise PeerError(code, why or f"the master refused segment {text(segment)}")

    def stored(self, batch: Iterable[SegmentId], receipt: Receipt) -> None:
        """The store is done with the segments of `batch`.

        Raises ProtocolError if a segment failed its checks too often, or if too much
        waits for what it refers to.
        """
        self._storing.difference_update(batch)
        for segment, why in receipt.rejected:
            self._again(segment, why)
        if receipt.waiting > WAITING_LIMIT:
            if not self._behind_cursor:
                raise ProtocolError(
                    f"{receipt.waiting} bytes of segments came before what they refer to"
                )
            self._relist = True
        self._need(receipt.missing)

    def _again(self, segment: SegmentId, why: str) -> None:
        self._tries[segment] = self._tries.get(segment, 1) + 1
        if self._tries[segment] > TRIES:
            raise ProtocolError(f"failed its checks {TRIES} times: {why}")
        self._first[segment] = MAX_SEGMENT

    def _need(self, missing: Iterable[SegmentId]) -> None:
        """Ask for what tables name and nobody listed, before all that was listed."""
        before = self._unlisted
        for segment in missing:
            if segment not in self._asked and segment not in self._storing:
                self._first.setdefault(segment, MAX_SEGMENT)
                self._ahead.add(segment)
                self._unlisted += 1
        self._unlisted_turns += self._unlisted > before
        if self._behind_cursor and (
            self._unlisted > UNLISTED_LIMIT or self._unlisted_turns > UNLISTED_TURNS
        ):
            self._relist = True

    def lacks(self, missing: Iterable[SegmentId]) -> None:
        """The head's closure lacks these, though nothing is under way any more.

        Raises ProtocolError if this goes on without end.
        """
        self._rounds += 1
        if self._rounds > ROUNDS:
            raise ProtocolError(f"the closure is still not whole after {ROUNDS} rounds")
        self._need(missing)

    # what to do

    def next_request(self) -> list[SegmentId]:
        """The segments to ask for now in one GET.

        Empty if the window is full, or if nothing is wanted.
        """
        ids: list[SegmentId] = []
        size = 0
        while self._wanting and len(ids) < MAX_IDS and size < self._window.request:
            if self._asked and self._asked_bytes >= self._window.size:
                break
            early = bool(self._first)
            segment, length = self._next()
            if segment in self._asked or segment in self._storing:
                continue
            if not early and segment in self._ahead:
                continue
            self._asked[segment] = length
            self._asked_bytes += length
            ids.append(segment)
            size += length
        return ids

    def _next(self) -> tuple[SegmentId, int]:
        if self._first:
            segment = next(iter(self._first))
            return segment, self._first.pop(segment)
        item: tuple[SegmentId, int] = _ITEM.unpack_from(self._blocks[0], self._offset)
        self._offset += _ITEM.size
        if self._offset == len(self._blocks[0]):
            self._blocks.popleft()
            self._offset = 0
        self._listed -= 1
        self._listed_bytes -= item[1]
        return item

    @property
    def _wanting(self) -> bool:
        return not self._relist and bool(self._first or self._blocks)

    @property
    def expecting(self) -> bool:
        """Whether something was asked for and has not come."""
        return bool(self._asked)

    @property
    def _under_way(self) -> bool:
        return bool(self._asked or self._storing)

    @property
    def wants_list(self) -> bool:
        """Whether the whole list must be asked for now: the cursor left too much out.

        What waits in the store is to be forgotten before: it is listed again.
        """
        return self._relist and not self._listing and not self._under_way

    @property
    def idle(self) -> bool:
        """Whether nothing is listed, wanted, asked for or on its way to the disk."""
        return not (self._listing or self._relist or self._wanting or self._under_way)

    def progress(self) -> Progress:
        """How far this is, counting what is known to be wanted."""
        left = self._listed + len(self._first) + len(self._asked)
        return Progress(
            self.came_segments, self.came_bytes, left, self._listed_bytes + self._asked_bytes
        )
