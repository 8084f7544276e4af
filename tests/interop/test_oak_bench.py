"""The benchmark beside Oak's own standby runs, and measures what it says of both."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oak_build import CHECKOUT, Built
from rich.console import Console

pytestmark = pytest.mark.interop

ROUND_TRIP = 20
FIELDS = ("seconds", "receiver_cpu", "primary_cpu", "peak")
MIB = 1024 * 1024


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of scripts/bench that does it, with one link and nothing that warms up."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "scripts"))
    found = importlib.import_module("bench_oak")
    monkeypatch.setattr(found, "LINKS", {"a link": (ROUND_TRIP, 1.0)})
    monkeypatch.setattr(found, "WARMING", 0)
    return found


@pytest.mark.cell("scripts/bench: a copy by our slave beside one by Oak's standby")
def test_both_are_measured(bench: Any, oak_built: Built, release: str, tmp_path: Path) -> None:
    """Each makes a first copy of the same primary through the same proxy; `bench` sees to it."""
    if release != bench.RELEASE:
        pytest.skip(f"scripts/bench measures Oak {bench.RELEASE}")
    del oak_built  # it is there
    plan = SimpleNamespace(home=tmp_path, delay_size=MIB, rounds=1)
    found = bench.measure(plan, Console(quiet=True))
    (row,) = found["rows"]
    assert (found["release"], row["round_trip_ms"]) == (bench.RELEASE, ROUND_TRIP)
    assert row["bytes"] > MIB // 2
    assert all(row[who][field] > 0 for who in ("ours", "oak") for field in FIELDS)
    assert row["ours"]["peak"] < row["oak"]["peak"]
    assert row["ratio"] == row["oak"]["seconds"] / row["ours"]["seconds"]
    with (tmp_path / "table").open("w") as file:
        bench.show(found, Console(file=file, width=200))
    assert "a link" in (tmp_path / "table").read_text()
