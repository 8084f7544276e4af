"""TLS for the benchmark: its options, and what it costs beside plain text."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bench_parts as parts
import bench_processes as processes
import bench_report as report
from bench_parts import Plan, Run
from bench_stores import Made
from rich.console import Console

from tarfailover.tls.authority import Authority

HOST = "127.0.0.1"
KINDS = ("bulk", "mixed")
SHARE = 2
"""By how much the stores are smaller than those over loopback."""
HOW = """\
TLS 1.3 with certificates on both sides against plain text, over loopback, in turns; no
compression, as both are within one machine. `ratio` is the seconds of plain text by those of TLS,
the median over the rounds: 1 would be free of cost. CPU is s/GiB of segments, master / slave."""


class Options(NamedTuple):
    """Options for both sides; of a link without TLS there are none."""

    master: tuple[str, ...] = ()
    slave: tuple[str, ...] = ()


def secured(directory: Path) -> Options:
    """Certificates for both sides, made below `directory`, as ``tarfailover certs`` makes them."""
    Authority(directory, dt.datetime.now(dt.timezone.utc)).init([HOST], ["slave"], 2)
    return Options(_shown(directory, "master"), _shown(directory, "slave"))


def _shown(directory: Path, name: str) -> tuple[str, ...]:
    files = {"certificate": f"{name}.pem", "key": f"{name}.key", "ca": "ca.pem"}
    return tuple(f"--tls-{what}={directory / file}" for what, file in files.items())


def in_turns(plan: Plan, ways: dict[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    """One run of each way a round; none finds anything of another's."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(plan.rounds):
        for name, way in ways.items():
            runs[name].append(way())
    return runs


@contextlib.contextmanager
def masters(store: Made, plan: Plan) -> Iterator[dict[str, Callable[[], Run]]]:
    """A master without TLS and one with, and how to copy from each."""
    target = plan.home / "target"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, target, ignore_errors=True)
        certs = Path(stack.enter_context(parts.scratch(plan, "certs")))
        ways = {}
        for name, options in (("plain", Options()), ("tls", secured(certs))):
            served = stack.enter_context(processes.master(store.directory, *options.master))
            ways[name] = _way(store, target, served, options.slave)
        yield ways


def _way(
    store: Made, target: Path, served: tuple[processes.Process, int], options: tuple[str, ...]
) -> Callable[[], Run]:
    return lambda: parts.copy_ours(*served, store, target, *options)


def measure(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """First copies of large binaries and of mixed content."""
    rows = []
    for kind in KINDS:
        with parts.made(plan, kind, plan.size // SHARE) as store, masters(store, plan) as ways:
            runs = in_turns(plan, ways)
        pairs = zip(runs["plain"], runs["tls"], strict=True)
        rows.append(
            {
                "kind": kind,
                "bytes": store.size,
                "ratio": statistics.median(plain.seconds / tls.seconds for plain, tls in pairs),
                **{name: parts.summary(each, store) for name, each in runs.items()},
            }
        )
        told.print(f"tls, {kind}: done", highlight=False)
    return rows


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print what TLS costs."""
    table = report.table(
        "TLS against plain text, first copy over loopback",
        ("store", "MiB", "plain s", "MB/s", "TLS s", "MB/s", "ratio", "CPU, plain", "CPU, TLS"),
    )
    for row in rows:
        cells = []
        for name in ("plain", "tls"):
            cells += [f"{row[name]['seconds']:.2f}", f"{row[name]['rate'] / report.MB:.0f}"]
        table.add_row(
            row["kind"],
            f"{row['bytes'] / report.MIB:.0f}",
            *cells,
            f"{row['ratio']:.2f}",
            report.both(row["plain"]),
            report.both(row["tls"]),
        )
    console.print(HOW, "", highlight=False)
    console.print(table, "")
