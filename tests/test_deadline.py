"""A deadline passes once, at its time, unless there was progress or an end."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tarfailover.deadline import LEAST_PROGRESS, Deadline
from tarfailover.errors import DeadlineError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passed() -> list[DeadlineError]:
    return []


@pytest.fixture
def deadline(clock: Clock, passed: list[DeadlineError]) -> Deadline:
    return Deadline(clock, "idle", 10, "the head", passed.append)


def test_it_passes_once_and_names_what_was_waited_for(
    deadline: Deadline, clock: Clock, passed: list[DeadlineError]
) -> None:
    deadline.start()
    clock.advance(9.9)
    assert passed == []
    assert deadline.running
    clock.advance(0.2)
    (error,) = passed
    assert str(error) == "deadline idle of 10 s passed while waiting for the head"
    assert (error.name, error.seconds, error.what) == ("idle", 10, "the head")
    assert not deadline.running
    clock.advance(100)
    assert len(passed) == 1


def test_before_it_is_started_nothing_passes(
    deadline: Deadline, clock: Clock, passed: list[DeadlineError]
) -> None:
    deadline.progress()
    deadline.stop()
    clock.advance(100)
    assert (passed, deadline.running, clock.getDelayedCalls()) == ([], False, [])


@pytest.mark.parametrize("again", [Deadline.progress, Deadline.start])
def test_progress_or_another_start_begins_anew(
    deadline: Deadline, clock: Clock, passed: list[DeadlineError], again: object
) -> None:
    assert callable(again)
    deadline.start()
    for _ in range(5):
        clock.advance(9)
        again(deadline)
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(9.9)
    assert passed == []
    clock.advance(0.2)
    assert len(passed) == 1


def test_what_was_stopped_does_not_pass_and_leaves_nothing(
    deadline: Deadline, clock: Clock, passed: list[DeadlineError]
) -> None:
    deadline.start()
    deadline.stop()
    deadline.stop()
    assert clock.getDelayedCalls() == []
    deadline.progress()
    clock.advance(100)
    assert passed == []


def test_it_can_be_started_again_after_its_end(
    deadline: Deadline, clock: Clock, passed: list[DeadlineError]
) -> None:
    deadline.start()
    deadline.stop()
    deadline.start()
    clock.advance(10)
    deadline.start()
    clock.advance(10)
    assert len(passed) == 2


def test_it_can_be_started_by_what_it_calls(clock: Clock) -> None:
    times: list[float] = []

    def passing(_: DeadlineError) -> None:
        times.append(clock.seconds())
        deadline.start()

    deadline = Deadline(clock, "idle", 10, "the head", passing)
    deadline.start()
    clock.pump([10, 10, 10])
    assert times == [10, 20, 30]
    deadline.stop()
    assert clock.getDelayedCalls() == []


# what is judged by the bytes that move


class Moving:
    """Bytes that moved, and a deadline on them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.moved = 7
        self.passed: list[DeadlineError] = []
        self.deadline = Deadline(
            self.clock, "idle", 10, "bytes", self.passed.append, lambda: self.moved
        )
        self.deadline.start()


@pytest.mark.parametrize(("step", "passes"), [(0, True), (LEAST_PROGRESS - 1, True)])
def test_too_few_bytes_are_no_progress(step: int, passes: bool) -> None:
    moving = Moving()
    moving.clock.advance(9)
    moving.moved += step
    moving.clock.advance(1)
    assert bool(moving.passed) is passes


def test_as_long_as_bytes_move_it_goes_on_for_ever() -> None:
    moving = Moving()
    for _ in range(1000):
        moving.moved += LEAST_PROGRESS
        moving.clock.advance(10)
    assert not moving.passed
    moving.clock.advance(10)
    assert len(moving.passed) == 1
    assert not moving.clock.getDelayedCalls()


def test_one_byte_a_second_does_not_hold_it() -> None:
    moving = Moving()
    for _ in range(10):
        moving.moved += 1
        moving.clock.advance(1)
    assert len(moving.passed) == 1


@pytest.mark.parametrize("again", [Deadline.progress, Deadline.start])
def test_bytes_before_another_start_do_not_count(again: object) -> None:
    assert callable(again)
    moving = Moving()
    moving.moved += LEAST_PROGRESS
    again(moving.deadline)
    moving.clock.advance(10)
    assert len(moving.passed) == 1


def test_silence_after_bytes_that_were_seen_to_move_has_no_more_than_its_time(
    clock: Clock, passed: list[DeadlineError]
) -> None:
    moved = 0
    deadline = Deadline(clock, "idle", 10, "more", passed.append, lambda: moved)
    deadline.moving()
    assert not deadline.running, "it runs only once it is started"
    deadline.start()
    for _ in range(3):
        clock.advance(9)
        moved += LEAST_PROGRESS
        deadline.moving()
    clock.advance(9)
    moved += LEAST_PROGRESS - 1
    deadline.moving()
    assert passed == []
    clock.advance(1.1)
    assert len(passed) == 1, "too few bytes are none"
