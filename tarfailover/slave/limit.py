"""A limit on what is read from a master; what is not read, the master's kernel does not send."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tarfailover.bandwidth import Bucket

AHEAD = 0.5
"""Seconds of the rate that the kernel may receive before they are read: most round trips."""
AT_A_TIME = 0.1
"""Seconds of the rate that are read at a time."""
LEAST = 16 * 1024
"""Bytes that are read at a time, at the least."""


def within(size: int, rate: int, seconds: float) -> int:
    """`size` bytes of a buffer, or fewer if that is more than `seconds` of `rate`; 0 is any."""
    if not rate:
        return size
    some = max(LEAST, int(rate * seconds))
    return min(size, some) if size else some


class ReadLimit:
    """Keeps reading to `rate` bytes a second, 0 for any; `pause` and `resume` stop and start it."""

    def __init__(
        self,
        clock: IReactorTime,
        rate: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._bucket = Bucket(clock.seconds, rate)
        self._pause = pause
        self._resume = resume
        self._later: IDelayedCall | None = None

    @property
    def waiting(self) -> bool:
        """Whether nothing may be read now."""
        return self._later is not None

    def read(self, size: int) -> None:
        """Count `size` bytes that came."""
        self._bucket.spend(size)
        wait = self._bucket.wait()
        if wait and self._later is None:
            self._later = self._clock.callLater(wait, self._waited)
            self._pause()

    def set(self, rate: int) -> None:
        """Another rate, from the next read on."""
        self._bucket.set(rate)

    def stop(self) -> None:
        """The connection is gone."""
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    def _waited(self) -> None:
        self._later = None
        self._resume()
