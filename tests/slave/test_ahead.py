"""What comes along with a new head is taken when it is asked for, and nothing else is believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import Rig
from sides import HELLO, SlaveEnd
from stores import Sample, bulk, head_in, leaf

from tarfailover.errors import ConnectionLostError, DeadlineError, PeerError, ProtocolError
from tarfailover.ids import NO_GENERATION, RecordId
from tarfailover.wire import messages as m
from tarfailover.wire import stream
from tarfailover.wire.negotiate import FOLLOW

OLD, ONE, TWO = leaf(1), leaf(2), leaf(3)
HAVE = head_in(OLD.segment)
NEW = m.HeadIs(head_in(TWO.segment), 1, NO_GENERATION, known=True)
CURSOR, BEHIND = b"cursor", b"behind"


class End(SlaveEnd):
    """A slave that follows, and takes up the list of a new head at once."""

    def __init__(self, features: tuple[str, ...] = (FOLLOW,), **settings: Any) -> None:
        super().__init__(Rig(), dataclasses.replace(HELLO, features=(FOLLOW,)), **settings)
        self.master.welcome(features=features)
        self.rig.settle()
        self.heads: list[m.HeadIs] = []
        self.listed: list[bytes] = []

    def follow(
        self, cursor: bytes = CURSOR, *, wanting: bool = True, have: RecordId | None = HAVE
    ) -> int:
        """Ask; returns the number of the one request."""
        asked = self.protocol.follow(have, 20.0, cursor).addCallback(self._told, wanting)
        asked.addErrback(lambda failure: self.failures.append(failure.value))
        self.rig.settle()
        ((number, self.message),) = self.master.requests
        self.master.requests.clear()
        return number

    def _told(self, head: m.HeadIs, wanting: bool) -> None:
        self.heads.append(head)
        if wanting:
            self.asked(self.protocol.list(head.head.segment, CURSOR, self.listed.append))

    def fetch(self, *samples: Sample) -> None:
        """Ask for segments."""
        self.asked(self.protocol.get([each.segment for each in samples], self.items.append))
        self.rig.settle()

    def answer(self, number: int, *answers: m.Answer) -> None:
        """The master says so."""
        self.master.answer(number, *answers)
        self.rig.settle()

    @property
    def names(self) -> list[bytes]:
        """The segments that were handed on."""
        return [each.segment for each in self.items]


def items(*samples: Sample) -> bytes:
    return b"".join(each.segment + len(each.data).to_bytes(4, "big") for each in samples)


def listed(*samples: Sample) -> m.Listed:
    return m.Listed(len(samples), sum(len(s.data) for s in samples), items(*samples))


def streamed(*samples: Sample) -> list[m.Answer]:
    data = b"".join(b"".join(map(bytes, stream.item(s.segment, 7, s.data))) for s in samples)
    cut = range(0, len(data), m.MAX_PART)
    parts = [m.Part(data[at : at + m.MAX_PART]) for at in cut]
    return [*parts, m.End(len(samples), len(data))]


def whole(*samples: Sample) -> list[m.Answer]:
    """All that comes with a new head."""
    return [NEW, listed(*samples), m.ListEnd(BEHIND), *streamed(*samples)]


@pytest.fixture
def end() -> End:
    return End()


def test_it_asks_with_its_cursor_and_for_as_much_as_may_come(end: End) -> None:
    end.follow()
    assert end.message == m.Follow(HAVE, 20_000, CURSOR, m.MAX_AHEAD)


def test_a_master_that_cannot_is_asked_for_the_head_alone() -> None:
    end = End(features=())
    end.follow()
    assert end.message == m.Head(HAVE, 20_000)


def test_the_first_head_is_asked_for_alone(end: End) -> None:
    end.follow(have=None)
    assert end.message == m.Head(None, 20_000)


def test_nothing_more_is_asked_for_what_comes_along(end: End) -> None:
    end.answer(end.follow(), *whole(ONE, TWO))
    assert end.heads == [NEW] and end.listed == [items(ONE, TWO)] and end.results == [BEHIND]
    end.fetch(ONE, TWO)
    assert end.names == [ONE.segment, TWO.segment] and end.results == [BEHIND, None]
    assert not end.master.requests and not end.rig.delayed


@pytest.mark.parametrize("before", range(7))
def test_it_may_be_asked_for_before_all_of_it_came(end: End, before: int) -> None:
    big = bulk(9, 150_000)
    number = end.follow()
    first, rest = whole(big, TWO)[:2], whole(big, TWO)[2:]
    end.answer(number, *first, *rest[:before])
    end.fetch(big, TWO)
    end.answer(number, *rest[before:])
    assert end.names == [big.segment, TWO.segment]
    assert BEHIND in end.results and None in end.results
    assert not end.master.requests and not end.rig.delayed and not end.lost


@pytest.mark.parametrize(
    "head",
    [dataclasses.replace(NEW, head=HAVE), dataclasses.replace(NEW, known=False)],
    ids=["the same head", "a stranger's head"],
)
def test_behind_such_a_head_nothing_comes(end: End, head: m.HeadIs) -> None:
    end.answer(end.follow(), head)
    assert end.heads == [head] and not end.results
    ((_, asked),) = end.master.requests
    assert isinstance(asked, m.List), "it is asked for"


def test_another_list_is_asked_for(end: End) -> None:
    number = end.follow(b"another cursor")
    end.answer(number, *whole(ONE, TWO))
    (other, asked) = end.master.take()
    assert asked == m.List(TWO.segment, CURSOR) and not end.listed
    end.fetch(ONE, TWO)
    (third, asked) = end.master.take()
    assert asked == m.Get((ONE.segment, TWO.segment)), "what went by is not there"
    end.answer(other, listed(ONE, TWO), m.ListEnd(b"x"))
    end.answer(third, *streamed(ONE, TWO))
    assert end.results == [b"x", None] and len(end.items) == 2


@pytest.mark.parametrize("wanted", [(TWO,), (TWO, ONE), (ONE, TWO, OLD)])
def test_other_segments_are_asked_for(end: End, wanted: Sequence[Sample]) -> None:
    end.answer(end.follow(), *whole(ONE, TWO))
    end.fetch(*wanted)
    number, asked = end.master.take()
    assert asked == m.Get(tuple(each.segment for each in wanted))
    end.answer(number, *streamed(*wanted))
    assert end.names == [each.segment for each in wanted]


def test_the_same_is_not_there_twice(end: End) -> None:
    end.answer(end.follow(), *whole(ONE, TWO))
    end.fetch(ONE, TWO)
    end.fetch(ONE, TWO)
    assert len(end.master.requests) == 1


def test_who_does_not_take_the_list_gets_nothing_of_it(end: End) -> None:
    end.answer(end.follow(wanting=False), *whole(ONE, TWO))
    end.fetch(ONE, TWO)
    assert end.heads and not end.items and len(end.master.requests) == 1
    assert not end.lost


def test_the_next_head_lets_go_of_what_came_with_the_last(end: End) -> None:
    end.answer(end.follow(), *whole(ONE, TWO))
    end.follow()
    end.fetch(ONE, TWO)
    assert isinstance(end.master.requests[0][1], m.Get)


def test_too_much_to_come_along_is_asked_for(end: End) -> None:
    number = end.follow()
    much = m.Listed(2, m.MAX_AHEAD + 1, items(ONE, TWO))
    end.answer(number, NEW, much, m.ListEnd(BEHIND), m.End(0, 0))
    end.fetch(ONE, TWO)
    assert isinstance(end.master.requests[0][1], m.Get)
    assert end.results == [BEHIND] and not end.lost


def test_signs_of_life_are_no_list(end: End) -> None:
    number = end.follow()
    end.answer(number, NEW, m.Listed(0, 0, b""), m.Listed(0, 0, b""), *whole(ONE)[1:])
    end.fetch(ONE)
    assert end.names == [ONE.segment] and not end.master.requests


def test_a_list_that_fails_is_told_and_the_connection_goes_on(end: End) -> None:
    end.answer(end.follow(), NEW, m.Error(m.ErrorCode.HEAD_GONE, "gone"))
    (failure,) = end.failures
    assert isinstance(failure, PeerError) and failure.code == m.ErrorCode.HEAD_GONE
    assert not end.lost and not end.rig.delayed
    end.fetch(ONE)
    assert len(end.master.requests) == 1


@pytest.mark.parametrize("got", [False, True])
@pytest.mark.parametrize("came", range(1, 5))
def test_a_connection_that_ends_meanwhile(end: End, came: int, got: bool) -> None:
    end.answer(end.follow(), *whole(ONE, TWO)[:came])
    if got:
        end.fetch(ONE, TWO)
    end.link.cut()
    error = end.error()
    assert isinstance(error, ConnectionLostError)
    assert len(end.failures) == (came < 3) + (got and came < 5)


def test_a_list_that_does_not_come(end: End) -> None:
    end.answer(end.follow(), NEW)
    end.rig.clock.advance(30.5)
    error = end.error()
    assert isinstance(error, DeadlineError) and error.name == "answer"


def test_an_answer_that_gets_stuck(end: End) -> None:
    end.answer(end.follow(), *whole(ONE, TWO)[:-1])
    end.rig.clock.advance(30.5)
    error = end.error()
    assert isinstance(error, DeadlineError) and error.name == "idle"


LONG = m.Listed(2, 100, items(ONE, TWO)[:-4] + (7).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("lies", "told"),
    [
        ([NEW], "two heads"),
        ([listed(ONE), m.ListEnd(b""), listed(ONE)], "LISTED came behind LIST_END"),
        ([m.ListEnd(b""), m.ListEnd(b"")], "LIST_END came twice"),
        ([m.End(0, 0)], "ended before its list"),
        ([listed(ONE), m.ListEnd(b""), m.End(0, 0)], "ended after 0 of 1 segments"),
        ([m.Listed(1, 100, items(ONE, TWO))], "more is listed than the 1 segments"),
        ([LONG, m.ListEnd(b""), *streamed(ONE, TWO)], "and was listed with 7"),
        ([*streamed(ONE)], "was not asked for there"),
        ([listed(ONE, TWO), *streamed(TWO, ONE)], "was not asked for there"),
        ([m.ListEnd(b""), *streamed(ONE)], "was not asked for there"),
        ([m.Welcome(1, (), "", 0, "")], "answers no request"),
    ],
)
def test_what_is_no_such_answer_ends_the_connection(
    end: End, lies: Sequence[m.Answer], told: str
) -> None:
    end.answer(end.follow(), NEW, *lies)
    error = end.error()
    assert isinstance(error, ProtocolError)
    assert told in str(error)


@given(st.permutations(whole(ONE, TWO)), st.booleans())
def test_in_any_order_it_is_taken_whole_or_not_at_all(
    answers: list[m.Answer], wanting: bool
) -> None:
    end = End()
    number = end.follow(wanting=wanting)
    end.answer(number, *answers)
    end.fetch(ONE, TWO)
    if end.lost:
        assert isinstance(end.error(), ProtocolError)
    elif wanting:
        assert end.names == [ONE.segment, TWO.segment] and not end.master.requests
