"""The check of what stands behind the segments of a closed tar.

Facts: storage format, sections 2.3, 2.4 and 3. Checksums cover only the payloads, so
each entry is written once more from what was read and compared: that also covers
padding, sizes and headers.
"""

from __future__ import annotations

from collections.abc import Iterator

from tarfailover.errors import FormatError
from tarfailover.format import binrefs, graph, trailer
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.graph import Graph
from tarfailover.format.index import Index
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE, padded
from tarfailover.format.trailer import BINARY_REFERENCES_V2, FOOTER_SIZE, Footer
from tarfailover.store.check import entries
from tarfailover.store.finding import FAULT, REWRITE, Finding
from tarfailover.store.tarreader import TarReader

_GRAPH_MEANS = "Oak's cleanup fails without it, and may delete binaries that are in use"
_BLOBS_MEAN = "a garbage collection of the data store may delete blobs that are in use"


class Trailers:
    """The trailing entries of a tar with a valid index, found from its end as Oak does."""

    def __init__(self, reader: TarReader, size: int, index: Index) -> None:
        self.graph: Graph | None = None
        """None if it cannot be used."""
        self.binary_references: BinaryReferences | None = None
        self.start: int | None = None
        """Where the first trailing entry begins; None if damage hides it."""
        self._reader = reader
        self._size = size
        self._index = index

    def _fault(self, offset: int, what: str) -> Finding:
        return Finding(FAULT, self._reader.path.name, offset, what, REWRITE)

    def check(self) -> Iterator[Finding]:
        """Everything found here; fills in the graph and the binary references."""
        end = self._index.start
        ends = self._index.entries["position"].astype("i8") + self._index.entries["length"]
        base = padded(int(ends.max()))
        data = self._reader.read(base, end - base)
        yield from self._end()
        yield from self._own_index()
        yield from self._graph(data, base)
        if self.start is not None:
            yield from self._blobs(data[: self.start - base], base)

    def _end(self) -> Iterator[Finding]:
        at = self._size - len(END_OF_ARCHIVE)
        found = self._reader.read(at, len(END_OF_ARCHIVE))
        if found != END_OF_ARCHIVE:
            first = len(found) - len(found.lstrip(b"\0"))
            yield self._fault(at + first, "the end of the archive is not two blocks of zeros")

    def _own_index(self) -> Iterator[Finding]:
        at = self._index.start
        data = self._reader.read(at, self._size - len(END_OF_ARCHIVE) - at)
        magic = trailer.INDEX_V2 if self._index.version == 2 else trailer.INDEX_V1
        rows = self._index.entries
        again = trailer.encode(rows.tobytes(), len(rows), magic, padded_size=True)
        yield from self._compare(at, data, again, ".idx", "the index", "Oak may not find it")

    def _compare(
        self, at: int, found: bytes, again: bytes, suffix: str, name: str, meaning: str
    ) -> Iterator[Finding]:
        """`found` is an entry with its header, `again` what its data should be."""
        title = f"{self._reader.name}{suffix}".encode()
        if not entries.header_is(found[:BLOCK], title, len(again)):
            yield self._fault(at, f"the header of {name} is damaged")
        if found[BLOCK:] != again:
            differ = zip(found[BLOCK:], again, strict=False)
            first = next((n for n, (a, b) in enumerate(differ) if a != b), 0)
            yield self._fault(
                at + BLOCK + first, f"size or padding of {name} is not as Oak writes it; {meaning}"
            )

    def _graph(self, data: bytes, base: int) -> Iterator[Finding]:
        end = len(data)
        try:
            footer = graph.parse_footer(data, end)
            start = end - trailer.extent(footer.size - FOOTER_SIZE)
            if start < 0:
                raise FormatError("the graph reaches into the segments before it", max(0, end - 8))
        except FormatError as error:
            yield self._unusable("graph", error, base, _GRAPH_MEANS)
            return
        self.start = base + start
        try:
            self.graph = graph.parse(data, end)
        except FormatError as error:
            yield self._unusable("graph", error, base, _GRAPH_MEANS)
        again = _again(data, end, footer)
        yield from self._compare(
            base + start, data[start:], again, ".gph", "the graph", _GRAPH_MEANS
        )

    def _blobs(self, data: bytes, base: int) -> Iterator[Finding]:
        end = len(data)
        name = "list of binary references"
        self.start = None
        try:
            footer = binrefs.parse_footer(data, end)
            start = end - trailer.extent(footer.size - FOOTER_SIZE)
            if start < 0:
                raise FormatError("it reaches into the segments before it", max(0, end - 8))
        except FormatError as error:
            yield self._unusable(name, error, base, _BLOBS_MEAN)
            return
        self.start = base + start
        try:
            self.binary_references = binrefs.parse(data, end)
        except FormatError as error:
            yield self._unusable(name, error, base, _BLOBS_MEAN)
        again = _again(data, end, footer)
        yield from self._compare(
            base + start, data[start:], again, ".brf", f"the {name}", _BLOBS_MEAN
        )
        if (footer.magic == BINARY_REFERENCES_V2) != (self._index.version == 2):
            yield self._fault(base + end - 4, f"the {name} is of another version than the index")

    def _unusable(self, name: str, error: FormatError, base: int, meaning: str) -> Finding:
        return self._fault(
            base + error.offset, f"the {name} cannot be used: {error.what}; {meaning}"
        )


def _again(data: bytes, end: int, footer: Footer) -> bytes:
    """The data of the entry that ends at `end`, made anew from its payload."""
    body = data[end - footer.size : end - FOOTER_SIZE]
    made = trailer.encode(body, footer.count, footer.magic, padded_size=False)
    # A wrong checksum was told already: here it would be told twice.
    return made[:-FOOTER_SIZE] + data[end - FOOTER_SIZE : end]
