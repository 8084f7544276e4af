"""What many slaves that are in sync cost their master, and how soon they hear of a new head."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import bench_parts as parts
import bench_processes as processes
import bench_report as report
import bench_stores as stores
import bench_tls as tls
from bench_parts import Plan
from bench_processes import Process
from bench_tls import Options
from rich.console import Console

ALL_HAVE = re.compile(r"all have (\S+)")
BYTES = re.compile(r"bytes (\d+) (\d+)")
POLL_WAIT = 20.0
"""Seconds that a master waits with its answer."""
HOW = """\
The cost of slaves that are in sync, for their master: connections of real slaves out of one
process, which ask for the head and are answered after 20 s that it is still the same. CPU is that
of the master's process, in thousandths of one processor; `alone` is what it takes without a slave,
for its look at the store every 50 ms. `KiB each` is what its resident size has grown by. `told` is
the time from a small commit until the last slave had the head and its segments."""


def measure(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """Plain text, then TLS with certificates on both sides."""
    rows = []
    for name in ("plain", "tls"):
        rows.append(_measured(plan, secure=name == "tls"))
        told.print(f"idle, {name}: done", highlight=False)
    return rows


def _measured(plan: Plan, *, secure: bool) -> dict[str, Any]:
    _raise_limit()
    number = str(plan.slaves)
    limits = ("--max-clients", number, "--max-clients-per-address", number)
    burst = ("--connect-burst", number)
    with contextlib.ExitStack() as stack:
        source, certs = (
            stack.enter_context(parts.scratch(plan, name)) for name in ("source", "certs")
        )
        options = tls.secured(certs) if secure else Options()
        writer = stack.enter_context(stores.begin_sample(source))
        master, port = stack.enter_context(
            processes.master(source, *options.master, *limits, *burst)
        )
        alone, before = _thousandths(master, plan.idle_seconds / 4), processes.memory(master.pid)
        program = Path(__file__).with_name("bench_slaves.py")
        command = (str(program), "--port", str(port), "--slaves", number, *options.slave)
        slaves = stack.enter_context(Process(sys.executable, *command))
        slaves.line(ALL_HAVE)
        grown = processes.memory(master.pid) - before
        # All ask at the same time: whole polls are counted, from between two of them.
        time.sleep(min(POLL_WAIT, plan.idle_seconds) / 2)
        first = _newest(slaves, BYTES)
        busy = _thousandths(master, plan.idle_seconds)
        last = _newest(slaves, BYTES)
        head = stores.small_commit(writer, 1)
        began = time.monotonic()
        heard = slaves.line(ALL_HAVE)
        if heard.match[1] != str(head):
            raise processes.BenchError(f"the slaves have {heard.match[1]}, not {head}")
    seconds = last.time - first.time
    up, down = (int(last.match[n]) - int(first.match[n]) for n in (1, 2))
    return {
        "tls": secure,
        "slaves": plan.slaves,
        "alone": alone,
        "busy": busy,
        "up": up / seconds,
        "down": down / seconds,
        "memory": grown / plan.slaves,
        "told": heard.time - began,
    }


def _raise_limit() -> None:
    """Open files of this process's children: one for each slave on either side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _thousandths(process: Process, seconds: float) -> float:
    """What `process` uses of one processor, over `seconds`."""
    before, began = process.usage(), time.monotonic()
    time.sleep(seconds)
    return 1000 * process.usage().since(before).cpu / (time.monotonic() - began)


def _newest(process: Process, pattern: re.Pattern[str]) -> processes.Line:
    """The line with `pattern` that came last, or the next one."""
    since = time.monotonic() - 1.5
    while (line := process.line(pattern)).time < since:
        pass
    return line


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print what slaves in sync cost."""
    table = report.table(
        "slaves that are in sync: what they cost the master",
        ("link", "slaves", "CPU ‰", "alone", "bytes/s up", "down", "KiB each", "told s"),
    )
    for row in rows:
        table.add_row(
            "TLS" if row["tls"] else "plain",
            str(row["slaves"]),
            f"{row['busy']:.0f}",
            f"{row['alone']:.0f}",
            f"{row['up']:.0f}",
            f"{row['down']:.0f}",
            f"{row['memory'] / 1024:.0f}",
            f"{row['told']:.2f}",
        )
    console.print(HOW, "", highlight=False)
    console.print(table, "")
