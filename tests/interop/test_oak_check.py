"""The check finds no fault in what real Oak writes, also while it writes, compacts and cleans."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from oak import OakPeer, until

from tarfailover.store.check import StoreCheck
from tarfailover.store.finding import FAULT, Finding

pytestmark = pytest.mark.interop

SMALL_TARS = {"maxFileSizeMB": 1}
"""So that a few hundred nodes fill several tars."""


def faults(store: Path) -> list[Finding]:
    """What a check of `store` complains about."""
    return [found for found in StoreCheck(store).run() if found.severity == FAULT]


def free_port() -> int:
    """A port that nobody listens on; Oak's standby server does not accept 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_no_false_alarm_beside_a_living_oak(oak: OakPeer, tmp_path: Path) -> None:
    oak.run("create", tmp_path, 400, 60, seed=1, **SMALL_TARS)
    oak.run("create", tmp_path, 100, 60, seed=2, **SMALL_TARS)
    oak.run("remove", tmp_path, "/content/run1")
    oak.run("compact", tmp_path, **SMALL_TARS)
    assert faults(tmp_path) == []
    checks = 0

    def checked() -> None:
        nonlocal checks
        assert faults(tmp_path) == []
        checks += 1

    with oak.start("primary", tmp_path, free_port(), **SMALL_TARS) as live:
        live.expect("running=true")
        for command in ("write 400 60", "compact", "write 200 20"):
            live.send(command)
            until(lambda: checked() or not live.silent(), command)
            live.expect("bytes=")
        assert live.finish() == 0
    assert faults(tmp_path) == []
    assert checks >= 3
