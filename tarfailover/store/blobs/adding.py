"""New binaries for a blob store: cut and named as Oak does it, so that equal ones are one.

Facts: blob stores, sections 2.4, 2.5 and 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType

from tarfailover.format.blobid import BlobId, Block, encode_entry
from tarfailover.store.blobs.incoming import Incoming, settle
from tarfailover.store.blobs.layout import DATA_STORE
from tarfailover.store.blobs.store import BlobStore

Read = Callable[[int], bytes]
"""Gives at most so many bytes, none only at the end."""
Random = Callable[[int], bytes]

BLOCK = 2 * 1024 * 1024
"""Bytes of a block of a FileBlobStore."""
SMALLEST_BLOCK = 4096
"""Fewer bytes stand in the id itself; and an id of more bytes becomes a block."""
PIECE = 1024 * 1024
"""Bytes written at once."""
WAITING = 64
"""Files that are held open until they become durable together."""
WAITING_BYTES = 256 * 1024 * 1024
"""Bytes of them."""
DIGEST_SIZE = 32


def add(store: BlobStore, read: Read, random: Random) -> BlobId:
    """Store all that `read` gives, durably; its id. Raises as `Adder` does."""
    with Adder(store, random) as adder:
        found = adder.add(read)
        adder.settle()
    return found


class Adder:
    """Stores binaries, many of which become durable together; to be closed, or used with ``with``.

    What was added can be read, and named by a head, once `settle` has returned.
    """

    def __init__(self, store: BlobStore, random: Random) -> None:
        """`random` gives bytes for the names of files that are on their way."""
        self._store = store
        self._random = random
        self._waiting: list[Incoming] = []
        self._bytes = 0

    def add(self, read: Read) -> BlobId:
        """Take all that `read` gives; its id. Raises StoreIOError.

        In a FileDataStore it becomes a file whatever its length.
        """
        if self._store.layout is DATA_STORE:
            length, digest = self._file(_pieces(read))
            return self._store.parse(f"{digest}#{length}")
        return self._store.parse(self._convert(_blocks(read, BLOCK), 0, 0).hex())

    def settle(self) -> None:
        """Make all that was added durable and visible; raises StoreIOError."""
        waiting = self._waiting
        if waiting:
            settle(waiting)
            self._waiting, self._bytes = [], 0

    def close(self) -> None:
        """Forget what was not settled."""
        for each in self._waiting:
            each.discard()
        self._waiting = []

    def __enter__(self) -> Adder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _file(self, pieces: Iterator[bytes]) -> tuple[int, str]:
        """Take one file; its length, and its digest, which is its name."""
        incoming = self._store.unnamed(self._random(DIGEST_SIZE).hex())
        try:
            for piece in pieces:
                incoming.write(piece)
            incoming.check()
        except BaseException:
            incoming.discard()
            raise
        self._waiting.append(incoming)
        self._bytes += incoming.offset
        if len(self._waiting) >= WAITING or self._bytes >= WAITING_BYTES:
            self.settle()
        return incoming.offset, incoming.digest

    def _convert(self, blocks: Iterator[bytes], level: int, total: int) -> bytes:
        """The entries for `blocks`, which above level 0 stand for `total` bytes of content."""
        entries = bytearray()
        for block in blocks:
            if len(block) < SMALLEST_BLOCK:
                entries += encode_entry(block)
            else:
                entries += encode_entry(self._stored(block, level, total))
            total += len(block)
            if len(entries) > BLOCK // 2:
                entries = bytearray(self._convert_entries(entries, level, total))
        if len(entries) > SMALLEST_BLOCK:
            return self._convert_entries(entries, level, total)
        return bytes(entries)

    def _convert_entries(self, entries: bytearray, level: int, total: int) -> bytes:
        """The entries for a block of `entries`: its size is bounded, so this ends at once."""
        whole = bytes(entries)
        cut = (whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK))
        return self._convert(cut, level + 1, total)

    def _stored(self, block: bytes, level: int, total: int) -> Block:
        digest = hashlib.sha256(block).hexdigest()
        self._file(iter((block,)))
        return Block(digest, len(block), level, total if level else None)


def _pieces(read: Read) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece


def _blocks(read: Read, size: int) -> Iterator[bytes]:
    """The content in blocks of `size` bytes; the last may be shorter, none is empty."""
    held = bytearray()
    while piece := read(size - len(held)):
        held += piece
        if len(held) == size:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
