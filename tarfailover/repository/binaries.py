"""The bytes of binaries, wherever they lie: in the store's own segments or in a blob store."""

from __future__ import annotations

from collections.abc import Iterator

from tarfailover.errors import ContentError
from tarfailover.format.blobid import BlobId, shown
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.values import ExternalBlob, StoredBlob
from tarfailover.store.blobs import BlobStore

Blob = StoredBlob | ExternalBlob


def length(reader: RecordReader, blob: Blob) -> int:
    """Bytes of a binary; raises as `pieces`."""
    if isinstance(blob, StoredBlob):
        return blob.length
    store, found = external(reader, blob)
    return store.length(found)


def pieces(reader: RecordReader, blob: Blob, offset: int = 0) -> Iterator[bytes]:
    """The bytes from `offset` on, in pieces of at most 64 KiB.

    Raises FormatError, SegmentMissingError and DamagedStoreError where the store is damaged;
    of an external binary ContentError if the store was opened without its blob store,
    FormatError for an id that is none, BlobMissingError, DamagedStoreError, StoreIOError.
    """
    if isinstance(blob, StoredBlob):
        return reader.blob_pieces_from(blob, offset)
    store, found = external(reader, blob)
    return store.pieces(found, offset)


def external(reader: RecordReader, blob: ExternalBlob) -> tuple[BlobStore, BlobId]:
    """The blob store, and what the id of `blob` says; raises ContentError and FormatError."""
    if reader.blobs is None:
        raise ContentError(
            f"binary {shown(blob.blob_id)} is kept in an external blob store, of which the "
            "segments hold only this id: say where it is (--blob-store)"
        )
    return reader.blobs, reader.blobs.parse(blob.blob_id)
