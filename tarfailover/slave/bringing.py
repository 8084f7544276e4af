"""Brings what a head needs into the copy: its segments, then its binaries; then it is set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred

from tarfailover.ids import RecordId
from tarfailover.slave.blobs import Blobs
from tarfailover.slave.copy import Copy
from tarfailover.slave.link import Link
from tarfailover.slave.pull import InThread, Pull
from tarfailover.slave.told import ToldHead
from tarfailover.sync import Progress, Window

T = TypeVar("T")
NOTHING = Progress(0, 0, 0, 0)


class Wait(Protocol):
    """Waits for something that has a name."""

    def __call__(self, what: str, waited: Awaitable[T], /) -> Awaitable[T]:
        """Wait for `waited`, which is `what`; returns what came of it."""


class Brought(NamedTuple):
    """A head that was brought, and set; when that began and ended, in seconds since 1970."""

    head: RecordId
    began: float
    ended: float


class Bringing:
    """See the module. `wait` is told what is waited for; `seconds` is the clock."""

    def __init__(self, window: Window, wait: Wait, seconds: Callable[[], float]) -> None:
        self.blobs = Blobs(window, seconds)
        self._window = window
        self._wait = wait
        self._seconds = seconds
        self._pull: Pull | None = None
        self.last: Brought | None = None
        """The last head that was brought as a whole."""

    def progress(self) -> Progress:
        """How far it is with what was begun last."""
        segments = self._pull.progress() if self._pull else NOTHING
        found = self.blobs.progress()
        return replace(
            segments,
            blobs=found.blobs,
            blob_size=found.size,
            blobs_left=found.blobs_left,
            blob_size_left=found.size_left,
        )

    def ask(self, link: Link, copy: Copy, wait: float) -> Deferred[ToldHead]:
        """Ask for the head, and for what is new along with it unless that is here already."""
        if self.blobs.waiting:
            return link.head(copy.head, wait)
        return link.follow(copy.head, wait, copy.cursor)

    async def head(
        self, link: Link, copy: Copy, head: ToldHead, in_thread: InThread, *, warn: bool
    ) -> None:
        """Bring all of `head`, and set it; raises as `Pull`, `Blobs.bring` and `Copy.commit`."""
        began = self._seconds()
        self.blobs.forget()
        cursor = copy.cursor if copy.head else b""
        segment = head.head.segment
        self._pull = Pull(link, copy.receiver, in_thread, segment, self._window, cursor)
        cursor = await self._wait(f"the segments of {head.head}", self._pull.start())
        await self._binaries(link, copy, head, in_thread, warn=warn)
        await self._wait(f"{head.head} to be committed", in_thread(copy.commit, head, cursor))
        self.last = Brought(head.head, began, self._seconds())

    async def binaries(
        self, link: Link, copy: Copy, head: ToldHead, in_thread: InThread, *, warn: bool
    ) -> None:
        """Bring the binaries that `head`, which is set, lacks; raises as `Blobs.bring`."""
        self.blobs.forget()
        self._pull = None
        await self._binaries(link, copy, head, in_thread, warn=warn)

    async def _binaries(
        self, link: Link, copy: Copy, head: ToldHead, in_thread: InThread, *, warn: bool
    ) -> None:
        if copy.blobs is not None:
            bringing = self.blobs.bring(link, copy.blobs, head.head, in_thread, warn=warn)
            await self._wait(f"the binaries of {head.head}", bringing)
