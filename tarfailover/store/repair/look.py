"""Reads one tar from front to back, in steps, and tells what is not what it should be.

Past the cache of the system, so that what is looked at is what the disk has. A look costs a
checksum and a comparison for each entry; it can be given up at any step and begun anew at the
offset that it had reached.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from tarfailover.errors import FormatError, StoreIOError
from tarfailover.format import tar
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK
from tarfailover.store.check.trailers import Trailers
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.entries import extent, look_at, mtime_of, whole_name
from tarfailover.store.repair.trailing import Trailing
from tarfailover.store.tarreader import TarReader

READ = 1024 * 1024
"""Bytes read at once."""

Seen = Callable[[IndexEntry, memoryview], None]
"""Called with each entry that is whole, and its bytes with header and padding."""


def unseen(_entry: IndexEntry, _block: memoryview) -> None:
    """Nobody wants to see whole entries."""


class TarLook:
    """A look at the tar of `reader` with `entries`, by position; from offset `at` on.

    `closed` if trailing entries belong behind them.
    """

    def __init__(
        self, reader: TarReader, entries: Sequence[IndexEntry], *, closed: bool, at: int = 0
    ) -> None:
        self.reader = reader
        self.entries = entries
        self.at = at
        """All before this offset was looked at."""
        self.done = False
        self.mtime = 0
        """The time of the last entry with a whole header, seconds since 1970."""
        self._closed = closed
        starts = [entry.position - BLOCK for entry in entries]
        self._next = bisect_left(starts, at)

    @property
    def segments_end(self) -> int:
        """Offset behind the last entry."""
        last = self.entries[-1] if self.entries else None
        return last.position + tar.padded(last.length) if last else 0

    def ahead(self, limit: int) -> Sequence[IndexEntry]:
        """The entries at which a `step` of this limit looks."""
        stop = self._next
        while stop < len(self.entries) and self.entries[stop].position - BLOCK < self.at + limit:
            stop += 1
        return self.entries[self._next : stop]

    def step(self, limit: int, seen: Seen = unseen) -> list[Damage]:
        """Look at about `limit` bytes more; what is damaged there.

        Raises StoreIOError only if the file cannot be read at all.
        """
        stop = self.at + limit
        found: list[Damage] = []
        while self._next < len(self.entries) and self.at < stop:
            run = self._run(stop)
            found += self._look(run, seen)
            self.at = max(self.at, sum(extent(run[-1])))
        if self._next == len(self.entries) and self.at < stop:
            found += self._trailing() if self._closed else ()
            self.at = self.reader.size()
            self.done = True
        return found

    def _run(self, limit: int) -> Sequence[IndexEntry]:
        """The next entries, at least one, that are read at once: `READ` bytes, or up to `limit`."""
        first = stop = self._next
        end = min(limit, self.entries[first].position - BLOCK + READ)
        while stop < len(self.entries) and (
            stop == first or sum(extent(self.entries[stop])) <= end
        ):
            stop += 1
        self._next = stop
        return self.entries[first:stop]

    def _look(self, run: Sequence[IndexEntry], seen: Seen) -> Iterator[Damage]:
        begin, end = run[0].position - BLOCK, sum(extent(run[-1]))
        try:
            view = memoryview(self._read(begin, end - begin))
        except StoreIOError:
            # The disk refuses some of it: which entries can be read at all shows one by one.
            view = memoryview(b"")
        for entry in run:
            start, size = extent(entry)
            block = view[start - begin : start - begin + size]
            if not view:
                try:
                    block = memoryview(self._read(start, size))
                except StoreIOError as error:
                    yield Damage(self.reader.name, start, str(error), entry, lost=True)
                    continue
            damage, _ = look_at(self.reader.name, entry, block)
            if damage is None or whole_name(entry, block) is not None:
                self.mtime = mtime_of(block) or self.mtime
            if damage is not None:
                yield damage
            else:
                seen(entry, block)

    def _read(self, offset: int, size: int) -> bytes:
        self.reader.forget_cached(offset, size)
        return self.reader.read(offset, size)

    def _trailing(self) -> Iterator[Damage]:
        begin, size = self.segments_end, self.reader.size()
        index = self.reader.index
        if index is not None and index.version == 1:
            for finding in Trailers(self.reader, size, index).check():
                yield Damage(self.reader.name, finding.offset or 0, finding.what)
            return
        try:
            trailing = Trailing(self._read(begin, size - begin), self.reader.name, self.entries)
        except (FormatError, StoreIOError) as error:
            yield Damage(self.reader.name, begin, f"the trailing entries are damaged: {error}")
            return
        for at, what in trailing.faults():
            yield Damage(self.reader.name, begin + at, what)
