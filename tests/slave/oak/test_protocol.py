"""The slave's end of a connection to an Oak primary: in order, matched, and never silent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from links import Rig
from oak_sides import OakEnd
from stores import Sample, bulk, head_in, leaf
from twisted.internet.defer import succeed

from tarfailover.errors import ConnectionLostError, DeadlineError, PeerError, ProtocolError
from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.slave.told import OakHead, OakPrimary
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import GetReferences
from tarfailover.wire.stream import Refusal, Segment

ONE, TWO, THREE = leaf(1), leaf(2, [leaf(1).segment]), leaf(3)
BIG = bulk(4, 200_000)
HEAD, NEXT = head_in(ONE.segment), head_in(TWO.segment)


@pytest.fixture
def end() -> OakEnd:
    return OakEnd(Rig()).welcomed(HEAD)


def s(*samples: Sample) -> list[str]:
    """Questions for segments."""
    return [f"s.{text(each.segment)}" for each in samples]


def r(*samples: Sample) -> list[str]:
    """Questions for what segments refer to."""
    return [f"r.{text(each.segment)}" for each in samples]


# who answers at all


def test_the_first_question_shows_who_is_there() -> None:
    end = OakEnd(Rig(), client='a:"b')
    assert end.primary.take() == ["h"]
    assert not end.welcomes
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.welcomes == [OakPrimary()]
    assert end.primary.clients == {"a##b"}
    assert not end.rig.delayed


def test_a_primary_that_does_not_answer_is_no_primary() -> None:
    end = OakEnd(Rig(), deadline_hello=7.0)
    end.rig.pass_time(7.1)
    error = end.error()
    assert isinstance(error, DeadlineError) and error.name == "hello"
    assert "while it has no head on its disk" in str(error)
    assert not end.welcomes


def test_one_that_ends_at_once_is_told_with_what_may_be_the_matter() -> None:
    end = OakEnd(Rig())
    end.primary.transport.loseConnection()
    error = end.error()
    assert isinstance(error, ConnectionLostError)
    assert "primary.allowed-client-ip-ranges" in str(error)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x03\0\2\2\x28"])
def test_somebody_else_is_named(said: bytes) -> None:
    end = OakEnd(Rig())
    end.primary.transport.write(said)
    error = end.error()
    assert isinstance(error, ProtocolError)
    assert "is this an Oak primary" in str(error)


# the head


def test_the_first_answer_is_the_first_head(end: OakEnd) -> None:
    assert end.asked(end.protocol.head(None, 20)) == []
    assert end.results == [OakHead(HEAD, 7, True)]
    assert end.asked(end.protocol.head(None, 20)) == ["h"]


def test_the_head_and_whether_the_primary_has_ours() -> None:
    """It is asked until it has shown that once: on one connection there is one primary."""
    end = OakEnd(Rig()).welcomed(NEXT)
    for _ in range(2):
        assert end.asked(end.protocol.head(HEAD, 20)) == [*r(ONE), "h"]
        end.primary.head(NEXT)
        end.rig.settle()
    assert end.asked(end.protocol.head(HEAD, 20)) == [*r(ONE), "h"]
    end.primary.references(ONE)
    end.primary.head(NEXT)
    end.rig.settle()
    assert end.asked(end.protocol.head(HEAD, 20)) == ["h"]
    end.primary.head(NEXT)
    end.rig.settle()
    assert [each.known for each in end.results] == [False, False, True, True]
    assert set(end.results) == {OakHead(NEXT, 7, False), OakHead(NEXT, 7, True)}
    assert not end.rig.delayed


@pytest.mark.parametrize("have", [None, HEAD])
def test_who_told_the_copys_head_here_has_shown_it(end: OakEnd, have: RecordId | None) -> None:
    assert end.asked(end.protocol.head(have, 20)) == [], "the first answer was that head"
    assert end.asked(end.protocol.head(HEAD, 20)) == ["h"]
    end.primary.head(NEXT)
    end.rig.settle()
    assert end.results == [OakHead(HEAD, 7, True), OakHead(NEXT, 7, True)]


def test_a_copy_of_what_was_told_to_it_all_the_same(end: OakEnd) -> None:
    """With --accept-new-history: from then on it is a copy of this primary."""
    end = OakEnd(Rig()).welcomed(NEXT)
    end.asked(end.protocol.head(HEAD, 20))
    end.primary.head(NEXT)
    end.rig.settle()
    assert not end.results[-1].known
    assert end.asked(end.protocol.head(NEXT, 20)) == ["h"]
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.results[-1] == OakHead(HEAD, 7, True)


def test_a_head_that_does_not_come(end: OakEnd) -> None:
    end.asked(end.protocol.head(NEXT, 0))
    end.rig.pass_time(30.1)
    assert isinstance(end.error(), DeadlineError)
    assert len(end.failures) == 1


def test_a_head_that_is_left_out_is_told_and_the_connection_lives(end: OakEnd) -> None:
    """A primary without a head on its disk answers all other questions."""
    assert end.asked(end.protocol.head(NEXT, 0)) == [*r(TWO), "h"]
    assert end.asked(end.protocol.get([ONE.segment], end.items.append)) == [*s(ONE), "h"]
    end.primary.segment(ONE)
    end.rig.settle()
    (error,) = end.failures
    assert isinstance(error, PeerError) and error.code == ErrorCode.NOT_READY
    assert end.results == [None]
    assert not end.lost
    end.link.cut()


# segments


def test_segments_come_in_order_with_the_checksum_of_their_bytes(end: OakEnd) -> None:
    samples = [BIG, ONE, TWO]
    assert end.asked(end.protocol.get([each.segment for each in samples], end.items.append)) == [
        *s(*samples),
        "h",
    ]
    for each in samples:
        end.primary.segment(each)
    end.rig.settle()
    assert end.results == [None]
    assert [(each.segment, b"".join(each.chunks)) for each in end.items] == [
        (each.segment, each.data) for each in samples
    ]
    end.primary.head(HEAD)
    end.rig.settle()
    assert not end.rig.delayed


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_one_that_is_left_out_is_known_as_soon_as_the_next_answer_comes(
    end: OakEnd, missing: int
) -> None:
    samples = [ONE, TWO, THREE]
    end.asked(end.protocol.get([each.segment for each in samples], end.items.append))
    for at, each in enumerate(samples):
        if at != missing:
            end.primary.segment(each)
    end.primary.head(HEAD)
    end.rig.settle()
    refused = end.items[missing]
    assert isinstance(refused, Refusal)
    assert (refused.segment, refused.code) == (samples[missing].segment, ErrorCode.SEGMENT_GONE)
    assert sum(isinstance(each, Segment) for each in end.items) == 2
    assert end.results == [None]
    assert not end.rig.delayed


def test_no_more_is_asked_for_than_fits_into_the_window() -> None:
    """The primary holds in memory what it answers: see the standby protocol, section 2.10."""
    end = OakEnd(Rig(), window_max=1024 * 1024).welcomed(HEAD)
    samples = [bulk(number, 100_000) for number in range(40)]
    asked = end.asked(end.protocol.get([each.segment for each in samples], end.items.append))
    assert asked == [*s(*samples[:4]), "h"]
    most, waiting = 0, list(asked)
    bodies = dict(zip(s(*samples), samples, strict=True))
    while waiting:
        most = max(most, len(waiting))
        body = waiting.pop(0)
        if body == "h":
            end.primary.head(HEAD)
        else:
            end.primary.segment(bodies[body])
        end.rig.settle()
        waiting += (more := end.primary.take())
        asked += more
    assert [body for body in asked if body != "h"] == s(*samples)
    assert asked[-1] == "h" and asked.count("h") < 8, "one at a time"
    assert 8 <= most <= 12, "it learns how long they are"
    assert end.results == [None]


def test_a_whole_window_that_is_left_out_is_known_at_once() -> None:
    """As after a compaction and a cleanup while a first copy runs: no deadline is waited for."""
    end = OakEnd(Rig(), window_max=1024 * 1024).welcomed(HEAD)
    samples = [bulk(number, 100_000) for number in range(40)]
    asked = end.asked(end.protocol.get([each.segment for each in samples], end.items.append))
    while asked:
        assert asked[-1] == "h"
        end.primary.head(NEXT)
        end.rig.settle()
        asked = end.primary.take()
    assert [each.segment for each in end.items] == [each.segment for each in samples]
    assert all(isinstance(each, Refusal) for each in end.items)
    assert end.results == [None]
    assert not end.rig.delayed


WRONG: dict[str, Callable[[OakEnd], None]] = {
    "a segment that nobody asked for": lambda end: end.primary.segment(THREE),
    "the same segment twice": lambda end: [end.primary.segment(ONE), end.primary.segment(ONE)],  # type: ignore[dict-item,return-value]
    "segments in another order": lambda end: [end.primary.segment(TWO), end.primary.segment(ONE)],  # type: ignore[dict-item,return-value]
    "references that nobody asked for": lambda end: end.primary.references(ONE),
    "a blob that nobody asked for": lambda end: end.primary.frame(
        *answers.blob_chunk("../../x", 3, b"abc", first=True, last=True)
    ),
    "two heads": lambda end: [end.primary.head(HEAD), end.primary.head(HEAD)],  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_answers_nothing_ends_the_connection(end: OakEnd, name: str) -> None:
    end.asked(end.protocol.get([ONE.segment, TWO.segment], end.items.append))
    WRONG[name](end)
    assert isinstance(end.error(), ProtocolError)
    assert "came without being asked for" in str(end.error())


def test_a_damaged_segment_ends_the_connection(end: OakEnd) -> None:
    end.asked(end.protocol.get([ONE.segment, TWO.segment], end.items.append))
    frame, data = answers.segment(ONE.segment, ONE.data)
    end.primary.frame(frame, data[:-1] + b"?")
    assert "was damaged" in str(end.error())
    assert end.items == []


# the list


def lists(end: OakEnd, head: SegmentId, stored: list[Sample]) -> list[str]:
    """Ask for the closure of `head`; the store has `stored`."""
    there = {each.segment for each in stored}

    def lacking(items: bytes) -> object:
        rows = [items[at : at + 20] for at in range(0, len(items), 20)]
        return succeed(b"".join(row for row in rows if row[:16] not in there))

    listed = end.protocol.list(head, b"a cursor", end.items.append, lacking)  # type: ignore[arg-type]
    return end.asked(listed)


def items(*samples: Sample) -> bytes:
    """Items of a list."""
    return b"".join(each.segment + b"\0\4\0\0" for each in samples)


def test_a_closure_is_learned_by_asking_about_what_lacks(end: OakEnd) -> None:
    top = leaf(9, [TWO.segment, THREE.segment, BIG.segment])
    assert lists(end, top.segment, [THREE]) == [*r(top), "h"]
    end.primary.references(top)
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.primary.take() == [*r(TWO), "h"], "and never about bulk segments"
    end.primary.references(TWO)
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.primary.take() == [*r(ONE), "h"]
    end.primary.references(ONE)
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.items == [items(BIG), items(ONE, TWO, top)]
    assert end.results == [b""]
    assert not end.rig.delayed


def test_a_segment_that_is_gone_while_its_references_are_asked(end: OakEnd) -> None:
    lists(end, ONE.segment, [])
    end.primary.head(NEXT)
    error = end.error()
    assert isinstance(error, PeerError) and error.code == ErrorCode.SEGMENT_GONE
    assert f"has no segment {text(ONE.segment)}" in str(error)


def test_a_primary_that_stops_to_answer_in_the_middle(end: OakEnd) -> None:
    top = leaf(9, [TWO.segment, THREE.segment])
    lists(end, top.segment, [])
    end.primary.references(top)
    end.rig.settle()
    end.rig.pass_time(30.1)
    assert isinstance(end.error(), DeadlineError)


def test_no_deadline_runs_while_the_disk_is_slower(end: OakEnd) -> None:
    end.asked(end.protocol.get([ONE.segment], end.items.append))
    end.protocol.hold()
    end.rig.pass_time(300)
    assert not end.lost
    end.protocol.go_on()
    end.primary.segment(ONE)
    end.primary.head(HEAD)
    end.rig.settle()
    assert end.results == [None]
    assert not end.rig.delayed


def test_what_is_asked_of_a_link_that_ended_fails(end: OakEnd) -> None:
    end.protocol.fail(ProtocolError("enough"))
    for ask in (
        lambda: end.protocol.head(HEAD, 0),
        lambda: end.protocol.get([ONE.segment], end.items.append),
        lambda: end.protocol.list(ONE.segment, b"", end.items.append, lambda _: succeed(b"")),
    ):
        end.asked(ask())
    end.error()
    assert len(end.failures) == 3


def test_closed_in_good_order(end: OakEnd) -> None:
    end.protocol.close()
    assert "was closed here" in str(end.error())


def test_the_words_of_a_question_are_those_of_the_specification() -> None:
    assert GetReferences(ONE.segment).body == r(ONE)[0]
