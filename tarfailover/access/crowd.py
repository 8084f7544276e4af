"""Connections that nobody knows yet, and which of them goes when there are too many.

The one that goes is the oldest of the address with the most of them: whoever opens many
drives out his own. An address from which a client was once let in may have some more. All of
it costs the same however many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from tarfailover.access.ranges import Address

MAX_FAMILIAR = 4096
"""Addresses of former clients that are remembered; the one used longest ago is forgotten."""
ALLOWANCE = 16
"""Connections of a former client's address that count as one of another address."""
_SITE = 64

Guest = TypeVar("Guest", bound=Hashable)


def origin(client: Address | None) -> Hashable:
    """What counts as one address: of IPv6 a network of 64 bits, which one owner has whole."""
    if client is None or client.version == 4:
        return client
    return int(client) >> _SITE


class _Half(Generic[Guest]):
    """Guests by origin, and origins by how many guests they have; oldest first in each."""

    def __init__(self) -> None:
        self.guests: dict[Hashable, dict[Guest, None]] = {}
        self.by_size: dict[int, dict[Hashable, None]] = {}

    def add(self, place: Hashable, guest: Guest) -> None:
        theirs = self.guests.setdefault(place, {})
        self._resize(place, len(theirs), len(theirs) + 1)
        theirs[guest] = None

    def remove(self, place: Hashable, guest: Guest) -> bool:
        theirs = self.guests.get(place, {})
        if guest not in theirs:
            return False
        self._resize(place, len(theirs), len(theirs) - 1)
        del theirs[guest]
        if not theirs:
            del self.guests[place]
        return True

    def _resize(self, place: Hashable, before: int, after: int) -> None:
        if before:
            del self.by_size[before][place]
            if not self.by_size[before]:
                del self.by_size[before]
        if after:
            self.by_size.setdefault(after, {})[place] = None

    @property
    def most(self) -> int:
        # As many sizes as can differ among a few hundred guests: some twenty.
        return max(self.by_size, default=0)

    def first_to_go(self) -> tuple[Hashable, Guest]:
        place = next(iter(self.by_size[self.most]))
        return place, next(iter(self.guests[place]))


class Crowd(Generic[Guest]):
    """Guests nobody knows yet, each with its origin."""

    def __init__(self) -> None:
        self._strange: _Half[Guest] = _Half()
        self._familiar: _Half[Guest] = _Half()
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: Hashable, guest: Guest) -> None:
        """One more; `place` is its origin."""
        half = self._familiar if place in self._known else self._strange
        half.add(place, guest)
        self._count += 1

    def remove(self, place: Hashable, guest: Guest) -> bool:
        """One less; False if it was not there."""
        there = self._strange.remove(place, guest) or self._familiar.remove(place, guest)
        self._count -= there
        return there

    def let_in(self, place: Hashable, guest: Guest) -> None:
        """A guest turned out to be a client: it is a stranger no more, and its origin is known."""
        self.remove(place, guest)
        self._known[place] = None
        self._known.move_to_end(place)
        if len(self._known) > MAX_FAMILIAR:
            self._known.popitem(last=False)

    def pop(self) -> Guest | None:
        """Take out the one that goes first; None if there is none."""
        if not self._count:
            return None
        crowded = self._familiar.most > ALLOWANCE * self._strange.most
        place, guest = (self._familiar if crowded else self._strange).first_to_go()
        self.remove(place, guest)
        return guest
