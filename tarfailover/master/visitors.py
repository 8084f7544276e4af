"""Oak's standbys that were here: each connects anew for every run, every few seconds.

So a look at who is connected would seldom find one, and a line in the log for each run would
be 17,000 a day.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST = 100
"""Standbys that are remembered; the one that was here longest ago is forgotten. A standby
without a name of its own has a new one after each restart."""


@dataclass
class Visitor:
    """A standby; times in seconds since 1970."""

    name: str
    address: str
    first: float
    last: float
    runs: int = 0
    sent: int = 0
    """Bytes of answers, in runs that have ended."""
    head: str = ""
    """The last head that it was told."""


class Visitors:
    """Those of one master, by name and address."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Visitor] = OrderedDict()

    def comes(self, name: str, address: str, now: float) -> Visitor:
        """One run begins."""
        found = self._known.setdefault((name, address), Visitor(name, address, now, now))
        self._known.move_to_end((name, address))
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        found.runs += 1
        found.last = now
        return found

    def all(self) -> list[Visitor]:
        """In the order of their names."""
        return sorted(self._known.values(), key=lambda each: (each.name, each.address))
