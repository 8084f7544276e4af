"""Bytes that come in pieces, as a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tarfailover.errors import DamagedStoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 64 * 1024
"""Bytes that an open stream holds."""

Pieces = Callable[[int], Iterator[bytes]]
"""Gives the bytes from an offset on, in pieces of which none is empty."""


def stream(length: int, pieces: Pieces) -> io.BufferedReader:
    """The `length` bytes of `pieces` as a file, to be read and sought in; nothing is read yet."""
    return io.BufferedReader(PieceStream(length, pieces), BUFFER)


class PieceStream(io.RawIOBase):
    """`length` bytes as a raw file: each read gives at most one piece."""

    def __init__(self, length: int, pieces: Pieces) -> None:
        super().__init__()
        self._length = length
        self._all = pieces
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
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}
        place = base[whence] + offset
        if place < 0:
            raise ValueError(f"there is no position {place}")
        if place != self._at:
            self._at, self._rest, self._pieces = place, b"", None
        return place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as one piece reaches; 0 only at the end.

        Raises DamagedStoreError if there are fewer bytes than there should be.
        """
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
        if self._at >= self._length:
            return b""
        if self._pieces is None:
            self._pieces = self._all(self._at)
        piece = next(self._pieces, b"")
        if not piece:
            raise DamagedStoreError(f"a binary of {self._length} bytes ended after {self._at}")
        return piece

    def close(self) -> None:
        """Let go of what the pieces hold open."""
        self._pieces, self._rest = None, b""
        super().close()
