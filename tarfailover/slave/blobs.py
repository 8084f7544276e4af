"""The slave's external binaries: when they are looked after, and what it means if one lacks.

A head is set once its binaries are there. Those that the master does not have keep it from
moving, with the paths that need them; or, if the operator says so, they are listed as
missing, durably, and looked for again until they have come. A binary that no node of the
head holds, only a record beside them, keeps nothing from moving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.logger import Logger

from tarfailover.errors import BlobMissingError
from tarfailover.ids import RecordId
from tarfailover.slave.blobcopy import BlobCopy, Look
from tarfailover.slave.blobpull import BlobPull
from tarfailover.slave.link import Link
from tarfailover.slave.pull import InThread
from tarfailover.store.blobs.missing import Missing, told_of
from tarfailover.sync import Window
from tarfailover.sync.blobs import BlobProgress

RETRY_AFTER = 60.0
"""Seconds from one look for what is listed as missing to the next."""


class Blobs:
    """Brings the binaries of heads; `seconds` is the clock."""

    log = Logger()

    def __init__(self, window: Window, seconds: Callable[[], float]) -> None:
        self._window = window
        self._seconds = seconds
        self._again_at = seconds()
        self._pull: BlobPull | None = None
        self.waiting = False
        """Whether a head could not be set for want of binaries alone: its segments are here."""

    def progress(self) -> BlobProgress:
        """How far it is with the head that was begun last."""
        return self._pull.progress() if self._pull else BlobProgress()

    def forget(self) -> None:
        """Another head is begun."""
        self._pull = None

    def due(self, copy: BlobCopy | None, head: RecordId | None) -> bool:
        """Whether the binaries of the head that is set are to be looked at."""
        if copy is None or head is None:
            return False
        return copy.checked_head != head or self.repairs(copy, head)

    def repairs(self, copy: BlobCopy | None, head: RecordId | None) -> bool:
        """Whether all was looked at, and it is time to look again for what is missing."""
        if copy is None or copy.checked_head != head:
            return False
        return bool(copy.missing) and self._is_time

    @property
    def _is_time(self) -> bool:
        return self._seconds() >= self._again_at

    async def bring(
        self, link: Link, copy: BlobCopy, head: RecordId, in_thread: InThread, *, warn: bool
    ) -> None:
        """Bring what `head` needs; afterwards it may be set.

        Raises BlobMissingError unless all of it is here, or `warn` and it is listed; and
        LinkError, StoreError.
        """
        look = Look.AGAIN if self._is_time else Look.NEW
        if not warn and any(not each.unneeded for each in copy.missing.values()):
            # Until now a head could be set without them; what this one needs must be there.
            look = Look.ALL
        if self._is_time:
            self._again_at = self._seconds() + RETRY_AFTER
        self._pull = BlobPull(link, copy, in_thread, head.segment, self._window, look)
        lacking = await self._pull.start()
        missing = await in_thread(copy.settle, head, lacking, self._seconds)
        needed = {blob: each for blob, each in missing.items() if not each.unneeded}
        self.waiting = bool(needed) and not warn
        if self.waiting:
            await in_thread(copy.end)
            raise BlobMissingError(_refusal(head, copy, needed))
        before = copy.missing
        await in_thread(copy.keep, head, missing)
        self._tell(before, missing)
        if dropped := await in_thread(copy.drop_abandoned, self._seconds()):
            self.log.info(
                "parts of {dropped} binaries that nothing needs any more are removed",
                dropped=dropped,
            )

    def _tell(self, before: Mapping[str, Missing], now: Mapping[str, Missing]) -> None:
        """A line in the log for what changed."""
        gone = {blob: each for blob, each in now.items() if blob not in before}
        come = len(before.keys() - now.keys())
        if gone:
            self.log.warn(
                "{count} binaries are missing, and looked for again: {which}",
                count=len(gone),
                which=told_of(gone),
            )
        if come:
            self.log.info(
                "{come} binaries that were missing are here, or needed no more; {left} are missing",
                come=come,
                left=len(now),
            )


def _refusal(head: RecordId, copy: BlobCopy, needed: Mapping[str, Missing]) -> str:
    remedy = "the head is set once they are there, or at once with --blobs=warn"
    where = f"the shared {copy.store.path}" if copy.shared else "the master's blob store"
    lacks = f"head {head} needs {len(needed)} binaries that are not in {where}"
    return f"{lacks}: {told_of(needed)}; {remedy}"
