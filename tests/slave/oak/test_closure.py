"""What a closure lacks: learned completely, references first, without asking for what is there."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import bulk_id, data_id

from tarfailover.errors import ProtocolError
from tarfailover.ids import SegmentId, is_data
from tarfailover.slave.oak import closure as module
from tarfailover.slave.oak.closure import Closure

Graph = Mapping[SegmentId, Sequence[SegmentId]]


class Driver:
    """A store that has `stored`, and a primary that has `graph`."""

    def __init__(self, graph: Graph, head: SegmentId, stored: Iterable[SegmentId] = ()) -> None:
        self.graph = graph
        self.stored = set(stored)
        self.asked: list[SegmentId] = []
        self.given: list[SegmentId] = []
        self.looked_up = 0
        self.closure = Closure(head)
        self.under_way: list[SegmentId] = []

    def step(self, most: int = 10, *, keep: bool = False) -> None:
        """One round of what there is to do; with `keep`, what is ready is stored at once."""
        found = self.closure.to_look_up()
        self.looked_up += len(found)
        if found:
            self.closure.looked_up(found, [each for each in found if each not in self.stored])
        asked = self.closure.to_ask(most)
        self.asked += asked
        self.under_way += asked
        assert len(self.under_way) <= most
        if self.under_way:
            segment = self.under_way.pop(0)
            self.closure.learned(segment, self.graph[segment])
        ready = self.closure.ready()
        self.given += ready
        if keep:
            self.stored.update(ready)

    def run(self, **how: bool) -> Driver:
        """All of it."""
        while not self.closure.complete:
            self.step(**how)
        return self


def reachable(graph: Graph, head: SegmentId, stored: Iterable[SegmentId]) -> set[SegmentId]:
    """What of the closure is not stored, if what is stored has its closure stored."""
    there, found, left = set(stored), set[SegmentId](), [head]
    while left:
        segment = left.pop()
        if segment not in there and segment not in found:
            found.add(segment)
            left += graph.get(segment, ())
    return found


def in_order(graph: Graph, given: Sequence[SegmentId], stored: Iterable[SegmentId]) -> bool:
    """Whether each stands behind all that it refers to."""
    there = set(stored)
    for segment in given:
        if not there.issuperset(graph.get(segment, ())):
            return False
        there.add(segment)
    return True


def chain(count: int) -> dict[SegmentId, list[SegmentId]]:
    """Each refers to the one before it."""
    return {data_id(n): [data_id(n - 1)] if n else [] for n in range(count)}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[SegmentId, list[SegmentId]], set[SegmentId]]:
    """Segments that refer to some before them, bulk ones too, and a closed part that is stored."""
    count = draw(st.integers(1, 25))
    graph: dict[SegmentId, list[SegmentId]] = {}
    for n in range(count):
        before = [data_id(each) for each in range(n)] + [bulk_id(each) for each in range(3)]
        graph[data_id(n)] = draw(st.lists(st.sampled_from(before), max_size=6))
    stored: set[SegmentId] = set()
    for root in draw(st.lists(st.sampled_from(sorted(graph)), max_size=2)):
        stored |= reachable(graph, root, stored)
    return graph, stored


@given(graphs(), st.booleans(), st.integers(1, 5))
def test_all_that_lacks_is_given_once_and_references_first(
    made: tuple[dict[SegmentId, list[SegmentId]], set[SegmentId]], keep: bool, forget: int
) -> None:
    graph, stored = made
    head = data_id(len(graph) - 1)
    before = set(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FORGET_EVERY", forget)
        driver = Driver(graph, head, stored).run(keep=keep)
    lacks = reachable(graph, head, before)
    assert sorted(driver.given) == sorted(lacks)
    assert in_order(graph, driver.given, before)
    assert sorted(driver.asked) == sorted(filter(is_data, lacks))


def test_a_new_head_costs_what_is_new() -> None:
    graph = chain(1000)
    old, new = data_id(999), data_id(5000)
    graph[new] = [old, data_id(3), bulk_id(1)]
    driver = Driver(graph, new, list(graph)[:-1]).run()
    assert driver.asked == [new]
    assert driver.given == [bulk_id(1), new]
    assert driver.looked_up == 4


def test_a_head_that_is_stored_costs_a_look() -> None:
    driver = Driver({}, data_id(1), [data_id(1)]).run()
    assert (driver.asked, driver.given, driver.looked_up) == ([], [], 1)


def test_the_leaves_can_be_fetched_while_the_rest_is_learned() -> None:
    """Depth first, however wide: what waits is a path and its neighbours, not the store."""
    rng = random.Random(7)
    graph: dict[SegmentId, list[SegmentId]] = {}
    for n in range(3000):
        graph[data_id(n)] = [data_id(rng.randrange(n)) for _ in range(8)] if n > 8 else []
    driver = Driver(graph, data_id(2999))
    while not driver.given:
        driver.step()
    assert len(driver.asked) < 300


def test_a_circle_is_given_too() -> None:
    one, two, three = data_id(1), data_id(2), data_id(3)
    graph = {one: [two], two: [three, one], three: [three, bulk_id(1)]}
    driver = Driver(graph, one).run()
    assert driver.given[:2] == [bulk_id(1), three]
    assert sorted(driver.given[2:]) == sorted([one, two])


def test_what_was_not_asked_is_refused() -> None:
    driver = Driver(chain(2), data_id(1))
    with pytest.raises(ProtocolError, match="came unasked"):
        driver.closure.learned(data_id(1), [])


def test_there_is_an_end_to_what_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 100)
    driver = Driver(chain(200), data_id(199))
    with pytest.raises(ProtocolError, match="more than 100 segments wait"):
        driver.run()


def test_a_long_chain_takes_little_memory_for_each_segment_and_no_recursion() -> None:
    """The same for a million of them: it was measured with 1,000,000."""
    graph = chain(50_000)
    ids = list(graph)
    head = ids[-1]
    driver = Driver(graph, head)
    tracemalloc.start()
    while len(driver.asked) < len(graph):
        driver.step()
        driver.asked[-1:] = [head]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    driver.run()
    assert driver.given == ids
    assert used < 150 * len(graph)
