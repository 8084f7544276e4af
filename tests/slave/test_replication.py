"""A real slave against a real master in memory: cut at every byte, slow disks, no space left."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from links import Rig
from sides import NEXT_TAR, TAR, MasterSide, SlaveSide, chain, large, served, store_of
from stores import (
    QuickDisk,
    Sample,
    add_heads,
    bulk,
    closure_in,
    head_in,
    leaf,
    make_store,
    tar_bytes,
)

from tarfailover.errors import (
    DamagedStoreError,
    DivergedError,
    StoreIOError,
    StoreLockedError,
    TarFailoverError,
)
from tarfailover.master.listings import pack_cursor
from tarfailover.slave import pull, status
from tarfailover.store.durable import Buffer, Disk
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Position
from tarfailover.store.state import NAME, SlaveState
from tarfailover.store.writer import StoreWriter
from tarfailover.sync import window
from tarfailover.sync.segments import UNLISTED_TURNS
from tarfailover.wire import messages as m

pytestmark = pytest.mark.load

CHAIN = chain(4)
SAMPLES = [bulk(1, 3000), *CHAIN, leaf(9, [bulk(1, 3000).segment, CHAIN[-1].segment], 100)]
CUT_EVERY = 23
"""Bytes; prime to the sizes of all frames."""
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", {TAR: SAMPLES}, [HEAD.segment])


def add_to(store: Path, samples: Sequence[Sample], name: str = NEXT_TAR) -> None:
    (store / name).write_bytes(tar_bytes(name, samples))
    add_heads(store, samples[-1].segment)


def same_closure(store: Path, copy: Path) -> None:
    with Follower.open(store) as one, Follower.open(copy) as other:
        assert one.head().line == other.head().line
        root = one.head().record.segment
        assert closure_in(one.snapshot, root) == closure_in(other.snapshot, root)


class Counted(list[bytes]):
    """The segments that a master sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.batches: list[int] = []
        """How many came at a time."""
        taken = pull._take

        def take(receiver: object, batch: Sequence[object]) -> object:
            receipt = taken(receiver, batch)  # type: ignore[arg-type]
            self.extend(receipt.stored)
            self.batches.append(len(receipt.stored))
            return receipt

        monkeypatch.setattr(pull, "_take", take)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def finish(slave: SlaveSide, *masters: MasterSide) -> None:
    slave.stop()
    for master in masters:
        master.close()
    assert not slave.rig.delayed


def test_a_first_copy_and_what_comes_later(
    rig: Rig, store: Path, tmp_path: Path, stored: Counted
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.IN_SYNC
    assert slave.head == HEAD
    assert len(stored) == len(SAMPLES)
    new = leaf(50, [SAMPLES[0].segment])
    rig.pass_time(2)
    add_to(store, [new])
    master.refresh()
    assert slave.head == head_in(new.segment), "followed at once, not after the interval"
    assert len(stored) == len(SAMPLES) + 1
    finish(slave, master)
    same_closure(store, tmp_path / "copy")


def test_the_store_gets_whole_batches_however_small_the_answers_are(
    rig: Rig, tmp_path: Path, stored: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "BATCH", 300_000)
    monkeypatch.setattr(window, "REQUEST_BYTES", 50_000)
    samples = large(20, 30_000)
    master = served(rig, store_of(tmp_path / "large", samples))
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.IN_SYNC
    assert len(stored) == len(samples)
    assert stored.batches == [10, 10, 1]
    finish(slave, master)


def test_requests_are_counted_in_windows_not_in_segments(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = chain(3000)
    master = served(rig, store_of(tmp_path / "s", samples))
    asked: list[object] = []
    decode = m.decode_request

    def counting(frame: bytes) -> tuple[int, m.Request]:
        found = decode(frame)
        asked.append(found[1])
        return found

    monkeypatch.setattr(m, "decode_request", counting)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.head == head_in(samples[-1].segment)
    gets = [each for each in asked if isinstance(each, m.Get)]
    assert sum(len(each.ids) for each in gets) == 3000
    assert len(asked) < 10
    finish(slave, master)


def test_cut_at_any_byte_and_resumed(store: Path, tmp_path: Path, stored: Counted) -> None:
    """Whatever was stored when the link broke is not pulled again, and nothing is wrong ever."""
    whole = bytes_of_a_copy(store, tmp_path)
    for cut in range(0, whole, CUT_EVERY):
        copy = tmp_path / f"copy{cut}"
        rig = Rig()
        master = served(rig, store)
        stored.clear()
        slave = SlaveSide(rig, copy)
        slave.service.startService()
        rig.until(lambda rig=rig: bool(rig.links), "a connection")  # type: ignore[misc]
        rig.link.cut_after = cut
        rig.settle()
        assert len(set(stored)) == len(stored)
        first = list(stored)
        rig.pass_time(3, step=1.5)
        assert slave.state == status.IN_SYNC, cut
        assert len(rig.links) == 2
        assert not set(stored[len(first) :]) & set(first), "pulled again"
        assert len(stored) == len(SAMPLES)
        finish(slave, master)
        same_closure(store, copy)


def bytes_of_a_copy(store: Path, tmp_path: Path) -> int:
    rig = Rig()
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "whole").start()
    moved = rig.link.delivered
    finish(slave, master)
    return moved


def test_what_came_whole_before_a_cut_is_kept(rig: Rig, tmp_path: Path, stored: Counted) -> None:
    """However thin the line and however often it breaks: each time there is less to bring."""
    samples = large(8, 60_000)
    master = served(rig, store_of(tmp_path / "s", samples))
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service.startService()
    rig.until(lambda: bool(rig.links), "a connection")
    rig.link.cut_after = 200_000
    rig.settle()
    assert len(stored) == 3, "one answer of eight segments broke in the fourth"
    rig.pass_time(3)
    assert slave.state == status.IN_SYNC
    assert len(stored) == len(samples)
    finish(slave, master)


def test_stopped_at_every_turn(store: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle of whatever it does: stopped without time passing, store closed."""
    for turns in range(60):
        copy = tmp_path / f"copy{turns}"
        rig = Rig()
        master = served(rig, store)
        slave = SlaveSide(rig, copy)
        slave.service.startService()
        for _ in range(turns):
            rig.turn()
        slave.stop()
        master.close()
        assert not rig.delayed
        assert not slave.fatal
        with StoreWriter.open(copy, create=True, headless=True, disk=QuickDisk()) as writer:
            assert writer.repairs == (), "every tar was sealed"


def test_killed_at_every_turn(store: Path, tmp_path: Path, stored: Counted) -> None:
    """What a killed slave had stored is there when it starts again."""
    for turns in range(0, 60, 3):
        copy = tmp_path / f"copy{turns}"
        rig = Rig()
        master = served(rig, store)
        slave = SlaveSide(rig, copy)
        slave.service.startService()
        for _ in range(turns):
            rig.turn()
        stored.clear()
        if slave.service.copy is not None:
            slave.service.copy.writer._abandon()
        rig.link.cut() if rig.links else None
        before = segments_in(copy)
        second_rig = Rig()
        second_master = served(second_rig, store)
        second = SlaveSide(second_rig, copy).start()
        assert second.state == status.IN_SYNC
        assert len(stored) == len(SAMPLES) - before
        finish(second, second_master)
        same_closure(store, copy)
        master.factory.snapshot.release()
        master.follower.close()


def segments_in(copy: Path) -> int:
    if not (copy / "manifest").exists():
        return 0
    with Follower.open(copy) as follower:
        return follower.snapshot.count


def test_a_slow_disk_stops_the_reading_and_no_deadline_runs(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "BACKLOG_HIGH", 1_000_000)
    monkeypatch.setattr(pull, "BACKLOG_LOW", 500_000)
    samples = large(40)
    master = served(rig, store_of(tmp_path / "s", samples), deadline_slow_reader=1000.0)
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service.startService()
    rig.until(lambda: bool(rig.links) and rig.link.master.delivered > 500_000, "some segments")
    slave.work.held = True
    rig.settle()
    came = rig.link.master.delivered
    assert not rig.link.slave.reading
    assert came < 5_000_000, "memory is bounded by the backlog, not by the store"
    rig.pass_time(300, step=10)
    assert rig.link.alive
    slave.work.held = False
    rig.settle()
    assert slave.state == status.IN_SYNC
    finish(slave, master)


class FullDisk(QuickDisk):
    """No space is left, as long as the test says so."""

    full = False

    def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
        if self.full and path.suffix in (".tar", ".log"):
            error = OSError(errno.ENOSPC, "No space left on device")
            raise StoreIOError(f"{path}: cannot write: no space left") from error
        return super().write(fd, path, buffers, offset)


class FailingSync(QuickDisk):
    """Syncs of tars fail, as long as the test says so."""

    full = False

    def sync(self, fd: int, path: Path) -> None:
        del fd
        if self.full and path.suffix == ".tar":
            raise StoreIOError(f"{path}: cannot sync: the disk reports an error")


def test_a_cursor_that_leaves_too_much_out_costs_a_longer_list(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    copy = slave.service.copy
    assert copy is not None
    copy._state = dataclasses.replace(copy._state, cursor=pack_cursor(Position(99, "a", 0)).hex())
    asked: list[m.Request] = []
    decode = m.decode_request

    def counting(frame: bytes) -> tuple[int, m.Request]:
        found = decode(frame)
        asked.append(found[1])
        return found

    monkeypatch.setattr(m, "decode_request", counting)
    new = chain(200, first=500)
    add_to(store, new)
    master.refresh()
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(new[-1].segment)
    gets = [each for each in asked if isinstance(each, m.Get)]
    assert sum(len(each.ids) for each in gets) <= 200 + UNLISTED_TURNS + 1
    assert len(gets) <= UNLISTED_TURNS + 3, "no round trip for each segment"
    lists = [each.cursor for each in asked if isinstance(each, m.List)]
    assert len(lists) == 2 and lists[1] == b""
    finish(slave, master)
    same_closure(store, tmp_path / "copy")


@pytest.mark.parametrize("kind", [FullDisk, FailingSync])
def test_a_full_disk_is_survived_without_a_restart(
    rig: Rig, store: Path, tmp_path: Path, kind: type[FullDisk]
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy")
    disk = kind()
    slave.service._keeper.disk = disk
    slave.start()
    assert slave.head == HEAD
    disk.full = True
    new = leaf(50, [SAMPLES[0].segment])
    add_to(store, [new])
    master.refresh()
    assert slave.state == status.FAILED
    assert "cannot" in slave.service.status.why
    assert slave.service.copy is None, "the store was let go"
    rig.pass_time(100, step=1)
    assert slave.state == status.FAILED
    attempts = len(rig.attempts)
    assert 4 <= attempts <= 40, "tried again, with growing pauses"
    disk.full = False
    rig.pass_time(130, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(new.segment)
    finish(slave, master)
    same_closure(store, tmp_path / "copy")


# what must not be followed


def follow_once(store: Path, copy: Path, **settings: object) -> SlaveSide:
    rig = Rig()
    master = served(rig, store)
    slave = SlaveSide(rig, copy, **settings).start()
    finish(slave, master)
    return slave


def test_a_local_write_in_the_copy_is_never_written_over(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    follow_once(store, copy)
    own = leaf(77, [SAMPLES[0].segment])
    with StoreWriter.open(copy, disk=QuickDisk()) as writer:
        writer.append(own.segment, own.data)
        writer.commit(head_in(own.segment), 5)
    rig = Rig()
    slave = SlaveSide(rig, copy).start()
    (error,) = slave.fatal
    assert isinstance(error, DivergedError)
    assert "--accept-new-history" in str(error)
    slave.stop()
    with Follower.open(copy) as follower:
        assert follower.head().record == head_in(own.segment)
    accepted = follow_once(store, copy, accept_new_history=True)
    assert accepted.history[-1] == status.IN_SYNC
    same_closure(store, copy)


def test_a_master_with_another_history(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    follow_once(store, copy)
    other = store_of(tmp_path / "other", chain(3, first=200))
    slave = follow_once(other, copy)
    assert slave.history == [status.DIVERGED]
    assert "--accept-new-history" in slave.service.status.why
    same_closure(store, copy)
    follow_once(other, copy, accept_new_history=True)
    same_closure(other, copy)


def test_a_store_that_somebody_else_began(store: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "other", chain(3, first=200))
    before = {each.name: each.read_bytes() for each in other.glob("*.tar")}
    assert follow_once(store, other).history == [status.DIVERGED]
    assert {each.name: each.read_bytes() for each in other.glob("*.tar")} == before


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ({}, {"repository": "author"}, status.IN_SYNC),
        ({"repository": "author"}, {"repository": "author"}, status.IN_SYNC),
        ({"repository": "author"}, {"repository": "publish"}, status.DIVERGED),
    ],
)
def test_the_name_of_the_repository(
    store: Path, tmp_path: Path, before: dict[str, str], after: dict[str, str], state: str
) -> None:
    copy = tmp_path / "copy"
    for settings in (before, after):
        rig = Rig()
        master = served(rig, store, **settings)
        slave = SlaveSide(rig, copy).start()
        finish(slave, master)
    assert slave.state == state


@pytest.mark.parametrize(("epochs", "state"), [((3, 5), "in sync"), ((5, 3), "diverged")])
def test_the_epoch_of_the_master(
    store: Path, tmp_path: Path, epochs: tuple[int, int], state: str
) -> None:
    copy = tmp_path / "copy"
    for epoch in epochs:
        rig = Rig()
        master = served(rig, store)
        master.factory.epoch = epoch
        slave = SlaveSide(rig, copy).start()
        finish(slave, master)
    assert slave.state == state
    state_kept = SlaveState.load(copy)
    assert state_kept is not None and state_kept.epoch == 5


# starting


def test_a_store_that_is_locked(tmp_path: Path) -> None:
    """Locks are the process's, so the second writer here is a stand-in's refusal."""
    rig = Rig()
    slave = SlaveSide(rig, tmp_path / "copy")

    class Locked(Disk):
        def make_directory(self, path: Path) -> None:
            raise StoreLockedError(f"{path} is written by another process")

    slave.service._keeper.disk = Locked()
    slave.start()
    assert [type(each) for each in slave.fatal] == [StoreLockedError]
    assert not rig.attempts
    slave.stop()


def test_a_damaged_state_file(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    follow_once(store, copy)
    (copy / NAME).write_text("{}")
    slave = SlaveSide(Rig(), copy).start()
    (error,) = slave.fatal
    assert isinstance(error, DamagedStoreError) and "remove the file" in str(error)
    slave.stop()
    (copy / NAME).unlink()
    assert follow_once(store, copy).state == status.IN_SYNC


def test_a_fault_nobody_foresaw_is_a_state_and_opens_the_store_anew(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    master = served(rig, store)
    with monkeypatch.context() as patched:
        patched.setattr(pull, "_take", broken)
        slave = SlaveSide(rig, tmp_path / "copy").start()
        assert slave.state == status.FAILED
        assert "a bug" in slave.service.status.why
        assert slave.service.copy is None
    rig.pass_time(10)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


# the connection


def test_nobody_listens_and_then_somebody_does(rig: Rig, store: Path, tmp_path: Path) -> None:
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.STALLED
    assert "127.0.0.1:8023" in slave.service.status.why
    rig.pass_time(600, step=1)
    pauses = [b - a for a, b in zip(rig.attempts, rig.attempts[1:], strict=False)]
    assert pauses[0] <= 1.5
    assert sorted(pauses) == pauses
    assert max(pauses) <= 61 and pauses[-1] >= 59
    master = served(rig, store)
    rig.pass_time(61, step=1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


def test_an_attempt_that_nobody_answers_ends_by_its_deadline(rig: Rig, tmp_path: Path) -> None:
    rig.answers = False
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.CONNECTING
    rig.pass_time(10.1)
    assert slave.state == status.STALLED
    slave.stop()
    assert not rig.delayed


def test_a_pause_is_never_negative_and_not_always_the_same(rig: Rig, tmp_path: Path) -> None:
    slave = SlaveSide(rig, tmp_path / "copy")
    factory = slave.service._factory
    del factory.jitter
    assert 0 < factory.jitter <= 0.12, "nine deviations to zero"
    slave.start()
    rig.pass_time(400, step=0.05)
    pauses = [b - a for a, b in zip(rig.attempts, rig.attempts[1:], strict=False)]
    assert len({round(each, 3) for each in pauses}) > len(pauses) / 2
    slave.stop()


def test_the_long_poll_does_not_spin(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    before = slave.service.status.cycles
    rig.pass_time(200, step=1)
    assert 9 <= slave.service.status.cycles - before <= 12
    assert len(rig.links) == 1
    finish(slave, master)


def test_without_a_long_poll_the_interval_is_the_pause(
    rig: Rig, store: Path, tmp_path: Path
) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", poll_wait=0.0).start()
    before = slave.service.status.cycles
    rig.pass_time(100, step=1)
    assert 19 <= slave.service.status.cycles - before <= 21
    finish(slave, master)


def test_a_master_without_a_head_keeps_the_connection(rig: Rig, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", {})
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    assert slave.state == status.REFUSED
    rig.pass_time(60, step=1)
    assert len(rig.links) == 1
    add_to(store, SAMPLES, TAR)
    master.refresh()
    rig.pass_time(5.1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


def test_a_busy_master(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store, max_clients=1)
    first = SlaveSide(rig, tmp_path / "first").start()
    second = SlaveSide(rig, tmp_path / "second").start()
    assert (first.state, second.state) == (status.IN_SYNC, status.REFUSED)
    first.stop()
    rig.pass_time(30)
    assert second.state == status.IN_SYNC
    finish(second, master)


def test_a_connection_lost_while_the_head_is_committed(
    rig: Rig, store: Path, tmp_path: Path
) -> None:
    """The cycle ends well, but nobody is in sync with a master that is not there."""
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service.startService()
    rig.until(lambda: slave.state == status.SYNCING, "syncing")
    rig.until(lambda: any(job[1].__name__ == "commit" for job in slave.work._jobs), "the commit")
    slave.work.held = True
    rig.link.cut()
    rig.master = None
    slave.work.held = False
    rig.settle()
    assert slave.head == HEAD
    assert slave.state == status.STALLED
    rig.master = master.protocol
    rig.pass_time(5)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


def test_a_disk_that_hangs_does_not_keep_the_process(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service.startService()
    rig.until(lambda: slave.state == status.SYNCING, "syncing")
    slave.work.held = True
    slave.begin_to_stop()
    rig.pass_time(3.9)
    assert not slave.stopped
    rig.pass_time(0.2)
    assert slave.stopped
    (error,) = slave.fatal
    assert "deadline drain of 4 s" in str(error)
    slave.work.held = False
    rig.settle()
    master.close()


def test_a_head_whose_closure_is_gone_is_asked_for_again(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = served(rig, store)
    with monkeypatch.context() as patched:

        def gone(*_: object) -> None:
            raise m_error(m.ErrorCode.HEAD_GONE)

        patched.setattr(master.factory.listings, "get", gone)
        slave = SlaveSide(rig, tmp_path / "copy").start()
        assert slave.state == status.STALLED
    rig.pass_time(5.1)
    assert slave.state == status.IN_SYNC
    assert len(rig.links) == 1
    finish(slave, master)


def m_error(code: m.ErrorCode) -> TarFailoverError:
    from tarfailover.errors import PeerError  # noqa: PLC0415

    return PeerError(code, "gone")


def test_the_copy_of_a_copy(store: Path, tmp_path: Path) -> None:
    follow_once(store, tmp_path / "copy")
    follow_once(tmp_path / "copy", tmp_path / "second")
    same_closure(store, tmp_path / "second")


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_small_commit_comes_with_its_head(
    rig: Rig, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    master = served(rig, store, compression=compression)
    slave = SlaveSide(rig, tmp_path / "copy", compression=compression).start()
    asked: list[m.Request] = []
    decode = m.decode_request

    def counting(frame: bytes) -> tuple[int, m.Request]:
        found = decode(frame)
        asked.append(found[1])
        return found

    monkeypatch.setattr(m, "decode_request", counting)
    new = chain(20, first=500)
    for number in range(1, 4):
        added = new[5 * number - 5 : 5 * number]
        add_to(store, added, f"data{number:05}a.tar")
        master.refresh()
        assert slave.head == head_in(added[-1].segment)
    assert {type(each) for each in asked} == {m.Follow}, "half a round trip is all it takes"
    finish(slave, master)
    same_closure(store, tmp_path / "copy")


def test_a_large_commit_is_asked_for(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy").start()
    new = large(m.MAX_AHEAD // 200_000 + 1)
    add_to(store, new)
    master.refresh()
    assert slave.head == head_in(new[-1].segment)
    finish(slave, master)
    same_closure(store, tmp_path / "copy")
