"""The repair of one tar that nobody writes: in place, or under the next letter if it must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tarfailover.errors import DamagedStoreError, FormatError, StoreIOError
from tarfailover.format import segment as segments
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, LAST_LETTER, padded
from tarfailover.ids import NO_GENERATION, is_bulk, text
from tarfailover.store import blobids
from tarfailover.store.cleanup.rewrite import Rewrite
from tarfailover.store.durable import Disk
from tarfailover.store.intake import Arrival
from tarfailover.store.recovery import put_aside
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.entries import right_block, verified
from tarfailover.store.repair.look import TarLook
from tarfailover.store.repair.mending import mend_entry, mend_trailing
from tarfailover.store.repair.patch import Patch
from tarfailover.store.repair.salvage import Hole, salvage
from tarfailover.store.repair.supply import Outcome, Supply
from tarfailover.store.tarreader import TarReader

STEP = 16 * 1024 * 1024
"""Bytes that are looked at before what is damaged among them is mended: as much is in memory."""
ASKED = 64
"""Segments that are asked for at once: whatever comes for them, it is at most 16 MiB."""


class Tools(NamedTuple):
    """What the repair of a tar works with."""

    supply: Supply
    disk: Disk
    now: Callable[[], int]
    """Seconds since 1970."""
    read: blobids.Read
    """Gives segments of the whole store."""
    looked: Callable[[int], None]
    """Called with the bytes of the tar that were looked at so far."""


class TarRepair:
    """Repairs the tar of `reader`; `newest` if no tar has a higher number."""

    def __init__(self, reader: TarReader, tools: Tools, *, newest: bool) -> None:
        self._reader = reader
        self._tools = tools
        self._newest = newest
        self._name = str(reader.name)

    def run(self) -> Iterator[Outcome]:
        """Everything that was damaged; raises StoreIOError, and LinkError of the source."""
        reader = self._reader
        if reader.index is not None:
            entries = list(reader.entries())
            yield from self._entries(entries, indexed=True)
            yield from self._trailing(entries)
            return
        found = salvage(reader)
        entries = list(found.entries)
        left: list[Hole] = []
        for hole in found.holes:
            entry = self._filled(hole)
            if entry is None:
                left.append(hole)
                continue
            entries.append(entry)
            how = f"segment {text(entry.segment)} put back"
            yield Outcome(self._name, hole.start, _HOLE, True, how, entry.segment)
        entries.sort(key=lambda entry: entry.position)
        yield from self._entries(entries, indexed=False)
        entries = self._with_generations(entries)
        if left:
            yield from self._without(left, entries)
        elif found.closed:
            yield from self._trailing(entries)
        elif not self._newest:
            yield self._closed(entries)

    # entries

    def _entries(self, entries: list[IndexEntry], *, indexed: bool) -> Iterator[Outcome]:
        look = TarLook(self._reader, entries, closed=False)
        while not look.done:
            found = look.step(STEP)
            yield from self._mended(look, found, indexed=indexed)
            self._tools.looked(look.at)

    def _mended(
        self, look: TarLook, found: Sequence[Damage], *, indexed: bool
    ) -> Iterator[Outcome]:
        for first in range(0, len(found), ASKED):
            yield from self._some(look, found[first : first + ASKED], indexed=indexed)

    def _some(self, look: TarLook, found: Sequence[Damage], *, indexed: bool) -> Iterator[Outcome]:
        lost = [each.entry.segment for each in found if each.lost and each.entry]
        arrived = self._tools.supply.get(lost)
        for each in found:
            arrival = arrived.get(each.entry.segment) if each.entry else None
            try:
                how = self._mend(look, each, arrival, indexed=indexed)
            except FormatError as error:
                yield Outcome.of(each, error.what, mended=False)
            except StoreIOError as error:
                # A block that cannot be written is no reason to leave the others as they are.
                yield Outcome.of(each, str(error), mended=False)
            else:
                yield Outcome.of(each, how, mended=True)

    def _mend(
        self, look: TarLook, damage: Damage, arrival: Arrival | str | None, *, indexed: bool
    ) -> str:
        if isinstance(arrival, str):
            raise FormatError(arrival, damage.offset)
        mtime = look.mtime or self._tools.now()
        disk = self._tools.disk
        mend_entry(self._reader, damage, arrival, disk, mtime=mtime, indexed=indexed)
        return "fetched" if arrival else "its data is whole"

    def _filled(self, hole: Hole) -> IndexEntry | None:
        """The segment that belongs into `hole`, put there; None if it cannot be found."""
        block = memoryview(self._reader.read(hole.start, hole.stop - hole.start))
        arrived = self._tools.supply.whole(hole.candidates[:ASKED])
        for segment, arrival in arrived.items():
            entry = IndexEntry(segment, hole.start + BLOCK, arrival.length, NO_GENERATION)
            if BLOCK + padded(arrival.length) != len(block):
                continue
            try:
                incoming = verified(entry, block, arrival, indexed=False)
            except FormatError:
                continue  # what came is no segment: the next may be
            data = b"".join(incoming.chunks)
            if _alike(data, block[BLOCK:]):
                right = right_block(entry, block, data, self._tools.now())
                with Patch(self._reader, self._tools.disk) as patch:
                    patch.write(hole.start, block, right)
                return entry
        return None

    def _with_generations(self, entries: list[IndexEntry]) -> list[IndexEntry]:
        """The entries with the generations that their segments state."""
        return list(map(self._generation, entries))

    def _generation(self, entry: IndexEntry) -> IndexEntry:
        if is_bulk(entry.segment):
            return entry._replace(generation=NO_GENERATION)
        head = self._reader.read(entry.position, segments.HEADER_SIZE)
        try:
            header = segments.parse_header(head.ljust(entry.length, b"\0"))
        except FormatError:
            return entry  # told as damage of the segment
        return entry._replace(generation=header.generation)

    # trailing entries

    def _trailing(self, entries: list[IndexEntry]) -> Iterator[Outcome]:
        look = TarLook(self._reader, entries, closed=True, at=_end(entries))
        found = look.step(1)
        self._tools.looked(look.at)
        if not found:
            return
        try:
            mend_trailing(look, self._tools.disk, self._tools.read)
        except (DamagedStoreError, StoreIOError) as error:
            yield from (Outcome.of(each, str(error), mended=False) for each in found)
        except FormatError:
            how = self._rewritten(entries)
            told = how or "it takes another room, and the tar cannot be written anew"
            yield from (Outcome.of(each, told, mended=bool(how)) for each in found)
        else:
            yield from (Outcome.of(each, "made anew", mended=True) for each in found)

    # a tar that cannot be mended where it lies

    def _without(self, holes: list[Hole], entries: list[IndexEntry]) -> Iterator[Outcome]:
        """Write the tar anew without `holes`; what was there is fetched if a head needs it."""
        first = holes[0].start
        again = self._again(first, _HOLE, entries) if entries else self._aside(first, _HOLE)
        for hole in holes:
            yield again._replace(offset=hole.start)

    def _closed(self, entries: list[IndexEntry]) -> Outcome:
        """Give the tar an index, as it is not the newest; one without any entry has no place."""
        what = "the tar has no index, and is not the newest"
        return self._again(_end(entries), what, entries) if entries else self._aside(0, what)

    def _aside(self, offset: int, what: str) -> Outcome:
        """Take a tar out of the store of which nothing can be read; its bytes are kept."""
        how = put_aside(self._reader, self._tools.disk)
        return Outcome(self._name, offset, what, True, how)

    def _again(self, offset: int, what: str, entries: list[IndexEntry]) -> Outcome:
        how = self._rewritten(entries)
        told = how or "something else in the tar must be mended first"
        return Outcome(self._name, offset, what, bool(how), told)

    def _rewritten(self, entries: list[IndexEntry]) -> str:
        """Write `entries` under the next letter; how that is told, '' if it cannot be."""
        reader, disk, now = self._reader, self._tools.disk, self._tools.now
        if reader.name.letter >= LAST_LETTER or not entries:
            return ""
        rewrite = Rewrite(reader, entries, disk, self._tools.read)
        try:
            while not rewrite.copy(STEP, now()):
                pass
            made = rewrite.finish(now())
        except DamagedStoreError:
            rewrite.discard()
            return ""
        except BaseException:
            rewrite.discard()
            raise
        try:
            disk.rename(made.path, rewrite.path)
            disk.remove(reader.path)
        finally:
            made.release()
        return f"written anew as {rewrite.name}"


_HOLE = "there is no entry here that can be read, and no index that tells which it was"


def _alike(data: bytes, found: memoryview) -> bool:
    """Whether half of what was found is what came: else it belongs elsewhere."""
    same = np.frombuffer(data, "u1") == np.frombuffer(found, "u1", len(data))
    return int(np.count_nonzero(same)) * 2 >= len(data)


def _end(entries: Sequence[IndexEntry]) -> int:
    return entries[-1].position + padded(entries[-1].length) if entries else 0
