"""Compressed answers and the limit on reading, at the slave's end."""

from __future__ import annotations

from pathlib import Path

import pytest
from links import READ, Rig
from sides import SlaveEnd, SlaveSide, served, store_of
from stores import Sample, bulk_id, closure_in, leaf

from tarfailover.bandwidth import LEAST_RATE
from tarfailover.errors import ProtocolError
from tarfailover.slave import status
from tarfailover.slave.limit import AHEAD, LEAST, within
from tarfailover.store.follower import Follower
from tarfailover.wire import messages as m
from tarfailover.wire import stream
from tarfailover.wire.compression import Packer, packed_parts
from tarfailover.wire.stream import Segment

MIB = 1024 * 1024
HELLO = m.Hello("slave", ("zstd",))
TEXT = [Sample(bulk_id(number), f"node {number}, ".encode() * 20_000) for number in range(12)]
SAMPLES = [*TEXT, leaf(1, [each.segment for each in TEXT])]


@pytest.fixture
def end() -> SlaveEnd:
    end = SlaveEnd(Rig(), HELLO)
    end.master.welcome(features=("zstd",))
    end.rig.settle()
    return end


def answer(end: SlaveEnd, number: int, packer: Packer, samples: list[Sample]) -> None:
    """The whole answer to a GET, packed."""
    pieces = [p for each in samples for p in stream.item(each.segment, 7, each.data)]
    last = m.framed(number, m.End(len(samples), sum(map(len, pieces))))
    end.master.transport.write(packed_parts(number, pieces, packer, last)[0])
    end.rig.settle()


class TestPacked:
    def test_segments_of_many_answers_come_out_of_one_stream(self, end: SlaveEnd) -> None:
        packer = Packer(1)
        for samples in (SAMPLES[:5], SAMPLES[5:]):
            number = end.get(*(each.segment for each in samples))
            answer(end, number, packer, samples)
        found = [each for each in end.items if isinstance(each, Segment)]
        assert [b"".join(each.chunks) for each in found] == [each.data for each in SAMPLES]
        assert end.results == [None, None]
        assert end.link.master.delivered < sum(len(each.data) for each in SAMPLES) / 10

    def test_what_was_not_agreed_on_ends_the_connection(self) -> None:
        end = SlaveEnd(Rig(), HELLO).welcomed()
        number = end.get(TEXT[0].segment)
        end.master.answer(number, Packer(1).pack(b"x"))
        error = end.error()
        assert isinstance(error, ProtocolError)
        assert "compression was not agreed on" in str(error)

    def test_a_bomb_ends_the_connection(self, end: SlaveEnd) -> None:
        blocks = b"\x02\x00\x10x" * 16_000
        number = end.get(TEXT[0].segment)
        end.master.answer(number, m.Packed(True, bytes.fromhex("28b52ffd0048") + blocks))
        assert "PACKED is 65537; 1 to 65536 are allowed" in str(end.error())
        assert not end.items

    def test_a_piece_out_of_turn_ends_the_connection(self, end: SlaveEnd) -> None:
        number = end.get(TEXT[0].segment)
        end.master.answer(number + 1, Packer(1).pack(b"x"))
        assert "not its turn" in str(end.error())

    def test_a_list_is_not_answered_with_it(self, end: SlaveEnd) -> None:
        end.master.answer(end.list(), Packer(1).pack(b"x"))
        assert "pieces of another kind" in str(end.error())

    def test_the_counts_are_those_of_what_was_put_in(self, end: SlaveEnd) -> None:
        number = end.get(TEXT[0].segment)
        pieces = list(stream.item(TEXT[0].segment, 7, TEXT[0].data))
        framed, _ = packed_parts(number, pieces, Packer(1))
        end.master.transport.write(framed)
        end.master.answer(number, m.End(1, len(framed)))
        assert "was to have 1 and" in str(end.error())


@pytest.mark.parametrize(("ours", "theirs"), [("auto", "auto"), ("zstd", "auto"), ("auto", "none")])
def test_a_copy_is_the_same_with_and_without(tmp_path: Path, ours: str, theirs: str) -> None:
    rig = Rig()
    master = served(rig, store_of(tmp_path / "store", SAMPLES), compression=theirs)
    slave = SlaveSide(rig, tmp_path / "copy", compression=ours).start()
    assert slave.state == status.IN_SYNC
    size = sum(len(each.data) for each in SAMPLES)
    assert (rig.link.master.delivered < size / 10) is (theirs != "none")
    slave.stop()
    master.close()
    with Follower.open(tmp_path / "copy") as copy:
        found = closure_in(copy.snapshot, SAMPLES[-1].segment)
    assert found == {each.segment: each.data for each in SAMPLES}


class TestLimit:
    @pytest.mark.parametrize("rate", [LEAST_RATE, MIB])
    def test_so_many_bytes_a_second_are_read(self, rate: int) -> None:
        end = SlaveEnd(Rig(), rate_limit=rate).welcomed()
        number = end.get(*(each.segment for each in SAMPLES * 4))
        framed, _ = stream.parts(
            number, [p for each in SAMPLES * 4 for p in stream.item(each.segment, 7, each.data)]
        )
        end.master.transport.write(framed)
        before = end.protocol.received
        end.rig.pass_time(4, step=0.02)
        assert end.protocol.received - before == pytest.approx(4 * rate, abs=0.03 * rate + READ)
        assert not end.lost
        end.protocol.close()
        end.link.cut()
        assert not end.rig.delayed

    def test_no_deadline_passes_because_of_it(self) -> None:
        deadlines = {"deadline_idle": 2.0, "deadline_answer": 2.0}
        end = SlaveEnd(Rig(), rate_limit=LEAST_RATE, **deadlines).welcomed()
        samples = SAMPLES[:4]
        number = end.get(*(each.segment for each in samples))
        pieces = [p for each in samples for p in stream.item(each.segment, 7, each.data)]
        framed, size = stream.parts(number, pieces)
        end.master.transport.write(framed)
        end.master.answer(number, m.End(len(samples), size))
        end.rig.pass_time(1.2 * size / LEAST_RATE)
        assert end.results == [None]
        assert not end.lost

    def test_a_slow_disk_and_the_limit_do_not_undo_each_other(self) -> None:
        end = SlaveEnd(Rig(), rate_limit=LEAST_RATE).welcomed()
        end.link.master.write(m.framed(77, m.Pong())[:2])
        end.protocol._limit.read(2 * LEAST_RATE)
        assert not end.link.slave.reading
        end.protocol.hold()
        end.protocol.go_on()
        assert not end.link.slave.reading, "the limit holds on"
        end.protocol.hold()
        end.rig.pass_time(3)
        assert not end.link.slave.reading, "the disk holds on"
        end.protocol.go_on()
        assert end.link.slave.reading

    def test_a_copy_comes_in_the_end(self, tmp_path: Path) -> None:
        rig = Rig()
        master = served(rig, store_of(tmp_path / "store", SAMPLES), compression="none")
        slave = SlaveSide(rig, tmp_path / "copy", rate_limit=LEAST_RATE).start()
        size = sum(len(each.data) for each in SAMPLES)
        rig.pass_time(0.8 * size / LEAST_RATE)
        assert slave.state == status.SYNCING
        rig.pass_time(0.4 * size / LEAST_RATE)
        assert slave.state == status.IN_SYNC
        slave.stop()
        master.close()


@pytest.mark.parametrize(
    ("size", "rate", "result"),
    [(MIB, 0, MIB), (0, 0, 0), (4 * MIB, MIB, MIB // 2), (0, MIB, MIB // 2), (MIB, 9, LEAST)],
)
def test_buffers_hold_no_more_than_a_moment_of_the_rate(size: int, rate: int, result: int) -> None:
    assert within(size, rate, AHEAD) == result
