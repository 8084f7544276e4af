"""First copies over long lines, with TLS and compression, against the lower bound."""

from __future__ import annotations

import contextlib
import statistics
from typing import Any

import bench_compression as compression
import bench_parts as parts
import bench_processes as processes
import bench_report as report
import bench_tls as tls
from bench_compression import MBIT
from bench_parts import Plan
from bench_stores import Made
from rich.console import Console

ALWAYS = ("--compression", "zstd")
HOW = """\
First copies of content with TLS and zstd through bench_proxy.py. `bound` is one round trip and the
bytes that came down by the bandwidth: TLS, the introduction, and the list each cost a round trip
more. The proxy makes the connection itself without delay, and has none of TCP's slow start."""


def measure(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """Every line and round trip."""
    rows = []
    for mbit in plan.wan_lines:
        # Less than two thirds of it come down the line.
        size = int(mbit * MBIT * 1e6 * 4 * plan.line_seconds)
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(parts.made(plan, "content", min(size, plan.delay_size)))
            options = tls.secured(stack.enter_context(parts.scratch(plan, "certs")))
            master = processes.master(store.directory, *options.master, *ALWAYS)
            served = stack.enter_context(master)
            for round_trip in plan.wan_round_trips:
                rows.append(_row(plan, served, store, round_trip, mbit, options.slave))
                told.print(f"wan, {mbit} Mbit/s, {round_trip} ms: done", highlight=False)
    return rows


def _row(
    plan: Plan,
    served: tuple[processes.Process, int],
    store: Made,
    round_trip: int,
    mbit: int,
    options: tuple[str, ...],
) -> dict[str, Any]:
    speed = mbit * MBIT
    runs = [
        compression.copy_through(plan, served, store, round_trip, speed, *options)
        for _ in range(plan.rounds)
    ]
    wire = runs[0][1]
    seconds = statistics.median(run.seconds for run, _ in runs)
    bound = round_trip / 1000 + wire / (speed * 1e6)
    return {
        "round_trip_ms": round_trip,
        "mbit": mbit,
        "bytes": store.size,
        "wire": wire,
        "bound": bound,
        "seconds": seconds,
        "of_bound": seconds / bound,
    }


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print how near it comes."""
    table = report.table(
        "first copy of content with TLS and zstd over long lines",
        ("Mbit/s", "round trip", "MiB", "wire MiB", "bound s", "ours s", "of bound"),
    )
    for row in rows:
        table.add_row(
            str(row["mbit"]),
            f"{row['round_trip_ms']} ms",
            f"{row['bytes'] / report.MIB:.0f}",
            f"{row['wire'] / report.MIB:.1f}",
            f"{row['bound']:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['of_bound']:.2f}",
        )
    console.print(HOW, "", highlight=False)
    console.print(table, "")
