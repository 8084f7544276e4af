"""Token buckets: how often something may happen, for each of many addresses, or for the log."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

MAX_KEYS = 10_000
"""Addresses that are remembered; the one seen longest ago is forgotten, as if it were new."""


class Bucket:
    """Allows `burst` at once, and `rate` a second in the long run."""

    __slots__ = ("_left", "_seen")

    def __init__(self, burst: float, now: float) -> None:
        self._left = burst
        self._seen = now

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Whether one more is allowed at `now` seconds; if so, it is taken."""
        self._left = min(burst, self._left + (now - self._seen) * rate)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Buckets:
    """A bucket for each key."""

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._seconds = seconds
        self._buckets: OrderedDict[object, Bucket] = OrderedDict()

    def limit(self, rate: float, burst: float) -> None:
        """Allow another `rate` and `burst` from now on."""
        self._rate, self._burst = rate, burst

    def take(self, key: object) -> bool:
        """Whether one more is allowed for `key` now; if so, it is taken."""
        now = self._seconds()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._burst, now)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(self._rate, self._burst, now)


class Seldom:
    """Log lines that strangers can cause: of each kind a few, then one a while; the rest counts."""

    BURST = 10
    """Lines of a kind at once."""
    RATE = 0.1
    """Lines of a kind a second in the long run."""

    def __init__(self, log: Logger, seconds: Callable[[], float]) -> None:
        self._log = log
        self._buckets = Buckets(self.RATE, self.BURST, seconds)
        self._left_out: Counter[str] = Counter()

    def warn(self, kind: str, words: str, **values: Any) -> None:
        """Log a warning, or count it; `kind` is one of a few names."""
        if not self._buckets.take(kind):
            self._left_out[kind] += 1
            return
        more = self._left_out.pop(kind, 0)
        words += "; and {more} more such lines that were left out" if more else ""
        self._log.warn(words, more=more, **values)
