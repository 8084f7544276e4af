"""The slave's scrub: its tars are read again and again, and what rotted is fetched anew.

Each slice is one short call in the store's thread, behind which whatever follows the master finds
its turn; while a head is being pulled, it rests. What is damaged is asked of the master over the
connection that is open. What neither side has whole stays told until it is mended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from tarfailover.config import SlaveConfig
from tarfailover.errors import LinkError, TarFailoverError
from tarfailover.ids import SegmentId
from tarfailover.reports import Document, moment
from tarfailover.slave import status
from tarfailover.slave.status import Status
from tarfailover.store.intake import Arrival
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.scrub import Left, Scrub, ScrubState
from tarfailover.wire.stream import Refusal, Segment

if TYPE_CHECKING:
    from tarfailover.slave.copy import Copy
    from tarfailover.slave.link import Link

SLICE = 1024 * 1024
"""Bytes that are read in one call of the store's thread."""
REST = 1.0
"""Seconds until it is looked again whether something is to be done."""
SAVE_EVERY = 60.0
"""Seconds after which the place is kept: as much is read a second time after a crash."""
RETRY_AFTER = 300.0
"""Seconds from an attempt to mend what is left to the next one."""
ASKED = 64
"""Segments that are asked for at once: at most 16 MiB."""
TOLD = 10
"""Damages on the status page; the state file has all."""

OFF, RESTING, SCRUBBING, DAMAGED = "off", "resting", "scrubbing", "damaged"


class Scrubbing:
    """See the module. `has` tells the copy and the link that the slave has now.

    `in_thread` must not count as progress: a slave that hangs is not well because of this.
    """

    log = Logger()

    def __init__(
        self,
        config: SlaveConfig,
        clock: Any,
        in_thread: Callable[..., Deferred[Any]],
        told: Status,
        has: Callable[[], tuple[Copy | None, Link | None]],
    ) -> None:
        self._config = config
        self._clock = clock
        self._in_thread = in_thread
        self._status = told
        self._has = has
        self._scrub: Scrub | None = None
        self._of: Copy | None = None
        self._call: IDelayedCall | None = None
        self._turn: Deferred[None] = succeed(None)
        self._running = False
        self._saved = self._retry_at = 0.0
        self._part = 0.0

    def reconfigure(self, config: SlaveConfig) -> None:
        """Go on at another rate."""
        self._config = config
        if self._call is None and self._turn.called:
            self._later(REST)

    def start(self) -> None:
        """Begin; what is done first is done in a second."""
        self._running = True
        self._later(REST)

    async def stop(self) -> None:
        """Finish the slice, and keep the place."""
        self._running = False
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        await self._turn
        if self._scrub is not None and self._of is self._has()[0]:
            await self._guarded(self._in_thread(self._scrub.save))

    # what it tells

    @property
    def damaged(self) -> bool:
        """Whether something is damaged that could not be mended yet."""
        return bool(self._scrub and self._scrub.state.left)

    def report(self) -> Document:
        """For the status page."""
        scrub = self._scrub.state if self._scrub else None
        left = scrub.left if scrub else []
        return {
            "state": self._word(),
            "part": round(self._part, 4),
            "begun": moment(scrub.begun or None) if scrub else None,
            "last_complete": moment(scrub.ended or None) if scrub else None,
            "passes": scrub.passes if scrub else 0,
            "found": scrub.found if scrub else 0,
            "repaired": scrub.repaired if scrub else 0,
            "damaged": len(left),
            "left": [{**each._asdict(), "since": moment(each.since)} for each in left[:TOLD]],
        }

    def _word(self) -> str:
        if self.damaged:
            return DAMAGED
        if not self._config.scrub_rate:
            return OFF
        return SCRUBBING if self._scrub and self._scrub.state.begun else RESTING

    # turns

    def _later(self, seconds: float) -> None:
        if self._running and self._config.scrub_rate:
            self._call = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._call = None
        self._turn = Deferred.fromCoroutine(self._one_turn())
        self._turn.addCallback(lambda _: None)

    async def _one_turn(self) -> None:
        """One slice, or a look whether one is due; never raises."""
        began, rate = self._clock.seconds(), self._config.scrub_rate
        if not rate:
            return
        try:
            size = await self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            self._later(self._failed(error))
            return
        pause = began + size / rate - self._clock.seconds() if size else REST
        self._later(max(0.0, pause))

    def _failed(self, error: Exception) -> float:
        """Begin anew; seconds until then. A copy that was closed meanwhile is no failure."""
        same, self._scrub, self._of = self._of is self._has()[0], None, None
        if not (self._running and same):
            return REST
        self.log.warn(
            "scrub: {error}; it goes on in {minutes:.0f} minutes",
            error=str(error) or type(error).__name__,
            minutes=RETRY_AFTER / 60,
        )
        return RETRY_AFTER

    async def _work(self) -> int:
        """Bytes that were looked at."""
        copy = self._has()[0]
        if copy is None or self._status.state == status.SYNCING:
            return 0
        scrub = await self._opened(copy)
        now = self._clock.seconds()
        if scrub.state.left and now >= self._retry_at and self._has()[1] is not None:
            self._retry_at = now + RETRY_AFTER
            await self._mend(scrub, await self._in_thread(scrub.again), again=True)
        if self._rests(scrub.state, now):
            return 0
        passes = scrub.state.passes
        found = await self._in_thread(scrub.step, SLICE, now)
        if found:
            await self._mend(scrub, found)
        if scrub.state.passes > passes:
            self._completed(scrub)
        if found or scrub.state.passes > passes or now >= self._saved + SAVE_EVERY:
            self._saved = now
            self._part = await self._in_thread(scrub.progress)
            await self._in_thread(scrub.save)
        return scrub.looked

    def _rests(self, state: ScrubState, now: float) -> bool:
        """Whether a pass is complete, and it is not time for the next."""
        return bool(
            not state.begun and state.ended and now < state.ended + self._config.scrub_interval
        )

    async def _opened(self, copy: Copy) -> Scrub:
        if self._scrub is None or self._of is not copy:
            self._scrub = await self._in_thread(Scrub, copy.writer)
            self._of, self._saved, self._retry_at = copy, self._clock.seconds(), 0.0
        return self._scrub

    def _completed(self, scrub: Scrub) -> None:
        self.log.info(
            "scrub: all tars were read; found so far: {found}, repaired: {repaired}, left: {left}",
            found=scrub.state.found,
            repaired=scrub.state.repaired,
            left=len(scrub.state.left),
        )

    # mending

    async def _mend(self, scrub: Scrub, damages: Sequence[Damage], *, again: bool = False) -> None:
        for first in range(0, len(damages), ASKED):
            batch = damages[first : first + ASKED]
            lost = [each.entry.segment for each in batch if each.lost and each.entry]
            came = await self._fetched(lost)
            left = await self._in_thread(scrub.mend, batch, came, self._clock.seconds())
            self._tell(batch, left, again=again)

    def _tell(self, damages: Sequence[Damage], left: Sequence[Left], *, again: bool) -> None:
        kept = {(each.file, each.offset): each for each in left}
        for each in damages:
            mine = kept.get((str(each.tar), each.offset))
            if mine is None:
                self.log.warn("scrub: {damage}; repaired", damage=str(each))
            elif not again:
                self.log.error(
                    "scrub: {damage}; not repaired: {why}; this is tried again every {minutes:.0f} "
                    "minutes",
                    damage=str(each),
                    why=mine.why,
                    minutes=RETRY_AFTER / 60,
                )

    async def _fetched(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival | str]:
        """The segments as they came from the master, or why one did not."""
        came: dict[SegmentId, Arrival | str] = {}
        link = self._has()[1]
        if not ids:
            return came
        if link is None:
            return dict.fromkeys(ids, "there is no connection to the master")

        def took(item: Segment | Refusal) -> None:
            came[item.segment] = item.text if isinstance(item, Refusal) else Arrival(*item)

        try:
            await link.get(ids, took)
        except LinkError as error:
            return {**dict.fromkeys(ids, str(error)), **came}
        return came

    async def _guarded(self, waited: Deferred[Any]) -> None:
        try:
            await waited
        except TarFailoverError as error:
            self.log.warn("scrub: {error}; its place is not kept", error=str(error))
