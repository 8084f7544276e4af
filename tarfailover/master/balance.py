"""Whether compression makes a connection faster: measured while it works.

Compression is on until the link proves to be as fast without it; within one machine it
is off until that proves slow, since something slow may be behind it. A link that takes
less than a quarter of what the compressor gives is slow: then it stays on. Otherwise
both ways are tried, each for some MiB, and it stays on only if it brings clearly more
bytes of segments a second; so a slow link, a slow slave and a busy processor are told
apart by what they do to the one number that counts. The choice is looked at again after
pauses that grow.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

PERIOD = 8 * MIB
"""Bytes of segments after which a rate is believed."""
PERIOD_SECONDS = 0.5
"""Seconds after which it is, if that many bytes take longer."""
BUFFERED = 8 * MIB
"""Bytes that the kernels may take at once, whatever the link does: they tell nothing."""
BLOCKED = 0.1
"""Seconds for one chunk after which these buffers must be full."""
GAIN = 1.15
"""How much faster it must be with compression."""
SLOW_ON = 1 / 4
"""A link that brings less than this share of the compressor's speed needs no trial."""
SLOW_OFF = 1 / 8
"""The same while compression is off: it must be lower, or a link in between would flap."""
FASTEST = 400e6
"""Bytes a second that no compressor is believed to reach; it may just have had nothing to do."""
PATIENCE = 8
"""Periods after which the other way is tried again."""
MOST_PATIENCE = 64
"""The same after many trials, and where nothing got smaller in the last one."""
NO_GAIN = 0.95
"""What bytes must shrink to, so that a trial counts as one."""


@dataclass
class Taken:
    """What the transport took: bytes of segments, bytes on the wire, and seconds."""

    raw: int = 0
    wire: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    """Of `seconds`, those in which it waited for a thread."""
    worked: float = 0.0
    """Seconds that the thread worked meanwhile."""

    def add(self, other: Taken) -> None:
        """Count what came later."""
        self.raw += other.raw
        self.wire += other.wire
        self.seconds += other.seconds
        self.waited += other.waited
        self.worked += other.worked


class Balance:
    """The choice for one connection, which is `local` within one machine; reads no clock."""

    def __init__(self, *, local: bool = False) -> None:
        self.on = not local
        self.speed = FASTEST
        """Bytes of segments that a thread compresses in a second."""
        self._rates: dict[bool, float | None] = {
            True: 0.0 if local else None,
            False: None,
        }
        self._proven = self.on
        self._least = MOST_PATIENCE if local else PATIENCE
        self._patience = self._left = self._least
        self.begin()

    def begin(self) -> None:
        """The link was idle, or other bytes go over it from now on: the buffers hide how fast."""
        self._hidden = BUFFERED
        self._sum = Taken()

    def sent(self, taken: Taken) -> None:
        """Count one chunk; it may change `on`."""
        if taken.seconds >= BLOCKED:
            self._hidden = 0
        if self._hidden > 0:
            self._hidden -= taken.wire
            return
        self._sum.add(taken)
        if self._sum.raw >= PERIOD or self._sum.seconds >= PERIOD_SECONDS:
            period, self._sum = self._sum, Taken()
            self._judge(period)

    def _judge(self, period: Taken) -> None:
        rate = period.raw / max(period.seconds, 1e-6)
        if self.on:
            self.speed = min(FASTEST, period.raw / max(period.worked, 1e-6))
            smaller = period.wire < NO_GAIN * period.raw
            self._least = PATIENCE if smaller else MOST_PATIENCE
        self._rates[self.on] = rate
        slow = self.speed * (SLOW_ON if self.on else SLOW_OFF)
        if rate < slow and period.waited < period.seconds / 2:
            self._be(True)
        elif self.on:
            self._judge_on(rate, self._rates[False])
        else:
            self._judge_off(rate, self._rates[True])

    def _judge_on(self, rate: float, without: float | None) -> None:
        if without is None or rate < GAIN * without:
            self._be(False)
        else:
            self._confirm()

    def _judge_off(self, rate: float, with_it: float | None) -> None:
        if (self.speed if with_it is None else with_it) > GAIN * rate:
            self._be(True)
        else:
            self._confirm()

    def _be(self, on: bool) -> None:
        if on != self.on:
            self.on = on
            self.begin()

    def _confirm(self) -> None:
        """One more period that says the same; after many the other way is measured anew."""
        if self._proven != self.on:
            self._proven = self.on
            self._patience = self._left = self._least
        self._left -= 1
        if self._left <= 0:
            self._patience = self._left = min(2 * self._patience, MOST_PATIENCE)
            self._rates[not self.on] = None
