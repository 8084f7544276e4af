"""New binaries for a blob store: cut and named as Oak does it, so that equal ones are one.

Facts: blob stores, sections 2.4, 2.5 and 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from tarfailover.format.blobid import BlobId, Block, encode_entry
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
DIGEST_SIZE = 32


def add(store: BlobStore, read: Read, random: Random) -> BlobId:
    """Store all that `read` gives, durably; its id.

    `random` gives bytes for the name of a file that is on its way. In a FileDataStore it
    becomes a file whatever its length. Raises StoreIOError.
    """
    if store.layout is DATA_STORE:
        length, digest = _file(store, _pieces(read), random)
        return store.parse(f"{digest}#{length}")
    cutter = _Cutter(store, random)
    return store.parse(cutter.convert(_blocks(read, BLOCK), 0, 0).hex())


def _pieces(read: Read) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece


def _file(store: BlobStore, pieces: Iterator[bytes], random: Random) -> tuple[int, str]:
    """Store one file; its length, and its digest, which is its name."""
    with store.unnamed(random(DIGEST_SIZE).hex()) as incoming:
        try:
            for piece in pieces:
                incoming.write(piece)
            incoming.finish()
        except BaseException:
            incoming.discard()
            raise
        return incoming.offset, incoming.digest


class _Cutter:
    """Cuts content into blocks, and what names the blocks into blocks of its own."""

    def __init__(self, store: BlobStore, random: Random) -> None:
        self._store = store
        self._random = random

    def convert(self, blocks: Iterator[bytes], level: int, total: int) -> bytes:
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
        return self.convert(cut, level + 1, total)

    def _stored(self, block: bytes, level: int, total: int) -> Block:
        digest = hashlib.sha256(block).hexdigest()
        _file(self._store, iter((block,)), self._random)
        return Block(digest, len(block), level, total if level else None)


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
