"""External binaries that rotted, or are gone: each is named after its digest, and fetched anew.

What comes is verified and synced before it takes the place of what was damaged: see
`store.blobs.incoming`. Nothing is removed that cannot be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tarfailover.errors import (
    BlobMissingError,
    DamagedStoreError,
    FormatError,
    PeerError,
    StoreIOError,
    StoreLockedError,
)
from tarfailover.format.blobid import BlobId, Block
from tarfailover.ids import SegmentId
from tarfailover.store.blobs.needed import needed
from tarfailover.store.blobs.store import BlobStore, Stored
from tarfailover.store.repair.supply import Outcome
from tarfailover.store.snapshot import Snapshot


class BlobSource(Protocol):
    """Another copy of the blob store. Blocks, and raises LinkError."""

    def blob(self, blob: str, offset: int) -> tuple[int, bytes]:
        """Bytes of a binary from `offset` on, some or all, and the length of the whole."""


def damaged(blobs: BlobStore, stored: Stored, read: Callable[[int], None]) -> str:
    """What is wrong with a file of the store, '' if nothing is; `read` is told of bytes read."""
    try:
        blobs.verify_block(Block(stored.digest, None), read)
    except BlobMissingError:
        return ""  # it was removed meanwhile
    except (DamagedStoreError, StoreIOError) as error:
        return str(error)
    return ""


class BlobRepair:
    """One repair of `blobs` with what `source` has."""

    def __init__(self, blobs: BlobStore, source: BlobSource) -> None:
        self.files = 0
        """That were looked at."""
        self.bytes = 0
        self.fetched = 0
        """Bytes."""
        self._blobs = blobs
        self._source = source

    def rotten(self) -> Iterator[Outcome]:
        """Every file that was not what its name says; raises LinkError, StoreIOError."""
        for stored in self._blobs.files():
            what = damaged(self._blobs, stored, self._read)
            self.files += 1
            if what:
                # Its length may have changed with its bytes: then it is asked for without one.
                units = [Block(stored.digest, stored.size), Block(stored.digest, None)]
                yield self._outcome(stored.path, what, *map(self._blobs.layout.unit, units))

    def _read(self, size: int) -> None:
        self.bytes += size

    def missing(self, snapshot: Snapshot, head: SegmentId) -> Iterator[Outcome]:
        """Every file that the segment `head` needs and that is not there; raises as `rotten`."""
        for mention in needed(snapshot, [head]):
            try:
                blob = self._blobs.parse(mention.blob)
            except FormatError as error:
                what = f"the id of a binary cannot be used: {error.what}"
                yield Outcome(str(self._blobs.path), None, what, False, "it is of another store")
                continue
            yield from self._missing(blob)

    def has(self, blob: str) -> bool:
        """Whether the binary of this id is there; False for what is no id of this store."""
        try:
            return self._blobs.has(self._blobs.parse(blob))
        except FormatError:
            return False

    def _missing(self, blob: BlobId) -> Iterator[Outcome]:
        tried: set[str] = set()
        # What is below an index block is known only when that is there.
        while units := [each for each in self._blobs.wanted(blob) if each.text not in tried]:
            for unit in units:
                tried.add(unit.text)
                (block,) = unit.parts
                place = block.digest if isinstance(block, Block) else ""
                path = self._blobs.path / self._blobs.layout.place(place)
                yield self._outcome(path, "a binary that the head needs is not there", unit)

    def _outcome(self, path: Path, what: str, *units: BlobId) -> Outcome:
        why = ""
        for unit in units:
            try:
                self._bring(unit)
            except (FormatError, PeerError, StoreLockedError) as error:
                why = why or (error.what if isinstance(error, FormatError) else str(error))
            else:
                return Outcome(str(path), None, what, True, "fetched")
        return Outcome(str(path), None, what, False, why)

    def _bring(self, unit: BlobId) -> None:
        with self._blobs.incoming(unit) as incoming:
            length = incoming.offset + 1
            while incoming.offset < length:
                length, data = self._source.blob(unit.text, incoming.offset)
                if not data and incoming.offset < length:
                    raise FormatError(f"no bytes came of {length} of the binary", incoming.offset)
                incoming.write(data)
                self.fetched += len(data)
            incoming.finish()
