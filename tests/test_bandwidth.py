"""The bucket that limits bytes a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tarfailover.bandwidth import CREDIT, LEAST_RATE, SHORTEST, Bucket


def spent_in(bucket: Bucket, clock: Clock, seconds: float, size: int, late: float = 0.0) -> int:
    """Bytes that who spends `size` at a time, and always comes `late`, gets through."""
    end, spent = clock.seconds() + seconds, 0
    while clock.seconds() < end:
        if wait := bucket.wait():
            clock.advance(min(wait + late, end - clock.seconds()))
        else:
            bucket.spend(size)
            spent += size
    return spent


@pytest.mark.parametrize("late", [0.0, 0.001, 0.02, 0.09])
@pytest.mark.parametrize("rate", [LEAST_RATE, 1_000_000, 1_000_000_000])
def test_the_rate_is_kept_also_with_late_timers(rate: int, late: float) -> None:
    clock = Clock()
    spent = spent_in(Bucket(clock.seconds, rate), clock, 5.0, max(1024, rate // 20), late)
    assert spent == pytest.approx(5.0 * rate, rel=0.03)


@given(st.lists(st.floats(0, 10), max_size=5), st.integers(1, 10**9))
def test_what_nobody_used_is_not_saved(pauses: list[float], rate: int) -> None:
    clock = Clock()
    bucket = Bucket(clock.seconds, rate)
    for pause in pauses:
        clock.advance(pause)
        bucket.spend(rate)
        assert bucket.wait() >= 1 - CREDIT - 1e-6
        clock.advance(bucket.wait())
    assert bucket.wait() <= SHORTEST


def test_no_rate_is_no_limit() -> None:
    clock = Clock()
    bucket = Bucket(clock.seconds, 0)
    bucket.spend(10**15)
    assert bucket.wait() == 0


def test_a_debt_stays_as_many_bytes_with_another_rate() -> None:
    clock = Clock()
    bucket = Bucket(clock.seconds, 1000)
    bucket.spend(2000)
    bucket.set(4000)
    assert bucket.wait() == pytest.approx(0.5, abs=CREDIT)
    bucket.set(0)
    assert bucket.wait() == 0
    bucket.set(1000)
    assert bucket.wait() == 0


def test_a_clock_that_is_set_back_does_not_stop_everything() -> None:
    now = [10_000.0]
    bucket = Bucket(lambda: now[0], LEAST_RATE)
    bucket.spend(LEAST_RATE)
    now[0] -= 3600
    assert bucket.wait() == 0
    bucket.spend(LEAST_RATE)
    assert bucket.wait() == pytest.approx(1, abs=CREDIT)
