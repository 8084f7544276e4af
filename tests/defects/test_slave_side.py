"""The defects of Oak's standby, by their numbers: not those of our slave, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from binaries import holder, id_of
from blob_samples import put
from content import external, write
from links import Rig
from oak_sides import OakEnd, Served
from planted import BOTH, found
from sides import SlaveSide, chain, served
from stores import QuickDisk, bulk, head_in, leaf
from twisted.internet.defer import CancelledError, succeed
from twisted.logger import LogLevel, globalLogPublisher

from tarfailover.deadline import Deadline
from tarfailover.errors import DeadlineError, ProtocolError, StoreIOError
from tarfailover.ids import Generation, RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.values import Property
from tarfailover.slave import cleaning, status
from tarfailover.slave.blobcopy import BlobCopy
from tarfailover.slave.bringing import Bringing
from tarfailover.slave.copy import Copy
from tarfailover.slave.link import Link
from tarfailover.slave.oak import queue
from tarfailover.slave.oak.blob import ComingBlob
from tarfailover.slave.oak.closure import Closure
from tarfailover.slave.oak.protocol import OakProtocol
from tarfailover.slave.report import health
from tarfailover.slave.told import OakPrimary
from tarfailover.store import journal
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.store.blobs.incoming import Incoming
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.sync.blobs import BlobTransfer
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import GetBlob, GetSegment

pytestmark = pytest.mark.load

CONTENTS = [bytes([number]) * 5000 for number in range(8)]
FIRST = leaf(1)
SECOND = holder(2, map(id_of, CONTENTS), [FIRST.segment])
OLD, NEW = head_in(FIRST.segment), head_in(SECOND.segment)


class Side:
    """A slave with a blob store of its own, and an Oak primary that the test has a hand in."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.rig = Rig()
        self.tmp_path = tmp_path
        self.copy = tmp_path / "copy"
        self.own = BlobStore(tmp_path / "own", DATA_STORE)
        self.settings = {"dialect": "oak", "blob_store": str(self.own.path), **settings}
        self.served = Served([FIRST], OLD)
        self.rig.master = self.served.primary
        self.slaves: list[SlaveSide] = []

    def slave(self, **settings: Any) -> SlaveSide:
        """A slave of it, started."""
        side = SlaveSide(self.rig, self.copy, **{**self.settings, **settings})
        self.slaves.append(side)
        return side.start()

    def commit(self) -> None:
        """A new head that needs the binaries."""
        self.served.samples[SECOND.segment] = SECOND
        self.served.head = NEW
        self.served.blobs = {id_of(content): content for content in CONTENTS}

    def head(self) -> RecordId | None:
        """The head in the journal of the copy."""
        lines = journal.newest_first(self.copy / "journal.log")
        return next((line.head for line in lines), None)

    def has(self) -> list[bool]:
        """Which of the binaries are there."""
        return [self.own.has(self.own.parse(id_of(content))) for content in CONTENTS]

    def end(self) -> None:
        """Stop what was not stopped."""
        for side in self.slaves:
            if not side.stopped:
                side.stop()
        assert not self.rig.delayed


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[Side]:
    made = Side(tmp_path)
    yield made
    made.end()


class Stuck:
    """A primary that says nothing any more, once it is asked for one of `blobs`."""

    def __init__(self, contents: list[bytes]) -> None:
        self._blobs = [id_of(content) for content in contents]
        self._is_stuck = False

    def __call__(self, request: object) -> bool:
        if isinstance(request, GetBlob) and request.blob in self._blobs:
            self._is_stuck = True
        return self._is_stuck


def half() -> Stuck:
    """Stuck in the middle of the binaries."""
    return Stuck(CONTENTS[4:])


def heads_in_spite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: the end of the binaries' phase is taken for its success, whatever ended it."""
    honest = Bringing._binaries

    async def hasty(*args: Any, **named: Any) -> None:
        try:
            await honest(*args, **named)
        except (Exception, CancelledError):  # noqa: BLE001 - the defect
            return

    monkeypatch.setattr(Bringing, "_binaries", hasty)


# D1: a stop while binaries are brought publishes the head


@BOTH
def test_d01_a_stop_among_the_binaries_moves_no_head(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave = sides.slave()
    sides.commit()
    sides.served.silent = half()
    with monkeypatch.context() as patch:
        if planted:
            heads_in_spite(patch)
        sides.rig.pass_time(5.1)
        assert slave.state == status.SYNCING
        slave.stop()
    with found(planted):
        assert sides.head() == OLD
    sides.served.silent = lambda _: False
    sides.slave()
    if not planted:
        assert (sides.head(), all(sides.has())) == (NEW, True), "and the next run goes on"


# D2: an interruption does the same, and breaks the store


@BOTH
def test_d02_a_cycle_that_is_given_up_moves_no_head_and_the_store_works(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    slave = sides.slave(deadline_progress=20.0, deadline_answer=500.0, deadline_idle=500.0)
    sides.commit()
    sides.served.silent = half()
    with monkeypatch.context() as patch:
        if planted:
            heads_in_spite(patch)
        sides.rig.pass_time(45, step=0.5)
    with found(planted):
        assert sides.head() == OLD
        assert slave.service.status.kinds["DeadlineError.progress"]
    sides.served.silent = lambda _: False
    if not planted:
        sides.rig.pass_time(60, step=0.5)
        assert (slave.state, sides.head(), all(sides.has())) == (status.IN_SYNC, NEW, True)


# D3: no binaries below a node that is called checkpoints, nor those of checkpoints alone


@BOTH
def test_d03_binaries_below_checkpoints_are_brought(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, theirs = Rig(), BlobStore(tmp_path / "theirs", DATA_STORE, QuickDisk())
    theirs.path.mkdir()
    contents = CONTENTS[:3]
    ids = [put(theirs, content).text for content in contents]

    def edit(top: NodeBuilder, writer: RepositoryWriter) -> None:
        page, below, kept = (external(writer, each) for each in ids)
        top.child("root").child("page").set("data", Property.of(page))
        top.child("root").child("checkpoints").child("x").set("data", Property.of(below))
        saved = top.child("checkpoints").child("saved").child("root")
        saved.child("old").set("data", Property.of(kept))

    write(tmp_path / "store", edit, top=True)
    master = served(rig, tmp_path / "store", blob_store=str(theirs.path))
    master.factory.blobs = theirs
    if planted:
        lacking = BlobCopy._lacking
        monkeypatch.setattr(
            BlobCopy,
            "_lacking",
            lambda self, raw: [] if raw in map(str.encode, ids[1:]) else lacking(self, raw),
        )
    own = BlobStore(tmp_path / "own", DATA_STORE)
    slave = SlaveSide(rig, tmp_path / "copy", blob_store=str(own.path)).start()
    assert slave.state == status.IN_SYNC
    with found(planted):
        assert all(own.has(own.parse(each)) for each in ids)
    slave.stop()
    master.close()


# D4: no answer to the question for the head is a success


@BOTH
@pytest.mark.parametrize("how", ["silence", "the end", "another service"])
def test_d04_no_answer_is_no_success(
    planted: bool, how: str, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        heard = OakProtocol.connectionMade

        def eager(self: OakProtocol) -> None:
            heard(self)
            self._welcomed(self, OakPrimary())

        monkeypatch.setattr(OakProtocol, "connectionMade", eager)
        monkeypatch.setattr(
            OakProtocol, "head", lambda _, have, __: succeed(OakEnd.nothing(have or OLD))
        )
    slave = SlaveSide(sides.rig, sides.copy, dialect="oak")
    if planted:
        # A standby that has a copy, and hears nothing of its primary any more.
        monkeypatch.setattr(Copy, "head", property(lambda _: OLD))
    sides.slaves.append(slave)
    sides.served.silent = lambda _: True
    slave.start()
    if how == "the end":
        sides.rig.link.master.protocol.transport.loseConnection()
    elif how == "another service":
        sides.rig.link.master.protocol.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    sides.rig.settle()
    sides.rig.pass_time(0 if planted else 10.1)
    with found(planted):
        assert slave.service.status.failures
        assert not health(slave.service)[0]
        assert status.IN_SYNC not in slave.history


# D5: the deadline of an answer runs while nothing is asked, and the standby is busy


@BOTH
def test_d05_no_deadline_runs_while_the_slave_is_busy_itself(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(Link, "_nothing_due", lambda self: self._idle.start())
    slave = sides.slave(deadline_idle=5.0, deadline_answer=5.0)
    sides.served.add(bulk(50, 100_000), leaf(51, [bulk(50, 100_000).segment]))
    slave.work.held = True
    sides.rig.pass_time(60, step=0.5)
    slave.work.held = False
    sides.rig.pass_time(6, step=0.5)
    with found(planted):
        assert sides.served.connections == 1
        assert slave.service.status.failures == 0
    if not planted:
        assert slave.head == sides.served.head


# D6: a binary must come whole within one deadline


@BOTH
def test_d06_a_binary_takes_as_long_as_it_takes(
    planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 256
    blob = id_of(data)
    end = OakEnd(Rig()).welcomed(OLD)
    if planted:
        monkeypatch.setattr(Deadline, "progress", lambda _: None)
        monkeypatch.setattr(Deadline, "moving", lambda _: None)
        monkeypatch.setattr(Deadline, "_enough", lambda _: False)
    end.asked(end.protocol.blob(blob, 0, 0, end.items.append))
    for at in range(0, len(data), 4096):
        end.rig.pass_time(25)
        if end.link.alive:
            part, last = data[at : at + 4096], at + 4096 == len(data)
            end.primary.frame(*answers.blob_chunk(blob, len(data), part, first=at == 0, last=last))
        end.rig.settle()
    with found(planted):
        assert b"".join(end.items) == data
        assert end.results == [len(data)]
        assert not end.lost
    end.link.cut()


# D7: a binary that is lost on the primary blocks the standby for ever


@BOTH
def test_d07_a_lost_binary_holds_up_no_other_and_can_be_done_without(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        refused = BlobTransfer.refused

        def stop(self: BlobTransfer, asked: Any, error: Any) -> None:
            refused(self, asked, error)
            raise ProtocolError("no more of this run")

        monkeypatch.setattr(BlobTransfer, "refused", stop)
    slave = sides.slave(blobs="warn")
    sides.commit()
    del sides.served.blobs[id_of(CONTENTS[0])]
    sides.rig.pass_time(30, step=0.5)
    with found(planted):
        assert sides.has() == [False, *[True] * 7]
        assert (slave.state, sides.head()) == (status.IN_SYNC, NEW)
        assert slave.service.copy is not None and slave.service.copy.blobs is not None
        assert list(slave.service.copy.blobs.missing) == [id_of(CONTENTS[0])]


# D8: a deadline of a binary is told as an exception that says nothing


@BOTH
def test_d08_a_deadline_of_a_binary_is_told_in_words(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(DeadlineError, "__str__", lambda _: "NullPointerException")
    slave = sides.slave()
    sides.commit()
    sides.served.silent = half()
    sides.rig.pass_time(40, step=0.5)
    with found(planted):
        told = slave.service.status.trouble
        assert re.search(r"deadline (answer|idle) of 30 s passed while waiting for", told), told
    assert sides.head() == OLD


# D9: a long chain overflows the stack, and nothing counts it


@BOTH
def test_d09_a_chain_has_no_limit_in_the_stack(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:

        def deep(self: Closure, segment: bytes, *, ready: bool) -> None:
            if ready:
                self._ready.append(segment)
                self._done.add(segment)
            waiters = self._waiting.pop(segment)
            for each in waiters if isinstance(waiters, list) else (waiters,):
                self._finish(each, ready=True)

        monkeypatch.setattr(Closure, "_finish", deep)
    samples = chain(1500)
    sides.served.samples = {each.segment: each for each in samples}
    sides.served.head = head_in(samples[-1].segment)
    slave = SlaveSide(sides.rig, sides.copy, dialect="oak")
    sides.slaves.append(slave)
    slave.start()
    with found(planted):
        assert (slave.state, sides.head()) == (status.IN_SYNC, sides.served.head)
    if planted:
        assert slave.service.status.failures, "and ours would count it"


# D12: answers are not matched to requests


@BOTH
def test_d12_an_answer_is_for_the_question_that_it_names(
    planted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(queue, "_fits", lambda request, _: isinstance(request, GetSegment))
    one, two, other = leaf(21), leaf(22), leaf(23)
    end = OakEnd(Rig()).welcomed(OLD) if not planted else _welcomed_anyway(monkeypatch)
    end.asked(end.protocol.get([one.segment, two.segment], end.items.append))
    end.primary.segment(other)
    end.rig.settle()
    with found(planted):
        assert end.items == []
        assert [type(error) for error in end.lost] == [ProtocolError]
    end.link.cut()


def _welcomed_anyway(monkeypatch: pytest.MonkeyPatch) -> OakEnd:
    planted = queue._fits
    with monkeypatch.context() as patch:
        patch.setattr(queue, "_fits", lambda *_: True)
        end = OakEnd(Rig()).welcomed(OLD)
    assert queue._fits is planted
    return end


# D13: an id that the server chose names a file


@BOTH
def test_d13_an_id_of_the_primary_becomes_no_path(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = sides.tmp_path / "outside.tmp"
    if planted:
        fits = queue._fits
        monkeypatch.setattr(
            queue,
            "_fits",
            lambda request, answer: (
                isinstance(request, GetBlob) if hasattr(answer, "blob") else fits(request, answer)
            ),
        )
        part = ComingBlob.part

        def spooled(self: ComingBlob, coming: Any) -> Any:
            with (sides.own.path / f"{coming.blob}.tmp").open("ab") as file:
                file.write(coming.data)
            return part(self, coming)

        monkeypatch.setattr(ComingBlob, "part", spooled)
    slave = sides.slave()
    sides.commit()
    sides.own.path.mkdir(exist_ok=True)
    sides.served.silent = Stuck(CONTENTS)
    sides.rig.pass_time(5.1)
    sides.rig.link.master.protocol.frame(
        *answers.blob_chunk("../outside", 3, b"abc", first=True, last=True)
    )
    sides.rig.settle()
    with found(planted):
        assert not outside.exists()
        assert "blob ../outside came without being asked for" in slave.service.status.trouble
    assert sides.head() == OLD


# D14: what is stored is not compared with the id that was wanted


@BOTH
def test_d14_a_binary_is_what_its_id_says_or_is_not_stored(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        check = Incoming.check

        def unseen(self: Incoming) -> None:
            self._hasher = _Anything(self.digest)  # type: ignore[assignment]
            check(self)

        monkeypatch.setattr(Incoming, "check", unseen)
    slave = sides.slave()
    sides.commit()
    sides.served.blobs[id_of(CONTENTS[3])] = b"?" * 5000
    sides.rig.pass_time(20, step=0.5)
    with found(planted):
        assert sides.has() == [number != 3 for number in range(8)]
        assert id_of(CONTENTS[3]) in slave.service.status.trouble
        assert sides.head() == OLD


class _Anything:
    """A digest that is right whatever was read."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def update(self, _: object) -> None:
        """Nothing."""

    def hexdigest(self) -> str:
        """What is wanted."""
        return self._digest


# D18: a warning with a stack trace for each binary


@BOTH
def test_d18_binaries_are_brought_without_noise(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        lacking = BlobCopy._lacking

        def noisy(self: BlobCopy, raw: Any) -> Any:
            try:
                raise LookupError(raw)
            except LookupError:
                Link.log.failure("not here")
            return lacking(self, raw)

        monkeypatch.setattr(BlobCopy, "_lacking", noisy)
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        slave = sides.slave()
        sides.commit()
        sides.rig.pass_time(5.1)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert (slave.state, all(sides.has())) == (status.IN_SYNC, True)
    with found(planted):
        assert [each for each in events if each["log_level"] >= LogLevel.warn] == []
        assert not any("log_failure" in each for each in events)


# D19: a cleanup has no second chance


@BOTH
def test_d19_a_cleanup_is_tried_until_it_is_done(
    planted: bool, sides: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "RETRY_AFTER", 1.0)
    failing = [StoreIOError("the disk"), StoreIOError("the disk, once more")]
    step = Cleanup.step

    def fails_first(self: Cleanup) -> bool:
        if failing:
            raise failing.pop()
        return step(self)

    monkeypatch.setattr(Cleanup, "step", fails_first)
    if planted:
        clean = Copy.clean

        def once(self: Copy) -> Any:
            try:
                return clean(self)
            finally:
                monkeypatch.setattr(Copy, "cleanup_due", False)

        monkeypatch.setattr(Copy, "clean", once)
    slave = sides.slave()
    compacted = leaf(60, [FIRST.segment], generation=Generation(1, 1, True))
    sides.served.add(compacted)
    sides.rig.pass_time(60, step=0.5)
    with found(planted):
        assert failing == []
        assert slave.service.status.cleanups
        assert slave.service.copy is not None and not slave.service.copy.cleanup_due
