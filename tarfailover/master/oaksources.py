"""Answers to an Oak standby: blocking code that runs in the master's threads.

There is no way to say "no" in Oak's dialect, so what cannot be had is left out, and told to
the log of the master. A segment that is damaged is such a thing, and so is a binary whose
digest is not that of its id: its last chunk is held back, and Oak throws away what came.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from tarfailover.errors import BlobMissingError, FormatError, SegmentMissingError, StoreError
from tarfailover.format.blobid import BlobId, Block
from tarfailover.ids import SegmentId, text
from tarfailover.master.sources import CHUNK
from tarfailover.store.blobs import BlobStore
from tarfailover.store.blobs.hashing import hasher_for
from tarfailover.store.snapshot import Snapshot
from tarfailover.wire.compression import Packer
from tarfailover.wire.fields import printable
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import GetBlob, GetReferences, GetSegment
from tarfailover.wire.oak.snappy import Packer as SnappyPacker

BLOB_CHUNK = 1024 * 1024
"""Bytes of a blob in one frame, as in Oak."""

Wanted = GetSegment | GetReferences | GetBlob | bytes
"""A request; or a frame that answers one already."""


class Served(NamedTuple):
    """Where the answers are found."""

    snapshots: Sequence[Snapshot]
    """A segment is taken from the first that has it."""
    blobs: BlobStore | None


class OakSource:
    """Answers requests of one standby, in their order; its connection has one `packer`."""

    request = 0
    patience = 0.0
    sign_of_life = b""
    at_once = None

    def __init__(self, asked: Sequence[Wanted], served: Served, packer: SnappyPacker) -> None:
        self.ended = False
        self.size = 0
        self.unanswered: list[str] = []
        """What got no answer, and why; a sentence each."""
        self._snapshots = [snapshot.acquire() for snapshot in served.snapshots]
        self._blobs = served.blobs
        self._packer = packer
        self._answers = self._all(asked)

    def next(self, packer: Packer | None) -> bytes:  # noqa: ARG002 - this dialect has its own
        """See `Source`: as many answers as make a chunk, or a part of one."""
        packed: list[bytes] = []
        self.size = size = 0
        for answer in self._answers:
            packed.append(answer)
            size += len(answer)
            if size >= CHUNK:
                break
        else:
            self.ended = True
        return b"".join(packed)

    def close(self) -> None:
        """See `Source`."""
        self._answers.close()
        for snapshot in self._snapshots:
            snapshot.release()
        self._snapshots = []

    def _all(self, asked: Sequence[Wanted]) -> Generator[bytes, None, None]:
        for wanted in asked:
            try:
                yield from self._answer(wanted)
            except (StoreError, FormatError) as error:
                self.unanswered.append(f"{_name(wanted)}: {error}")

    def _answer(self, wanted: Wanted) -> Iterator[bytes]:
        if isinstance(wanted, bytes):
            yield self._packer.pack(wanted)
        elif isinstance(wanted, GetSegment):
            yield self._segment(wanted.segment)
        elif isinstance(wanted, GetReferences):
            # Of a bulk segment Oak's own server dies; it has none.
            found = self._holder(wanted.segment).references(wanted.segment)
            asked = wanted.written or text(wanted.segment)
            yield self._packer.pack(answers.references(asked, found))
        else:
            yield from self._blob(wanted.blob)

    def _holder(self, segment: SegmentId) -> Snapshot:
        """The snapshot that has `segment`; raises SegmentMissingError."""
        for snapshot in self._snapshots:
            if snapshot.contains(segment):
                return snapshot
        raise SegmentMissingError("it is not, or no longer, in the master's store")

    def _segment(self, segment: SegmentId) -> bytes:
        data = self._holder(segment).read(segment)
        self.size += len(data)
        return self._packer.pack(*answers.segment(segment, data))

    def _blob(self, name: str) -> Iterator[bytes]:
        if self._blobs is None:
            raise BlobMissingError("the master has no blob store (blob_store)")
        blob = self._blobs.parse(name)
        total, sent = self._blobs.length(blob), 0
        for data in _chunks(self._blobs, blob):
            last = sent + len(data) == total
            self.size += len(data)
            chunk = answers.blob_chunk(name, total, data, first=not sent, last=last)
            sent += len(data)
            yield self._packer.pack(*chunk)
        if not total:
            # Oak's own server leaves it out, and its standby waits in vain.
            yield self._packer.pack(*answers.blob_chunk(name, 0, b"", first=True, last=True))


def _chunks(store: BlobStore, blob: BlobId) -> Iterator[bytes]:
    """The bytes of `blob` in chunks; the last one only if the digest of all is right."""
    block = blob.parts[0] if len(blob.parts) == 1 else b""
    hasher = hasher_for(block.digest) if isinstance(block, Block) and not block.level else None
    waiting = bytearray()
    for piece in store.pieces(blob):
        if hasher is not None:
            hasher.update(piece)
        waiting += piece
        if len(waiting) > BLOB_CHUNK:
            yield bytes(waiting[:BLOB_CHUNK])
            del waiting[:BLOB_CHUNK]
    if hasher is not None and isinstance(block, Block) and hasher.hexdigest() != block.digest:
        store.verify(blob)  # raises, in its own words
    if waiting:
        yield bytes(waiting)


def _name(wanted: Wanted) -> str:
    if isinstance(wanted, GetBlob):
        return f"binary {printable(wanted.blob)}"
    return f"segment {text(wanted.segment)}" if not isinstance(wanted, bytes) else "the head"
