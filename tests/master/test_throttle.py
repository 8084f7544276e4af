"""The throttle alone: how much it lets through, to whom, and when limits change."""

from __future__ import annotations

import itertools

import pytest
from twisted.internet.task import Clock

from tarfailover.bandwidth import LEAST_RATE
from tarfailover.master.throttle import ROUND, Throttle

MIB = 1024 * 1024


class Client:
    """Has always more to send, `chunk` bytes at a time."""

    def __init__(self, throttle: Throttle, chunk: int = MIB) -> None:
        self.lane = throttle.lane()
        self.sent = 0
        self.gaps: list[float] = []
        self._seconds = throttle.clock.seconds
        self._last = self._seconds()
        self._chunk = chunk
        self._left = 0
        self._gone = False

    def go(self) -> None:
        """Ask, and ask again when it was granted."""
        if not self._gone:
            self._left = self._left or self._chunk
            self.lane.ask(self._left, self._granted)

    def _granted(self, size: int) -> None:
        assert 0 < size <= self._left
        self.gaps.append(self._seconds() - self._last)
        self._last = self._seconds()
        self.sent += size
        self._left -= size
        self._clock.callLater(0, self.go)

    @property
    def _clock(self) -> Clock:
        clock = self.lane._throttle.clock
        assert isinstance(clock, Clock)
        return clock

    def leave(self) -> None:
        """Disconnect."""
        self._gone = True
        self.lane.leave()


def run(clock: Clock, seconds: float, step: float = 0.004) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)


def started(throttle: Throttle, count: int, chunk: int = MIB) -> list[Client]:
    clients = [Client(throttle, chunk) for _ in range(count)]
    for client in clients:
        client.go()
    return clients


def finish(clock: Clock, clients: list[Client]) -> None:
    for client in clients:
        client.leave()
    clock.advance(0.01)
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("rate", [LEAST_RATE, MIB, 100 * MIB])
@pytest.mark.parametrize("count", [1, 7])
def test_all_together_get_the_rate_and_each_the_same(rate: int, count: int) -> None:
    clock = Clock()
    clients = started(Throttle(clock, rate, 0), count)
    run(clock, 4)
    assert sum(client.sent for client in clients) == pytest.approx(4 * rate, rel=0.05)
    for client in clients:
        assert client.sent == pytest.approx(4 * rate / count, rel=0.1)
    finish(clock, clients)


def test_each_gets_its_own_rate_and_small_askers_no_less() -> None:
    clock = Clock()
    throttle = Throttle(clock, 0, MIB)
    clients = started(throttle, 3) + started(throttle, 2, 3000)
    run(clock, 4)
    for client in clients:
        assert client.sent == pytest.approx(4 * MIB, rel=0.05)
    finish(clock, clients)


def test_the_lower_limit_counts() -> None:
    clock = Clock()
    clients = started(Throttle(clock, MIB, 300_000), 2)
    run(clock, 4)
    assert [client.sent for client in clients] == pytest.approx([1_200_000] * 2, rel=0.05)
    more = started(clients[0].lane._throttle, 6)
    before = sum(client.sent for client in clients)
    run(clock, 4)
    got = sum(client.sent for client in clients + more) - before
    assert got == pytest.approx(4 * MIB, rel=0.05)
    finish(clock, clients + more)


def test_nobody_waits_long_however_many_they_are() -> None:
    clock = Clock()
    clients = started(Throttle(clock, 4 * MIB, 0), 300)
    run(clock, 4)
    assert max(itertools.chain.from_iterable(each.gaps for each in clients)) < 2 * ROUND
    assert min(client.sent for client in clients) > 0
    assert sum(client.sent for client in clients) == pytest.approx(16 * MIB, rel=0.05)
    finish(clock, clients)


def test_without_limits_all_is_granted_at_once() -> None:
    clock = Clock()
    granted: list[int] = []
    lane = Throttle(clock, 0, 0).lane()
    lane.ask(10**9, granted.append)
    assert (granted, lane.rate) == ([10**9], 0)
    assert not clock.getDelayedCalls()


def test_other_limits_count_at_once_also_for_who_waits() -> None:
    clock = Clock()
    throttle = Throttle(clock, LEAST_RATE, 0)
    clients = started(throttle, 2)
    run(clock, 2)
    for limits, expected in (
        ((0, MIB), [2 * MIB] * 2),
        ((MIB, 0), [MIB] * 2),
        ((2 * LEAST_RATE, LEAST_RATE), [2 * LEAST_RATE] * 2),
    ):
        throttle.set_rates(*limits)
        before = [client.sent for client in clients]
        run(clock, 2)
        got = [client.sent - was for client, was in zip(clients, before, strict=True)]
        assert got == pytest.approx(expected, rel=0.1)
    throttle.set_rates(0, 0)
    granted: list[int] = []
    lane = throttle.lane()
    lane.ask(5, granted.append)
    assert granted == [5]
    finish(clock, clients)


def test_a_limit_that_is_lifted_lets_go_who_waits() -> None:
    clock = Clock()
    throttle = Throttle(clock, LEAST_RATE, 0)
    lane, granted = throttle.lane(), []
    lane.spent(10 * LEAST_RATE)
    lane.ask(5000, granted.append)
    assert granted == []
    throttle.set_rates(0, 0)
    assert granted == [5000]
    assert not clock.getDelayedCalls()


def test_what_was_written_without_asking_is_counted() -> None:
    clock = Clock()
    throttle = Throttle(clock, MIB, 0)
    lane, granted = throttle.lane(), []
    lane.spent(2 * MIB)
    lane.ask(100, granted.append)
    run(clock, 1.8)
    assert granted == []
    run(clock, 0.3)
    assert granted == [100]


def test_who_leaves_is_granted_nothing() -> None:
    clock = Clock()
    throttle = Throttle(clock, MIB, LEAST_RATE)
    clients = started(throttle, 3)
    run(clock, 1)
    clients[0].leave()
    sent = clients[0].sent
    run(clock, 1)
    assert clients[0].sent == sent
    assert len(throttle.lanes) == 2
    finish(clock, clients[1:])
    assert not throttle.lanes


def test_who_writes_without_asking_gets_no_more_than_others() -> None:
    clock = Clock()
    clients = started(Throttle(clock, MIB, 0), 4)
    unasked = 0
    for _ in range(100):
        run(clock, 0.04)
        clients[0].lane.spent(5000)
        unasked += 5000
    sent = [clients[0].sent + unasked, *(client.sent for client in clients[1:])]
    assert sum(sent) == pytest.approx(4 * MIB, rel=0.05)
    assert sent == pytest.approx([MIB] * 4, rel=0.1)
    finish(clock, clients)
