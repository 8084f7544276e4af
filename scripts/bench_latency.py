"""From a commit on the master to its head being durable at the slave."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from typing import Any

import bench_parts as parts
import bench_processes as processes
import bench_report as report
import bench_stores as stores
import bench_tls as tls
from bench_parts import Plan
from bench_processes import BenchError
from rich.console import Console

LONGEST_PAUSE = 0.25
"""Seconds between two small commits, at most: commits must not follow the master's own looks."""
HOW = """\
From the return of a small commit beside the master to the slave's line that says that its head is
durable, over TLS through bench_proxy.py; p99 of fewer than 100 commits is the slowest of them."""


def measure(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """Small commits over links of growing round trip."""
    rows = []
    for round_trip in plan.round_trips:
        rows.append(_over(plan, round_trip))
        told.print(f"latency, {round_trip} ms: done", highlight=False)
    return rows


def _over(plan: Plan, round_trip: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        source, target, certs = (
            stack.enter_context(parts.scratch(plan, name)) for name in ("source", "target", "certs")
        )
        options = tls.secured(certs)
        writer = stack.enter_context(stores.begin_sample(source))
        port = stack.enter_context(processes.master(source, *options.master))[1]
        link = stack.enter_context(processes.proxy(port, round_trip, 0))[1]
        more = ("--store", str(target), "--port", str(link), *options.slave)
        slave = stack.enter_context(processes.twistd("tarfailover-slave", *more))
        slave.line(processes.DURABLE)
        rng = random.Random(1)  # noqa: S311 -- not for secrets
        waits = []
        for number in range(plan.commits):
            time.sleep(rng.uniform(0, LONGEST_PAUSE))
            head = stores.small_commit(writer, number)
            began = time.monotonic()
            durable = slave.line(processes.DURABLE)
            if durable.match[1] != str(head):
                raise BenchError(f"the slave has head {durable.match[1]}, not {head}")
            waits.append(durable.time - began)
    return {"round_trip_ms": round_trip, "commits": plan.commits, **quantiles(waits)}


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile (of few values: the largest) and maximum."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[min(last, round(0.99 * last))],
        "max": ordered[-1],
    }


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print how long it takes."""
    names = ("round trip", "commits", "p50 ms", "more than round trip", "p99 ms", "more", "max ms")
    table = report.table("commit on the master to durable head on the slave", names)
    for row in rows:
        p50, p99, most = (1000 * row[name] for name in ("p50", "p99", "max"))
        trip = row["round_trip_ms"]
        table.add_row(
            f"{trip} ms",
            str(row["commits"]),
            f"{p50:.0f}",
            f"{p50 - trip:+.0f}",
            f"{p99:.0f}",
            f"{p99 - trip:+.0f}",
            f"{most:.0f}",
        )
    console.print(HOW, "", highlight=False)
    console.print(table, "")
