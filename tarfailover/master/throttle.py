"""A limit of bytes a second for all clients together, and one for each of them.

Who has something to send asks its `Lane`, and is told how many bytes may go now. Clients
that wait for their share of the common rate stand in a row, and each gets a small slice
at its turn; so all are equally fast, and none waits long, however many they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tarfailover.bandwidth import Bucket

SLICE = 0.05
"""Seconds of the rate that are given at a time."""
ROUND = 1.0
"""Seconds in which everybody in the row shall have had a turn."""
LEAST_SLICE = 1024
"""Bytes that are given at a time, at the least."""

MOST_AHEAD = 256 * 1024
"""Bytes written without asking that are remembered for the next slices."""

Grant = Callable[[int], None]
"""Is called once, with the number of bytes that may be written."""


class Throttle:
    """What all clients share; rates in bytes a second, 0 for no limit."""

    def __init__(self, clock: IReactorTime, rate: int, rate_each: int) -> None:
        self.clock = clock
        self.rate_each = rate_each
        self.bucket = Bucket(clock.seconds, rate)
        self.lanes: set[Lane] = set()
        self._row: deque[Lane] = deque()
        self._later: IDelayedCall | None = None
        self._serving = False

    def lane(self) -> Lane:
        """The lane of one more client; it must be left."""
        lane = Lane(self)
        self.lanes.add(lane)
        return lane

    def set_rates(self, rate: int, rate_each: int) -> None:
        """Other limits, from now on, also for who waits already."""
        self.bucket.set(rate)
        self.rate_each = rate_each
        for lane in self.lanes:
            lane.bucket.set(rate_each)
        for lane in list(self.lanes):
            lane.look_again()
        self._serve()

    def stand(self, lane: Lane) -> None:
        """Wait for a slice of what all share."""
        self._row.append(lane)
        self._serve()

    def leave(self, lane: Lane) -> None:
        """Wait for it no more."""
        if lane in self._row:
            self._row.remove(lane)
        if not self._row and self._later is not None:
            self._later.cancel()
            self._later = None

    def _serve(self) -> None:
        """Give slices, as long as the common rate allows it."""
        if self._serving:
            return
        self._serving = True
        try:
            while self._row and not self.bucket.wait():
                rates = [rate for rate in (self.bucket.rate, self.rate_each) if rate]
                share = min(SLICE, ROUND / len(self._row))
                self._row.popleft().give(max(LEAST_SLICE, int(min(rates, default=0) * share)))
        finally:
            self._serving = False
        self._wake_up()

    def _wake_up(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._row:
            self._later = self.clock.callLater(self.bucket.wait(), self._woken)

    def _woken(self) -> None:
        self._later = None
        self._serve()


class Lane:
    """One client's way through a `Throttle`."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self.bucket = Bucket(throttle.clock.seconds, throttle.rate_each)
        self._asked: tuple[int, Grant] | None = None
        self._ahead = 0
        """Bytes that went without asking, and are missing from the next slices."""
        self._later: IDelayedCall | None = None

    @property
    def rate(self) -> int:
        """The lower of both limits, 0 if there is none."""
        return min(filter(None, (self._throttle.bucket.rate, self.bucket.rate)), default=0)

    def ask(self, wanted: int, grant: Grant) -> None:
        """Call `grant`, now or later, with how many of `wanted` bytes may be written.

        They count as written. Nobody asks again before that.
        """
        if not self.rate:
            grant(wanted)
            return
        self._asked = wanted, grant
        self._look()

    def spent(self, size: int) -> None:
        """Count what was written without asking."""
        if self.rate:
            self._ahead = min(self._ahead + size, MOST_AHEAD)
            self._spend(size)

    def _spend(self, size: int) -> None:
        self.bucket.spend(size)
        self._throttle.bucket.spend(size)

    def leave(self) -> None:
        """The client is gone."""
        self._stop_waiting()
        self._asked = None
        self._throttle.lanes.discard(self)

    def look_again(self) -> None:
        """The limits are other ones."""
        if self._asked is not None:
            self._stop_waiting()
            self._look()

    def _look(self) -> None:
        wait = self.bucket.wait()
        if wait:
            self._later = self._throttle.clock.callLater(wait, self._waited)
        else:
            self._throttle.stand(self)

    def _waited(self) -> None:
        self._later = None
        self._throttle.stand(self)

    def _stop_waiting(self) -> None:
        self._throttle.leave(self)
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    def give(self, slice_: int) -> None:
        """It is this client's turn."""
        if self._asked is None:
            return
        taken = min(slice_, self._ahead) if self.rate else self._ahead
        self._ahead -= taken
        if self.rate and taken == slice_:
            self._throttle.stand(self)  # it had this slice before
            return
        (wanted, grant), self._asked = self._asked, None
        size = min(wanted, slice_ - taken) if self.rate else wanted
        self._spend(size)
        grant(size)
