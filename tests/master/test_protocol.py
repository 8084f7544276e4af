"""What a master answers to slaves that behave, and to those that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from links import BUFFER, KERNEL, Rig
from sides import HELLO, NEXT_TAR, TAR, MasterSide, RawSlave, chain, large, store_of
from stores import Sample, add_heads, data_id, entry, head_in, leaf, make_store, tar_bytes

from tarfailover.config import MasterConfig
from tarfailover.ids import NO_GENERATION
from tarfailover.master.listings import LISTING_PATIENCE
from tarfailover.master.sender import BEAT, READ_AHEAD
from tarfailover.master.sources import CHUNK
from tarfailover.store.closure import references_first, walk
from tarfailover.wire import messages as m
from tarfailover.wire.stream import Refusal, Segment, StreamParser

SAMPLES = chain(5)
MAX_QUEUED = MasterConfig(store=Path()).max_requests
HEAD = head_in(SAMPLES[-1].segment)


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


def segments(answers: list[m.Answer]) -> list[Segment | Refusal]:
    """What a streamed answer holds, which must be whole."""
    *parts, end = answers
    parser = StreamParser()
    found: list[Segment | Refusal] = []
    for part in parts:
        assert isinstance(part, m.Part)
        found += parser.feed(part.data)
    parser.end()
    assert end == m.End(len(found), parser.size)
    return found


def contents(answers: list[m.Answer]) -> dict[bytes, bytes]:
    """The segments of a streamed answer, and nothing refused."""
    found = {}
    for item in segments(answers):
        assert isinstance(item, Segment)
        found[item.segment] = b"".join(item.chunks)
    return found


# HELLO


@pytest.mark.parametrize(
    "hello",
    [
        m.Hello("s", (), 1, 1),
        m.Hello("s", (), 1, 99),
        m.Hello("s", ("lz4", "whatever comes"), 1, 2),
    ],
)
def test_the_version_both_speak_and_no_feature_that_the_master_lacks(
    master: MasterSide, hello: m.Hello
) -> None:
    slave, _ = master.connect()
    slave.ask(hello)
    master.rig.settle()
    (welcome,) = slave.take()
    assert isinstance(welcome, m.Welcome)
    assert (welcome.version, welcome.features) == (1, ())
    assert welcome.software.startswith("tarfailover ")


@pytest.mark.parametrize("versions", [(2, 9), (0, 0)])
def test_no_version_in_common(master: MasterSide, versions: tuple[int, int]) -> None:
    slave, link = master.connect()
    slave.ask(m.Hello("s", (), *versions))
    master.rig.settle()
    error = slave.error()
    assert error.code == m.ErrorCode.VERSION
    assert "update the" in error.text
    assert not link.alive
    assert master.factory.errors == {m.ErrorCode.VERSION: 1}


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """A frame with its length."""
    content = bytes([kind]) + number.to_bytes(4, "big") + payload
    return len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", m.ErrorCode.TOO_LARGE),
        (b"\x16\x03\x01\x02\x00" + bytes(200), m.ErrorCode.TOO_LARGE),
        (bytes(4), m.ErrorCode.PROTOCOL),
        (bytes(400), m.ErrorCode.PROTOCOL),
        (frame(0x05, 1), m.ErrorCode.PROTOCOL),
        (frame(0x77, 1), m.ErrorCode.PROTOCOL),
        (frame(0x01, 1, b"NOPE"), m.ErrorCode.PROTOCOL),
        ((m.MAX_HELLO_FRAME + 1).to_bytes(4, "big"), m.ErrorCode.TOO_LARGE),
        (b"\xff" * 4, m.ErrorCode.TOO_LARGE),
    ],
    ids=[
        "http",
        "tls",
        "empty",
        "zeros",
        "no hello",
        "unknown first",
        "bad hello",
        "long hello",
        "longest",
    ],
)
def test_what_is_no_slave_gets_one_error_and_the_end(
    master: MasterSide, said: bytes, code: m.ErrorCode
) -> None:
    slave, link = master.connect()
    slave.transport.write(said)
    master.rig.settle()
    assert slave.error().code == code
    assert not link.alive
    assert master.factory.errors == {code: 1}
    assert not master.factory.clients


OAK = b"S"
"""How a client in Oak's dialect begins; it is told nothing."""


@given(st.binary(max_size=300), st.booleans())
@example(b"S", False)
@example(b"Standby-CMD@x:h\r\nStandby-CMD@x:s.1-2-3-4-5\n\0", False)
def test_any_bytes_at_all(
    tmp_path_factory: pytest.TempPathFactory, said: bytes, hello: bool
) -> None:
    rig = Rig()
    store = tmp_path_factory.getbasetemp() / "any-bytes"
    if not store.exists():
        store_of(store, SAMPLES)
    master = MasterSide(rig, store)
    slave, link = master.welcome() if hello else master.connect()
    slave.transport.write(said)
    rig.settle()
    rig.pass_time(40, step=5)
    if not hello and not said.startswith(OAK):
        assert slave.error().code in (1, 2, 4, 11)
        assert not link.alive
    master.close()


@pytest.mark.parametrize(
    "said",
    [
        frame(0x03, 9, b"short"),
        frame(0x04, 9),
        frame(0x04, 9, bytes(17)),
        frame(0x02, 9, b"\2"),
        frame(0x02, 9, b"\0" + (600_001).to_bytes(4, "big")),
        frame(0x01, 9, b"TARF\0\1\0\1\0\0\0"),
    ],
    ids=["list", "get nothing", "get ragged", "flag", "long wait", "hello twice"],
)
def test_a_request_that_is_none_ends_the_connection(master: MasterSide, said: bytes) -> None:
    slave, link = master.welcome()
    slave.transport.write(said)
    master.rig.settle()
    assert slave.error().code == m.ErrorCode.PROTOCOL
    assert not link.alive


def test_an_unknown_type_is_answered_and_the_connection_goes_on(master: MasterSide) -> None:
    slave, link = master.welcome()
    slave.transport.write(frame(0x77, 5, b"from the future"))
    slave.ask(m.Ping())
    master.rig.settle()
    (number, error), (_, pong) = slave.answers
    assert number == 5
    assert isinstance(error, m.Error) and error.code == m.ErrorCode.UNKNOWN_TYPE
    assert pong == m.Pong()
    assert link.alive


def test_the_longest_frame_passes_and_one_byte_more_does_not(master: MasterSide) -> None:
    slave, link = master.welcome()
    longest = m.MAX_REQUEST_FRAME - m.FRAME_HEADER
    slave.transport.write(frame(0x77, 5, bytes(longest)))
    master.rig.settle()
    assert slave.error().code == m.ErrorCode.UNKNOWN_TYPE
    slave.transport.write(frame(0x77, 5, bytes(longest + 1)))
    master.rig.settle()
    error = slave.error()
    assert error.code == m.ErrorCode.TOO_LARGE
    assert str(m.MAX_REQUEST_FRAME) in error.text
    assert not link.alive


def test_one_client_too_many(rig: Rig, tmp_path: Path) -> None:
    master = MasterSide(rig, store_of(tmp_path / "s", SAMPLES), max_clients=2)
    (_, first), (_, second) = master.welcome(), master.welcome()
    slave, link = master.connect()
    assert link.alive and not slave.answers, "strangers have places of their own"
    slave.ask(HELLO)
    rig.settle()
    assert slave.error().code == m.ErrorCode.BUSY
    assert not link.alive
    assert first.alive and second.alive
    first.cut()
    master.welcome()
    master.close()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("oak2", "oak2"), ("café 2", "café 2"), ("a\nb\x1b[2J", "'a\\nb\\x1b[2J'")],
)
def test_a_name_is_one_line_of_the_log(master: MasterSide, name: str, shown: str) -> None:
    slave, link = master.connect()
    slave.ask(m.Hello(name))
    master.rig.settle()
    assert str(link.master.protocol).startswith(f"{shown} at ")


# HEAD


def test_the_head(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Head(None, 0))
    master.rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=True)]


def test_another_head_is_answered_at_once_however_long_the_slave_would_wait(
    master: MasterSide,
) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Head(head_in(SAMPLES[0].segment), 600_000))
    master.rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=True)]


def test_a_head_that_the_master_never_had(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Head(head_in(data_id(99)), 0))
    master.rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=False)]


def test_a_head_that_only_the_journal_knows_any_more(rig: Rig, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", SAMPLES)
    journal = store / "journal.log"
    lines = journal.read_bytes()
    journal.write_bytes(b"")
    add_heads(store, data_id(99))
    journal.write_bytes(journal.read_bytes() + lines)
    master = MasterSide(rig, store)
    slave, _ = master.welcome()
    slave.ask(m.Head(head_in(data_id(99)), 0))
    rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=True)]
    master.close()


def test_the_same_head_is_answered_when_the_time_is_over(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Head(HEAD, 20_000))
    master.rig.pass_time(19.9)
    assert slave.take() == []
    master.rig.pass_time(0.2)
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=True)]


def add_to(store: Path, samples: list[Sample], name: str = NEXT_TAR) -> None:
    """A new tar and its head, as another process writes them."""
    (store / name).write_bytes(tar_bytes(name, samples))
    add_heads(store, samples[-1].segment)


def test_a_head_that_moves_is_told_at_once(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Head(HEAD, 20_000))
    master.rig.pass_time(1)
    new = leaf(50, [SAMPLES[0].segment])
    add_to(master.follower.directory, [new])
    master.refresh()
    assert slave.take() == [m.HeadIs(head_in(new.segment), 1, NO_GENERATION, known=True)]


def test_many_waits_of_one_client(master: MasterSide) -> None:
    slave, link = master.welcome()
    for _ in range(MAX_QUEUED):
        slave.ask(m.Head(HEAD, 20_000))
    master.rig.settle()
    assert slave.take() == []
    slave.ask(m.Head(HEAD, 20_000))
    master.rig.settle()
    assert slave.error().code == m.ErrorCode.PROTOCOL
    assert not link.alive
    assert not master.rig.delayed


def test_a_store_without_a_head_is_not_ready_until_it_has_one(rig: Rig, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", {})
    master = MasterSide(rig, store)
    slave, link = master.welcome()
    slave.ask(m.Head(None, 5_000))
    rig.settle()
    error = slave.error()
    assert error.code == m.ErrorCode.NOT_READY
    assert str(store) in error.text
    assert link.alive
    add_to(store, SAMPLES, TAR)
    master.refresh()
    slave.ask(m.Head(None, 0))
    rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=True)]
    master.close()


def test_a_head_lost_while_somebody_waits(master: MasterSide) -> None:
    slave, link = master.welcome()
    slave.ask(m.Head(HEAD, 20_000))
    master.rig.settle()
    (master.follower.directory / "journal.log").write_bytes(b"")
    master.refresh()
    assert slave.error().code == m.ErrorCode.NOT_READY
    assert link.alive
    master.rig.pass_time(30)
    assert slave.take() == []


# LIST and GET


def test_the_list_has_the_closure_references_first(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    listed, end = slave.take()
    assert isinstance(listed, m.Listed) and isinstance(end, m.ListEnd)
    assert listed.pairs() == [(each.segment, len(each.data)) for each in SAMPLES]
    assert (listed.segments, listed.size) == (5, sum(len(each.data) for each in SAMPLES))


def test_behind_the_cursor_lies_only_what_is_new(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    cursor = slave.take()[-1].cursor
    slave.ask(m.List(HEAD.segment, cursor))
    master.rig.settle()
    assert not any(each.items for each in slave.take() if isinstance(each, m.Listed))
    new = leaf(50, [SAMPLES[0].segment])
    add_to(master.follower.directory, [new])
    master.refresh()
    slave.ask(m.List(new.segment, cursor))
    master.rig.settle()
    listed, _ = slave.take()
    assert listed.pairs() == [(new.segment, len(new.data))]


@pytest.mark.parametrize("cursor", [b"x", bytes(13), b"\xff" * 13, b"\xff" * 64])
def test_a_cursor_of_somebody_else_is_a_hint_and_no_error(
    master: MasterSide, cursor: bytes
) -> None:
    slave, link = master.welcome()
    slave.ask(m.List(HEAD.segment, cursor))
    master.rig.settle()
    *_, end = slave.take()
    assert isinstance(end, m.ListEnd)
    assert link.alive


@pytest.mark.parametrize("head", [data_id(99), bytes(16)])
def test_a_list_of_an_unknown_head(master: MasterSide, head: bytes) -> None:
    slave, link = master.welcome()
    slave.ask(m.List(head))
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    error, listed, end = slave.take()
    assert isinstance(error, m.Error) and error.code == m.ErrorCode.HEAD_GONE
    assert isinstance(listed, m.Listed) and isinstance(end, m.ListEnd)
    assert link.alive


def test_a_list_of_a_head_without_its_closure(rig: Rig, tmp_path: Path) -> None:
    orphan = leaf(60, [data_id(99)])
    master = MasterSide(rig, make_store(tmp_path / "s", {TAR: [*SAMPLES, orphan]}, [HEAD.segment]))
    slave, _ = master.welcome()
    slave.ask(m.List(orphan.segment))
    rig.settle()
    assert slave.error().code == m.ErrorCode.HEAD_GONE
    master.close()


def test_segments_in_the_order_asked_for(master: MasterSide) -> None:
    slave, _ = master.welcome()
    wanted = [SAMPLES[3], SAMPLES[0], SAMPLES[1]]
    slave.ask(m.Get(tuple(each.segment for each in wanted)))
    master.rig.settle()
    found = contents(slave.take())
    assert list(found.items()) == [(each.segment, each.data) for each in wanted]


def test_a_segment_that_is_gone_is_refused_in_its_place(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.Get((SAMPLES[0].segment, data_id(99), SAMPLES[1].segment)))
    master.rig.settle()
    first, refusal, last = segments(slave.take())
    assert (first.segment, last.segment) == (SAMPLES[0].segment, SAMPLES[1].segment)
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (data_id(99), m.ErrorCode.SEGMENT_GONE)


def test_a_damaged_segment_is_refused_by_file_and_offset(rig: Rig, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", SAMPLES)
    tar = store / TAR
    whole = bytearray(tar.read_bytes())
    place = len(entry(SAMPLES[0])) + 512 + 60
    whole[place] ^= 1
    tar.write_bytes(whole)
    master = MasterSide(rig, store)
    slave, _ = master.welcome()
    slave.ask(m.Get(tuple(each.segment for each in SAMPLES)))
    rig.settle()
    found = segments(slave.take())
    assert [type(each) for each in found] == [Segment, Refusal, Segment, Segment, Segment]
    refusal = found[1]
    assert isinstance(refusal, Refusal)
    assert refusal.code == m.ErrorCode.DAMAGED
    assert TAR in refusal.text
    master.close()


def test_a_store_too_damaged_to_be_listed_is_told_as_damage(rig: Rig, tmp_path: Path) -> None:
    """Neither graph nor tables can be read: the master lives, and says what is wrong."""
    store = store_of(tmp_path / "s", SAMPLES)
    master = MasterSide(rig, store)
    tar = store / TAR
    size = tar.stat().st_size
    with tar.open("r+b") as file:
        file.write(bytes(size))
    slave, link = master.welcome()
    slave.ask(m.List(HEAD.segment))
    rig.settle()
    error = slave.error()
    assert error.code == m.ErrorCode.DAMAGED
    assert TAR in error.text
    assert link.alive
    master.close()


def test_a_listed_store_stays_readable_through_a_compaction(master: MasterSide) -> None:
    """What was listed is pinned, though its tar is deleted and another head is served."""
    slave, _ = master.welcome()
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    slave.take()
    new = leaf(70)
    add_to(master.follower.directory, [new])
    (master.follower.directory / TAR).unlink()
    master.refresh()
    slave.ask(m.Get(tuple(each.segment for each in SAMPLES)))
    master.rig.settle()
    assert contents(slave.take()) == {each.segment: each.data for each in SAMPLES}
    slave.ask(m.Head(HEAD, 0))
    slave.ask(m.Get((SAMPLES[0].segment, new.segment)))
    master.rig.settle()
    head, *rest = slave.take()
    assert head == m.HeadIs(head_in(new.segment), 1, NO_GENERATION, known=True)
    gone, fresh = segments(rest)
    assert isinstance(gone, Refusal) and isinstance(fresh, Segment)


def test_a_get_sees_what_came_after_the_list(master: MasterSide) -> None:
    slave, _ = master.welcome()
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    slave.take()
    new = leaf(50, [SAMPLES[0].segment])
    add_to(master.follower.directory, [new])
    master.refresh()
    slave.ask(m.Get((new.segment,)))
    master.rig.settle()
    assert contents(slave.take()) == {new.segment: new.data}


# deadlines


def test_a_client_that_says_nothing(master: MasterSide) -> None:
    slave, link = master.connect()
    master.rig.pass_time(9.8)
    assert link.alive
    master.rig.pass_time(0.4)
    error = slave.error()
    assert error.code == m.ErrorCode.DEADLINE
    assert "hello" in error.text
    assert not link.alive and not master.rig.delayed


def test_half_a_hello(master: MasterSide) -> None:
    slave, link = master.connect()
    slave.transport.write(b"\0\0\0")
    master.rig.pass_time(11)
    assert "hello" in slave.error().text
    assert not link.alive


def test_a_client_that_asks_nothing_any_more(master: MasterSide) -> None:
    slave, link = master.welcome()
    master.rig.pass_time(890, step=10)
    slave.ask(m.Ping())
    master.rig.pass_time(890, step=10)
    assert link.alive
    slave.take()
    master.rig.pass_time(20, step=1)
    assert "idle-client" in slave.error().text
    assert not link.alive and not master.rig.delayed


def test_half_a_request(master: MasterSide) -> None:
    slave, link = master.welcome()
    slave.transport.write(frame(0x04, 2, bytes(160))[:50])
    master.rig.pass_time(29.8)
    assert link.alive
    master.rig.pass_time(0.4)
    assert "deadline request" in slave.error().text
    assert not link.alive


def test_requests_that_keep_coming_are_none_that_hangs(master: MasterSide) -> None:
    """Each read ends in the middle of a frame, but never of the same one."""
    slave, link = master.welcome()
    ping = frame(0x05, 2)
    slave.transport.write(ping[:5])
    for _ in range(10):
        master.rig.pass_time(5)
        slave.transport.write(ping[5:] + ping[:5])
    master.rig.settle()
    assert slave.take() == [m.Pong()] * 10
    assert link.alive


@pytest.fixture
def big(rig: Rig, tmp_path: Path) -> Iterator[tuple[MasterSide, list[Sample]]]:
    samples = large(40)
    side = MasterSide(rig, store_of(tmp_path / "big", samples))
    held = side.holders
    yield side, samples
    for link in rig.links:
        link.cut()
    rig.settle()
    assert side.holders == held, "a snapshot is still held"
    side.close()


def ids_of(samples: list[Sample]) -> tuple[bytes, ...]:
    return tuple(each.segment for each in samples)


def test_a_slow_reader_costs_a_few_chunks_and_nobody_elses_time(
    big: tuple[MasterSide, list[Sample]],
) -> None:
    master, samples = big
    slow, link = master.welcome()
    link.slave.pauseProducing()
    slow.ask(m.Get(ids_of(samples)))
    master.rig.settle()
    read = link.master.written
    ahead = (READ_AHEAD + 1) * (CHUNK + 256 * 1024 + 64 * 1024)
    assert link.master.most_pending <= 2 * CHUNK
    assert (
        read + sum(len(each.data) for each in link.master.protocol.client.sender._ready)
        <= KERNEL + ahead
    )
    other, _ = master.welcome()
    other.ask(m.Get(ids_of(samples)))
    master.rig.settle()
    assert len(contents(other.take())) == len(samples)
    link.slave.resumeProducing()
    master.rig.settle()
    assert len(contents(slow.take())) == len(samples)
    assert link.master.most_pending <= 2 * CHUNK


def test_a_client_that_does_not_read_is_thrown_out(
    big: tuple[MasterSide, list[Sample]],
) -> None:
    master, samples = big
    _, link = master.welcome()
    link.slave.pauseProducing()
    master.rig.links[-1].slave.protocol.ask(m.Get(ids_of(samples)))
    master.rig.pass_time(59)
    assert link.master.connected
    master.rig.pass_time(2)
    assert not link.master.connected
    assert not master.rig.delayed
    assert not master.factory.clients


def test_a_client_that_does_not_read_its_error_is_thrown_out(
    big: tuple[MasterSide, list[Sample]],
) -> None:
    master, samples = big
    slave, link = master.welcome()
    link.slave.pauseProducing()
    slave.ask(m.Get(ids_of(samples)))
    master.rig.settle()
    slave.transport.write(bytes(4))
    master.rig.settle()
    assert link.master.connected, "it waits for its error to be taken"
    master.rig.pass_time(61)
    assert not link.master.connected
    assert not master.rig.delayed


def test_a_slow_answer_is_no_idle_client(rig: Rig, tmp_path: Path) -> None:
    """The slave has asked for all that it needs; a thin line carries it for a long time."""
    samples = large(40)
    master = MasterSide(rig, store_of(tmp_path / "s", samples), deadline_idle_client=60.0)
    slave, link = master.welcome()
    link.master.held = True
    slave.ask(m.Get(ids_of(samples)))
    for _ in range(30):
        rig.pass_time(4, step=1)
        link.master.deliver(200_000)
    assert link.alive
    link.master.held = False
    rig.settle()
    assert len(contents(slave.take())) == len(samples)
    rig.pass_time(61, step=1)
    assert not link.alive
    master.close()


def test_a_flood_of_requests_is_read_no_further_and_answered_in_the_end(
    big: tuple[MasterSide, list[Sample]],
) -> None:
    master, samples = big
    slave, link = master.welcome()
    link.slave.pauseProducing()
    count = 4 * MAX_QUEUED
    for each in range(count):
        slave.ask(m.Get((samples[each % len(samples)].segment,)))
    master.rig.settle()
    sender = link.master.protocol.client.sender
    assert sender.queued <= MAX_QUEUED + 2 + BUFFER // 25
    assert not link.master.reading
    for _ in range(20):
        master.rig.pass_time(10)
        link.slave.resumeProducing()
        for _ in range(40):
            master.rig.turn()
        link.slave.pauseProducing()
    assert link.alive, "its own pause is no request that hangs"
    link.slave.resumeProducing()
    master.rig.settle()
    assert sum(isinstance(each, m.End) for each in slave.take()) == count
    assert link.master.reading


def test_a_flood_of_requests_that_all_fail(master: MasterSide) -> None:
    slave, _ = master.welcome()
    count = 3 * MAX_QUEUED
    for _ in range(count):
        slave.ask(m.List(data_id(99)))
    master.rig.settle()
    assert [each.code for each in slave.take()] == [m.ErrorCode.HEAD_GONE] * count


def test_a_list_that_takes_long_shows_signs_of_life(master: MasterSide) -> None:
    """A walk over millions of segments is no answer that fails to come."""
    slave, link = master.welcome()
    master.work.held = True
    slave.ask(m.List(HEAD.segment))
    master.rig.pass_time(10 * BEAT + 1, step=1)
    assert slave.take() == [m.Listed(0, 0, b"")] * 10
    master.rig.pass_time(LISTING_PATIENCE, step=5)
    signs = len(slave.take())
    assert LISTING_PATIENCE / BEAT - 11 <= signs <= LISTING_PATIENCE / BEAT - 10
    assert link.alive, "the disk has a deadline behind that"
    master.work.held = False
    master.rig.settle()
    listed, end = slave.take()
    assert isinstance(listed, m.Listed) and len(listed.pairs()) == 5
    assert isinstance(end, m.ListEnd)
    assert len(master.rig.delayed) == 1, "nothing runs but the deadline of idle clients"


def test_a_client_that_vanishes_while_its_list_takes_long(master: MasterSide) -> None:
    slave, link = master.welcome()
    master.work.held = True
    slave.ask(m.List(HEAD.segment))
    master.rig.pass_time(BEAT + 1, step=1)
    link.cut()
    assert not master.rig.delayed
    master.work.held = False
    master.rig.settle()
    assert not master.factory.clients


# ends


@pytest.mark.parametrize("done", range(6))
def test_a_client_that_vanishes_while_its_answer_is_read(
    big: tuple[MasterSide, list[Sample]], done: int
) -> None:
    master, samples = big
    slave, link = master.welcome()
    master.work.held = True
    slave.ask(m.List(samples[-1].segment))
    slave.ask(m.Get(ids_of(samples)))
    slave.ask(m.Head(head_in(samples[-1].segment), 20_000))
    master.rig.settle()
    master.work.held = False
    for _ in range(done):
        master.work.turn()
    master.work.held = True
    link.cut()
    master.rig.settle()
    assert not master.rig.delayed
    master.work.held = False
    master.rig.settle()
    assert not master.factory.clients


def test_hundred_clients_leave_nothing(master: MasterSide) -> None:
    for _ in range(100):
        slave, link = master.welcome()
        slave.ask(m.Head(HEAD, 20_000))
        slave.ask(m.List(HEAD.segment))
        slave.ask(m.Get((HEAD.segment,)))
        master.rig.turn()
        link.cut()
    master.rig.settle()
    assert not master.rig.delayed
    assert master.factory.clients == set()


def test_a_fault_of_the_master_itself_is_told_and_logged(
    master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(master.factory.listings, "get", broken)
    slave, link = master.welcome()
    slave.ask(m.List(HEAD.segment))
    master.rig.settle()
    assert slave.error().code == m.ErrorCode.INTERNAL
    assert not link.alive
    assert master.factory.errors == {m.ErrorCode.INTERNAL: 1}


def test_the_order_of_a_store_in_disorder(rig: Rig, tmp_path: Path) -> None:
    """A tar may hold a referrer before what it refers to; the list may not."""
    store = make_store(tmp_path / "s", {TAR: SAMPLES[::-1]}, [HEAD.segment])
    master = MasterSide(rig, store)
    slave, _ = master.welcome()
    slave.ask(m.List(HEAD.segment))
    rig.settle()
    listed = slave.take()[0]
    snapshot = master.factory.snapshot
    found = references_first(snapshot, walk(snapshot, [HEAD.segment]), HEAD.segment)
    assert [each for each, _ in listed.pairs()] == list(ids_of(SAMPLES)) and len(found) == 5
    master.close()


def test_hello_and_requests_in_one_breath(master: MasterSide) -> None:
    slave, _ = master.connect()
    for message in (HELLO, m.Head(None, 0), m.List(HEAD.segment), m.Get((HEAD.segment,))):
        slave.ask(message)
    master.rig.settle()
    assert [type(each).__name__ for each in slave.take()] == [
        "Welcome", "HeadIs", "Listed", "ListEnd", "Part", "End",
    ]  # fmt: skip


def test_byte_by_byte(master: MasterSide) -> None:
    slave, link = master.connect()
    link.slave.held = True
    for message in (HELLO, m.Head(None, 0), m.Get((HEAD.segment,))):
        slave.ask(message)
    master.rig.settle()
    while link.slave.wire:
        link.slave.deliver(1)
        master.rig.settle()
    assert [type(each).__name__ for each in slave.take()] == ["Welcome", "HeadIs", "Part", "End"]


def test_a_raw_slave_counts(master: MasterSide) -> None:
    """The tests' own client sees every byte that the master wrote."""
    slave, link = master.welcome()
    assert isinstance(slave, RawSlave)
    assert slave.received == link.master.written
