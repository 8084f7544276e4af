"""Answers compressed and held back: what goes over the wire, when, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from sides import MasterSide, store_of
from stores import Sample, bulk, bulk_id, leaf

from tarfailover.bandwidth import LEAST_RATE
from tarfailover.master.sender import _Slices
from tarfailover.wire import messages as m
from tarfailover.wire.compression import Unpacker
from tarfailover.wire.stream import Segment, StreamParser

MIB = 1024 * 1024
NAMES = ("zstd", "zstd-always")


def samples() -> list[Sample]:
    """Segments that get smaller, and some that do not."""
    text = [Sample(bulk_id(number), f"node {number}, ".encode() * 15_000) for number in range(20)]
    noise = [bulk(number, 100_000) for number in range(100, 105)]
    return [*text, *noise, leaf(7, [each.segment for each in [*text, *noise]])]


SAMPLES = samples()
IDS = tuple(each.segment for each in SAMPLES)
SIZE = sum(len(each.data) + 24 for each in SAMPLES)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


@pytest.fixture
def sides() -> Iterator[list[MasterSide]]:
    made: list[MasterSide] = []
    yield made
    for side in made:
        side.close()
        assert not side.factory.throttle.lanes


class Slave:
    """A client with the features that it says; unpacks what it gets."""

    def __init__(self, master: MasterSide, *features: str) -> None:
        self.raw, self.link = master.connect()
        self.raw.ask(m.Hello("slave", features))
        master.rig.settle()
        (self.welcome,) = self.raw.take()
        self.unpacker = Unpacker()

    @property
    def features(self) -> tuple[str, ...]:
        assert isinstance(self.welcome, m.Welcome)
        return self.welcome.features

    def get(self) -> int:
        return self.raw.ask(m.Get(IDS))

    def took(self) -> list[m.Answer]:
        """The answers that came; streams of segments are checked, and their ENDs given."""
        others: list[m.Answer] = []
        parser = StreamParser()
        found: list[Any] = []
        for answer in self.raw.take():
            if isinstance(answer, m.Part):
                found += parser.feed(answer.data)
            elif isinstance(answer, m.Packed):
                found += parser.feed(self.unpacker.unpack(answer))
            else:
                others.append(answer)
            if isinstance(answer, m.End):
                data = [b"".join(one.chunks) for one in found if isinstance(one, Segment)]
                assert data == [each.data for each in SAMPLES]
                assert parser.size == SIZE
                parser, found = StreamParser(), []
        return others


def made(sides: list[MasterSide], rig: Rig, store: Path, **settings: Any) -> MasterSide:
    sides.append(MasterSide(rig, store, **settings))
    return sides[-1]


class TestCompression:
    @pytest.mark.parametrize(
        ("setting", "offered", "chosen", "packs"),
        [
            ("auto", (), (), False),
            ("auto", NAMES[:1], NAMES[:1], True),
            ("auto", NAMES, NAMES, True),
            ("auto", ("lz4", "zstd-always"), NAMES[1:], False),
            ("zstd", NAMES[:1], NAMES[:1], True),
            ("zstd", (), (), False),
            ("none", NAMES, (), False),
        ],
    )
    def test_is_used_where_both_sides_want_it(
        self,
        sides: list[MasterSide],
        rig: Rig,
        store: Path,
        setting: str,
        offered: tuple[str, ...],
        chosen: tuple[str, ...],
        packs: bool,
    ) -> None:
        master = made(sides, rig, store, compression=setting)
        slave = Slave(master, *offered)
        assert slave.features == chosen
        slave.get()
        rig.settle()
        kinds = {type(answer) for _, answer in slave.raw.answers}
        assert (m.Packed in kinds) is packs
        assert slave.took() == [m.End(len(IDS), SIZE)]
        sender = slave.link.master.protocol.client.sender
        assert sender.unpacked == SIZE
        assert (sender.sent < SIZE / 2) is packs

    def test_begins_a_new_stream_after_a_rest(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        slave = Slave(made(sides, rig, store), *NAMES)
        for _ in range(2):
            slave.get()
            slave.get()
            rig.settle()
            begins = [each.begins for _, each in slave.raw.answers if isinstance(each, m.Packed)]
            assert begins[0] and not any(begins[1:])
            assert slave.link.master.protocol.client.sender.packing._packer is None, (
                "memory is kept"
            )
            assert slave.took() == [m.End(len(IDS), SIZE)] * 2

    def test_begins_a_new_stream_after_an_answer_that_failed(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        """What was packed of it may not have been sent: the next may not refer to it."""
        slave = Slave(made(sides, rig, store), *NAMES)
        slave.get()
        slave.raw.ask(m.List(bytes(16)))
        slave.get()
        rig.settle()
        begins = [each.begins for _, each in slave.raw.answers if isinstance(each, m.Packed)]
        assert begins.count(True) == 2
        first, error, last = slave.took()
        assert first == last == m.End(len(IDS), SIZE)
        assert isinstance(error, m.Error) and error.code == m.ErrorCode.HEAD_GONE

    @pytest.mark.parametrize("on", [True, False])
    def test_may_be_switched_in_the_middle_of_an_answer(
        self, sides: list[MasterSide], rig: Rig, store: Path, on: bool
    ) -> None:
        slave = Slave(made(sides, rig, store), "zstd")
        balance = slave.link.master.protocol.client.sender.packing.balance
        balance.on = on
        slave.link.slave.pauseProducing()
        slave.get()
        slave.get()
        rig.settle()
        balance.on = not on
        slave.link.slave.resumeProducing()
        rig.settle()
        kinds = {type(answer) for _, answer in slave.raw.answers}
        assert {m.Packed, m.Part} <= kinds
        assert slave.took() == [m.End(len(IDS), SIZE)] * 2


class TestThrottle:
    def run(self, rig: Rig, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            rig.pass_time(0.05)

    @pytest.mark.parametrize("setting", ["rate_limit", "rate_limit_client"])
    @pytest.mark.parametrize("rate", [LEAST_RATE, MIB])
    def test_so_many_bytes_a_second_go_over_the_wire(
        self, sides: list[MasterSide], rig: Rig, store: Path, setting: str, rate: int
    ) -> None:
        slave = Slave(made(sides, rig, store, compression="none", **{setting: rate}))
        slave.get()
        before = slave.raw.received
        self.run(rig, 3)
        assert slave.raw.received - before == pytest.approx(3 * rate, rel=0.05)

    def test_what_is_held_back_comes_in_the_end_and_no_deadline_passes(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        deadlines = {
            "deadline_idle_client": 10.0,
            "deadline_slow_reader": 1.0,
            "deadline_disk": 1.0,
        }
        master = made(sides, rig, store, compression="none", rate_limit=LEAST_RATE, **deadlines)
        slave = Slave(master)
        slave.get()
        self.run(rig, 1.1 * SIZE / LEAST_RATE)
        assert slave.took() == [m.End(len(IDS), SIZE)]
        assert slave.link.alive

    def test_other_answers_go_between_frames_and_are_not_held_back(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        slave = Slave(made(sides, rig, store, rate_limit=LEAST_RATE, compression="none"))
        slave.get()
        asked = 0
        for _ in range(40):
            rig.pass_time(0.13)
            slave.raw.ask(m.Ping())
            rig.pass_time(0.01)
            asked += 1
            pongs = [each for _, each in slave.raw.answers if isinstance(each, m.Pong)]
            assert len(pongs) == asked, "each at once"
        assert slave.raw.received == pytest.approx(5.6 * LEAST_RATE, rel=0.2)
        slave.link.master.protocol.client.factory.set_rates(0, 0)
        rig.settle()
        assert slave.took() == [m.Pong()] * asked + [m.End(len(IDS), SIZE)]

    def test_an_error_in_the_middle_of_a_slice_can_be_read(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        slave = Slave(made(sides, rig, store, rate_limit_client=LEAST_RATE))
        slave.get()
        self.run(rig, 0.3)
        slave.link.master.protocol.client.end(m.ErrorCode.GOING_AWAY, "the master stops")
        rig.settle()
        assert slave.raw.answers[-1] == (0, m.Error(m.ErrorCode.GOING_AWAY, "the master stops"))
        assert not slave.link.alive
        assert not rig.delayed

    def test_all_clients_share_what_there_is(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        master = made(sides, rig, store, compression="none", rate_limit=MIB)
        slaves = [Slave(master) for _ in range(4)]
        for slave in slaves:
            slave.get()
        self.run(rig, 3)
        received = [slave.raw.received for slave in slaves]
        assert sum(received) == pytest.approx(3 * MIB, rel=0.05)
        assert received == pytest.approx([3 * MIB / 4] * 4, rel=0.15)

    def test_who_is_gone_does_not_hold_others_up(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        master = made(sides, rig, store, compression="none", rate_limit=MIB)
        gone, slave = Slave(master), Slave(master)
        gone.get()
        slave.get()
        self.run(rig, 0.5)
        gone.link.cut()
        before = slave.raw.received
        self.run(rig, 2)
        assert slave.raw.received - before == pytest.approx(2 * MIB, rel=0.05)
        assert len(master.factory.throttle.lanes) == 1

    def test_a_throttle_turns_compression_on(
        self, sides: list[MasterSide], rig: Rig, store: Path
    ) -> None:
        slave = Slave(made(sides, rig, store, rate_limit=MIB), "zstd")
        slave.link.master.protocol.client.sender.packing.balance.on = False
        slave.get()
        self.run(rig, 3)
        assert slave.took() == [m.End(len(IDS), SIZE)]
        assert slave.raw.received < SIZE / 2


def test_frames_are_cut_at_their_ends() -> None:
    """What `rest_of_frame` gives, at every place of a chunk of frames."""
    frames = [m.framed(1, m.Part(b"x" * size)) for size in (1, 5, 300)] + [m.framed(1, m.Pong())]
    chunk = b"".join(frames)
    borders = [len(b"".join(frames[:count])) for count in range(len(frames) + 1)]
    for at in range(len(chunk) + 1):
        slices = _Slices(chunk)
        begun = slices.take(at)
        rest = slices.rest_of_frame()
        assert begun + rest == chunk[: min(border for border in borders if border >= at)]
        assert slices.rest_of_frame() == b""
        assert begun + rest + slices.take(len(chunk)) == chunk
