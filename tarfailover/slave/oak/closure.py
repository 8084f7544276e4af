"""Which segments of a head's closure a store lacks, references first, learned by asking.

Sans-IO. An Oak primary lists nothing: it tells what one data segment refers to. So each
segment found is first looked up in the store; one that is there has its closure there
too, so a head costs what is new. For one that is not, the primary is asked.

::

    found ──► looked up ──► to be asked about ──► learned ──► ready      (a data segment)
                  │                                              ▲
                  └── stored, or a bulk segment ─────────────────┘

A segment is ready once all that it refers to is. The newest found is asked about first:
so the leaves come soon, and can be fetched while the rest is learned, and as little as
possible waits. A chain is learned one answer after the other; nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tarfailover.errors import ProtocolError
from tarfailover.ids import SegmentId, is_data, text

MOST_WAITING = 4_000_000
"""Segments that may wait for what they refer to: about half a GiB of memory."""
FORGET_EVERY = 100_000
"""Segments that are ready after which those are forgotten that are stored meanwhile."""


class Closure:
    """What the closure of the segment `head` lacks."""

    def __init__(self, head: SegmentId) -> None:
        self._waiting: dict[SegmentId, SegmentId | list[SegmentId]] = {head: []}
        """Segments that are not ready, each with those that wait for it."""
        self._needs: dict[SegmentId, int] = {}
        """For how many others a learned segment waits, where it is more than one."""
        self._done: set[SegmentId] = set()
        """Segments that are ready, and those that were found stored."""
        self._found = [head]
        self._to_ask: list[SegmentId] = []
        self._asked: set[SegmentId] = set()
        self._ready: list[SegmentId] = []
        self._looking_up = False
        self._forget_at = FORGET_EVERY
        self._forgetting = False

    # what is told

    def looked_up(self, found: Sequence[SegmentId], lacking: Iterable[SegmentId]) -> None:
        """Of `found`, which `to_look_up` gave, the store lacks those in `lacking`."""
        self._looking_up = False
        forgetting, self._forgetting = self._forgetting, False
        lacks = set(lacking)
        for segment in found:
            if segment in self._done:
                if segment not in lacks:
                    self._done.discard(segment)
            elif segment not in lacks:
                self._finish(segment, ready=False)
            elif is_data(segment):
                self._to_ask.append(segment)
            else:
                self._finish(segment, ready=True)
        if forgetting:
            self._forget_at = FORGET_EVERY + len(self._done)

    def learned(self, segment: SegmentId, references: Iterable[SegmentId]) -> None:
        """The primary told what `segment` refers to.

        Raises ProtocolError if it was not asked, or if there is no end to it.
        """
        if segment not in self._asked:
            raise ProtocolError(f"the references of segment {text(segment)} came unasked")
        self._asked.discard(segment)
        needs = 0
        for each in dict.fromkeys(references):
            if each != segment and each not in self._done:
                needs += 1
                self._wait(segment, each)
        if needs == 0:
            self._finish(segment, ready=True)
        elif needs > 1:
            self._needs[segment] = needs
        if len(self._waiting) > MOST_WAITING:
            raise ProtocolError(
                f"more than {MOST_WAITING} segments wait for what they refer to; is there an end "
                "to what this primary tells?"
            )

    def _wait(self, segment: SegmentId, needed: SegmentId) -> None:
        waiters = self._waiting.get(needed)
        if waiters is None:
            # One alone without a list around it: most of a million have no more.
            self._waiting[needed] = segment
            self._found.append(needed)
        elif isinstance(waiters, list):
            waiters.append(segment)
        else:
            self._waiting[needed] = [waiters, segment]

    def _finish(self, segment: SegmentId, *, ready: bool) -> None:
        """`segment` is stored or ready: so are those that waited for nothing else."""
        if ready:
            self._ready.append(segment)
            self._done.add(segment)
        passing = [segment]
        while passing:
            waiters = self._waiting.pop(passing.pop())
            for each in waiters if isinstance(waiters, list) else (waiters,):
                needs = self._needs.pop(each, 1) - 1
                if needs == 0:
                    self._ready.append(each)
                    self._done.add(each)
                    passing.append(each)
                elif needs > 1:
                    self._needs[each] = needs

    # what to do

    def to_look_up(self) -> list[SegmentId]:
        """Segments to look up in the store now; the answer comes before the next are given."""
        if self._looking_up:
            return []
        found, self._found = self._found, []
        if len(self._done) >= self._forget_at:
            # Whoever refers to one of them from now on has it looked up again.
            found += self._done
            self._forgetting = True
        self._looking_up = bool(found)
        return found

    def to_ask(self, most: int) -> list[SegmentId]:
        """Data segments to ask about now, so that no more than `most` are asked about."""
        room = max(0, most - len(self._asked))
        now = self._to_ask[: -room - 1 : -1] if room else []
        del self._to_ask[len(self._to_ask) - len(now) :]
        self._asked.update(now)
        return now

    def ready(self) -> list[SegmentId]:
        """Segments to fetch, references first, that were not given before."""
        ready, self._ready = self._ready, []
        if not (self._found or self._to_ask or self._asked or self._looking_up):
            # Those that are left wait for each other in a circle.
            circle, self._waiting = list(self._waiting), {}
            ready += reversed(circle)
        return ready

    @property
    def complete(self) -> bool:
        """Whether all is learned and was given."""
        return not (self._waiting or self._ready or self._looking_up)
