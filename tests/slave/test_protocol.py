"""The slave's end of a connection, facing masters that behave, that are late, and that lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import BUFFER, KERNEL, Rig
from sides import RawMaster, SlaveEnd
from stores import Sample, bulk, data_id, head_in, leaf

from tarfailover.errors import ConnectionLostError, DeadlineError, PeerError, ProtocolError
from tarfailover.ids import NO_GENERATION
from tarfailover.wire import messages as m
from tarfailover.wire import stream
from tarfailover.wire.stream import Refusal, Segment

ONE, TWO, BIG = leaf(1), leaf(2), bulk(3, 150_000)
HEAD_IS = m.HeadIs(head_in(ONE.segment), 1, NO_GENERATION, known=True)


@pytest.fixture
def end() -> SlaveEnd:
    return SlaveEnd(Rig()).welcomed()


def pieces(samples: Sequence[Sample | Refusal]) -> bytes:
    """The stream of a GET's answer."""
    found = b""
    for each in samples:
        made = (
            stream.item(each.segment, 7, each.data)
            if isinstance(each, Sample)
            else stream.refusal(*each)
        )
        found += b"".join(map(bytes, made))
    return found


def streamed(*samples: Sample | Refusal) -> list[m.Answer]:
    """A GET's whole answer."""
    data = pieces(samples)
    cut = range(0, len(data), m.MAX_PART)
    parts: list[m.Answer] = [m.Part(data[at : at + m.MAX_PART]) for at in cut]
    return [*parts, m.End(len(samples), len(data))]


# HELLO


def test_it_introduces_itself_and_hears_the_welcome() -> None:
    end = SlaveEnd(Rig())
    ((number, hello),) = end.master.requests
    assert isinstance(hello, m.Hello) and hello.client == "slave"
    welcome = m.Welcome(1, (), "author", 3, "a master")
    end.master.answer(number, welcome)
    end.rig.settle()
    assert end.welcomes == [welcome]
    assert not end.rig.delayed


def test_silence_may_be_that_of_an_oak_primary() -> None:
    end = SlaveEnd(Rig())
    end.rig.pass_time(11, step=1)
    assert str(end.error()).endswith("HELLO, which an Oak primary never gives: see dialect")


@pytest.mark.parametrize("changed", [{"version": 2}, {"version": 0}, {"features": ("zstd",)}])
def test_a_welcome_to_what_was_not_offered(changed: dict[str, Any]) -> None:
    end = SlaveEnd(Rig())
    end.master.welcome(**changed)
    error = end.error()
    assert isinstance(error, ProtocolError)
    assert not end.welcomes


def test_words_of_a_master_are_one_line_of_the_log(end: SlaveEnd) -> None:
    end.master.answer(0, m.Error(m.ErrorCode.INTERNAL, "a\n2026 in sync\x1b[2J"))
    assert str(end.error()) == "'a\\n2026 in sync\\x1b[2J' (error 12)"


@pytest.mark.parametrize("code", [m.ErrorCode.VERSION, m.ErrorCode.BUSY, 4711])
def test_a_welcome_refused(code: int) -> None:
    end = SlaveEnd(Rig())
    number, _ = end.master.take()
    end.master.answer(number, m.Error(code, "no"))
    error = end.error()
    assert isinstance(error, PeerError) and (error.code, error.text) == (code, "no")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        bytes(4),
        b"\0\0\0\5\x77\0\0\0\1",
        b"\0\0\0\5\x81\0\0\0\1",
        b"\0\2\0\1",
    ],
    ids=["http", "ssh", "empty", "unknown type", "torn welcome", "a byte too long"],
)
def test_what_is_no_master(said: bytes) -> None:
    end = SlaveEnd(Rig())
    end.master.transport.write(said)
    assert isinstance(end.error(), ProtocolError)
    assert not end.welcomes


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_at_all(said: bytes, asked: bool) -> None:
    end = SlaveEnd(Rig()).welcomed()
    if asked:
        end.list()
        end.get(ONE.segment)
        end.head()
    end.master.transport.write(said)
    end.rig.settle()
    if end.lost:
        assert isinstance(end.error(), (ProtocolError, PeerError))
    else:
        end.link.cut()
        assert isinstance(end.error(), ConnectionLostError)


# answers


def test_answers_in_turn(end: SlaveEnd) -> None:
    listing, first, second = end.list(), end.get(ONE.segment, BIG.segment), end.get(TWO.segment)
    head = end.head()
    end.master.answer(head, HEAD_IS)
    end.master.answer(listing, m.Listed(1, 5, bytes(20)), m.ListEnd(b"cursor"))
    end.master.answer(first, *streamed(ONE, BIG))
    end.master.answer(second, *streamed(TWO))
    end.rig.settle()
    assert end.results == [HEAD_IS, b"cursor", None, None]
    items, *segments = end.items
    assert items == bytes(20)
    assert [each.segment for each in segments] == [ONE.segment, BIG.segment, TWO.segment]
    assert b"".join(segments[1].chunks) == BIG.data
    assert not end.rig.delayed


def test_a_refusal_stands_in_the_segments_place(end: SlaveEnd) -> None:
    number = end.get(ONE.segment, TWO.segment)
    refusal = Refusal(ONE.segment, m.ErrorCode.SEGMENT_GONE, "gone")
    end.master.answer(number, *streamed(refusal, TWO))
    end.rig.settle()
    assert [type(each) for each in end.items] == [Refusal, Segment]
    assert end.results == [None]


@pytest.mark.parametrize("code", [m.ErrorCode.NOT_READY, m.ErrorCode.HEAD_GONE, 4711])
def test_an_error_to_one_request_leaves_the_others(end: SlaveEnd, code: int) -> None:
    listing, getting = end.list(), end.get(ONE.segment)
    end.master.answer(listing, m.Error(code, "why"))
    end.master.answer(getting, *streamed(ONE))
    end.rig.settle()
    (failure,) = end.failures
    assert isinstance(failure, PeerError) and failure.code == code
    assert end.results == [None]
    assert end.link.alive


@pytest.mark.parametrize("code", [m.ErrorCode.GOING_AWAY, m.ErrorCode.INTERNAL])
def test_an_error_that_ends_the_connection_fails_all(end: SlaveEnd, code: m.ErrorCode) -> None:
    end.list()
    number = end.head()
    end.master.answer(number, m.Error(code, "why"))
    error = end.error()
    assert isinstance(error, PeerError) and error.code == code
    assert len(end.failures) == 2


def lies() -> dict[str, Callable[[SlaveEnd], None]]:
    """What a master may say to a GET of ONE and TWO, or out of nothing, that is not true."""

    def get(*answers: m.Answer) -> Callable[[SlaveEnd], None]:
        return lambda end: end.master.answer(end.get(ONE.segment, TWO.segment), *answers)

    def other(answer: m.Answer, number: int = 99) -> Callable[[SlaveEnd], None]:
        return lambda end: end.master.answer(number, answer)

    def wrong_turn(end: SlaveEnd) -> None:
        end.get(ONE.segment)
        end.master.answer(end.get(TWO.segment), *streamed(TWO))

    def to_a_head(answer: m.Answer) -> Callable[[SlaveEnd], None]:
        return lambda end: end.master.answer(end.head(), answer)

    def to_a_list(answer: m.Answer) -> Callable[[SlaveEnd], None]:
        return lambda end: end.master.answer(end.list(), answer)

    both = pieces([ONE, TWO])
    return {
        "another segment": get(*streamed(BIG, TWO)),
        "another order": get(*streamed(TWO, ONE)),
        "one twice": get(*streamed(ONE, ONE)),
        "one more": get(*streamed(ONE, TWO, BIG)),
        "one less": get(*streamed(ONE)),
        "nothing": get(m.End(0, 0)),
        "end counts more segments": get(m.Part(both), m.End(3, len(both))),
        "end counts fewer bytes": get(m.Part(both), m.End(2, len(both) - 1)),
        "end in the middle": get(m.Part(both[:-1]), m.End(2, len(both) - 1)),
        "a segment too long": get(m.Part(ONE.segment + (262_145).to_bytes(4, "big") + bytes(4))),
        "a list instead": get(m.Listed(0, 0, b"")),
        "a list's end instead": get(m.ListEnd(b"")),
        "a head instead": get(HEAD_IS),
        "parts to nobody": other(m.Part(b"x")),
        "an end to nobody": other(m.End(0, 0)),
        "a list to nobody": other(m.Listed(0, 0, b"")),
        "a head to nobody": other(HEAD_IS),
        "a pong to nobody": other(m.Pong()),
        "a second welcome": other(m.Welcome(1, (), "", 0, "x"), 1),
        "out of turn": wrong_turn,
        "parts to a head": to_a_head(m.Part(b"x")),
        "a welcome to a head": to_a_head(m.Welcome(1, (), "", 0, "x")),
        "parts to a list": to_a_list(m.Part(b"x")),
        "an end to a list": to_a_list(m.End(0, 0)),
    }


@pytest.mark.parametrize("lie", lies())
def test_a_lying_master(end: SlaveEnd, lie: str) -> None:
    lies()[lie](end)
    assert isinstance(end.error(), ProtocolError)
    assert not end.results


def test_an_error_to_nobody_ends_the_connection(end: SlaveEnd) -> None:
    end.master.answer(99, m.Error(m.ErrorCode.HEAD_GONE, "what?"))
    assert isinstance(end.error(), PeerError)


# deadlines


def late(end: SlaveEnd, name: str, before: float, step: float = 1.0) -> None:
    """The deadline `name` passes right after `before` seconds, and ends the connection."""
    end.rig.pass_time(before, step)
    assert end.link.alive
    end.rig.pass_time(2 * step, step)
    error = end.error()
    assert isinstance(error, DeadlineError) and error.name == name


def test_no_welcome() -> None:
    late(SlaveEnd(Rig()), "hello", 9)


def test_no_head(end: SlaveEnd) -> None:
    end.head(20.0)
    late(end, "answer", 49)


def test_no_first_byte_of_a_list(end: SlaveEnd) -> None:
    end.list()
    late(end, "answer", 29)


def test_no_more_bytes_of_a_stream(end: SlaveEnd) -> None:
    number = end.get(BIG.segment)
    data = pieces([BIG])
    for at in range(0, 100_000, 20_000):
        end.rig.pass_time(25, 5)
        end.master.answer(number, m.Part(data[at : at + 20_000]))
    end.rig.settle()
    late(end, "idle", 29)


def test_no_deadline_runs_while_nothing_is_due(end: SlaveEnd) -> None:
    end.master.answer(end.get(ONE.segment), *streamed(ONE))
    end.rig.pass_time(1000, 10)
    assert end.link.alive and not end.rig.delayed


def test_a_master_that_reads_nothing_and_says_nothing() -> None:
    end = SlaveEnd(Rig(), deadline_answer=1000.0).welcomed()
    end.link.master.pauseProducing()
    ids = tuple(data_id(number) for number in range(m.MAX_IDS))
    for _ in range(1 + (KERNEL + BUFFER) // (16 * m.MAX_IDS)):
        end.asked(end.protocol.get(ids, end.items.append))
    end.rig.pass_time(58, 1)
    assert end.link.alive
    end.rig.pass_time(4, 1)
    error = end.lost[0]
    assert isinstance(error, DeadlineError) and error.name == "write-stall"
    assert not end.rig.delayed


def test_a_master_that_answers_first_and_reads_later_is_not_stalled() -> None:
    end = SlaveEnd(Rig(), deadline_answer=1000.0).welcomed()
    number = end.get(BIG.segment)
    data = pieces([BIG])
    end.link.master.pauseProducing()
    ids = tuple(data_id(each) for each in range(m.MAX_IDS))
    for _ in range(1 + (KERNEL + BUFFER) // (16 * m.MAX_IDS)):
        end.asked(end.protocol.get(ids, end.items.append))
    for at in range(0, 150_000, 10_000):
        end.rig.pass_time(20, 5)
        end.master.answer(number, m.Part(data[at : at + 10_000]))
    end.rig.settle()
    assert end.link.alive
    end.link.master.resumeProducing()
    end.rig.settle()
    assert len(end.master.requests) > 1
    end.link.cut()


def test_while_it_is_held_nothing_is_read_and_no_deadline_runs(end: SlaveEnd) -> None:
    number = end.get(ONE.segment, TWO.segment)
    end.master.answer(number, m.Part(pieces([ONE])))
    end.rig.settle()
    end.protocol.hold()
    end.master.answer(number, m.Part(pieces([TWO])))
    end.rig.pass_time(1000, 10)
    assert end.link.alive and len(end.items) == 1
    end.protocol.go_on()
    end.protocol.go_on()
    end.rig.settle()
    assert len(end.items) == 2
    late(end, "idle", 29)


def test_held_and_then_lost(end: SlaveEnd) -> None:
    end.get(ONE.segment)
    end.protocol.hold()
    end.link.cut()
    end.protocol.go_on()
    assert isinstance(end.error(), ConnectionLostError)


def test_held_with_frames_in_the_buffer(end: SlaveEnd) -> None:
    """What was read before the hold is handed on after it, and nothing is lost."""
    first, second = end.get(ONE.segment), end.get(TWO.segment)
    seen = end.items.append

    def hold(item: object) -> None:
        seen(item)
        end.protocol.hold()

    end.protocol._pending[first].on_item = hold
    end.master.answer(first, *streamed(ONE))
    end.master.answer(second, *streamed(TWO))
    end.rig.settle()
    assert len(end.items) == 1 and not end.results
    end.protocol.go_on()
    end.rig.settle()
    assert len(end.items) == 2 and end.results == [None, None]
    assert not end.rig.delayed


# ends


def test_every_request_fails_when_the_connection_ends(end: SlaveEnd) -> None:
    end.list()
    end.get(ONE.segment)
    end.head(20.0)
    end.link.cut()
    error = end.error()
    assert isinstance(error, ConnectionLostError)
    assert end.failures == [error] * 3


def test_requests_after_the_end_fail_at_once(end: SlaveEnd) -> None:
    end.link.cut()
    end.asked(end.protocol.head(None, 0))
    end.asked(end.protocol.list(bytes(16), b"", end.items.append))
    assert [type(each) for each in end.failures] == [ConnectionLostError] * 2
    assert not end.rig.delayed


def test_answers_cut_at_every_byte() -> None:
    answers = [m.Listed(1, 5, bytes(20)), m.ListEnd(b"cursor")]
    whole = sum(4 + len(m.encode(2, each)) for each in [*answers, *streamed(ONE, TWO)])
    for cut in range(whole + 1):
        end = SlaveEnd(Rig()).welcomed()
        listing, getting = end.list(), end.get(ONE.segment, TWO.segment)
        end.link.master.held = True
        end.master.answer(listing, *answers)
        end.master.answer(getting, *streamed(ONE, TWO))
        end.rig.settle()
        end.link.master.deliver(cut)
        end.rig.settle()
        end.link.cut()
        error = end.error()
        assert isinstance(error, ConnectionLostError)
        assert len(end.results) + len(end.failures) == 2
        assert (cut == whole) == (len(end.results) == 2)


def test_a_master_that_closes_in_good_order(end: SlaveEnd) -> None:
    end.head(20.0)
    end.master.transport.loseConnection()
    assert isinstance(end.error(), ConnectionLostError)
    assert isinstance(end.master, RawMaster) and end.master.lost is not None
