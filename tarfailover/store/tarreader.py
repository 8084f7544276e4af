"""One tar file, read: through its index, or by a scan where it has none.

Facts: storage format, sections 1.2 and 2. The file is opened once and kept open, so
that what a snapshot holds stays readable after cleanup has removed the name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from isal.isal_zlib import crc32

from tarfailover.errors import DamagedStoreError, FormatError, UnsupportedStoreError
from tarfailover.format import binrefs, graph, index, segment, tar, trailer
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.graph import Graph
from tarfailover.format.index import Index, IndexEntry
from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import SegmentId, is_data
from tarfailover.store.durable import told
from tarfailover.store.heldfile import HeldFile
from tarfailover.store.table import Columns, SegmentTable

_TAIL_GUESS = 64 * 1024
_MIN_TAIL = 2 * BLOCK + 16


class Scanned(NamedTuple):
    """A segment that a scan met, verified."""

    entry: IndexEntry
    references: bytes
    """The reference table: n × 16 bytes."""


class Fault(NamedTuple):
    """Something wrong in a file; `where` names it, `offset` counts from its start."""

    where: str
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.where}, offset {self.offset}: {self.what}"


class TarReader(HeldFile):
    """An open tar file.

    `index` is None for a tar that has no valid one: it is being written, or its writer
    died. Then `scan` finds the segments, and continues where it stopped when called again.
    """

    def __init__(self, path: Path, name: TarName, fd: int) -> None:
        super().__init__(path, fd)
        self.name = name
        self.index: Index | None = None
        self.index_fault: FormatError | None = None
        self._indexed = 0
        self._segments_end = 0
        self.scanned: list[IndexEntry] = []
        self._scanned_graph: Graph = {}
        self._scanned_ids: set[SegmentId] = set()
        self.scanned_size = 0
        """The file's length when it was scanned last."""
        self.damaged_end = False
        """Whether the last entry is there in full but is not what its name says."""
        self.faults: list[Fault] = []
        self.scan_end = 0
        """Offset behind the last whole segment entry that a scan met."""
        self._next = 0

    @classmethod
    def open(cls, path: Path, name: TarName) -> TarReader:
        """Open `path`; raises StoreIOError, and UnsupportedStoreError for a legacy tar."""
        with told("open", path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        reader = cls(path, name, fd)
        try:
            reader.load_index()
        except BaseException:
            reader.release()
            raise
        return reader

    def verified(self, entry: IndexEntry, block: bytes | memoryview) -> tuple[int, memoryview]:
        """Checksum and data of `entry` out of `block`, which begins with its header.

        Raises DamagedStoreError, naming file and offset, if header, name or checksum
        do not fit.
        """
        data = memoryview(block)[BLOCK : BLOCK + entry.length]
        crc = crc32(data)
        name = tar.segment_entry_name(entry.segment, crc) + b"\0"
        if bytes(block[: len(name)]) == name and len(data) == entry.length:
            return crc, data
        return self._explained(entry, block)

    def _explained(self, entry: IndexEntry, block: bytes | memoryview) -> tuple[int, memoryview]:
        """As `verified`, for what is not as it always is: unusual, or damaged."""
        at = entry.position - BLOCK
        try:
            header = tar.parse_header(block)
        except FormatError as error:
            raise DamagedStoreError(str(error.within(str(self.path), at))) from error
        name = tar.parse_segment_name(header.name) if header else None
        data = memoryview(block)[BLOCK : BLOCK + entry.length]
        crc = crc32(data)
        if name is None or header is None or name.segment != entry.segment:
            self._damaged(at, "the entry here is not the one that the index names")
        elif header.size != entry.length or len(data) != entry.length:
            self._damaged(at, f"the entry is {header.size} bytes, the index says {entry.length}")
        elif name.crc is not None and name.crc != crc:
            self._damaged(
                entry.position, f"the checksum is {crc:08x}, the entry's name says {name.crc:08x}"
            )
        return crc, data

    def segment(self, entry: IndexEntry) -> bytes:
        """The data of `entry`, checksum verified; raises DamagedStoreError."""
        block = self.read(entry.position - BLOCK, BLOCK + entry.length)
        return bytes(self.verified(entry, block)[1])

    def _damaged(self, offset: int, what: str) -> None:
        raise DamagedStoreError(
            f"{self.path}, offset {offset}: {what}; use `tarfailover repair`, or "
            "restore the file from a copy of the store"
        )

    # the index and what lies before it

    def load_index(self) -> bool:
        """Read the index if there is a valid one; tells whether there is.

        Raises UnsupportedStoreError for an index of the legacy module.
        """
        size = self.size()
        base = max(0, size - _TAIL_GUESS)
        tail = self.read(base, size - base)
        try:
            if len(tail) < _MIN_TAIL:
                raise FormatError(f"a tar of {size} bytes has no index", 0)
            wanted = index.tail_size(tail, size)
            if wanted > len(tail):
                base = size - wanted
                tail = self.read(base, wanted)
            found = index.parse(tail, size)
        except FormatError as error:
            self.index_fault = error.within(str(self.path), base)
            if "legacy" in error.what:
                raise UnsupportedStoreError(str(self.index_fault)) from error
            return False
        ends = found.entries["position"].astype("i8") + found.entries["length"]
        self._segments_end = tar.padded(int(ends.max()))
        self._indexed = len(found.entries)
        self.index, self.index_fault = found, None
        return True

    def release_rows(self) -> None:
        """Give back the memory of the index's rows: who asks for them has them read again."""
        if self.index is not None:
            self.index = self.index._replace(entries=self.index.entries[:0].copy())

    @property
    def count(self) -> int:
        """Segments of this tar; of an unclosed tar those scanned so far."""
        return len(self.scanned) if self.index is None else self._indexed

    @property
    def segments_end(self) -> int:
        """Offset behind the last segment of a tar with an index."""
        return self._segments_end

    def columns(self) -> Columns:
        """The segments of this tar, by position; of an unclosed tar those scanned so far.

        Raises StoreIOError, and DamagedStoreError if there was an index that is gone.
        """
        if self.index is None:
            return Columns.of_entries(self.scanned)
        if not len(self.index.entries) and not self.load_index():
            raise DamagedStoreError(f"{self.index_fault}; it was whole before: check the disk")
        return Columns.of_index(self.index.entries)

    def entries(self) -> Iterator[IndexEntry]:
        """Every segment of this tar, by position."""
        table = SegmentTable(self.columns())
        return map(table.entry, range(len(table)))

    def graph(self) -> Graph:
        """The references of each segment of this tar that has any.

        Where the tar has no valid graph they are read from the segments. Raises
        DamagedStoreError.
        """
        scanned = self.scanned_graph()
        if scanned is not None:
            return scanned
        try:
            return self.stored_graph()
        except FormatError:
            return self.graph_of_segments()

    def scanned_graph(self) -> Graph | None:
        """The graph of a tar without an index, as far as it was scanned; None with an index.

        The index may come while another thread asks; what this returns stays true.
        """
        scanned = self._scanned_graph
        return scanned if self.index is None else None

    def stored_graph(self) -> Graph:
        """The graph entry itself; raises FormatError with the offset in the file."""
        base, data = self._trailing()
        try:
            return graph.parse(data, len(data))
        except FormatError as error:
            raise error.within(str(self.path), base) from None

    def graph_payload(self) -> tuple[int, memoryview]:
        """How many records the graph entry has, and these as bytes, their checksum verified.

        Raises FormatError with the offset in the file.
        """
        base, data = self._trailing()
        try:
            footer = graph.parse_footer(data, len(data))
            size = footer.size - trailer.FOOTER_SIZE
            return footer.count, trailer.payload(data, len(data), footer, size, "graph")
        except FormatError as error:
            raise error.within(str(self.path), base) from None

    def graph_of_segments(self) -> Graph:
        """The graph as the segments themselves tell it; raises DamagedStoreError."""
        found = [e for e in self.entries() if is_data(e.segment)]
        return {e.segment: memoryview(b"".join(self._references(e))) for e in found}

    def _references(self, entry: IndexEntry) -> tuple[SegmentId, ...]:
        try:
            return segment.inspect(entry.segment, self.segment(entry))[1]
        except FormatError as error:
            raise DamagedStoreError(
                f"{error.within(str(self.path), entry.position)}; "
                "restore the file from a copy of the store"
            ) from error

    def binary_references(self) -> BinaryReferences:
        """The binary references of a closed tar; raises FormatError with the offset."""
        base, data = self._trailing()
        try:
            size = trailer.extent(graph.parse_footer(data, len(data)).size - trailer.FOOTER_SIZE)
            return binrefs.parse(data, len(data) - size)
        except FormatError as error:
            raise error.within(str(self.path), base) from None

    def _trailing(self) -> tuple[int, bytes]:
        """Offset and bytes of what lies between the last segment and the index."""
        if self.index is None:
            raise FormatError("there is no index, so no graph can be found", 0, str(self.path))
        base = self._segments_end
        return base, self.read(base, max(0, self.index.start - base))

    # a tar without an index

    def scan(self) -> list[Scanned]:
        """Read on from where the last scan stopped; returns the segments that are new.

        Stops at the first entry that is incomplete, all zero, or has a wrong header
        checksum: beside a living writer the rest follows later. An entry whose data
        does not fit its checksum is passed over and becomes a fault.
        """
        fresh: list[Scanned] = []
        self.scanned_size = size = self.size()
        while (header := self._next_header(size)) is not None:
            stop = self._next + header.extent
            found = self._scan_entry(header, last=stop == size)
            if found is None and stop == size:
                break
            fresh += [found] if found else []
            self._next = stop
        return self.extend(fresh)

    def extend(self, found: Iterable[Scanned]) -> list[Scanned]:
        """Take `found` as scanned: what a scan met, or what this process itself appended.

        Returns those whose segment was not there before: of two copies the first counts.
        """
        fresh: list[Scanned] = []
        for each in found:
            if each.entry.segment in self._scanned_ids:
                self._note(each.entry.position, "this segment is in the tar a second time")
                continue
            self._scanned_ids.add(each.entry.segment)
            self.scanned.append(each.entry)
            if each.references:
                self._scanned_graph[each.entry.segment] = memoryview(each.references)
            fresh.append(each)
        return fresh

    def forget_scan(self) -> None:
        """Give back the memory of the scan, now that there is an index.

        New objects, because a walk in another thread may still use the old ones.
        """
        self.scanned, self._scanned_graph, self._scanned_ids = [], {}, set()

    def _next_header(self, size: int) -> tar.Entry | None:
        """The header of the next entry if all of that lies within `size` bytes."""
        if self._next + BLOCK > size:
            return None
        try:
            header = tar.parse_header(self.read(self._next, BLOCK))
        except FormatError as error:
            self._note(self._next, error.what)
            return None
        return header if header and self._next + header.extent <= size else None

    def _scan_entry(self, header: tar.Entry, *, last: bool) -> Scanned | None:
        name = tar.parse_segment_name(header.name)
        if name is None:
            return None
        position = self._next + BLOCK
        data = self.read(position, header.size)
        try:
            if name.crc is not None and crc32(data) != name.crc:
                raise FormatError(f"the checksum of the data is not {name.crc:08x}", 0)
            generation, references = segment.inspect(name.segment, data)
        except FormatError as error:
            # The last entry may still be on its way from a living writer.
            self.damaged_end = last
            if not last:
                self._note(position + error.offset, error.what)
            return None
        self.damaged_end = False
        self.scan_end = self._next + header.extent
        entry = IndexEntry(name.segment, position, header.size, generation)
        return Scanned(entry, b"".join(references))

    def _note(self, offset: int, what: str) -> None:
        fault = Fault(str(self.path), offset, what)
        if fault not in self.faults:
            self.faults.append(fault)
