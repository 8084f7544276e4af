"""Oak's history of bugs in starting, running and stopping: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from blob_samples import put, with_blobs
from leaks import Leftovers
from links import Rig
from planted import BOTH, found
from services import Master
from sides import (
    NEXT_TAR,
    MasterProgram,
    MasterSide,
    RawMaster,
    SlaveSide,
    chain,
    raw_masters,
    served,
    store_of,
)
from standbys import standby
from stores import QuickDisk, add_heads, head_in, leaf, tar_bytes
from twisted.python.threadpool import ThreadPool

from tarfailover.cli import main
from tarfailover.errors import ConfigError
from tarfailover.master import report
from tarfailover.master.connection import Connection
from tarfailover.master.service import MasterService
from tarfailover.slave import report as slave_report
from tarfailover.slave import status
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.service import SlaveService
from tarfailover.store.blobs import DATA_STORE, BlobStore, collect
from tarfailover.store.state import SlaveState
from tarfailover.wire import messages as m
from tarfailover.wire.oak.requests import GetHead, GetSegment
from tarfailover.workers import Workers

pytestmark = pytest.mark.load

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


# starting


@BOTH
def test_oak_1915_a_start_waits_for_nothing(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's start could wait for what only its own thread could do."""
    if planted:

        def wait(_: MasterService) -> None:
            rig.clock.rightNow += 60  # as a thread that sleeps

        monkeypatch.setattr(MasterService, "_begin", wait)
    program = MasterProgram(rig, store)
    program.work.held = True
    program.start()
    with found(planted):
        assert rig.seconds() == 0
        assert report.condition(program.service) == (report.STARTING, "")
        program.work.held = False
        rig.settle()
        assert report.condition(program.service) == (report.SERVING, "")
    program.stop()


@BOTH
def test_oak_2372_the_state_after_a_start_is_that_of_the_program(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was still the one of before, on either side."""
    if planted:
        monkeypatch.setattr(report, "condition", lambda _: (report.STARTING, ""))
        monkeypatch.setattr(status.Status, "become", lambda *_: None)
    program = MasterProgram(rig, store).start()
    slave = SlaveSide(rig, store.parent / "copy").start()
    with found(planted):
        assert report.report(program.service)["state"] == report.SERVING
    with found(planted):
        assert slave_report.report(slave.service)["state"] == status.IN_SYNC
    slave.stop()
    program.stop()


# running


@BOTH
def test_oak_1915_there_is_one_run_at_a_time(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler began another one while the first was under way."""
    if planted:
        tick = SlaveService._tick

        def whatever_runs(self: SlaveService) -> None:
            self._busy = False
            tick(self)

        monkeypatch.setattr(SlaveService, "_tick", whatever_runs)
    masters = raw_masters(rig)
    slave = SlaveSide(rig, tmp_path / "copy", interval=1.0).start()
    masters[0].welcome()
    rig.pass_time(5, step=0.5)
    with found(planted):
        assert _questions(masters[0]) == [m.Head]
    slave.stop()


def _questions(master: RawMaster) -> list[type]:
    return [type(message) for _, message in master.requests]


@BOTH
@pytest.mark.parametrize("side", ["master", "slave"])
def test_oak_2145_many_runs_leave_nothing_behind(
    planted: bool, side: str, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run had a pool of threads, with their files, that nobody shut down."""
    pools: list[ThreadPool] = []
    if planted:

        def one_more() -> None:
            pools.append(ThreadPool(1, 1, "of one run"))
            pools[-1].start()

        kind, name = (
            (Connection, "connectionMade") if side == "master" else (SlaveFactory, "buildProtocol")
        )
        made = getattr(kind, name)

        def with_pool(*arguments: Any) -> Any:
            one_more()
            return made(*arguments)

        monkeypatch.setattr(kind, name, with_pool)
    before = Leftovers.now()
    (_runs_of_a_standby if side == "master" else _runs_of_a_slave)(rig, store)
    with found(planted):
        assert not Leftovers.now().left_since(before)
    for pool in pools:
        pool.stop()


def _runs_of_a_standby(rig: Rig, store: Path) -> None:
    master = MasterSide(rig, store)
    held = master.holders
    for _ in range(5):
        peer, link = standby(master)
        peer.ask(GetHead(), GetSegment(HEAD.segment))
        rig.settle()
        link.cut()
        rig.settle()
    assert (master.holders, master.factory.clients, rig.delayed) == (held, set(), [])
    master.close()


def _runs_of_a_slave(rig: Rig, store: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, store.parent / "copy").start()
    for _ in range(5):
        rig.link.cut()
        rig.pass_time(10, step=1)
        assert slave.state == status.IN_SYNC
    assert len(rig.links) == 6
    slave.stop()
    master.close()


@BOTH
def test_oak_3113_the_times_of_a_transfer_belong_together(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-3113, 3273: there were none, and then the begin was that of a later run than the end."""
    if planted:

        def mixed(slave: SlaveService) -> dict[str, Any]:
            last, newest = slave.bringing.last, slave.transfer
            assert last is not None and newest is not None
            return {"began": newest._began, "ended": last.ended}

        monkeypatch.setattr(slave_report, "_last_transfer", mixed)
    master = served(rig, store)
    slave = SlaveSide(rig, store.parent / "copy").start()
    rig.pass_time(10, step=1)
    new = leaf(99, [HEAD.segment])
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, [new]))
    add_heads(store, new.segment)
    master.factory.refresh()
    rig.until(lambda: slave.state == status.SYNCING, "a second transfer")
    with found(planted):
        told = slave_report.report(slave.service)["last_transfer"]
        assert told["began"] <= told["ended"]
        assert told["head"] == str(HEAD)
    slave.stop()
    master.close()


@BOTH
def test_oak_4883_the_binaries_of_a_copy_can_be_collected(
    planted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A standby offered no way to do it."""
    copy, path = with_blobs("file", tmp_path)
    SlaveState().save(copy, QuickDisk())
    own = BlobStore(path, DATA_STORE)
    needed = sorted(each.digest for each in own.files())
    put(own, b"unneeded")
    if planted:
        opened = collect._Source.__init__

        def of_a_primary(self: Any, directory: Path) -> None:
            if SlaveState.load(directory) is not None:
                raise ConfigError("not on a standby")
            opened(self, directory)

        monkeypatch.setattr(collect._Source, "__init__", of_a_primary)
    code = main(["blobs", "gc", str(copy), "--blob-store", str(path), "--min-age", "0"])
    said = capsys.readouterr()
    with found(planted):
        assert (code, said.err) == (0, ""), said.err
        assert sorted(each.digest for each in own.files()) == needed


@BOTH
def test_oak_5521_the_status_may_be_asked_for_at_any_moment(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients came and went while they were counted."""
    if planted:
        monkeypatch.setattr(report, "sorted", lambda found, **_: found, raising=False)
    master = MasterSide(rig, store)
    for number in range(4):
        peer, _ = standby(master, f"oak-{number}")
        peer.ask(GetHead())
        rig.settle()
    shown = report._client

    def meanwhile(client: Connection) -> Any:
        """Another client leaves."""
        rig.links[-1].cut()
        return shown(client)

    monkeypatch.setattr(report, "_client", meanwhile)
    with found(planted):
        try:
            names = [each["name"] for each in report._served(master.factory)["clients"]]
        except RuntimeError as error:
            raise AssertionError from error
        assert names == [f"oak-{number}" for number in range(4)]
    master.close()


# threads


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_6068_a_thread_has_a_name(
    planted: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        made = Workers.__init__

        def nameless(self: Workers, reactor: Any, size: int, name: str) -> None:
            del name
            made(self, reactor, size, "")

        monkeypatch.setattr(Workers, "__init__", nameless)
    before = Leftovers.now()
    async with Master(store) as master, master.slave(store.parent / "copy") as slave:
        await slave.in_sync(HEAD)
        threads = Leftovers.now().threads - before.threads
        with found(planted):
            assert threads and all(
                "-tarfailover-master-" in each or "-tarfailover-store-" in each for each in threads
            )
