"""A copy is the slave's alone: whoever else writes into it is found out and not written over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from links import Rig
from sides import NEXT_TAR, TAR, MasterSide, SlaveSide, chain, served
from stores import QuickDisk, add_heads, head_in, leaf, make_store, state_of, tar_bytes

from tarfailover.errors import DivergedError
from tarfailover.slave import status
from tarfailover.store import lock
from tarfailover.store.follower import Follower
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.writer import StoreWriter

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)
FOREIGN = leaf(77, [SAMPLES[0].segment])
NEW = leaf(50, [SAMPLES[0].segment])


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> MasterSide:
    return served(rig, make_store(tmp_path / "store", {TAR: SAMPLES}, [HEAD.segment]))


@pytest.fixture
def slave(rig: Rig, master: MasterSide, tmp_path: Path) -> SlaveSide:
    """A slave that is in sync."""
    del master
    side = SlaveSide(rig, tmp_path / "copy").start()
    assert side.state == status.IN_SYNC
    return side


def new_head(master: MasterSide) -> None:
    store = master.follower.directory
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, [NEW]))
    add_heads(store, NEW.segment)
    master.refresh()


def finish(slave: SlaveSide, *masters: MasterSide) -> None:
    slave.stop()
    for master in masters:
        master.close()
    assert not slave.rig.delayed


def written(copy: Path) -> None:
    """Somebody writes a head, and never asks for the lock."""
    (copy / "data00009a.tar").write_bytes(tar_bytes("data00009a.tar", [FOREIGN]))
    add_heads(copy, FOREIGN.segment)


def tar_only(copy: Path) -> None:
    (copy / "data00009a.tar").write_bytes(tar_bytes("data00009a.tar", [FOREIGN]))


def line_only(copy: Path) -> None:
    add_heads(copy, SAMPLES[0].segment)


def in_place_of_the_lock(copy: Path) -> None:
    """Somebody removes the lock file, which lets the next one in, who opens it and commits."""
    (copy / lock.NAME).unlink()
    with StoreWriter.open(copy, disk=QuickDisk()) as writer:
        writer.append(FOREIGN.segment, FOREIGN.data)
        writer.commit(head_in(FOREIGN.segment), 5)


LOCAL: dict[str, Callable[[Path], None]] = {
    "a head and its tar": written,
    "a tar": tar_only,
    "a line of the journal": line_only,
    "another writer, the lock file removed": in_place_of_the_lock,
}


def files(copy: Path) -> dict[str, bytes]:
    return {name: data for name, (data, _) in state_of(copy).items() if name != "."}


@pytest.mark.parametrize("case", LOCAL)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "before a new head"])
def test_a_local_write_while_the_slave_runs(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path, case: str, busy: bool
) -> None:
    copy = tmp_path / "copy"
    LOCAL[case](copy)
    if busy:
        new_head(master)
    before = (copy / "journal.log").read_bytes()
    rig.pass_time(30, step=1)
    assert slave.state == status.DIVERGED
    assert "somebody else writes into this copy" in slave.service.status.why
    rig.pass_time(120, step=1)
    assert slave.state == status.DIVERGED
    assert (copy / "journal.log").read_bytes() == before
    assert not slave.fatal
    finish(slave, master)


def test_once_the_foreign_file_is_gone_it_goes_on(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path
) -> None:
    tar_only(tmp_path / "copy")
    rig.pass_time(30, step=1)
    assert slave.state == status.DIVERGED
    (tmp_path / "copy" / "data00009a.tar").unlink()
    new_head(master)
    rig.pass_time(61, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(NEW.segment)
    finish(slave, master)


@pytest.mark.parametrize("case", ["a head and its tar", "another writer, the lock file removed"])
def test_a_local_head_is_refused_by_the_next_run_too(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path, case: str
) -> None:
    copy = tmp_path / "copy"
    LOCAL[case](copy)
    rig.pass_time(30, step=1)
    slave.stop()
    again = SlaveSide(rig, copy).start()
    (error,) = again.fatal
    assert isinstance(error, DivergedError)
    finish(again, master)
    with Follower.open(copy) as follower:
        assert follower.head().record == head_in(FOREIGN.segment)


def test_a_lock_file_that_was_removed_is_a_failure_that_passes(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path
) -> None:
    """Nobody wrote: the store is opened anew, under a new lock."""
    (tmp_path / "copy" / lock.NAME).unlink()
    new_head(master)
    rig.pass_time(0.1)
    assert slave.state == status.FAILED
    assert "repo.lock was removed or replaced" in slave.service.status.why
    rig.pass_time(5, step=0.5)
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(NEW.segment)
    assert (tmp_path / "copy" / lock.NAME).exists()
    finish(slave, master)


def test_a_lock_that_somebody_else_holds_meanwhile(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (copy / lock.NAME).unlink()
    with RepositoryLock.acquire(copy):
        new_head(master)
        before = files(copy)
        rig.pass_time(60, step=1)
        assert slave.state == status.FAILED
        assert "has this store open for writing" in slave.service.status.why
        assert {n: d for n, d in files(copy).items() if n in before} == before
    rig.pass_time(61, step=1)
    assert slave.state == status.IN_SYNC
    finish(slave, master)


@pytest.mark.parametrize("name", ["data00000a.tar", "journal.log"])
def test_a_file_that_was_removed_is_brought_again(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    (copy / name).unlink()
    new_head(master)
    rig.pass_time(5, step=0.5)
    assert status.FAILED in slave.history
    assert slave.state == status.IN_SYNC
    finish(slave, master)
    with Follower.open(copy) as follower:
        assert follower.head().record == head_in(NEW.segment)


def test_a_disk_that_is_not_mounted_any_more_gets_no_second_copy(
    rig: Rig, master: MasterSide, slave: SlaveSide, tmp_path: Path
) -> None:
    """What is seen then is the empty directory below the mount, on another disk."""
    copy = tmp_path / "copy"
    copy.rename(tmp_path / "away")
    copy.mkdir()
    new_head(master)
    rig.pass_time(60, step=1)
    assert slave.state == status.FAILED
    assert "is its disk mounted?" in slave.service.status.why
    assert not list(copy.iterdir())
    copy.rmdir()
    (tmp_path / "away").rename(copy)
    rig.pass_time(61, step=1)
    assert slave.state == status.IN_SYNC
    assert slave.head == head_in(NEW.segment)
    finish(slave, master)


def test_the_copy_can_be_read_only_for_others(
    slave: SlaveSide, master: MasterSide, tmp_path: Path
) -> None:
    """A reader needs no right to write: it makes no file, and no lock."""
    copy = tmp_path / "copy"
    before = sorted(copy.iterdir())
    with Follower.open(copy) as follower:
        assert follower.head().record == HEAD
    assert sorted(copy.iterdir()) == before
    finish(slave, master)
