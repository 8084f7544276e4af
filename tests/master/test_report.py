"""What a master says on its status page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from links import Rig
from sides import HELLO, MasterProgram, RawSlave, SlaveSide, chain, store_of
from stores import head_in, make_store
from twisted.internet.address import IPv4Address

from tarfailover.master.report import health, report
from tarfailover.wire.messages import ErrorCode

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.clock.advance(1_700_000_000)
    return rig


def test_a_master_with_a_slave(rig: Rig, tmp_path: Path) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES), repository="author").start()
    slave = SlaveSide(rig, tmp_path / "copy").start()
    rig.pass_time(3, step=1)
    found = report(master.service)
    assert found == json.loads(json.dumps(found))
    assert (found["role"], found["state"], found["why"]) == ("master", "serving", "")
    assert found["head"] == str(HEAD)
    assert found["head_time"] == "1970-01-01T00:00:00.001Z"
    assert (found["segments"], found["tars"], found["repository"]) == (5, 1, "author")
    assert found["listening"] == "127.0.0.1:8023"
    (client,) = found["clients"]
    assert set(client) == {
        "name", "dialect", "address", "state", "connected",
        "bytes_sent", "bytes_received", "answers_due",
    }  # fmt: skip
    assert client["state"] == "waiting for a head"
    assert client["connected"] == "2023-11-14T22:13:20.000Z"
    assert client["bytes_sent"] > 500
    assert client["bytes_received"] == rig.link.slave.delivered
    assert health(master.service) == (True, "ok")
    slave.stop()
    rig.settle()
    after = report(master.service)
    assert after["clients"] == []
    assert after["bytes_sent"] == found["bytes_sent"] == client["bytes_sent"]
    master.stop()
    assert health(master.service) == (False, "stopping")


def test_before_and_after_a_head(rig: Rig, tmp_path: Path) -> None:
    master = MasterProgram(rig, make_store(tmp_path / "s", {}))
    assert health(master.service) == (False, "stopping")
    master.work.held = True
    master.start()
    assert report(master.service)["state"] == "starting"
    assert health(master.service) == (False, "starting")
    master.work.held = False
    rig.settle()
    found = report(master.service)
    assert (found["state"], found["head"]) == ("headless", None)
    assert "no head" in found["why"]
    assert health(master.service) == (False, "headless")
    master.stop()


def test_a_disk_that_hangs(rig: Rig, tmp_path: Path) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES)).start()
    master.work.held = True
    rig.pass_time(65, step=1)
    found = report(master.service)
    assert found["state"] == "blind" and "deadline disk" in found["why"]
    assert health(master.service) == (False, "blind")
    master.work.held = False
    rig.pass_time(2, step=1)
    assert health(master.service) == (True, "ok")
    master.stop()


def test_strangers_and_those_refused_at_the_gate(rig: Rig, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", SAMPLES)
    master = MasterProgram(rig, store, allowed_client_ip_ranges="10.0.0.0/8").start()
    gate = master.service.gate
    assert gate is not None
    slave = RawSlave()
    link = rig.join(slave, gate.buildProtocol(IPv4Address("TCP", "10.0.0.1", 9)))
    assert gate.buildProtocol(IPv4Address("TCP", "11.0.0.1", 9)) is None
    found = report(master.service)
    assert (found["strangers"], found["refused"]) == (1, {"address": 1})
    slave.ask(HELLO)
    rig.settle()
    assert report(master.service)["strangers"] == 0
    link.cut()
    master.stop()


def test_errors_have_names(rig: Rig, tmp_path: Path) -> None:
    master = MasterProgram(rig, store_of(tmp_path / "s", SAMPLES)).start()
    assert master.service.factory is not None
    for code in (ErrorCode.BUSY, ErrorCode.BUSY, 4711):
        master.service.factory.count_error(code)  # type: ignore[arg-type]
    assert report(master.service)["errors"] == {"BUSY": 2, "4711": 1}
    master.stop()
