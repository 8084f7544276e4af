"""Writes the bytes of a file that differ from what they should be, and no others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from tarfailover.errors import StoreIOError
from tarfailover.format.tar import BLOCK
from tarfailover.store.durable import Disk
from tarfailover.store.tarreader import TarReader


class Patch:
    """The file of one tar, open for being mended; closed at the end of the block."""

    def __init__(self, reader: TarReader, disk: Disk) -> None:
        self._reader = reader
        self._disk = disk
        self._fd = -1

    def write(self, offset: int, found: bytes | memoryview, right: bytes) -> None:
        """Make the bytes at `offset`, which are `found`, those of `right`, durably.

        What was not read, because the disk refused, is written whole. Raises StoreIOError,
        also if something else is read back.
        """
        path = self._reader.path
        if self._fd < 0:
            self._fd = self._disk.open(path)
        for start, stop in _differing(found, right):
            self._disk.write(self._fd, path, [right[start:stop]], offset + start)
        self._disk.sync(self._fd, path)
        self._reader.forget_cached(offset, len(right))
        if self._reader.read(offset, len(right)) != right:
            raise StoreIOError(
                f"{path}, offset {offset}: {len(right)} bytes were written and read back as "
                "something else; replace this disk"
            )

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _differing(found: bytes | memoryview, right: bytes) -> Iterator[tuple[int, int]]:
    """Where the two differ; what lies nearer together than a block is one place."""
    size = min(len(found), len(right))
    differ = np.frombuffer(found, "u1", size) != np.frombuffer(right, "u1", size)
    places = np.flatnonzero(differ)
    if len(places):
        cuts = np.flatnonzero(np.diff(places) > BLOCK) + 1
        for run in np.split(places, cuts):
            yield int(run[0]), int(run[-1]) + 1
    if size < len(right):
        yield size, len(right)
