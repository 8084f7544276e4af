"""The tar that is being written: appended to, then sealed with its trailing entries.

Facts: storage format, sections 2, 3 and 9. The file is created together with its first
segment. Every write goes to a known offset, so that one that failed half-way is simply
written over; what was sealed was synced before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import StoreIOError
from tarfailover.format import binrefs, graph, index, tar
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.headers import segment_headers
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import Generation, SegmentId
from tarfailover.store.durable import Buffer, Disk, told
from tarfailover.store.tarreader import Scanned, TarReader


class Incoming(NamedTuple):
    """A verified segment on its way to the disk."""

    segment: SegmentId
    crc: int
    generation: Generation
    references: tuple[SegmentId, ...]
    blobs: tuple[bytes, ...]
    """The external blob ids that it mentions."""
    length: int
    chunks: Sequence[Buffer]
    """The data, in pieces that need not be joined."""


START_SYNC_EVERY = 8 * 1024 * 1024
"""Bytes after which the kernel is asked to begin to write them out."""


class OpenTar:
    """A tar without an index, owned by one writer."""

    def __init__(self, path: Path, name: TarName, disk: Disk, fd: int, reader: TarReader) -> None:
        self.path = path
        self.name = name
        self.reader = reader
        self._disk = disk
        self._fd = fd
        self.size = reader.scan_end
        self._blobs: BinaryReferences = {}
        self._dirty = False
        self._started = self.size
        """Where what the kernel was asked to write out ends."""

    @classmethod
    def create(cls, directory: Path, name: TarName, disk: Disk, suffix: str = "") -> OpenTar:
        """A new, empty tar; the caller syncs the directory before it counts on the name.

        With a `suffix` to its name it is no tar of the store until it is renamed.
        """
        path = directory / f"{name}{suffix}"
        fd = disk.create(path)
        try:
            with told("open a second time", path):
                reading = os.dup(fd)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, name, disk, fd, TarReader(path, name, reading))

    @classmethod
    def reopen(cls, reader: TarReader, disk: Disk) -> OpenTar:
        """The tar of a writer that died, behind its last whole entry; `reader` has scanned it."""
        fd = disk.open(reader.path)
        reader.acquire()
        return cls(reader.path, reader.name, disk, fd, reader)

    def append(self, segments: Sequence[Incoming], mtime: int) -> list[IndexEntry]:
        """Write `segments` in this order; `mtime` in seconds since 1970."""
        buffers: list[Buffer] = []
        found: list[Scanned] = []
        at = self.size
        names, crcs, _, _, _, lengths, _ = zip(*segments, strict=True)
        headers = segment_headers(names, crcs, lengths, mtime)
        for header, each in zip(headers, segments, strict=True):
            segment, _, generation, references, _, length, chunks = each
            buffers.append(header)
            buffers += chunks
            at += BLOCK
            found.append(Scanned(IndexEntry(segment, at, length, generation), b"".join(references)))
            at += length
            if padding := -length % BLOCK:
                buffers.append(bytes(padding))
                at += padding
        self._dirty = True
        self._disk.write(self._fd, self.path, buffers, self.size)
        self.size = at
        if at - self._started >= START_SYNC_EVERY:
            self._disk.start_sync(self._fd, self._started, at - self._started)
            self._started = at
        self.reader.extend(found)
        for each in segments:
            if each.blobs:
                self.mention(each.generation, each.segment, each.blobs)
        return [each.entry for each in found]

    def mention(self, generation: Generation, segment: SegmentId, blobs: Sequence[bytes]) -> None:
        """Remember which external blobs a segment mentions."""
        if blobs:
            self._blobs.setdefault(generation, {})[segment] = list(blobs)

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        if self._dirty:
            self._disk.sync(self._fd, self.path)
            self._dirty = False

    def seal(self, mtime: int) -> None:
        """Write the trailing entries, sync, and let the reader find the index.

        Raises StoreIOError, also if what was written cannot be read back.
        """
        end = self._add((".brf", binrefs.encode(self._blobs)), self.size, mtime)
        end = self._add((".gph", graph.encode_rows(self.reader.graph())), end, mtime)
        body = index.encode(self.reader.scanned)
        end = self._disk.write(self._fd, self.path, [self._header(".idx", body, mtime)], end)
        # An index says that all before it is there, so that must have arrived first.
        self._disk.sync(self._fd, self.path)
        end = self._disk.write(self._fd, self.path, [body], end)
        end = self._disk.write(self._fd, self.path, [tar.END_OF_ARCHIVE], end)
        self._disk.truncate(self._fd, self.path, end)
        self._disk.sync(self._fd, self.path)
        self._dirty = False
        if not self.reader.load_index():
            raise StoreIOError(
                f"{self.reader.index_fault}: what was just written reads back as something else; "
                "check the disk, then start again"
            )
        self.reader.forget_scan()

    def _add(self, part: tuple[str, bytes], at: int, mtime: int) -> int:
        suffix, data = part
        return self._disk.write(self._fd, self.path, [self._header(suffix, data, mtime), data], at)

    def _header(self, suffix: str, data: bytes, mtime: int) -> bytes:
        name = (str(self.name) + suffix).encode("ascii")
        return tar.encode_header(name, len(data), mtime)

    def discard(self) -> None:
        """Close and remove a tar to which nothing could be written."""
        self.close()
        self._disk.remove(self.path)

    def close(self) -> None:
        """Let go of the file, as it is."""
        os.close(self._fd)
        self.reader.release()


Clock = Callable[[], float]
"""Seconds since 1970."""
