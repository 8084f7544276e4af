"""The parts of the benchmark that are about the link measure what they say."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import bench_compression
import bench_idle
import bench_tls
import bench_wan
import pytest
from bench_main import arguments, planned
from bench_parts import Plan
from rich.console import Console

MIB = 1024 * 1024
TINY = [
    *("--size", "8", "--delay-size", "2", "--rounds", "1", "--line-seconds", "0.02"),
    *("--levels", "1", "--lines", "1000", "--wan-lines", "1000", "--wan-round-trips", "50"),
    *("--slaves", "5", "--idle-seconds", "1"),
]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(arguments(TINY), tmp_path, rsync=False)


def measured(part: Any, plan: Plan) -> tuple[list[dict[str, Any]], str]:
    """The rows of a part, and what it shows; it leaves nothing behind."""
    rows = part.measure(plan, Console(quiet=True))
    assert list(plan.home.iterdir()) == []
    shown = io.StringIO()
    part.show(rows, Console(file=shown, width=200))
    return rows, shown.getvalue()


def test_tls_beside_plain_text(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_tls, "KINDS", ("mixed",))
    (row,), shown = measured(bench_tls, plan)
    assert row["ratio"] == pytest.approx(row["plain"]["seconds"] / row["tls"]["seconds"])
    assert row["bytes"] > 3 * MIB and "ratio" in shown


def test_content_gets_smaller(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_compression, "KINDS", ("content",))
    (row,), shown = measured(bench_compression, plan)
    assert 0.5 < row["wire"] / row["bytes"] < 0.8
    assert row["seconds"] > 0 and "content" in shown


def test_no_copy_is_faster_than_the_bound(plan: Plan) -> None:
    (row,), shown = measured(bench_wan, plan)
    assert row["bound"] == pytest.approx(0.05 + row["wire"] / 125e6)
    assert row["of_bound"] == pytest.approx(row["seconds"] / row["bound"]) and row["of_bound"] > 1
    assert "of bound" in shown


def test_slaves_that_are_in_sync(plan: Plan) -> None:
    rows, shown = measured(bench_idle, plan)
    assert [row["tls"] for row in rows] == [False, True]
    assert all(row["slaves"] == 5 and row["told"] > 0 for row in rows)
    assert "told" in shown


def test_ways_are_settings_and_levels() -> None:
    none, level, auto = bench_compression.ways("none,3,auto")
    assert none.options == ("--compression", "none") and auto.options == ("--compression", "auto")
    assert level.options == ("--compression", "zstd", "--compression-level", "3")
