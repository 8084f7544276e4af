"""Answers to DIGEST: segments are read and digested in the master's threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isal.isal_zlib import crc32

from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK
from tarfailover.master.segments import GetSource, SegmentSource, items
from tarfailover.master.sources import Source
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.wire import stream
from tarfailover.wire.compression import Packer
from tarfailover.wire.digests import digest
from tarfailover.wire.messages import Digest, End, Get, framed

READ = 8 * 1024 * 1024
"""Bytes that are read and digested for one piece of an answer: some hundredths of a second."""


class DigestSource(SegmentSource):
    """Answers a DIGEST."""

    at_once = None

    def __init__(
        self, request: int, ids: Sequence[bytes], snapshots: Sequence[Snapshot], salt: bytes
    ) -> None:
        super().__init__(request, ids, snapshots)
        self._salt = salt
        self._read = 0

    def next(self, packer: Packer | None) -> bytes:  # noqa: ARG002 - digests do not get smaller
        """See `Source`."""
        pieces: list[stream.Piece] = []
        self._read = 0
        while self._read < READ and self._next < len(self._ids):
            pieces += self._pieces()
        self._size += sum(map(len, pieces))
        self.ended = self._next == len(self._ids)
        end = framed(self.request, End(len(self._ids), self._size)) if self.ended else b""
        return stream.parts(self.request, pieces, end)[0]

    def _items(
        self, reader: TarReader, run: Sequence[IndexEntry], end: int
    ) -> Iterator[stream.Piece]:
        start = run[0].position - BLOCK
        self._read += end - start
        reader.forget_cached(start, end - start)
        found = iter(items(reader, run, end))
        for head, data in zip(found, found, strict=True):
            yield from self._digested(bytes(head), data)

    def _digested(self, head: bytes, data: stream.Piece) -> tuple[stream.Piece, stream.Piece]:
        """An item with the digest in place of the segment; a refusal as it is."""
        if stream.is_refusal(head):
            return head, data
        return stream.item(head[:16], crc32(data), digest(self._salt, data))


def source_of(request: int, message: Get, snapshots: Sequence[Snapshot]) -> Source:
    """What answers a GET or a DIGEST."""
    if isinstance(message, Digest):
        return DigestSource(request, message.ids, snapshots, message.salt)
    return GetSource(request, message.ids, snapshots)
