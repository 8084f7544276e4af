"""Binaries of a repository: their length, and their bytes as a stream."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tarfailover.errors import ContentError
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.values import ExternalBlob, StoredBlob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 64 * 1024
"""Bytes that an open binary holds."""

_LENGTH = re.compile(r"[^#]+#([0-9]{1,19})")


class Binary:
    """A binary value: in the store's own segments, or by its name in a blob store."""

    __slots__ = ("_reader", "blob")

    def __init__(self, reader: RecordReader, blob: StoredBlob | ExternalBlob) -> None:
        self._reader = reader
        self.blob = blob

    @property
    def blob_id(self) -> str | None:
        """The id in an external blob store; None if the segments hold the bytes."""
        return self.blob.blob_id if isinstance(self.blob, ExternalBlob) else None

    @property
    def length(self) -> int | None:
        """Bytes; None for an external binary whose id does not tell (``<digest>#<length>``)."""
        if isinstance(self.blob, StoredBlob):
            return self.blob.length
        match = _LENGTH.fullmatch(self.blob.blob_id)
        return int(match[1]) if match else None

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on, in pieces of at most 16512; raises as `open` does."""
        return self._reader.blob_pieces_from(self._stored(), offset)

    def open(self) -> io.BufferedReader:
        """The bytes as a file, to be read and to be sought in; nothing is read yet.

        Raises ContentError for an external binary. Reading raises SegmentMissingError,
        DamagedStoreError or FormatError if the store is damaged.
        """
        return io.BufferedReader(BinaryStream(self._reader, self._stored()), BUFFER)

    def read(self) -> bytes:
        """All bytes at once: for binaries known to be small."""
        return b"".join(self.pieces())

    def _stored(self) -> StoredBlob:
        if isinstance(self.blob, StoredBlob):
            return self.blob
        raise ContentError(
            f"binary {self.blob.blob_id:.80} is kept in an external blob store, of which the "
            "segments hold only this id"
        )

    def __repr__(self) -> str:
        where = "" if self.blob_id is None else f" external {self.blob_id:.80}"
        return f"<Binary{where} of {self.length} bytes>"


class BinaryStream(io.RawIOBase):
    """A stored binary as a raw file: each read gives at most one piece."""

    def __init__(self, reader: RecordReader, blob: StoredBlob) -> None:
        super().__init__()
        self._reader = reader
        self._blob = blob
        self._at = 0
        self._rest = b""
        self._pieces: Iterator[bytes] | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position; one behind the end reads as the end. Raises ValueError before 0."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._blob.length}
        place = base[whence] + offset
        if place < 0:
            raise ValueError(f"there is no position {place}")
        if place != self._at:
            self._at, self._rest, self._pieces = place, b"", None
        return place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as one piece reaches; 0 only at the end."""
        view = memoryview(buffer).cast("B")
        if not len(view):
            return 0
        if not self._rest:
            self._rest = self._next()
        taken = self._rest[: len(view)]
        view[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        self._at += len(taken)
        return len(taken)

    def _next(self) -> bytes:
        if self._at >= self._blob.length:
            return b""
        if self._pieces is None:
            self._pieces = self._reader.blob_pieces_from(self._blob, self._at)
        return next(self._pieces)
