"""The slave's scrub: rot in a running copy is found, told and mended, and following goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from rot import Flip, files_of, small_samples, small_store
from sides import MasterSide, SlaveSide, served
from stores import add_heads, head_in, leaf, tar_bytes

from tarfailover.cli import asking
from tarfailover.format.tar import BLOCK
from tarfailover.slave import report, scrubbing, status
from tarfailover.slave.scrubbing import RETRY_AFTER
from tarfailover.store.follower import Follower
from tarfailover.store.repair import scrub

TAR, LAST = "data00000a.tar", "data00002a.tar"
RATE = 64 * 1024
HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A whole copy, as one that was begun with a copy of the files."""
    return shutil.copytree(store, tmp_path / "copy")


def slave_of(rig: Rig, copy: Path, **settings: Any) -> SlaveSide:
    given = {"scrub_rate": RATE, "scrub_interval": HOUR, **settings}
    return SlaveSide(rig, copy, **given).start()


def told(slave: SlaveSide) -> dict[str, Any]:
    found: dict[str, Any] = report.report(slave.service)["scrub"]
    return found


def finish(slave: SlaveSide, master: MasterSide | None = None) -> None:
    slave.stop()
    if master is not None:
        master.close()
    assert not slave.rig.delayed


def test_rot_is_found_and_mended_while_the_slave_follows(rig: Rig, store: Path, copy: Path) -> None:
    right = files_of(store)
    master = served(rig, store)
    slave = slave_of(rig, copy)
    assert slave.state == status.IN_SYNC
    Flip(TAR, BLOCK + 20, 1).strike(copy)  # data
    Flip(TAR, 3, 1).strike(copy)  # a header
    Flip(LAST, len(right[LAST]) - 2000, 7).strike(copy)  # the index, or what is near it
    rig.pass_time(20, step=0.5)
    shown = told(slave)
    assert (shown["found"], shown["repaired"], shown["damaged"]) == (2, 2, 0)
    assert (shown["state"], shown["passes"]) == ("resting", 1)
    assert shown["last_complete"] is not None
    assert {name: files_of(copy)[name] for name in right} == right
    new = leaf(200, [small_samples()[0][0].segment])
    (store / "data00003a.tar").write_bytes(tar_bytes("data00003a.tar", [new]))
    add_heads(store, new.segment)
    master.refresh()
    assert slave.head == head_in(new.segment)
    finish(slave, master)


def test_at_the_rate_and_again_after_the_interval(rig: Rig, store: Path, copy: Path) -> None:
    master = served(rig, store)
    slave = slave_of(rig, copy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scrubbing, "SLICE", RATE // 8)
        patched.setattr(scrubbing, "SAVE_EVERY", 0.0)
        rig.pass_time(1.2, step=0.05)
        assert 0 < told(slave)["part"] < 1
        assert told(slave)["state"] == "scrubbing"
        rig.pass_time(5, step=0.05)
    assert told(slave)["passes"] == 1
    rig.pass_time(HOUR - 30, step=10)
    assert told(slave)["passes"] == 1
    rig.pass_time(100, step=1)
    assert told(slave)["passes"] == 2
    finish(slave, master)


def test_what_neither_side_has_whole_is_told_until_it_is_mended(
    rig: Rig, store: Path, copy: Path
) -> None:
    right = files_of(store)
    flip = Flip(TAR, BLOCK + 20, 1)
    flip.strike(store)
    master = served(rig, store)
    slave = slave_of(rig, copy)
    assert slave.state == status.IN_SYNC
    flip.strike(copy)
    rig.pass_time(20, step=0.5)
    shown = told(slave)
    assert (shown["state"], shown["damaged"], shown["repaired"]) == ("damaged", 1, 0)
    (left,) = shown["left"]
    assert (left["file"], left["offset"]) == (TAR, BLOCK)
    assert str(store / TAR) in left["why"]
    assert report.health(slave.service) == (False, "damaged")
    in_words = dict(asking._scrub(shown))
    assert in_words["scrub"].startswith("damaged, ")
    assert in_words["damaged"].startswith(f"{TAR}, offset {BLOCK}: ")
    slave.stop()
    slave = slave_of(rig, copy)
    rig.pass_time(5, step=1)
    assert report.health(slave.service) == (False, "damaged"), "a restart forgets nothing"
    flip.strike(store)  # mended on the master
    rig.pass_time(RETRY_AFTER + 10, step=5)
    shown = told(slave)
    assert (shown["damaged"], shown["repaired"]) == (0, 1)
    assert report.health(slave.service) == (True, "ok")
    assert {name: files_of(copy)[name] for name in right} == right
    finish(slave, master)


def test_without_a_master_it_waits_for_one(rig: Rig, store: Path, copy: Path) -> None:
    slave = slave_of(rig, copy)
    Flip(TAR, BLOCK + 20, 1).strike(copy)
    Flip(TAR, 3, 1).strike(copy)
    Flip("data00001a.tar", 3, 1).strike(copy)
    rig.pass_time(20, step=0.5)
    shown = told(slave)
    assert (shown["found"], shown["repaired"], shown["damaged"]) == (2, 1, 1), "a header needs none"
    master = served(rig, store)
    rig.pass_time(RETRY_AFTER + 100, step=5)
    assert (told(slave)["damaged"], slave.state) == (0, status.IN_SYNC)
    finish(slave, master)


def test_its_place_outlives_the_process(rig: Rig, store: Path, copy: Path) -> None:
    master = served(rig, store)
    slave = slave_of(rig, copy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scrubbing, "SLICE", 2048)
        rig.pass_time(1.1, step=0.01)
        slave.stop()
        kept = json.loads((copy / scrub.NAME).read_text())
        assert kept["begun"] and kept["offset"] > 0
        Flip(TAR, 3, 1).strike(copy)  # behind it: for the next pass
        slave = slave_of(rig, copy)
        rig.pass_time(4, step=0.1)
    assert (told(slave)["passes"], told(slave)["found"]) == (1, 0)
    (copy / scrub.NAME).write_text("nonsense")
    slave.stop()
    finish(slave_of(rig, copy), master)


def test_off(rig: Rig, store: Path, copy: Path) -> None:
    master = served(rig, store)
    slave = slave_of(rig, copy, scrub_rate=0)
    Flip(TAR, BLOCK + 20, 1).strike(copy)
    rig.pass_time(50, step=1)
    assert (told(slave)["state"], told(slave)["found"]) == ("off", 0)
    assert asking._scrub(told(slave)) == []
    finish(slave, master)


def test_turned_off_and_on_while_running(rig: Rig, store: Path, copy: Path) -> None:
    master = served(rig, store)
    slave = slave_of(rig, copy)
    off = dataclasses.replace(slave.service.config, scrub_rate=0)
    on = slave.service.config
    for config, state in ((off, "off"), (on, "resting"), (off, "off")):
        slave.service.reconfigure(config)
        rig.pass_time(20, step=0.5)
        assert told(slave)["state"] == state
    assert told(slave)["passes"] == 1
    slave.service.reconfigure(on)
    finish(slave, master)


def test_while_a_head_is_pulled_it_rests(rig: Rig, store: Path, copy: Path) -> None:
    master = served(rig, store)
    slave = slave_of(rig, copy)
    slave.service.status.become(status.SYNCING, "a head")
    rig.pass_time(3, step=0.5)
    assert told(slave)["begun"] is None
    slave.service.status.become(status.IN_SYNC)
    rig.pass_time(3, step=0.5)
    assert told(slave)["passes"] == 1
    finish(slave, master)


def test_a_master_that_sends_something_else(rig: Rig, store: Path, copy: Path) -> None:
    """It has other bytes under the same id, with their right checksum: nothing is written."""
    first, *rest = small_samples()[0]
    other = first._replace(data=b"x" * len(first.data))
    (store / TAR).write_bytes(tar_bytes(TAR, [other, *rest]))
    master = served(rig, store)
    slave = slave_of(rig, copy)
    Flip(TAR, BLOCK + 20, 1).strike(copy)
    before = files_of(copy)[TAR]
    rig.pass_time(20, step=0.5)
    assert files_of(copy)[TAR] == before
    assert "other bytes under this id" in told(slave)["left"][0]["why"]
    finish(slave, master)


@pytest.mark.parametrize("lost", [TAR, "data00001a.tar", LAST])
def test_a_tar_that_vanishes_is_a_named_failure_and_pulled_anew(
    rig: Rig, store: Path, copy: Path, lost: str
) -> None:
    """Without any new head: the next look finds it, and the scrub has nothing to tell of it."""
    master = served(rig, store)
    slave = slave_of(rig, copy)
    head = slave.head
    (copy / lost).unlink()
    why = []
    slave.service.status.watchers.append(lambda: why.append(slave.service.status.why))
    rig.pass_time(60, step=1)
    assert status.FAILED in slave.history
    assert any(lost in each for each in why)
    assert (slave.state, slave.head) == (status.IN_SYNC, head)
    assert (told(slave)["damaged"], told(slave)["state"]) == (0, "resting")
    finish(slave, master)
    with Follower.open(copy) as follower:
        needed = [each.segment for tar in small_samples() for each in tar]
        assert follower.head().record == head
        assert all(map(follower.snapshot.contains, needed))
