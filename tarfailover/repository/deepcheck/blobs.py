"""Checks external binaries: that they are in the blob store, and are what their digests say."""

from __future__ import annotations

from collections.abc import Callable

from tarfailover.errors import TarFailoverError
from tarfailover.repository.deepcheck.books import DAMAGE
from tarfailover.store.blobs import BlobStore

REMEMBERED = 1_000_000
"""Binaries of which it is remembered that they are whole; more of them may be read twice."""


class BlobCheck:
    """Checks each external binary once, however many nodes and heads name it."""

    def __init__(
        self, store: BlobStore, tick: Callable[[], None], read: Callable[[int], None]
    ) -> None:
        """`read` is told of bytes that were read, piece by piece; then `tick`, which may raise."""
        self._store = store
        self._tick = tick
        self._told = read
        self._whole: set[str] = set()
        self._bad: dict[str, TarFailoverError] = {}

    def check(self, blob_id: str) -> int:
        """Read the binary `blob_id`; its bytes if they had not been read before, else 0.

        Raises FormatError for an id that is none, BlobMissingError, DamagedStoreError and
        StoreIOError, the same again for the same binary.
        """
        bad = self._bad.get(blob_id)
        if bad is not None:
            raise bad
        if blob_id in self._whole:
            return 0
        try:
            blob = self._store.parse(blob_id)
            self._store.verify(blob, self._read)
            length = self._store.length(blob)
        except DAMAGE as error:
            self._bad[blob_id] = error
            raise
        if len(self._whole) < REMEMBERED:
            self._whole.add(blob_id)
        return length

    def _read(self, count: int) -> None:
        self._told(count)
        self._tick()

    def lost(self, blob_id: str) -> str:
        """What is lost with the binary, in words."""
        try:
            length = self._store.parse(blob_id).length
        except DAMAGE:
            length = None
        return "the binary" if length is None else f"the binary, {length:,} bytes"
