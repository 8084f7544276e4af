"""The check of one closed tar: each entry in its place, and the trailing entries against them.

Facts: storage format, sections 2 and 3. The tar is walked by its index, whose entries
must cover it without a gap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from tarfailover.format import tar
from tarfailover.format.index import Index, IndexEntry
from tarfailover.format.tar import BLOCK
from tarfailover.store.check import entries
from tarfailover.store.check.content import Content, ContentCheck
from tarfailover.store.check.trailers import Trailers
from tarfailover.store.finding import FAULT, NOTE, REWRITE, Finding, restore
from tarfailover.store.tarreader import TarReader

CHUNK = 1024 * 1024
"""Bytes read at once."""

Watch = Callable[[int], None]
"""Called with the offset up to which a tar was looked at."""


class Window:
    """Reads a file from front to back in chunks, and hands out slices of them."""

    def __init__(self, reader: TarReader, size: int, watch: Watch) -> None:
        self._reader = reader
        self._size = size
        self._watch = watch
        self._base = 0
        self._view = memoryview(b"")

    def take(self, at: int, size: int) -> memoryview:
        """Up to `size` bytes from `at` on, fewer only at the end."""
        size = max(0, min(size, self._size - at))
        skip = at - self._base
        if skip < 0 or skip + size > len(self._view):
            wanted = min(max(size, CHUNK), self._size - at)
            self._base, skip = at, 0
            self._watch(at)
            self._view = memoryview(self._reader.read(at, wanted))
        return self._view[skip : skip + size]


class TarCheck(ABC):
    """What the checks of closed and of open tars share: single entries."""

    def __init__(self, reader: TarReader, content: ContentCheck, size: int, watch: Watch) -> None:
        self.reader = reader
        self.size = size
        self.segments = 0
        self.torn: list[Finding] = []
        """Notes that are faults if the head lacks something."""
        self.content = content
        self.window = Window(reader, size, watch)

    @abstractmethod
    def run(self) -> Iterator[Finding]:
        """Everything found in this tar."""

    def finding(
        self, offset: int, what: str, remedy: str = REWRITE, *, grave: bool = True
    ) -> Finding:
        """A finding in this file; a fault if it is `grave`."""
        return Finding(FAULT if grave else NOTE, self.reader.path.name, offset, what, remedy)

    def entry(self, entry: IndexEntry, content: Content) -> Iterator[Finding]:
        """What is wrong with one segment's entry, and with what the segment says."""
        at = entry.position - BLOCK
        block = self.window.take(at, BLOCK + tar.padded(entry.length))
        crc, data, wrongs = entries.entry(entry.segment, entry.length, block)
        damaged = False
        for wrong in wrongs:
            damaged |= wrong.grave and wrong.offset < BLOCK + entry.length
            what = wrong.what + self.content.meaning(entry.segment)
            remedy = restore(self.content.needs(entry.segment))
            yield self.finding(at + wrong.offset, what, remedy, grave=wrong.grave)
        self.segments += 1
        if not damaged:
            yield from content.check(entry, crc, data)


class ClosedTarCheck(TarCheck):
    """The check of a tar that has a valid index."""

    def __init__(
        self, reader: TarReader, content: ContentCheck, index: Index, watch: Watch
    ) -> None:
        super().__init__(reader, content, reader.size(), watch)
        self._trailers = Trailers(reader, self.size, index)

    def run(self) -> Iterator[Finding]:
        """Everything found in this tar."""
        trailers = self._trailers
        yield from trailers.check()
        content = self.content.of_tar(self.reader, trailers.graph, trailers.binary_references)
        expected = 0
        for entry in self.reader.entries():
            start = entry.position - BLOCK
            if start != expected:
                yield self._gap(expected, start)
            yield from self.entry(entry, content)
            expected = entry.position + tar.padded(entry.length)
        if trailers.start is not None and trailers.start != expected:
            yield self._gap(expected, trailers.start)
        yield from content.leftovers()

    def _gap(self, expected: int, start: int) -> Finding:
        if start < expected:
            return self.finding(start, "two entries overlap here by what the index says")
        return self.finding(
            expected, f"{start - expected} bytes here belong to no entry of the index"
        )
