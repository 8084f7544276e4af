"""A new head comes with what is new, to whoever asks for it so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from sides import NEXT_TAR, MasterSide, RawSlave, chain, store_of
from stores import Sample, add_heads, data_id, head_in, tar_bytes

from tarfailover.errors import PeerError
from tarfailover.ids import RecordId
from tarfailover.master.sender import BEAT
from tarfailover.wire import messages as m
from tarfailover.wire.negotiate import FOLLOW
from tarfailover.wire.stream import Segment, StreamParser

SAMPLES = chain(5)
HAVE = head_in(SAMPLES[-1].segment)
NEW = chain(3, first=50)


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(rig, store_of(tmp_path / "store", SAMPLES))
    held = side.holders
    yield side
    for link in rig.links:
        link.cut()
    rig.settle()
    assert side.holders == held, "a snapshot is still held"
    side.close()


def commit(master: MasterSide, samples: list[Sample]) -> None:
    """Somebody writes to the store."""
    store = master.factory.config.store
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, samples))
    add_heads(store, samples[-1].segment)
    master.refresh()


def cursor(slave: RawSlave, rig: Rig) -> bytes:
    """Behind all that there is."""
    slave.ask(m.List(HAVE.segment))
    rig.settle()
    last = slave.take()[-1]
    assert isinstance(last, m.ListEnd)
    return last.cursor


def segments(answers: list[m.Answer]) -> list[bytes]:
    """The ids in a stream, which must be whole."""
    parser = StreamParser()
    found: list[bytes] = []
    for part in answers[:-1]:
        assert isinstance(part, m.Part)
        found += [each.segment for each in parser.feed(part.data) if isinstance(each, Segment)]
    assert answers[-1] == m.End(len(found), parser.size)
    return found


def test_it_is_agreed_on_where_it_is_offered(master: MasterSide) -> None:
    slave, _ = master.connect()
    slave.ask(m.Hello("slave", ("zstd", FOLLOW)))
    master.rig.settle()
    (welcome,) = slave.take()
    assert isinstance(welcome, m.Welcome) and FOLLOW in welcome.features


def test_a_head_that_moves_comes_with_all_that_is_new(master: MasterSide, rig: Rig) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Follow(HAVE, 20_000, cursor(slave, rig)))
    rig.settle()
    assert not slave.answers, "it waits"
    commit(master, NEW)
    assert {number for number, _ in slave.answers} == {slave.number}
    head, listed, end, *parts = slave.take()
    assert isinstance(head, m.HeadIs) and head.head == head_in(NEW[-1].segment) and head.known
    assert isinstance(listed, m.Listed) and listed.segments == 3
    names = [each.segment for each in NEW]
    assert [name for name, _ in listed.pairs()] == names == segments(parts)
    assert isinstance(end, m.ListEnd)
    slave.ask(m.List(head.head.segment, end.cursor))
    rig.settle()
    assert slave.take() == [m.ListEnd(end.cursor)], "nothing is behind the new cursor"


def test_another_head_is_answered_at_once(master: MasterSide, rig: Rig) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Follow(head_in(SAMPLES[0].segment), 20_000, b""))
    rig.settle()
    head, listed, _, *parts = slave.take()
    assert isinstance(head, m.HeadIs) and head.head == HAVE
    assert isinstance(listed, m.Listed) and listed.segments == 5
    assert segments(parts) == [each.segment for each in SAMPLES]


@pytest.mark.parametrize(
    "have", [HAVE, head_in(data_id(999))], ids=["the same head", "a head that was never here"]
)
def test_behind_such_a_head_nothing_comes(master: MasterSide, rig: Rig, have: RecordId) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Follow(have, 20_000, b""))
    rig.settle()
    rig.clock.advance(20)
    rig.settle()
    (head,) = slave.take()
    assert isinstance(head, m.HeadIs) and head.known == (have == HAVE)


@pytest.mark.parametrize("most", [0, 100])
def test_what_is_too_much_is_only_listed(master: MasterSide, rig: Rig, most: int) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Follow(HAVE, 20_000, cursor(slave, rig), most))
    commit(master, NEW)
    head, listed, end, nothing = slave.take()
    assert isinstance(head, m.HeadIs) and isinstance(listed, m.Listed) and listed.size > most
    assert isinstance(end, m.ListEnd) and nothing == m.End(0, 0)
    slave.ask(m.Get(tuple(each.segment for each in NEW)))
    rig.settle()
    assert len(segments(slave.take())) == 3


def test_a_list_that_fails_is_an_error_behind_the_head(
    master: MasterSide, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise PeerError(m.ErrorCode.HEAD_GONE, "gone")

    monkeypatch.setattr(master.factory.listings, "get", gone)
    slave, _ = master.welcome()
    slave.ask(m.Follow(head_in(SAMPLES[0].segment), 0, b""))
    rig.settle()
    head, error = slave.take()
    assert isinstance(head, m.HeadIs) and error == m.Error(m.ErrorCode.HEAD_GONE, "gone")
    slave.ask(m.Ping())
    rig.settle()
    assert slave.take() == [m.Pong()]


def test_a_list_that_takes_long_shows_signs_of_life(master: MasterSide, rig: Rig) -> None:
    slave, _ = master.welcome()
    master.work.held = True
    slave.ask(m.Follow(head_in(SAMPLES[0].segment), 0, b""))
    rig.settle()
    rig.pass_time(BEAT, step=1)
    assert isinstance(slave.answers.pop(0)[1], m.HeadIs)
    assert slave.take() == [m.Listed(0, 0, b"")]
    master.work.held = False
    rig.settle()
    assert isinstance(slave.take()[-1], m.End)


def test_who_waits_for_a_list_that_takes_long_is_no_idle_client(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = MasterSide(rig, store_of(tmp_path / "store", SAMPLES), deadline_idle_client=50)
    slave, link = master.welcome()
    slave.ask(m.Follow(HAVE, 20_000, cursor(slave, rig)))
    told = master.factory.head_is

    def slow(have: RecordId | None) -> Any:
        master.work.held = True
        return told(have)

    monkeypatch.setattr(master.factory, "head_is", slow)
    commit(master, NEW)
    rig.pass_time(300, step=5)
    assert link.alive
    master.work.held = False
    rig.settle()
    assert isinstance(slave.answers[-1][1], m.End)
    rig.pass_time(51, step=1)
    assert not link.alive, "now it is"
    master.close()


def test_a_client_that_vanishes_meanwhile(master: MasterSide, rig: Rig) -> None:
    slave, link = master.welcome()
    slave.ask(m.Follow(head_in(SAMPLES[0].segment), 0, b""))
    link.cut()
    rig.settle()


def test_many_waits_of_one_client_are_too_many(master: MasterSide, rig: Rig) -> None:
    slave, _ = master.welcome()
    for _ in range(master.factory.config.max_requests + 1):
        slave.ask(m.Follow(HAVE, 20_000, b""))
    rig.settle()
    assert slave.error().code == m.ErrorCode.PROTOCOL
