"""Bytes a second, kept to on a clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable

CREDIT = 0.1
"""Seconds of its rate that a bucket saves while nobody uses it: what a late timer lost, no more."""
SHORTEST = 0.002
"""Seconds below which a wait is none: a reactor is not more exact."""
LONGEST = 60.0
"""Seconds of waiting that no debt causes: where more are left, the clock was set back."""
LEAST_RATE = 64 * 1024
"""The lowest limit that may be set, in bytes a second: below it, deadlines would pass."""


class Bucket:
    """Allows `rate` bytes a second, 0 for any number; `seconds` tells the time.

    Who spends more than there is goes into debt, and waits until it is paid.
    """

    def __init__(self, seconds: Callable[[], float], rate: int) -> None:
        self._seconds = seconds
        self._paid = seconds()
        """When all that was spent is paid for."""
        self.rate = rate

    def set(self, rate: int) -> None:
        """Another rate, from now on; a debt stays as many bytes as it was."""
        owed = self.wait() * self.rate
        self.rate = rate
        self._paid = self._seconds() + (owed / rate if rate else 0)

    def spend(self, size: int) -> None:
        """Count `size` bytes."""
        if self.rate:
            self._paid = max(self._paid, self._seconds() - CREDIT) + size / self.rate

    def wait(self) -> float:
        """Seconds until something may be spent."""
        now = self._seconds()
        if self._paid - now > LONGEST:
            self._paid = now
        left = self._paid - now if self.rate else 0.0
        return left if left >= SHORTEST else 0.0
