"""Growing pauses, never twice the same, so that many slaves do not come at once."""

from __future__ import annotations

import random
from collections.abc import Callable

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
