"""Answers that are segments, read side by side out of the tars, each verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tarfailover.errors import DamagedStoreError, FormatError, StoreIOError
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, padded
from tarfailover.ids import SegmentId, text
from tarfailover.master.sources import CHUNK
from tarfailover.store.snapshot import Place, Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.wire import stream
from tarfailover.wire.compression import Packer, packed_parts
from tarfailover.wire.messages import MAX_PART, End, ErrorCode, framed

RUNS = 256
"""Runs of neighbours that are read at once for a chunk, at the most: some milliseconds."""


class SegmentSource:
    """Finds segments in the first of `snapshots` that has them."""

    patience = 0.0
    sign_of_life = b""

    def __init__(
        self, request: int, ids: Sequence[SegmentId], snapshots: Sequence[Snapshot]
    ) -> None:
        self.request = request
        self.ended = False
        self.size = 0
        self._snapshots = [snapshot.acquire() for snapshot in snapshots]
        self._ids = ids
        self._places: list[Place | None] | None = None
        self._next = 0
        self._size = 0

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
        for number in range(self._next + 1, len(places)):
            following = places[number]
            if following is None or following.reader is not place.reader:
                break
            if following.entry.position - BLOCK != end or end - run[0].position >= CHUNK:
                break
            run.append(following.entry)
            end = _end(following.entry)
        found = list(self._items(place.reader, run, end))
        self._next += len(run)
        return found

    def _items(
        self, reader: TarReader, run: Sequence[IndexEntry], end: int
    ) -> Iterator[stream.Piece]:
        """The items of neighbours in a tar, as far as `end`: pairs of pieces."""
        raise NotImplementedError

    def _located(self) -> list[Place | None]:
        """Where the segments lie; all looked up at once, in the first thread that asks."""
        if self._places is None:
            self._places = self._snapshots[0].places(self._ids)
            for snapshot in self._snapshots[1:]:
                others = snapshot.places(self._ids) if None in self._places else self._places
                both = zip(self._places, others, strict=True)
                self._places = [mine or other for mine, other in both]
        return self._places


class GetSource(SegmentSource):
    """Answers a GET."""

    def __init__(
        self, request: int, ids: Sequence[SegmentId], snapshots: Sequence[Snapshot]
    ) -> None:
        super().__init__(request, ids, snapshots)
        self._rest: list[stream.Piece] = []
        self._patient = True

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

    def at_once(self) -> bytes | None:
        """See `Source`."""
        begin = self._next
        self._patient = False
        try:
            return self.next(None)
        except _NotAtOnceError:
            self._next = begin
            return None
        finally:
            self._patient = True

    def _gathered(self) -> list[stream.Piece]:
        """A chunk of the stream, or the rest of it."""
        pieces = [*self._rest]
        size = sum(map(len, pieces))
        runs = 0
        while size < CHUNK and self._next < len(self._ids):
            runs += 1
            if runs > RUNS and not self._patient:
                raise _NotAtOnceError
            more = self._pieces()
            size += sum(map(len, more))
            pieces += more
        self._rest = []
        return pieces

    def _whole(self, pieces: list[stream.Piece]) -> list[stream.Piece]:
        """What fills whole PARTs; the rest is for the next chunk."""
        size = sum(map(len, pieces))
        whole, self._rest = _cut(pieces, size - size % MAX_PART)
        return whole

    def _items(
        self, reader: TarReader, run: Sequence[IndexEntry], end: int
    ) -> Iterator[stream.Piece]:
        if self._patient:
            return items(reader, run, end)
        start = run[0].position - BLOCK
        block = reader.read_cached(start, end - start)
        if block is None:
            raise _NotAtOnceError
        return items_in(block, reader, run)


class _NotAtOnceError(Exception):
    """What is asked for at once would have to be waited for, or take too long."""


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
    yield from items_in(block, reader, run)


def items_in(
    block: memoryview, reader: TarReader, run: Sequence[IndexEntry]
) -> Iterator[stream.Piece]:
    """The same, of a `block` read already, which begins with the header of the first."""
    start = run[0].position - BLOCK
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
