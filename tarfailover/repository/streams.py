"""Binaries of a repository: their length, and their bytes as a stream."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from tarfailover.repository import binaries
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.values import ExternalBlob, StoredBlob
from tarfailover.store.pieces import stream

_LENGTH = re.compile(r"[^#]+#([0-9]{1,19})")


class Binary:
    """A binary value: in the store's own segments, or by its name in a blob store."""

    __slots__ = ("blob", "reader")

    def __init__(self, reader: RecordReader, blob: StoredBlob | ExternalBlob | bytes) -> None:
        """`blob` is bytes as long as they are held by a commit; else `reader` reads it."""
        self.reader = reader
        self.blob = blob

    @property
    def blob_id(self) -> str | None:
        """The id in an external blob store; None if the segments hold the bytes."""
        return self.blob.blob_id if isinstance(self.blob, ExternalBlob) else None

    @property
    def length(self) -> int | None:
        """Bytes; None for an external binary whose id does not tell (``<digest>#<length>``).

        With its blob store at hand it is never None; raises BlobMissingError, and
        FormatError for an id that is none, where that would have to tell.
        """
        if isinstance(self.blob, bytes):
            return len(self.blob)
        if isinstance(self.blob, StoredBlob) or self.reader.blobs is not None:
            return binaries.length(self.reader, self.blob)
        match = _LENGTH.fullmatch(self.blob.blob_id)
        return int(match[1]) if match else None

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces of at most 64 KiB; raises as reading does."""
        if isinstance(self.blob, bytes):
            return iter((self.blob[offset:],))
        return binaries.pieces(self.reader, self.blob, offset)

    def open(self) -> io.BufferedReader:
        """The bytes as a file, to be read and to be sought in; nothing is read yet.

        Raises ContentError for an external binary without its blob store, BlobMissingError
        and FormatError. Reading raises SegmentMissingError, BlobMissingError,
        DamagedStoreError or FormatError if the store is damaged.
        """
        blob = self.blob
        length = len(blob) if isinstance(blob, bytes) else binaries.length(self.reader, blob)
        return stream(length, self.pieces)

    def read(self) -> bytes:
        """All bytes at once: for binaries known to be small."""
        return b"".join(self.pieces())

    def __repr__(self) -> str:
        if isinstance(self.blob, ExternalBlob):
            return f"<Binary external {self.blob.blob_id:.80}>"
        return f"<Binary of {self.length} bytes>"
