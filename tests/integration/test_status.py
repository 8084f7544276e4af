"""The status pages of real processes, asked by the command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import Daemon
from sides import chain, store_of

pytestmark = pytest.mark.load

SECONDS = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def status(port: int, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tarfailover", "status", "--port", str(port), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return ended.returncode, ended.stdout


def test_master_and_slave_tell_how_they_are(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", chain(3))
    ours, theirs = free_port(), free_port()
    with (
        Daemon.master(store, "--status-port", ours) as master,
        Daemon.slave(tmp_path / "copy", master.port, "--status-port", theirs) as slave,
    ):
        slave.expect(rf"status on http://127\.0\.0\.1:{theirs}/status")
        slave.expect("in sync")
        code, said = status(theirs, "--json")
        found = json.loads(said)
        assert (code, found["role"], found["health"]) == (0, "slave", "ok")
        assert found["lag_seconds"] == 0
        code, said = status(ours)
        assert code == 0 and "serving" in said and "waiting for a head" in said
        master.stop()
        slave.expect("stalled")
        code, said = status(theirs)
        assert code == 1 and ("stalled" in said or "connecting" in said)
        assert status(ours)[0] == 23
        slave.stop()
