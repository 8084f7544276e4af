"""The slave's deadlines on bytes: progress resets them, however thin the line."""

from __future__ import annotations

import zlib

import pytest
from links import BUFFER, KERNEL, Rig
from sides import SlaveEnd
from stores import bulk, data_id

from tarfailover.errors import DeadlineError
from tarfailover.wire import messages as m
from tarfailover.wire.stream import item

BIG = bulk(2, 200_000)


@pytest.fixture
def end() -> SlaveEnd:
    """A slave that was welcomed; what its master says comes as slowly as a test delivers it."""
    end = SlaveEnd(Rig()).welcomed()
    end.link.master.held = True
    return end


def answered(end: SlaveEnd) -> None:
    """The master has answered with one segment, in frames of the greatest size."""
    number = end.get(BIG.segment)
    data = b"".join(item(BIG.segment, zlib.crc32(BIG.data), BIG.data))
    pieces = [data[at : at + m.MAX_PART] for at in range(0, len(data), m.MAX_PART)]
    end.master.answer(number, *map(m.Part, pieces), m.End(1, len(data)))
    end.rig.settle()


def given_up(end: SlaveEnd, name: str) -> None:
    error = end.lost[0]
    assert isinstance(error, DeadlineError) and error.name == name
    assert not end.link.alive and not end.rig.delayed


def test_an_answer_over_a_thin_line_arrives(end: SlaveEnd) -> None:
    """50 bytes a second: more than an hour for the segment, 20 minutes for a single frame."""
    answered(end)
    while end.link.master.wire or end.link.master.pending:
        end.rig.pass_time(29, step=29)
        end.link.master.deliver(1450)
    assert end.results == [None] and len(end.items) == 1
    assert not end.rig.delayed
    end.link.cut()


@pytest.mark.parametrize(("first", "name"), [(0, "answer"), (70_000, "idle")])
def test_an_answer_that_trickles_is_given_up(end: SlaveEnd, first: int, name: str) -> None:
    answered(end)
    end.link.master.deliver(first)
    for _ in range(29):
        end.rig.pass_time(1, step=1)
        end.link.master.deliver(30)
    assert end.link.alive
    end.rig.pass_time(2, step=1)
    given_up(end, name)


@pytest.mark.parametrize(("a_second", "alive"), [(30, True), (16, False)])
def test_a_master_that_reads_slowly(a_second: int, alive: bool) -> None:
    end = SlaveEnd(Rig(), deadline_answer=10_000.0).welcomed()
    end.link.slave.held = True
    ids = tuple(data_id(number) for number in range(m.MAX_IDS))
    for _ in range(1 + (KERNEL + BUFFER) // (16 * m.MAX_IDS)):
        end.asked(end.protocol.get(ids, end.items.append))
    end.rig.settle()
    for _ in range(70):
        end.rig.pass_time(1, step=1)
        end.link.slave.deliver(a_second)
    if alive:
        assert end.link.alive
        end.link.cut()
    else:
        given_up(end, "write-stall")
