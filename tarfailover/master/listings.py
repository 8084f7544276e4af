"""Answers that are lists: the closure of a head, and with it what is little."""

from __future__ import annotations

import struct
import threading
from collections.abc import Generator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tarfailover.errors import PeerError
from tarfailover.ids import SegmentId, text
from tarfailover.master.segments import GetSource
from tarfailover.store import closure
from tarfailover.store.heads import missing_text
from tarfailover.store.snapshot import Position, Snapshot
from tarfailover.wire.compression import Packer
from tarfailover.wire.messages import (
    MAX_LISTED,
    End,
    ErrorCode,
    Follow,
    Listed,
    ListEnd,
    framed,
)

_LISTED_PER_CHUNK = 16
LISTING_PATIENCE = 600.0
"""Seconds that finding a closure may take: a minute for some ten million segments."""

_POSITION = struct.Struct(">IcQ")
_LISTED = np.dtype([("segment", "V16"), ("length", ">u4")])


def pack_cursor(position: Position | None) -> bytes:
    """A position as a cursor of the wire."""
    if position is None:
        return b""
    return _POSITION.pack(position.number, position.letter.encode("ascii"), position.offset)


def parse_cursor(cursor: bytes) -> Position | None:
    """The position in a cursor; None for one that this version did not write."""
    if len(cursor) != _POSITION.size:
        return None
    number, letter, offset = _POSITION.unpack(cursor)
    return Position(number, letter.decode("latin-1"), offset)


class Listing(NamedTuple):
    """What a LIST asks for."""

    items: bytes
    """As in LISTED."""
    size: int
    """Bytes of all segments."""
    cursor: bytes


class Listings:
    """Computes listings, and keeps the last one: many slaves ask for the same."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: tuple[tuple[Any, ...], Listing] | None = None

    def get(self, snapshot: Snapshot, head: SegmentId, position: Position | None) -> Listing:
        """The closure of `head` behind `position`; raises PeerError if it is not whole."""
        below = snapshot.rank_behind(position)
        key = (id(snapshot.table), snapshot.count, head, below)
        with self._guard:
            if self._last is None or self._last[0] != key:
                self._last = key, _listing(snapshot, head, below)
            return self._last[1]


def _listing(snapshot: Snapshot, head: SegmentId, below: int) -> Listing:
    if not snapshot.contains(head):
        raise PeerError(ErrorCode.HEAD_GONE, f"segment {text(head)} is not in the master's store")
    found = closure.walk(snapshot, [head], below=below)
    if found.missing:
        raise PeerError(ErrorCode.HEAD_GONE, missing_text(found))
    ids, lengths = snapshot.table.extents(closure.references_first(snapshot, found, head))
    items = np.empty(len(lengths), _LISTED)
    items["segment"] = np.frombuffer(ids, "V16")
    items["length"] = lengths
    return Listing(items.tobytes(), int(lengths.sum(dtype="u8")), pack_cursor(snapshot.end()))


class ListSource:
    """Answers a LIST."""

    at_once = None

    def __init__(
        self,
        request: int,
        listings: Listings,
        snapshot: Snapshot,
        head: SegmentId,
        position: Position | None,
    ) -> None:
        self.request = request
        self.ended = False
        self.patience = LISTING_PATIENCE
        self.sign_of_life = framed(request, Listed(0, 0, b""))
        self.size = 0
        self.listing: Listing | None = None
        """Once it was found."""
        self.snapshot = snapshot.acquire()
        self._frames = self._all(listings, head, position)

    def next(self, packer: Packer | None) -> bytes:  # noqa: ARG002 - ids do not get smaller
        """See `Source`. Compression saves 9 % of a list, which is 1/2000 of a first copy."""
        return b"".join(islice(self._frames, _LISTED_PER_CHUNK))

    def close(self) -> None:
        """See `Source`."""
        self._frames.close()
        self.snapshot.release()

    def _all(
        self, listings: Listings, head: SegmentId, position: Position | None
    ) -> Generator[bytes, None, None]:
        listing = self.listing = listings.get(self.snapshot, head, position)
        count, step = len(listing.items) // Listed.ITEM, Listed.ITEM * MAX_LISTED
        for first in range(0, len(listing.items), step):
            items = listing.items[first : first + step]
            yield framed(self.request, Listed(count, listing.size, items))
        self.ended = True
        yield framed(self.request, ListEnd(listing.cursor))


class FollowSource:
    """Behind the HEAD_IS that answers a FOLLOW: the list, and what is listed if it is little."""

    at_once = None

    def __init__(self, listed: ListSource, follow: Follow) -> None:
        self.request = listed.request
        self.ended = False
        self.sign_of_life = listed.sign_of_life
        self.size = 0
        self._listed = listed
        self._follow = follow
        self._segments: GetSource | None = None

    @property
    def patience(self) -> float:
        """See `Source`."""
        return 0.0 if self._listed.ended else self._listed.patience

    def next(self, packer: Packer | None) -> bytes:
        """See `Source`."""
        chunk = b""
        if not self._listed.ended:
            chunk = self._listed.next(packer)
        if self._listed.ended:
            chunk += self._behind(packer)
        return chunk

    def _behind(self, packer: Packer | None) -> bytes:
        """A chunk of what was listed, or the end of nothing."""
        if self._segments is None:
            ids = self._brought()
            if not ids:
                self.ended = True
                return framed(self.request, End(0, 0))
            self._segments = GetSource(self.request, ids, [self._listed.snapshot])
        chunk = self._segments.next(packer)
        self.ended, self.size = self._segments.ended, self._segments.size
        return chunk

    def _brought(self) -> list[SegmentId]:
        listing = self._listed.listing
        count = len(listing.items) // Listed.ITEM if listing else 0
        if listing is None or not self._follow.brings(count, listing.size):
            return []
        return [segment for segment, _ in Listed(count, listing.size, listing.items).pairs()]

    def close(self) -> None:
        """See `Source`."""
        self._listed.close()
        if self._segments is not None:
            self._segments.close()
