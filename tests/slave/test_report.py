"""What a slave says on its status page, in every state."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from links import Rig
from sides import NEXT_TAR, TAR, MasterSide, SlaveSide, chain, large, served, store_of
from stores import add_heads, head_in, leaf, make_store, tar_bytes

from tarfailover import __version__
from tarfailover.reports import expiries
from tarfailover.slave import status
from tarfailover.slave.report import health, lag, report
from tarfailover.tls.files import Expiry

SAMPLES = chain(4)
HEAD = head_in(SAMPLES[-1].segment)
FIELDS = {
    "role", "version", "time", "started", "state", "why", "since", "store", "master",
    "master_software", "repository", "epoch", "head", "head_time", "lag_seconds",
    "answer_age_seconds", "transfer", "cycles", "failures", "failures_by_kind", "last_failure",
    "cleanups", "cleanup_failures", "cleanup_due", "attempts_to_connect", "bytes_received", "tls",
    "blob_store", "blobs_missing", "missing_blobs", "scrub", "last_transfer",
}  # fmt: skip


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.clock.advance(1_700_000_000)
    return rig


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> MasterSide:
    store = make_store(tmp_path / "store", {TAR: SAMPLES})
    add_heads(store, HEAD.segment, time_ms=1_699_999_990_000)
    return served(rig, store, repository="author")


def finish(slave: SlaveSide, *masters: MasterSide) -> None:
    slave.stop()
    for master in masters:
        master.close()


def test_before_anything_is_known(rig: Rig, tmp_path: Path) -> None:
    rig.answers = False
    slave = SlaveSide(rig, tmp_path / "copy", master_host="oak1").start()
    found = report(slave.service)
    assert set(found) == FIELDS
    assert found == json.loads(json.dumps(found))
    assert (found["role"], found["version"]) == ("slave", __version__)
    assert (found["state"], found["why"]) == ("connecting", "")
    assert found["master"] == "oak1:8023"
    assert found["time"] == found["since"] == found["started"] == "2023-11-14T22:13:20.000Z"
    for name in ("head", "head_time", "lag_seconds", "answer_age_seconds", "transfer"):
        assert found[name] is None
    assert found["last_transfer"] is None
    assert health(slave.service) == (False, "connecting")
    slave.stop()


def test_in_sync(rig: Rig, master: MasterSide, tmp_path: Path) -> None:
    slave = SlaveSide(rig, tmp_path / "copy").start()
    rig.pass_time(7, step=1)
    found = report(slave.service)
    assert set(found) == FIELDS
    assert found == json.loads(json.dumps(found))
    assert (found["state"], found["head"]) == ("in sync", str(HEAD))
    assert found["head_time"] == "2023-11-14T22:13:10.000Z"
    assert found["lag_seconds"] == 0
    assert found["answer_age_seconds"] == 7
    assert (found["repository"], found["epoch"]) == ("author", 0)
    assert found["master_software"] == f"tarfailover {__version__}"
    assert found["bytes_received"] == rig.link.master.delivered
    assert (found["attempts_to_connect"], found["failures"], found["tls"]) == (1, 0, [])
    assert health(slave.service) == (True, "ok")
    before = found["bytes_received"]
    rig.link.cut()
    rig.pass_time(5)
    assert report(slave.service)["bytes_received"] > before, "of all connections together"
    finish(slave, master)


def test_how_far_behind_and_how_far_a_transfer_is(
    rig: Rig, master: MasterSide, tmp_path: Path
) -> None:
    slave = SlaveSide(rig, tmp_path / "copy").start()
    new = [*large(20)]
    store = master.follower.directory
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, new))
    add_heads(store, new[-1].segment, time_ms=1_700_000_000_000)
    master.factory.refresh()
    rig.until(lambda: slave.state == status.SYNCING, "syncing")
    slave.work.held = True
    rig.pass_time(12, step=1)
    found = report(slave.service)
    assert (found["state"], found["lag_seconds"]) == ("syncing", 12)
    assert found["head"] == str(HEAD), "the one that is durable"
    moving = found["transfer"]
    assert moving["head"] == str(head_in(new[-1].segment))
    assert moving["seconds"] == 12
    assert set(moving) == {
        "head", "seconds", "segments", "bytes", "segments_left", "bytes_left",
        "blobs", "blob_bytes", "blobs_left", "blob_bytes_left",
    }  # fmt: skip
    assert found["last_transfer"]["head"] == str(HEAD), "the one that came whole"
    assert health(slave.service) == (True, "ok")
    slave.work.held = False
    rig.settle()
    found = report(slave.service)
    assert (found["transfer"], found["lag_seconds"]) == (None, 0)
    assert found["last_transfer"] == {
        "head": str(head_in(new[-1].segment)),
        "began": "2023-11-14T22:13:20.000Z",
        "ended": "2023-11-14T22:13:32.000Z",
        "seconds": 12.0,
    }
    finish(slave, master)


def test_the_first_copy_is_not_well_yet(rig: Rig, tmp_path: Path) -> None:
    master = served(rig, store_of(tmp_path / "s", large(20)))
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service.startService()
    rig.until(lambda: slave.state == status.SYNCING, "syncing")
    assert health(slave.service) == (False, "syncing")
    rig.settle()
    assert health(slave.service) == (True, "ok")
    finish(slave, master)


@pytest.mark.parametrize(
    "state", [status.STALLED, status.REFUSED, status.DIVERGED, status.FAILED, status.CONNECTING]
)
def test_the_word_for_what_is_not_well(
    rig: Rig, master: MasterSide, tmp_path: Path, state: str
) -> None:
    slave = SlaveSide(rig, tmp_path / "copy").start()
    slave.service.status.become(state, "why")
    assert health(slave.service) == (False, state)
    assert " " not in state
    finish(slave, master)


def test_failures_are_counted_by_kind(rig: Rig, master: MasterSide, tmp_path: Path) -> None:
    slave = SlaveSide(rig, tmp_path / "copy").start()
    rig.master = None
    rig.link.cut()
    rig.pass_time(3)
    found = report(slave.service)
    assert found["failures"] == sum(found["failures_by_kind"].values()) >= 2
    assert set(found["failures_by_kind"]) == {"ConnectionLostError"}
    assert "127.0.0.1:8023" in found["last_failure"]
    rig.master = master.protocol
    rig.pass_time(20)
    assert report(slave.service)["last_failure"] == found["last_failure"], "kept after it passed"
    finish(slave, master)


def test_a_head_from_the_future_is_no_negative_lag(
    rig: Rig, master: MasterSide, tmp_path: Path
) -> None:
    """Clocks differ."""
    slave = SlaveSide(rig, tmp_path / "copy").start()
    new = leaf(50, [HEAD.segment])
    store = master.follower.directory
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, [new]))
    add_heads(store, new.segment, time_ms=1_700_000_500_000)
    slave.work.held = True
    master.factory.refresh()
    rig.settle()
    assert slave.state == status.SYNCING
    assert lag(slave.service) == 0
    slave.work.held = False
    rig.settle()
    finish(slave, master)


def test_what_ends_of_tls() -> None:
    now = dt.datetime(2026, 11, 23, 12, tzinfo=dt.timezone.utc)
    ends = [
        Expiry("slave.pem", "the certificate in slave.pem", now + dt.timedelta(days=12, hours=3)),
        Expiry("crl.pem", "the revocation list in crl.pem", now - dt.timedelta(hours=1)),
    ]
    assert expiries(ends, now.timestamp()) == [
        {
            "file": "slave.pem",
            "what": "the certificate in slave.pem",
            "time": "2026-12-05T15:00:00.000Z",
            "days": 12,
        },
        {
            "file": "crl.pem",
            "what": "the revocation list in crl.pem",
            "time": "2026-11-23T11:00:00.000Z",
            "days": -1,
        },
    ]
