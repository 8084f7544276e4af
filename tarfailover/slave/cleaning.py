"""The slave's cleanup: when it is due, that it is tried again, and what is told of it.

It is done in parts, each in the store's thread between two questions to the master, so
that a new head is late by one part at most. Whether it is due is known from the store
and the slave's state file, so that a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tarfailover.config import SlaveConfig
from tarfailover.errors import StoreError
from tarfailover.slave.copy import Copy
from tarfailover.slave.status import Status
from tarfailover.store.cleanup.run import Report

RETRY_AFTER = 300.0
"""Seconds from a cleanup that failed to the next one."""

Clean = Callable[[Copy], Awaitable[Report | None]]
"""Does a part of the cleanup of a copy in the store's thread; see `Copy.clean`."""


class Cleaning:
    """Cleans copies up, with `seconds` as the clock; see the module."""

    log = Logger()

    def __init__(
        self, config: SlaveConfig, status: Status, clean: Clean, seconds: Callable[[], float]
    ) -> None:
        self._status = status
        self._clean = clean
        self._seconds = seconds
        self._enabled = not config.no_cleanup
        self._not_before = seconds()
        self._alone = False

    def due(self, copy: Copy) -> bool:
        """Whether a part of a cleanup is to be done now."""
        return self._enabled and copy.cleanup_due and self._seconds() >= self._not_before

    async def part(self, copy: Copy) -> None:
        """Do a part; nothing may be on its way into the store.

        What goes wrong is counted and tried again later. It is raised only if the store
        must be opened anew.
        """
        try:
            report = await self._clean(copy)
        except Exception as error:
            self._failed(str(error) or type(error).__name__)
            if copy.writer.failed or not isinstance(error, StoreError):
                raise
            return
        if report is not None:
            self._ended(report)

    def begin(self, copy: Copy, wanted: Callable[[], bool]) -> None:
        """While there is no master to follow: do part after part as long as it is `wanted`.

        A pull that begins meanwhile finds its turn in the thread behind the last part.
        """
        if not self._alone and self.due(copy):
            self._alone = True
            Deferred.fromCoroutine(self._do_alone(copy, wanted))

    async def _do_alone(self, copy: Copy, wanted: Callable[[], bool]) -> None:
        try:
            while wanted() and self.due(copy):
                await self.part(copy)
        except Exception:  # noqa: BLE001 - was told; the next cycle finds the store unusable
            return
        finally:
            self._alone = False

    def _ended(self, report: Report) -> None:
        if report.failures:
            more = f", and {len(report.failures) - 1} more" if report.failures[1:] else ""
            self._failed(f"{report.failures[0]}{more}")
        else:
            self._status.cleanups += 1
        if report.freed or not report.failures:
            self.log.info(
                "cleanup for generation {generation}: {mib} MiB freed; segments gone: {segments}, "
                "tars removed: {removed}, written anew: {rewritten}",
                generation=str(report.generation),
                mib=f"{report.freed / (1024 * 1024):.1f}",
                segments=report.segments,
                removed=report.tars_removed,
                rewritten=report.tars_rewritten,
            )

    def _failed(self, why: str) -> None:
        self._status.cleanup_failures += 1
        self._not_before = self._seconds() + RETRY_AFTER
        self.log.warn(
            "cleanup: {why}; the copy is followed all the same, and this is tried again in "
            "{minutes:.0f} minutes",
            why=why,
            minutes=RETRY_AFTER / 60,
        )
