"""One tar, written anew under the next letter with what is kept of it.

Facts: storage format, sections 2 and 7.2. It is written under a name that nobody takes
for a tar, synced, read back, and only then renamed: whoever looks into the directory
sees it whole or not at all. Every segment is verified on its way. The graph has the
references of the segments as they are, also those to what is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tarfailover.errors import DamagedStoreError, FormatError, StoreIOError
from tarfailover.format import segment as segments
from tarfailover.format import tar
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import SegmentId, is_bulk
from tarfailover.store import blobids
from tarfailover.store.directory import UNFINISHED
from tarfailover.store.durable import Disk
from tarfailover.store.opentar import Incoming, OpenTar
from tarfailover.store.tarreader import TarReader

READ_AT_ONCE = 1024 * 1024
"""Bytes of a tar that are read, verified and written in one step."""


class Rewrite:
    """The tar of `reader` with only `entries`, which are in the order of their positions.

    `read` gives segments of the store, for blob ids that lie in another one. Either
    `finish` or `discard` ends it.
    """

    def __init__(
        self, reader: TarReader, entries: Sequence[IndexEntry], disk: Disk, read: blobids.Read
    ) -> None:
        self.source = reader
        self.kept = len(entries)
        self.name = TarName(reader.name.number, chr(ord(reader.name.letter) + 1))
        self.path = reader.path.with_name(str(self.name))
        self._disk = disk
        self._read = read
        self._blobs = _blobs(reader)
        self._runs = _runs(entries)
        unfinished = self.path.with_name(f"{self.name}{UNFINISHED}")
        if unfinished.exists():
            disk.remove(unfinished)
        self._tar: OpenTar | None = OpenTar.create(
            self.path.parent, self.name, disk, suffix=UNFINISHED
        )

    def put(self, segments: Sequence[Incoming], before: Sequence[IndexEntry], mtime: int) -> None:
        """Write `segments`, which the tar does not have; `copy` goes on with `before`."""
        self._open().append(segments, mtime)
        self._runs = _runs(before)
        self.kept += len(segments)

    def copy(self, limit: int, mtime: int) -> bool:
        """Copy about `limit` bytes more; tells whether all was copied.

        Raises DamagedStoreError, naming file and offset, and StoreIOError.
        """
        written = self._open()
        stop = written.size + limit
        for run in self._runs:
            written.append(list(self._verified(run)), mtime)
            if written.size >= stop:
                return False
        return True

    def _open(self) -> OpenTar:
        if self._tar is None:
            raise StoreIOError(f"{self.path}: this tar is not written any more; begin anew")
        return self._tar

    def _verified(self, run: Sequence[IndexEntry]) -> Iterator[Incoming]:
        base = run[0].position - BLOCK
        end = run[-1].position + tar.padded(run[-1].length)
        block = memoryview(self.source.read(base, end - base))
        for entry in run:
            crc, data = self.source.verified(entry, block[entry.position - BLOCK - base :])
            try:
                generation, references = segments.inspect(entry.segment, data)
            except FormatError as error:
                raise DamagedStoreError(
                    f"{error.within(str(self.source.path), entry.position)}; "
                    "restore the file from a copy of the store"
                ) from error
            blobs = self._mentioned(entry, data, references)
            yield Incoming(entry.segment, crc, generation, references, blobs, entry.length, [data])

    def _mentioned(
        self, entry: IndexEntry, data: memoryview, references: Sequence[SegmentId]
    ) -> tuple[bytes, ...]:
        if self._blobs is not None:
            return tuple(self._blobs.get(entry.segment, ()))
        if is_bulk(entry.segment):
            return ()
        try:
            return blobids.mentioned(entry.segment, bytes(data), references, self._read)
        except FormatError as error:
            raise DamagedStoreError(
                f"{error.within(str(self.source.path), entry.position)}; "
                "restore the file from a copy of the store"
            ) from error

    def finish(self, mtime: int) -> TarReader:
        """Seal and sync it and open it once more: it is whole, and still has no name of its own."""
        written = self._open()
        written.seal(mtime)
        reader = TarReader.open(written.path, self.name)
        if reader.index is None or reader.count != self.kept:
            found = reader.count
            reader.release()
            raise StoreIOError(
                f"{written.path}: {self.kept} segments were written and {found} can be found; "
                "check the disk"
            )
        written.close()
        self._tar = None
        return reader

    def discard(self) -> None:
        """Remove what was written; harmless after `finish`, and when called twice."""
        written, self._tar = self._tar, None
        if written is not None:
            written.discard()


def _blobs(reader: TarReader) -> dict[SegmentId, list[bytes]] | None:
    """The external blobs that the segments of a tar mention; None if its list is unreadable."""
    try:
        found = reader.binary_references()
    except FormatError:
        return None
    return {segment: ids for by_segment in found.values() for segment, ids in by_segment.items()}


def _runs(entries: Sequence[IndexEntry]) -> Iterator[list[IndexEntry]]:
    """The entries in groups that are read at once."""
    run: list[IndexEntry] = []
    for entry in entries:
        if run and entry.position + entry.length - run[0].position > READ_AT_ONCE:
            yield run
            run = []
        run.append(entry)
    if run:
        yield run
