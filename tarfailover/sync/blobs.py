"""The external binaries that a head needs: what to ask a master for next, and what it lacks.

Sans-IO: a `BlobTransfer` brings the files of a blob store that were found to be lacking.
Whoever drives it tells it what they are, what was answered and what became of it on the
disk, and asks it for slices to ask for, and for the files of which all has come.

::

    wanted ──► asked, slice by slice ──► complete ──► stored       (per file)
       ▲                   │                 │
       │                   │                 ├── spoiled: once more from the beginning
       └───────────────────┼─────────────────┘
                           └── refused: missing on the master, and the others go on

When it is idle, all that was wanted is stored, or is in `missing`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tarfailover.errors import PeerError
from tarfailover.sync.window import Window
from tarfailover.wire.messages import ErrorCode

LEAST_COST = 16 * 1024
"""Bytes of the window that a slice takes at the least: requests are not for nothing."""
TRIES = 2
"""Times that a file is brought whose bytes are not what its id says: what came before may
have been spoilt here, but not what came now."""

_LACKING = (ErrorCode.BLOB_GONE, ErrorCode.DAMAGED)
"""What is told of one binary and not of all."""


class Unit(NamedTuple):
    """A file of a blob store that is lacking."""

    blob: str
    """The id under which it is asked for."""
    size: int | None
    """Bytes; None if the id does not tell."""
    offset: int = 0
    """Bytes that are here already."""


class Slice(NamedTuple):
    """What to ask for in one request: at most `most` bytes from `offset` on; 0 is all."""

    blob: str
    offset: int
    most: int


class BlobProgress(NamedTuple):
    """How far a transfer of binaries is."""

    blobs: int = 0
    """Files that are stored."""
    size: int = 0
    """Bytes that came."""
    blobs_left: int = 0
    size_left: int = 0
    """As far as ids tell."""


@dataclass(eq=False, slots=True)
class _File:
    """A file of which slices were asked for."""

    blob: str
    size: int | None
    asked: int
    """Where what was asked for ends."""
    tries: int = 1
    due: int = 0
    """Slices that are not answered yet."""
    fault: str = ""
    """Why it cannot be brought."""


class BlobTransfer:
    """Brings files in slices of `step` bytes, 0 for each file at once; see the module."""

    def __init__(self, window: Window, step: int) -> None:
        self.missing: dict[str, str] = {}
        """What the master does not have as its id says, and why."""
        self._window = window
        self._step = step
        self._wanted: dict[str, _File] = {}
        """In the order in which they are asked for."""
        self._open: dict[str, _File] = {}
        """Those of which something was asked for, until they are stored."""
        self._current: _File | None = None
        self._more: deque[_File] = deque()
        """Those whose size became known by a first slice."""
        self._complete: list[str] = []
        self._asked_bytes = 0
        self._due = 0
        self._stored = 0
        self._came = 0
        self._size_left = 0

    # what is told

    def wanted(self, units: Iterable[Unit]) -> None:
        """These files are lacking; what is known already is passed over."""
        for unit in units:
            if unit.blob in self._wanted or unit.blob in self._open or unit.blob in self.missing:
                continue
            # More than it can have is what is left of something else.
            offset = 0 if unit.size is not None and unit.offset > unit.size else unit.offset
            self._wanted[unit.blob] = _File(unit.blob, unit.size, offset)
            self._size_left += (unit.size or 0) - (offset if unit.size else 0)

    def came(self, size: int) -> None:
        """Bytes of some file came; `size` of them."""
        self._came += size
        self._size_left = max(0, self._size_left - size)

    def answered(self, asked: Slice, length: int) -> None:
        """All of a slice came; the whole file has `length` bytes."""
        file = self._arrived(asked)
        if not asked.most:
            file.asked = length
        if file.size is None:
            file.size = length
            if file.asked < length:
                self._more.append(file)
        if file.size != length:
            file.fault = f"it has {length} bytes on the master, and {file.size} by its id"
        self._settle(file)

    def refused(self, asked: Slice, error: PeerError) -> None:
        """The master does not give a slice; raises `error` if it is not about this file."""
        file = self._arrived(asked)
        if error.code not in _LACKING:
            raise error
        file.fault = error.text or "the master does not have it"
        self._settle(file)

    def _arrived(self, asked: Slice) -> _File:
        file, cost = self._open[asked.blob], self._cost(asked)
        if self._wanting and self._asked_bytes + cost >= self._window.size:
            self._window.came(cost)
        file.due -= 1
        self._due -= 1
        self._asked_bytes -= cost
        return file

    def _settle(self, file: _File) -> None:
        """If nothing of a file is on its way any more: it is complete, or cannot be brought."""
        if file.fault and self._current is file:
            self._current = None
        if file.due or self._current is file or file in self._more:
            return
        if file.fault:
            self.missing[file.blob] = file.fault
            del self._open[file.blob]
        else:
            self._complete.append(file.blob)

    def stored(self, blob: str) -> None:
        """A file is verified, and durable."""
        del self._open[blob]
        self._stored += 1

    def spoiled(self, blob: str, why: str) -> None:
        """What came of a file is not what its id says, and was thrown away."""
        file = self._open.pop(blob)
        if file.tries >= TRIES:
            self.missing[blob] = f"what the master has is not what its id says: {why}"
            return
        self._size_left += file.size or 0
        self._wanted[blob] = _File(blob, file.size, 0, file.tries + 1)

    # what to do

    def next_request(self) -> Slice | None:
        """The slice to ask for now; None if the window is full, or if nothing is wanted."""
        while self._wanting:
            file = self._next_file()
            if file.size is not None and file.asked >= file.size:
                # All of it is here already.
                self._current = None
                self._settle(file)
                continue
            asked = self._slice(file)
            cost = self._cost(asked)
            if self._due and self._asked_bytes + cost > self._window.size:
                return None
            file.asked += asked.most
            file.due += 1
            self._due += 1
            self._asked_bytes += cost
            if file.size is None or not self._step or file.asked >= file.size:
                self._current = None
            return asked
        return None

    def _next_file(self) -> _File:
        """The file of which a slice is to be asked for next."""
        if self._current is None and self._more:
            self._current = self._more.popleft()
        elif self._current is None:
            self._current = self._wanted.pop(next(iter(self._wanted)))
            self._open[self._current.blob] = self._current
        return self._current

    def _slice(self, file: _File) -> Slice:
        left = None if file.size is None else file.size - file.asked
        most = self._step if left is None else min(self._step or left, left)
        return Slice(file.blob, file.asked, most)

    def _cost(self, asked: Slice) -> int:
        return max(asked.most, LEAST_COST)

    def complete(self) -> list[str]:
        """The files of which all has come since the last call: to be verified and stored."""
        found, self._complete = self._complete, []
        return found

    @property
    def _wanting(self) -> bool:
        return bool(self._current or self._more or self._wanted)

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted, asked for, or on its way to the disk."""
        return not (self._wanting or self._open)

    def progress(self) -> BlobProgress:
        """How far this is."""
        left = len(self._wanted) + len(self._open)
        return BlobProgress(self._stored, self._came, left, self._size_left)
