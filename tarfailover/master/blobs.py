"""Answers to BLOB: slices of binaries, read in the master's threads.

Nothing is pinned: a file of a blob store comes by a rename and never changes, so a slice is
what it is, or its file has gone meanwhile. Whether its bytes are those of its digest is for
the slave to find out, who reads all of them.
"""

from __future__ import annotations

import os

from isal.isal_zlib import crc32

from tarfailover.errors import BlobMissingError, FormatError, PeerError
from tarfailover.store.blobs import BlobStore
from tarfailover.wire import stream
from tarfailover.wire.compression import Packer, packed_parts
from tarfailover.wire.messages import Blob, BlobEnd, ErrorCode, framed


class BlobSource:
    """Answers a BLOB out of `store`, which is None if there is none."""

    at_once = None

    def __init__(self, request: int, asked: Blob, store: BlobStore | None) -> None:
        self.request = request
        self.ended = False
        self.patience = 0.0
        self.sign_of_life = b""
        self.size = 0
        self._asked = asked
        self._store = store

    def next(self, packer: Packer | None) -> bytes:
        """See `Source`; all of the slice."""
        length, data = self._read()
        self.ended = True
        end = framed(self.request, BlobEnd(length, len(data), crc32(data)))
        pieces = [data] if data else []
        if packer is None:
            chunk, self.size = stream.parts(self.request, pieces, end)
        else:
            chunk, self.size = packed_parts(self.request, pieces, packer, end)
        return chunk

    def close(self) -> None:
        """See `Source`."""

    def _read(self) -> tuple[int, bytes]:
        """The length of the binary, and the slice; raises PeerError and StoreError."""
        store, asked = self._store, self._asked
        if store is None:
            raise PeerError(ErrorCode.NO_BLOBS, "the master has no blob store: give it blob_store")
        try:
            blob = store.parse(asked.blob)
            return store.length(blob), store.read_at(blob, asked.offset, asked.most)
        except FormatError as error:
            raise PeerError(
                ErrorCode.NO_BLOBS, f"the master's {store.layout.what}: {error.what}"
            ) from error
        except BlobMissingError as error:
            if not _holds_anything(store):
                why = f"the master's {store.path} is empty; is its disk mounted?"
                raise PeerError(ErrorCode.NO_BLOBS, why) from error
            raise PeerError(ErrorCode.BLOB_GONE, f"on the master, {error}") from error


def _holds_anything(store: BlobStore) -> bool:
    """Whether the directory is there and not empty, as that of a disk that is not mounted."""
    try:
        with os.scandir(store.path) as found:
            return next(found, None) is not None
    except OSError:
        return False
