"""The check finds no fault in what real Oak writes, also while it writes, compacts and cleans."""

from __future__ import annotations

from pathlib import Path

import pytest
from oak_peer import Peer

from tarfailover.store.check import StoreCheck
from tarfailover.store.finding import FAULT, Finding

pytestmark = pytest.mark.interop


def faults(store: Path) -> list[Finding]:
    """What a check of `store` complains about."""
    return [found for found in StoreCheck(store).run() if found.severity == FAULT]


@pytest.mark.cell("our check beside an Oak that writes, compacts and cleans")
def test_no_false_alarm_beside_a_living_oak(peer: Peer, tmp_path: Path) -> None:
    checks = 0
    with peer.open(tmp_path) as live:
        live.fill(seed=1, nodes=200, kib=60)
        live.commit([["remove", "/content/run1/part0"]])
        live.compact("full")
        assert faults(tmp_path) == []
        for verb, words in (
            ("fill", ["seed=3", "nodes=40", "kib=60", "times=10"]),
            ("compact", ["full"]),
            ("fill", ["seed=30", "nodes=20", "batch=2", "times=10"]),
            ("compact", ["tail"]),
        ):
            working = live.begin(verb, *words)
            while not working.done:
                assert faults(tmp_path) == []
                checks += 1
            working.result()
    assert faults(tmp_path) == []
    assert checks >= 3
