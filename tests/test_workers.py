"""Threads beside the reactor: order, results, errors, and an end even of what hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from tarfailover.errors import DeadlineError, StoreIOError
from tarfailover.workers import Workers

SECONDS = 30.0
"""Longer than anything here takes: a test that needs it has failed."""


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if name in thread.name]


def workers_of(size: int) -> Workers:
    workers = Workers(reactor, size, "tested")
    workers.start()
    return workers


@pytest_twisted.ensureDeferred
async def test_one_thread_works_in_the_order_of_the_calls() -> None:
    workers = workers_of(1)
    gate, order = threading.Event(), list[int]()

    def work(number: int) -> threading.Thread:
        gate.wait(SECONDS)
        order.append(number)
        return threading.current_thread()

    done = [workers.run(work, number) for number in range(50)]
    gate.set()
    threads = await gatherResults(done)
    assert order == list(range(50))
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
    await workers.stop(SECONDS)


@pytest_twisted.ensureDeferred
async def test_what_goes_on_beside_is_no_progress() -> None:
    workers = workers_of(1)
    began, gate = threading.Event(), threading.Event()

    def hangs() -> bool:
        began.set()
        return gate.wait(SECONDS)

    waited = workers.aside(hangs)
    assert began.wait(SECONDS)
    job = workers.longest()
    assert job is not None and job.name == "hangs", "but where it hangs is told"
    gate.set()
    assert await waited
    assert workers.done == 0
    assert await workers.run(len, "four") == 4
    assert workers.done == 1
    await workers.stop(SECONDS)


@pytest_twisted.ensureDeferred
async def test_as_many_threads_as_wished_work_at_once() -> None:
    workers = workers_of(3)
    together = threading.Barrier(3, timeout=SECONDS)
    await gatherResults([workers.run(together.wait) for _ in range(3)])
    await workers.stop(SECONDS)


@pytest_twisted.ensureDeferred
async def test_results_and_errors_come_back_to_the_reactor_s_thread() -> None:
    workers = workers_of(1)
    assert await workers.run(lambda left, *, right: left + right, 1, right=2) == 3

    def fail() -> None:
        raise StoreIOError("the disk is full")

    with pytest.raises(StoreIOError, match="full"):
        await workers.run(fail)
    assert await workers.run(lambda: "goes on") == "goes on"
    place = workers.run(lambda: None).addCallback(lambda _: threading.current_thread())
    assert await place is threading.current_thread()
    await workers.stop(SECONDS)


@pytest_twisted.ensureDeferred
async def test_stopping_lets_what_was_given_finish() -> None:
    workers = workers_of(1)
    gate, done = threading.Event(), list[int]()
    results = [
        workers.run(lambda number=number: (gate.wait(SECONDS), done.append(number)))
        for number in range(3)
    ]
    stopping = workers.stop(SECONDS)
    assert not stopping.called
    gate.set()
    await stopping
    assert done == [0, 1, 2]
    assert named("PoolThread-tested") == []
    await gatherResults(results)


class Reactor(Clock):
    """A clock, and calls from threads that wait until the test lets them in."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:  # noqa: N802
        self.from_threads.append((function, args))

    def let_in(self) -> None:
        for function, args in self.from_threads:
            function(*args)


def hanging(clock: Reactor) -> tuple[threading.Event, Deferred[None]]:
    """A pool that is told to stop while its work hangs until the event is set."""
    workers = Workers(clock, 1, "tested")
    workers.start()
    started, gate = threading.Event(), threading.Event()
    workers.run(lambda: (started.set(), gate.wait(SECONDS)))
    assert started.wait(SECONDS)
    return gate, workers.stop(5.0)


def test_what_hangs_is_given_up_at_the_deadline() -> None:
    clock = Reactor()
    gate, stopped = hanging(clock)
    try:
        clock.advance(4.9)
        assert not stopped.called
        clock.advance(0.2)
        found: list[Any] = []
        stopped.addErrback(found.append)
        (failure,) = found
        assert failure.check(DeadlineError)
        assert str(failure.value) == "deadline drain of 5 s passed while waiting for the disk"
        (pool,) = [thread for thread in named("tested") if "stop" not in thread.name]
        assert pool.daemon, "it does not keep the process"
    finally:
        gate.set()
        for thread in named("tested"):
            thread.join(SECONDS)
    # Its end comes too late, and is not told a second time.
    clock.let_in()
    assert clock.getDelayedCalls() == []


def test_an_end_in_time_leaves_no_deadline() -> None:
    clock = Reactor()
    gate, stopped = hanging(clock)
    gate.set()
    for thread in named("tested"):
        thread.join(SECONDS)
    clock.let_in()
    found: list[object] = []
    stopped.addBoth(found.append)
    assert found == [None]
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_what_was_never_given_work_stops_too() -> None:
    await workers_of(2).stop(SECONDS)
