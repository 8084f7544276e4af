"""The benchmark runs, measures what it says, and its numbers fit together."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_main import arguments

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SECONDS = 120
MIB = 1024 * 1024


def bench(*options: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / "bench_main.py"), *options]
    environment = None if path is None else {"PATH": path}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
    )


def measured(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def processes_naming(directory: Path) -> list[str]:
    """The command lines that have `directory` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if str(directory) in line]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("bench")
    sizes = ("--size", "4", "--delay-size", "2", "--rounds", "1", "--commits", "3")
    link = ("--round-trips", "0,50", "--only", "loopback,delay,latency")
    done = bench("--json", *sizes, *link, "--directory", str(directory))
    assert list(directory.iterdir()) == []
    assert processes_naming(directory) == []
    return measured(done)


def test_loopback_copies_every_kind_of_store_whole(results: Any) -> None:
    rows = results["loopback"]
    assert [row["kind"] for row in rows] == ["bulk", "mixed", "32k", "4k"]
    for row, size in zip(rows, (4, 4, 1, 0.25), strict=True):
        assert size * MIB - 256 * 1024 <= row["bytes"] <= size * MIB + 4096
        ours = row["ours"]
        assert 0 < ours["seconds"] < ours["whole"]
        assert ours["rate"] == pytest.approx(row["bytes"] / ours["seconds"])
        # The kernel counts a thread and its process in ticks, each rounded by itself.
        tick = 2**30 / row["bytes"] / os.sysconf("SC_CLK_TCK")
        assert 0 <= ours["receiver_main"] <= ours["receiver_cpu"] + 2 * tick
        assert ours["receiver_start"] > 0
        assert min(ours["sender_peak"], ours["receiver_peak"]) > 10 * MIB


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_the_ratio_is_rsyncs_time_by_ours(results: Any) -> None:
    for row in results["loopback"]:
        assert row["ratio"] == pytest.approx(row["rsync"]["seconds"] / row["ours"]["seconds"])
        assert row["ratio_whole"] < row["ratio"]


def test_the_bound_is_one_round_trip_and_the_bytes(results: Any) -> None:
    rows = results["delay"]
    assert [row["round_trip_ms"] for row in rows] == [0, 50]
    for row in rows:
        assert row["bandwidth"] == 100e6
        assert row["bound"] == pytest.approx(row["round_trip_ms"] / 1000 + row["bytes"] / 100e6)
        for name, seconds in row["seconds"].items():
            # No program is faster than the link: this is what the link is held to.
            assert seconds > row["bound"]
            assert row["of_bound"][name] == pytest.approx(seconds / row["bound"])


def test_latency_is_told_in_order(results: Any) -> None:
    rows = results["latency"]
    assert [row["round_trip_ms"] for row in rows] == [0, 50]
    for row in rows:
        assert row["commits"] == 3
        assert row["round_trip_ms"] / 2000 < row["p50"] <= row["p99"] <= row["max"]


def test_without_rsync_ours_is_measured_and_it_says_so(tmp_path: Path) -> None:
    options = ("--size", "1", "--rounds", "1", "--only", "loopback", "--directory", str(tmp_path))
    done = bench(*options, path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "rsync with --fsync is not installed" in done.stderr
    assert "apt install rsync" in done.stdout
    assert "first copy over loopback" in done.stdout


def test_a_part_that_is_not_there_is_refused() -> None:
    done = bench("--only", "everything")
    assert done.returncode == 2
    assert "--only knows loopback, delay, tls, compression, wan, latency, idle" in done.stderr


def test_commits_are_measured_against_sqlite_with_the_same_tree(tmp_path: Path) -> None:
    options = ("--rounds", "1", "--commits", "2", "--only", "commits", "--directory", str(tmp_path))
    found = measured(bench("--json", *options))["commits"]
    assert [row["unit"] for row in found["rows"]] == ["commits/s", "commits/s", "nodes/s", "MiB/s"]
    for row in found["rows"]:
        best = max(row["sqlite_wal"], row["sqlite_rollback"])
        assert row["ratio"] == pytest.approx(row["ours"] / best)
    assert found["sync_ms"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--levels=zstd", "--levels are none, auto, and 1 to 9, like none,1,auto; not zstd"),
        ("--lines=0", "--lines are whole numbers of Mbit/s, like 10,100; not 0"),
        ("--round-trips=x", "--round-trips are whole numbers of ms, like 0,50; not x"),
        ("--slaves=0", "--slaves must be at least 1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    option: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments([option])
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
