"""The history of Oak's bugs, as far as a standby's line to its primary can have them.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from links import Rig
from oak_sides import OakEnd, Served, ServingPrimary, serving
from planted import BOTH, found
from sides import SlaveSide, chain
from stores import Sample, bulk, head_in, leaf
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from tarfailover.config import SlaveConfig
from tarfailover.slave import status
from tarfailover.slave.link import Link
from tarfailover.slave.oak.closure import Closure
from tarfailover.slave.oak.lesson import Tables
from tarfailover.slave.oak.protocol import OakProtocol
from tarfailover.slave.oak.queue import Questions
from tarfailover.slave.report import health
from tarfailover.slave.service import SlaveService
from tarfailover.store.receiver import Receipt, Receiver
from tarfailover.store.writer import StoreWriter
from tarfailover.wire.oak.frames import SegmentAnswer
from tarfailover.wire.oak.requests import GetReferences, GetSegment, Request
from tarfailover.workers import Workers

pytestmark = pytest.mark.load

BULKS = [bulk(number, 3000) for number in range(3)]
SAMPLES = [*BULKS, *chain(3), leaf(100, [*(each.segment for each in BULKS), leaf(2).segment])]
TOP = SAMPLES[-1]


@pytest.fixture
def served(rig: Rig) -> Served:
    return serving(rig, SAMPLES)


@pytest.fixture
def slave(rig: Rig, tmp_path: Path) -> SlaveSide:
    return SlaveSide(rig, tmp_path / "copy", dialect="oak")


WHOLE = {each.segment: each.data for each in SAMPLES}


# an answer and its question


@BOTH
def test_oak_2260_an_answer_that_comes_late_is_not_taken_for_the_next(
    planted: bool, rig: Rig, served: Served, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bulk segments, in which nothing says whose bytes they are, got those of others."""

    class Late(ServingPrimary):
        owed = bulk(50, 3000)

        def segment(self, sample: Sample) -> None:
            if sample in BULKS:
                sample, self.owed = self.owed, sample
            super().segment(sample)

    answer = Questions.answer

    def next_in_turn(self: Questions, came: Any) -> None:
        asked = self._sent[0].request
        if isinstance(came, SegmentAnswer) and isinstance(asked, GetSegment):
            came = came._replace(segment=asked.segment)
        answer(self, came)

    if planted:
        monkeypatch.setattr(Questions, "answer", next_in_turn)
    rig.master = lambda: Late(served) if len(rig.links) == 0 else served.primary()
    slave.start()
    rig.pass_time(3, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    with found(planted):
        assert slave.held(SAMPLES) == WHOLE
    slave.stop()


@BOTH
def test_oak_4803_an_error_ends_the_run_that_waits(
    planted: bool, rig: Rig, served: Served, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose answer could not come any more waited for it, and no other began."""

    class Ending(ServingPrimary):
        def asked(self, request: Request) -> None:
            if isinstance(request, GetSegment):
                self.transport.loseConnection()
            super().asked(request)

    rig.master = lambda: Ending(served) if len(rig.links) == 0 else served.primary()
    with monkeypatch.context() as patch:
        if planted:
            patch.setattr(OakProtocol, "_drop", lambda self, _: self._hello.stop())
        slave.start()
        rig.pass_time(10, step=0.5)
        with found(planted):
            assert status.STALLED in slave.history
            assert slave.service.status.failures == 1
            assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    if planted:
        slave.service._cycles.cancel()
    slave.stop()


# errors, and no head


@BOTH
def test_oak_2541_the_first_error_is_not_the_end(
    planted: bool, rig: Rig, served: Served, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SlaveService._failed

    async def stops(self: SlaveService, protocol: Link, error: Any) -> None:
        await failed(self, protocol, error)
        self._again.forget()
        self._ticking.stop()
        self._watchdog.stop()
        self._factory.stop()

    if planted:
        monkeypatch.setattr(SlaveService, "_failed", stops)
    gone = served.samples.pop(BULKS[1].segment)
    slave.start()
    assert slave.state == status.STALLED
    served.samples[gone.segment] = gone
    rig.pass_time(60, step=0.5)
    with found(planted):
        assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    slave.stop()


@BOTH
def test_oak_5094_a_primary_without_a_head_is_no_crash(
    planted: bool,
    rig: Rig,
    served: Served,
    slave: SlaveSide,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has written nothing to its disk yet: that is told, and waited for."""
    with monkeypatch.context() as patch:
        if planted:
            patch.setattr(OakProtocol, "_ask_head", lambda *_: succeed(None))
        head, served.head = served.head, None
        slave.start()
        rig.pass_time(10.1, step=0.1)
        with found(planted):
            assert slave.state == status.STALLED
            assert "while it has no head on its disk" in slave.service.status.trouble
            assert not [line for line in log if line.startswith("critical")]
    served.head = head
    rig.pass_time(60, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, head)
    slave.stop()


@BOTH
def test_oak_6829_no_head_is_no_success(
    planted: bool, rig: Rig, served: Served, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a primary that gives none any more; since then Oak takes it for "nothing new"."""
    slave.start()
    assert slave.state == status.IN_SYNC
    served.head = None
    if planted:
        nothing_new = OakEnd.nothing(head_in(TOP.segment))
        monkeypatch.setattr(OakProtocol, "head", lambda *_: succeed(nothing_new))
    rig.pass_time(60, step=0.5)
    with found(planted):
        assert slave.service.status.failures
        assert not health(slave.service)[0]
    slave.stop()


@BOTH
def test_oak_7027_each_deadline_has_one_meaning(
    planted: bool, rig: Rig, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seconds are too long for a connection to be made, and not for an answer."""
    if planted:
        deadline = Link._deadline
        monkeypatch.setattr(
            Link,
            "_deadline",
            lambda self, name, _, *more: deadline(self, name, self._config.deadline_connect, *more),
        )

    class Slow(ServingPrimary):
        def asked(self, request: Request) -> None:
            rig.callLater(5, super().asked, request)

    rig.master = lambda: Slow(served)
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak", deadline_connect=2.0)
    slave.start()
    rig.pass_time(90, step=0.5)
    with found(planted):
        assert slave.service.status.failures == 0
        assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    slave.stop()
    rig.pass_time(6)


# what is asked for


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: what was found once is looked up, and asked about, wherever it is found again."""
    wait = Closure._wait

    def again(self: Closure, segment: bytes, needed: bytes) -> None:
        known = needed in self._waiting
        wait(self, segment, needed)
        if known:
            self._found.append(needed)

    learned = Closure.learned

    def anew(self: Closure, segment: bytes, references: Iterable[bytes]) -> None:
        if segment in self._waiting:
            learned(self, segment, references)
        self._asked.discard(segment)

    monkeypatch.setattr(Closure, "_wait", again)
    monkeypatch.setattr(Closure, "learned", anew)
    monkeypatch.setattr(Tables, "get", lambda *_: None)


@BOTH
def test_oak_3794_a_circle_has_an_end(
    planted: bool, rig: Rig, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments that refer to each other were walked for ever."""
    if planted:
        no_memory(monkeypatch)
    one, two = leaf(1, [leaf(2).segment]), leaf(2, [leaf(1).segment])
    served = serving(rig, [one, two])
    served.silent = lambda _: len(served.asked) > 100
    slave.start()
    with found(planted):
        assert len(served.taken(GetReferences)) < 5
        assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    slave.stop()


@BOTH
def test_oak_4878_nothing_is_asked_for_twice(
    planted: bool, rig: Rig, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-4886, 5465: what several segments refer to was asked for once for each of them."""
    if planted:
        no_memory(monkeypatch)
    base = leaf(1, [BULKS[0].segment])
    above = [leaf(number, [base.segment, BULKS[0].segment]) for number in range(2, 12)]
    samples = [BULKS[0], base, *above, leaf(99, [each.segment for each in above])]
    served = serving(rig, samples)
    slave.start()
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    with found(planted):
        assert sorted(served.taken(GetSegment)) == sorted(each.segment for each in samples)
        about = served.taken(GetReferences)
        assert [about.count(each.segment) for each in samples[:-1]] == [0, *[1] * 11]
    slave.stop()


@BOTH
def test_oak_4897_nothing_waits_in_memory_for_what_it_refers_to(
    planted: bool, rig: Rig, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments were brought from the head down, and could only be stored the other way round."""
    if planted:
        ready = Closure.ready
        monkeypatch.setattr(Closure, "ready", lambda self: ready(self)[::-1])
    waiting: list[int] = []
    take = Receiver.take

    def watched(self: Receiver, arrivals: Any) -> Receipt:
        receipt = take(self, arrivals)
        waiting.append(receipt.waiting)
        return receipt

    monkeypatch.setattr(Receiver, "take", watched)
    monkeypatch.setattr("tarfailover.slave.pull.BATCH", 100)
    served = serving(rig, chain(50))
    slave.start()
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    with found(planted):
        assert max(waiting) == 0
    slave.stop()


# the copy


@BOTH
def test_oak_4766_an_id_is_looked_up_in_the_store_that_asks(
    planted: bool, rig: Rig, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids were bound to another store of the same process, which had it all."""
    first = SlaveSide(rig, tmp_path / "first", dialect="oak").start()
    assert first.service.copy is not None
    if planted:
        other = first.service.copy.writer
        monkeypatch.setattr(StoreWriter, "absent", lambda _, ids: other._table.find_all(ids) < 0)
        monkeypatch.setattr(StoreWriter, "lacking", lambda _, ids: other._table.lacking(ids))
    second = SlaveSide(rig, tmp_path / "second", dialect="oak").start()
    with found(planted):
        assert second.held(SAMPLES) == WHOLE
        assert (second.state, second.head) == (status.IN_SYNC, served.head)
    first.stop()
    second.stop()


# starting and stopping


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_3109_nothing_is_kept_of_a_slave_that_stopped(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executors and pipelines of standbys that were long closed filled the memory."""
    stop = Workers.stop
    kept: list[Workers] = []

    def lazy(self: Workers, _: float) -> Deferred[None]:
        kept.append(self)
        return succeed(None)

    if planted:
        monkeypatch.setattr(Workers, "stop", lazy)
    for number in range(3):
        config = SlaveConfig(store=tmp_path / str(number), port=1, scrub_rate=0)
        service = SlaveService(config, reactor, pytest.fail)
        service.startService()
        await service._in_thread(int)
        await maybeDeferred(service.stopService)
    with found(planted):
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if "tarfailover-store" in name]
    for each in kept:
        await stop(each, 10.0)
