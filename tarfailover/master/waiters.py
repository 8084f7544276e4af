"""The questions for a head that one client has put, and that wait for it to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tarfailover.errors import ProtocolError
from tarfailover.wire.messages import Follow, Head


class Waiter(NamedTuple):
    """One of them."""

    request: int
    asked: Head | Follow
    late: IDelayedCall


class Waiters:
    """All of them; `answer` is called when one has waited as long as it wanted."""

    def __init__(self, clock: IReactorTime, answer: Callable[[], None]) -> None:
        self._clock = clock
        self._answer = answer
        self._waiting: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: int, asked: Head | Follow, most: int) -> None:
        """One more; raises ProtocolError if `most` wait already."""
        if len(self._waiting) >= most:
            raise ProtocolError(f"more than {most} HEADs wait")
        late = self._clock.callLater(asked.wait_ms / 1000, self._answer)
        self._waiting.append(Waiter(request, asked, late))

    def take(self) -> list[Waiter]:
        """They wait no more."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.late.active():
                each.late.cancel()
        return waiting
