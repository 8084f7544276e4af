"""Growing pauses, never twice the same, so that many slaves do not come at once."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

FACTOR = 2.0
"""By which each pause is longer than the one before."""
JITTER = 0.1
"""Standard deviation of a pause, as a share of it."""


def jittered(seconds: float) -> float:
    """About `seconds`, by chance a little more or less."""
    return abs(random.normalvariate(seconds, JITTER * seconds))


class Pauses:
    """Pauses from `first` to `longest` seconds; `chance` is passed in for tests."""

    def __init__(
        self, first: float, longest: float, chance: Callable[[float], float] = jittered
    ) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self._seconds = first

    def next(self) -> float:
        """The next pause; the one after it is longer."""
        seconds = min(self._seconds, self._longest)
        self._seconds = min(FACTOR * seconds, self._longest)
        return self._chance(seconds)

    def reset(self) -> None:
        """All went well: begin with the first one."""
        self._seconds = self._first


class Again:
    """Calls `what` after a pause, once for each `plan`; `clock` is the reactor."""

    def __init__(self, clock: IReactorTime, pauses: Pauses, what: Callable[[], None]) -> None:
        self.pauses = pauses
        self._clock = clock
        self._what = what
        self._call: IDelayedCall | None = None

    def plan(self) -> None:
        """Call it after the next pause."""
        self.forget()
        self._call = self._clock.callLater(self.pauses.next(), self._now)

    def forget(self) -> None:
        """Do not call it, if that was planned."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _now(self) -> None:
        self._call = None
        self._what()


def in_time(
    clock: IReactorTime, seconds: float, waited: Deferred[None], late: Callable[[float], None]
) -> Deferred[None]:
    """Fires with `waited`, or after `seconds`, when `late` is told."""
    ended: Deferred[None] = Deferred()

    def is_late() -> None:
        late(seconds)
        ended.callback(None)

    call = clock.callLater(seconds, is_late)

    def came(_: None) -> None:
        if call.active():
            call.cancel()
            ended.callback(None)

    waited.addCallback(came)
    return ended
