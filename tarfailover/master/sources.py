"""Where streamed answers come from: blocking code that runs in the master's threads.

A source gives its answer as chunks of about a MiB, framed for the wire, one each time
it is asked; so memory is bounded by one chunk written and one read ahead per client.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from tarfailover.errors import DamagedStoreError, FormatError, PeerError, StoreIOError
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, padded
from tarfailover.ids import SegmentId, text
from tarfailover.store import closure
from tarfailover.store.heads import missing_text
from tarfailover.store.snapshot import Place, Position, Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.wire import stream
from tarfailover.wire.compression import Packer, packed_parts
from tarfailover.wire.messages import (
    MAX_LISTED,
    MAX_PART,
    End,
    ErrorCode,
    Follow,
    Listed,
    ListEnd,
    framed,
)

CHUNK = 1024 * 1024
"""Bytes read and written at a time."""
_LISTED_PER_CHUNK = 16
LISTING_PATIENCE = 600.0
"""Seconds that finding a closure may take: a minute for some ten million segments."""

_POSITION = struct.Struct(">IcQ")
_LISTED = np.dtype([("segment", "V16"), ("length", ">u4")])


class Source(Protocol):
    """A streamed answer."""

    request: int

    ended: bool
    """Whether the last chunk was given."""

    @property
    def patience(self) -> float:
        """Seconds that one chunk may take; below that a client is told that work goes on."""

    sign_of_life: bytes
    """What it is told, framed: a piece of the answer that adds nothing."""
    size: int
    """Bytes of segments in the last chunk, before any compression."""

    def next(self, packer: Packer | None) -> bytes:
        """The next chunk, framed, compressed if there is a packer. Blocking; raises PeerError."""

    def close(self) -> None:
        """Let go of what is held; no `next` follows."""


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


class GetSource:
    """Answers a GET out of the first of `snapshots` that has a segment."""

    def __init__(
        self, request: int, ids: Sequence[SegmentId], snapshots: Sequence[Snapshot]
    ) -> None:
        self.request = request
        self._snapshots = [snapshot.acquire() for snapshot in snapshots]
        self._ids = ids
        self._places: list[Place | None] | None = None
        self._next = 0
        self.size = 0
        self._size = 0
        self._rest: list[stream.Piece] = []
        self.ended = False
        self.patience = 0.0
        self.sign_of_life = b""

    def next(self, packer: Packer | None) -> bytes:
        """See `Source`."""
        pieces, end = self._gathered(), b""
        self.ended = self._next == len(self._ids)
        if self.ended:
            size = self._size + sum(map(len, pieces))
            end = framed(self.request, End(len(self._ids), size))
        elif packer is None:
            pieces = self._whole(pieces)
        if packer is None:
            chunk, self.size = stream.parts(self.request, pieces, end)
        else:
            chunk, self.size = packed_parts(self.request, pieces, packer, end)
        self._size += self.size
        return chunk

    def _gathered(self) -> list[stream.Piece]:
        """A chunk of the stream, or the rest of it."""
        pieces, self._rest = self._rest, []
        size = sum(map(len, pieces))
        while size < CHUNK and self._next < len(self._ids):
            more = self._pieces()
            size += sum(map(len, more))
            pieces += more
        return pieces

    def _whole(self, pieces: list[stream.Piece]) -> list[stream.Piece]:
        """What fills whole PARTs; the rest is for the next chunk."""
        size = sum(map(len, pieces))
        whole, self._rest = _cut(pieces, size - size % MAX_PART)
        return whole

    def close(self) -> None:
        """See `Source`."""
        for snapshot in self._snapshots:
            snapshot.release()
        self._snapshots = []

    def _pieces(self) -> list[stream.Piece]:
        """The items of the next segments that lie side by side in one tar."""
        places = self._located()
        segment, place = self._ids[self._next], places[self._next]
        if place is None:
            self._next += 1
            why = f"segment {text(segment)} is not, or no longer, in the master's store"
            return list(stream.refusal(segment, ErrorCode.SEGMENT_GONE, why))
        run = [place.entry]
        end = _end(place.entry)
        for following in islice(places, self._next + 1, None):
            if following is None or following.reader is not place.reader:
                break
            if following.entry.position - BLOCK != end or end - run[0].position >= CHUNK:
                break
            run.append(following.entry)
            end = _end(following.entry)
        self._next += len(run)
        return list(self._items(place.reader, run, end))

    def _items(
        self, reader: TarReader, run: Sequence[IndexEntry], end: int
    ) -> Iterator[stream.Piece]:
        """The items of neighbours in a tar."""
        return items(reader, run, end)

    def _located(self) -> list[Place | None]:
        """Where the segments lie; all looked up at once, in the first thread that asks."""
        if self._places is None:
            self._places = self._snapshots[0].places(self._ids)
            for snapshot in self._snapshots[1:]:
                others = snapshot.places(self._ids) if None in self._places else self._places
                both = zip(self._places, others, strict=True)
                self._places = [mine or other for mine, other in both]
        return self._places


class FollowSource:
    """Behind the HEAD_IS that answers a FOLLOW: the list, and what is listed if it is little."""

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


def _end(entry: IndexEntry) -> int:
    return entry.position + padded(entry.length)


def items(reader: TarReader, run: Sequence[IndexEntry], end: int) -> Iterator[stream.Piece]:
    """The items of neighbours in a tar, read at once, each verified: pairs of pieces."""
    start = run[0].position - BLOCK
    try:
        block = memoryview(reader.read(start, end - start))
    except StoreIOError as error:
        for entry in run:
            yield from stream.refusal(entry.segment, ErrorCode.DAMAGED, str(error))
        return
    for entry in run:
        at = entry.position - BLOCK - start
        try:
            crc, data = reader.verified(entry, block[at : at + BLOCK + entry.length])
        except (DamagedStoreError, FormatError) as error:
            yield from stream.refusal(entry.segment, ErrorCode.DAMAGED, str(error))
        else:
            yield from stream.item(entry.segment, crc, data)


def _cut(
    pieces: Sequence[stream.Piece], size: int
) -> tuple[list[stream.Piece], list[stream.Piece]]:
    """The first `size` bytes of `pieces`, and the rest."""
    for place, piece in enumerate(pieces):
        if size < len(piece):
            view = memoryview(piece)
            return [*pieces[:place], view[:size]], [view[size:], *pieces[place + 1 :]]
        size -= len(piece)
    return list(pieces), []
