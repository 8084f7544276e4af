"""Compression for the benchmark: what each level saves and costs, over links of three speeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import bench_parts as parts
import bench_processes as processes
import bench_report as report
from bench_parts import GIB, Plan, Run
from bench_processes import Process
from bench_stores import MIB, Made
from rich.console import Console

KINDS = ("content", "bulk")
"""A store that gets smaller, and one that cannot."""
MBIT = 0.125
"""MB/s."""
HOW = """\
First copies through bench_proxy.py at the speed of a line and without delay. `wire` is all that
came down; a number is a level of zstd that is always used (compression="zstd"); `auto` is the
default, which here begins without, as all is on one machine. Content is records of a sample, bulk
is random binaries. CPU is s/GiB of segments, master / slave; of small stores it is coarse."""


class Way(NamedTuple):
    """A setting of compression: options of the master."""

    name: str
    options: tuple[str, ...]


def ways(levels: str) -> list[Way]:
    """``none,1,3,auto`` as ways; a number is a level of zstd that is always used."""
    found = []
    for name in levels.split(","):
        forced = ("--compression", "zstd", "--compression-level", name)
        found.append(Way(name, forced if name.isdigit() else ("--compression", name)))
    return found


def measure(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """Every store, way and line; the slower the line, the smaller the store."""
    rows = []
    for kind in KINDS:
        for mbit in plan.lines:
            size = min(plan.size // 4, int(mbit * MBIT * 1e6 * plan.line_seconds))
            with parts.made(plan, kind, max(size, MIB)) as store:
                rows += [_row(plan, store, kind, mbit, way) for way in ways(plan.levels)]
            told.print(f"compression, {kind} at {mbit} Mbit/s: done", highlight=False)
    return rows


def _row(plan: Plan, store: Made, kind: str, mbit: int, way: Way) -> dict[str, Any]:
    with processes.master(store.directory, *way.options) as served:
        run, wire = copy_through(plan, served, store, 0, mbit * MBIT)
    return {
        "kind": kind,
        "mbit": mbit,
        "way": way.name,
        "bytes": store.size,
        "wire": wire,
        "seconds": run.seconds,
        "sender_cpu": run.sender.cpu * GIB / store.size,
        "receiver_cpu": run.receiver.cpu * GIB / store.size,
    }


def copy_through(
    plan: Plan,
    served: tuple[Process, int],
    store: Made,
    round_trip: int,
    bandwidth: float,
    *options: str,
) -> tuple[Run, int]:
    """A first copy over a link of ms and MB/s, and the bytes that came down it."""
    master, port = served
    target = parts.scratch(plan, "target")
    with target as directory, processes.proxy(port, round_trip, bandwidth) as (link, through):
        run = parts.copy_ours(master, through, store, directory, *options)
        return run, int(link.line(processes.CARRIED).match[2])


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print what compression saves."""
    table = report.table(
        "compression, first copies over lines of three speeds",
        ("store", "Mbit/s", "MiB", "level", "wire MiB", "saved", "seconds", "CPU"),
    )
    for row in rows:
        table.add_row(
            row["kind"],
            str(row["mbit"]),
            f"{row['bytes'] / report.MIB:.0f}",
            row["way"],
            f"{row['wire'] / report.MIB:.1f}",
            f"{1 - row['wire'] / row['bytes']:.0%}",
            f"{row['seconds']:.2f}",
            report.both(row),
        )
    console.print(HOW, "", highlight=False)
    console.print(table, "")
