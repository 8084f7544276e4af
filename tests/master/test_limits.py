"""What one client may make a master keep: requests, their bytes, and answers it does not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from links import BUFFER, KERNEL, Rig
from sides import MasterSide, RawSlave, chain, store_of
from stores import data_id, head_in

from tarfailover.ids import NO_GENERATION
from tarfailover.wire import messages as m

pytestmark = pytest.mark.load

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)
QUEUED = 64 * 1024
REQUESTS = 8


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MasterSide]:
    store = store_of(tmp_path / "store", SAMPLES)
    side = MasterSide(Rig(), store, max_requests=REQUESTS, max_queued=QUEUED)
    yield side
    side.close()


def flood(slave: RawSlave, count: int, message: m.Request) -> None:
    """The same request many times, in one piece."""
    for _ in range(count):
        slave.ask(message)


def test_answers_that_are_not_read_stop_the_questions(master: MasterSide) -> None:
    slave, link = master.welcome()
    link.slave.pauseProducing()
    count = (KERNEL + 4 * QUEUED) // 9
    flood(slave, count, m.Ping())
    master.rig.settle()
    assert not link.master.reading
    assert link.master.most_pending <= QUEUED + BUFFER
    master.rig.pass_time(5, step=1)
    assert not link.master.reading
    link.slave.resumeProducing()
    master.rig.pass_time(10, step=1)
    assert slave.take() == [m.Pong()] * count
    assert link.master.reading and link.alive


def test_a_client_that_never_reads_has_a_deadline(master: MasterSide) -> None:
    slave, link = master.welcome()
    link.slave.pauseProducing()
    flood(slave, (KERNEL + 4 * QUEUED) // 9, m.Ping())
    master.rig.pass_time(59, step=1)
    assert link.alive
    master.rig.pass_time(2, step=1)
    assert not link.master.connected
    assert not master.rig.delayed


def test_many_questions_that_are_read_are_answered_without_a_pause(master: MasterSide) -> None:
    slave, link = master.welcome()
    for _ in range(20):
        flood(slave, QUEUED // 9, m.Ping())
        master.rig.settle()
        assert link.master.reading
        assert len(slave.take()) == QUEUED // 9
    assert not [call for call in master.rig.delayed if "_again" in call]


def test_heads_that_only_the_journal_can_tell_wait_for_each_other(master: MasterSide) -> None:
    """Each costs a thread the reading of the journal."""
    slave, link = master.welcome()
    master.work.held = True
    flood(slave, 50, m.Head(head_in(data_id(99)), 0))
    master.rig.settle()
    assert len(master.work) == REQUESTS + 1
    assert not link.master.reading
    master.work.held = False
    master.rig.settle()
    assert slave.take() == [m.HeadIs(HEAD, 1, NO_GENERATION, known=False)] * 50
    assert link.master.reading


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (m.Get((HEAD.segment,)), REQUESTS + 1),
        (m.Get((HEAD.segment,) * 1000), QUEUED // 16_000 + 1),
        (m.List(data_id(99)), REQUESTS + 1),
    ],
    ids=["many", "large", "lists"],
)
def test_requests_that_wait(master: MasterSide, message: Any, most: int) -> None:
    slave, link = master.welcome()
    master.work.held = True
    flood(slave, 50, message)
    master.rig.settle()
    (protocol,) = master.factory.clients
    assert protocol.sender.queued == most
    assert not link.master.reading
    master.work.held = False
    master.rig.settle()
    ends = [each for each in slave.take() if isinstance(each, (m.End, m.Error))]
    assert len(ends) == 50
    assert link.master.reading and link.alive
