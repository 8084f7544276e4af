"""The stores of the demo: how much is in them, and a copy of a user's own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from _demo_processes import DemoError

from tarfailover.errors import NotAStoreError
from tarfailover.store import closure
from tarfailover.store.follower import Follower

MIB = 1024 * 1024
PIECE = 4 * MIB
LOOK_SECONDS = 0.03
"""Time between two looks into a directory that grows."""
BESIDE_TARS = ("journal.log", "manifest", "gc.log")
"""Files of a store, beside its tars, that a copy needs."""


class Amount(NamedTuple):
    """Segments, and their bytes without headers and padding."""

    segments: int
    size: int

    def __str__(self) -> str:
        return f"{self.segments:,} segments, {self.size / MIB:,.1f} MiB"

    def without(self, other: Amount) -> Amount:
        """What is in this and not in `other`."""
        return Amount(self.segments - other.segments, self.size - other.size)


class Needed(NamedTuple):
    """The head of a store, and all that it needs."""

    head: str
    amount: Amount


def needed(directory: Path) -> Needed:
    """What the head of the store in `directory` needs; raises StoreError."""
    with Follower.open(directory) as follower:
        head = follower.head()
        ranks = closure.walk(follower.snapshot, [head.record.segment]).ranks
        lengths = follower.snapshot.table.extents(ranks)[1]
        return Needed(str(head.record), Amount(len(ranks), int(lengths.sum(dtype="i8"))))


class Watch:
    """Looks how much there is in a directory that another process fills; reads only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._follower: Follower | None = None
        self._looked = 0.0
        self._found = Amount(0, 0)

    def amount(self, *, at_once: bool = False) -> Amount:
        """All whole segments in it; looks at most every `LOOK_SECONDS` unless `at_once`."""
        if at_once or time.monotonic() > self._looked + LOOK_SECONDS:
            self._found = self._look()
            self._looked = time.monotonic()
        return self._found

    @property
    def has_head(self) -> bool:
        """Whether there was a head at the last look."""
        return self._follower is not None and self._follower.snapshot.head is not None

    def _look(self) -> Amount:
        try:
            self._follower = self._follower or Follower.open(self._directory)
        except NotAStoreError:  # the other process has not begun
            return Amount(0, 0)
        snapshot = self._follower.refresh()
        lengths = snapshot.table.columns(0, snapshot.count).length
        return Amount(snapshot.count, int(lengths.sum(dtype="i8")))

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._follower is not None:
            self._follower.close()


def store_in(directory: Path) -> Path:
    """The store that a user means with `directory`: itself, or its folder `segmentstore`."""
    inner = directory / "segmentstore"
    return (inner if inner.is_dir() else directory).absolute()


def copy_store(source: Path, target: Path, moved: Callable[[int], None]) -> None:
    """Copy the store `source`, which may be in use; `moved` is told the bytes copied so far.

    The journal first: what a head in it needs is in the tars by then. Raises DemoError.
    """
    done = 0
    target.mkdir()
    try:
        for path in files_of(source):
            with path.open("rb") as read, (target / path.name).open("wb") as write:
                while piece := read.read(PIECE):
                    write.write(piece)
                    done += len(piece)
                    moved(done)
    except OSError as error:
        raise DemoError(
            f"cannot copy {source}: {error}; if it is in use, a cleanup may have removed what "
            "was being copied: try again, or stop the program that uses it"
        ) from error


def files_of(source: Path) -> list[Path]:
    """The files of a store that make it up, in the order in which to copy them."""
    others = [source / name for name in BESIDE_TARS]
    return [path for path in others if path.is_file()] + sorted(source.glob("data*.tar"))


def check_space(directory: Path, size: int) -> None:
    """Raise DemoError unless `size` bytes can be written in `directory`."""
    free = shutil.disk_usage(directory).free
    if free < size:
        raise DemoError(
            f"{directory} has {free // MIB:,} MiB free, and {size // MIB:,} MiB are needed; "
            "name another place with --directory"
        )
