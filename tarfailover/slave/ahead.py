"""What comes along with a new head: its list, and what is listed if that is little.

::

    FOLLOW ──►
           ◄── HEAD_IS           whoever wants the head asks for its list at once, or it goes by
           ◄── LISTED, LIST_END
           ◄── PART …, END       kept until they are asked for: at most MAX_AHEAD bytes

Whoever follows need not know of it: he asks for list and segments as ever, and where that is
what comes anyway, no request is sent. So a small commit is there after half a round trip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tarfailover.errors import ProtocolError
from tarfailover.ids import SegmentId, text
from tarfailover.slave.asked import AskedSegments, OnItem, OnItems
from tarfailover.wire.messages import MAX_IDS, BlobEnd, End, Follow, HeadIs, Listed
from tarfailover.wire.stream import Refusal, Segment


class Ahead(AskedSegments):
    """A FOLLOW; `done` is at first that of the head, then that of all that comes behind it."""

    def __init__(self, follow: Follow) -> None:
        super().__init__(follow, self._keep)
        self.on_items: OnItems = _nothing
        self._follow = follow
        self._head: SegmentId | None = None
        self._lengths: list[int] = []
        self._names: list[SegmentId] = []
        self._kept: deque[Segment | Refusal] = deque()
        self._list: Deferred[bytes] | None = None
        self._get: Deferred[None] | None = None
        self._begun = self._listed = self._whole = self._broken = False

    def more(self, head: HeadIs) -> bool:
        """Whether more comes behind this head."""
        return head.known and head.head != self._follow.have

    def begin(self, head: HeadIs) -> None:
        """Tell of a new head, behind which more comes; raises ProtocolError the second time."""
        if self._head is not None:
            raise ProtocolError("FOLLOW is answered with two heads")
        self._head = head.head.segment
        answered, self.done = self.done, Deferred()
        self.done.addCallbacks(self._ended, self._failed)
        answered.callback(head)

    # what is asked for

    def lists(self, head: SegmentId, cursor: bytes) -> bool:
        """Whether the list behind `cursor` is what comes, and all of it is still to come."""
        wanted = (self._head, self._follow.cursor) == (head, cursor)
        return wanted and self._list is None and not (self._begun or self._broken)

    def list(self, on_items: OnItems) -> Deferred[bytes]:
        """As that of the protocol."""
        self.on_items = on_items
        self._list = Deferred()
        return self._list

    def has(self, ids: Sequence[SegmentId]) -> bool:
        """Whether exactly these segments come, or came, and nobody has got them yet."""
        free = self._list is not None and self._get is None and not self._broken
        return free and bool(ids) and self._ids == tuple(ids)

    def get(self, on_item: OnItem) -> Deferred[None]:
        """As that of the protocol; what came already is handed on at once."""
        self.on_item = on_item
        got: Deferred[None] = Deferred()
        self._get = got
        while self._kept:
            on_item(self._kept.popleft())
        if self._whole:
            got.callback(None)
        return got

    # what comes

    def listed(self, listed: Listed) -> None:
        """See `Asked`."""
        if self._listed:
            raise ProtocolError("LISTED came behind LIST_END")
        self._begun = True
        if self._follow.brings(listed.segments, listed.size):
            self._expect(listed)
        self.on_items(listed.items)

    def _expect(self, listed: Listed) -> None:
        for segment, length in listed.pairs():
            self._names.append(segment)
            self._lengths.append(length)
        if len(self._names) > min(listed.segments, MAX_IDS):
            raise ProtocolError(f"more is listed than the {listed.segments} segments in all")
        if len(self._names) == listed.segments:
            self._ids = tuple(self._names)

    def list_ended(self, cursor: bytes) -> bool:
        """See `Asked`."""
        if self._listed:
            raise ProtocolError("LIST_END came twice")
        self._begun = self._listed = True
        if self._list is not None:
            self._list.callback(cursor)
        return False

    def _check_turn(self, item: Segment | Refusal) -> None:
        """Nor may a segment be longer than it was listed: it may have to be kept."""
        super()._check_turn(item)
        listed = self._lengths[self._items]
        if isinstance(item, Segment) and item.length != listed:
            raise ProtocolError(
                f"segment {text(item.segment)} came with {item.length} bytes and was listed with "
                f"{listed}"
            )

    def _keep(self, item: Segment | Refusal) -> None:
        if self._list is not None:
            self._kept.append(item)

    def end(self, end: End | BlobEnd) -> object:
        """See `Asked`."""
        if not self._listed:
            raise ProtocolError("the answer to FOLLOW ended before its list")
        return super().end(end)

    def _ended(self, _: object) -> None:
        self._whole = True
        if self._get is not None:
            self._get.callback(None)

    def _failed(self, failure: Failure) -> None:
        """Whoever waits is told; if nobody does, what is asked for later is asked of the master."""
        self._broken = True
        self._kept.clear()
        for waiting in (self._list, self._get):
            if waiting is not None and not waiting.called:
                waiting.errback(failure)


def _nothing(_: bytes) -> None:
    """Takes a list that nobody wants."""
