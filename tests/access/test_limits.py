"""Rates, the crowd of strangers, and the room that the limit of open files leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tarfailover.access import crowd, rates
from tarfailover.access.crowd import ALLOWANCE, Crowd, origin
from tarfailover.access.ranges import address
from tarfailover.access.rates import Buckets, Seldom
from tarfailover.access.room import LEAST, LEAVING, RESERVED, Room


def taken(take: Callable[[object], bool], key: object, times: int) -> int:
    return sum(take(key) for _ in range(times))


def test_a_bucket_for_each_address() -> None:
    clock = Clock()
    buckets = Buckets(2, 5, clock.seconds)
    assert taken(buckets.take, "a", 9) == 5
    assert taken(buckets.take, "b", 9) == 5
    clock.advance(1)
    assert taken(buckets.take, "a", 9) == 2
    clock.advance(100)
    assert taken(buckets.take, "a", 9) == 5, "never more than the burst"


@given(st.integers(1, 9), st.integers(1, 9), st.lists(st.floats(0, 3), max_size=60))
def test_never_more_than_burst_and_rate_allow(rate: int, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock.seconds)
    allowed = 0
    for pause in pauses:
        clock.advance(pause)
        allowed += buckets.take("a")
        assert allowed <= burst + clock.seconds() * rate + 1e-6


def test_addresses_seen_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_KEYS", 3)
    buckets = Buckets(0.001, 1, Clock().seconds)
    assert [buckets.take(key) for key in "aabcadab"] == [1, 0, 1, 1, 0, 1, 0, 1]
    assert len(buckets._buckets) == 3


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, words: str, **values: Any) -> None:
        """Keep a line."""
        self.lines.append(words.format(**values))


def test_a_flood_fills_no_log() -> None:
    log, clock = Log(), Clock()
    seldom = Seldom(log, clock.seconds)  # type: ignore[arg-type]
    for each in range(1000):
        seldom.warn("a", "{n} came", n=each)
    assert len(log.lines) == Seldom.BURST
    clock.advance(1 / Seldom.RATE + 0.001)
    seldom.warn("b", "{n} of b came", n=1)
    assert log.lines.pop() == "1 of b came", "another kind"
    seldom.warn("a", "{n} came", n=1000)
    assert log.lines[-1] == "1000 came; and 990 more such lines that were left out"
    clock.advance(1 / Seldom.RATE + 0.001)
    seldom.warn("a", "{n} came", n=1001)
    assert log.lines[-1] == "1001 came"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("fd00::1", "fd00::ffff:ffff:ffff:ffff", True),
        ("fd00::1", "fd00:0:0:1::1", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (origin(address(one)) == origin(address(other))) is same


def test_whoever_opens_many_drives_out_his_own() -> None:
    guests: Crowd[int] = Crowd()
    for number, place in enumerate("abbcccab"):
        guests.add(place, number)
    assert [guests.pop() for _ in range(8)] == [3, 1, 0, 4, 2, 6, 5, 7]
    assert guests.pop() is None and len(guests) == 0


def test_former_clients_go_last() -> None:
    guests: Crowd[str] = Crowd()
    guests.add("known", "client")
    guests.let_in("known", "client")
    assert len(guests) == 0
    for each in ("k1", "k2", "k3"):
        guests.add("known", each)
    guests.add("other", "o1")
    assert [guests.pop(), guests.pop()] == ["o1", "k1"]


def test_a_former_client_does_not_drive_others_out_for_ever() -> None:
    guests: Crowd[int] = Crowd()
    guests.add("known", 0)
    guests.let_in("known", 0)
    guests.add("new", 1)
    for number in range(2, ALLOWANCE + 3):
        guests.add("known", number)
    assert [guests.pop(), guests.pop()] == [2, 1]


def test_few_former_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "MAX_FAMILIAR", 2)
    guests: Crowd[str] = Crowd()
    for place in "abc":
        guests.add(place, place)
        guests.let_in(place, place)
    for place in "cba":
        guests.add(place, place)
    assert [guests.pop() for _ in range(3)] == ["a", "c", "b"]


steps_of_one = st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "pop", "leave", "in"]))
moves = st.lists(steps_of_one, max_size=80)


@given(moves)
def test_the_crowd_is_what_a_plain_list_says(steps: list[tuple[str, str]]) -> None:
    guests: Crowd[int] = Crowd()
    model: list[tuple[str, int]] = []
    known: set[str] = set()
    strange: dict[int, bool] = {}
    for number, (place, step) in enumerate(steps):
        theirs = [each for each in model if each[0] == place]
        if step == "add":
            guests.add(place, number)
            model.append((place, number))
            strange[number] = place not in known
        elif step == "pop":
            popped = guests.pop()
            if popped is None:
                assert not model
            else:
                halves = [[m for m in model if strange[m[1]] is x] for x in (True, False)]
                most = [max(map([m[0] for m in h].count, "abc")) for h in halves]
                half = halves[most[1] > ALLOWANCE * most[0]]
                places = [m[0] for m in half]
                (where,) = [m[0] for m in model if m[1] == popped]
                assert places.count(where) == max(map(places.count, places))
                assert popped == min(m[1] for m in half if m[0] == where)
                model.remove((where, popped))
        elif theirs and step == "leave":
            assert guests.remove(*theirs[-1])
            assert not guests.remove(*theirs[-1])
            model.remove(theirs[-1])
        elif theirs:
            guests.let_in(*theirs[0])
            known.add(place)
            model.remove(theirs[0])
        assert len(guests) == len(model)


@pytest.mark.parametrize(
    ("tars", "files", "room"),
    [
        (0, 65536, (1000, 500)),
        (0, 1000 + 500 + RESERVED + LEAVING, (1000, 500)),
        (10, 1000 + 500 + RESERVED + LEAVING + 20, (1000, 500)),
        (0, 1000 + 500 + RESERVED + LEAVING - 1, (1000, 374)),
        (100, 1024, (378, 126)),
        (10_000, 1024, (1, 1)),
        (0, 0, (1, 1)),
    ],
)
def test_the_room_beside_the_tars(tars: int, files: int, room: tuple[int, int]) -> None:
    assert Room.within(1000, 500, tars, files) == room


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 3000), st.integers(0, 70_000))
def test_the_room_is_never_more_than_there_is(
    clients: int, strangers: int, tars: int, files: int
) -> None:
    room = Room.within(clients, strangers, tars, files)
    assert 1 <= room.clients <= clients and 1 <= room.strangers <= strangers
    assert sum(room) <= max(2, files - RESERVED - LEAVING - 2 * tars)
    assert room.serves is (sum(room) >= LEAST)
