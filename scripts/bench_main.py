"""The benchmark's command line; see scripts/bench, which makes the environment for it."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import bench_commits as commits
import bench_compression as compression
import bench_idle as idle
import bench_latency as latency
import bench_oak as oak
import bench_parts as parts
import bench_processes as processes
import bench_report as report
import bench_tls as tls
import bench_wan as wan
from bench_parts import Plan
from bench_processes import BenchError
from rich.console import Console

from tarfailover.errors import TarFailoverError

SMALLEST = 1
SHORTEST = 0.01
"""Seconds."""
WIDTH = 110


class Part(NamedTuple):
    """One part of the benchmark."""

    measure: Callable[[Plan, Console], Any]
    """Gives what goes into the JSON under the part's name; tells the console how far it is."""
    show: Callable[[Any, Console], None]
    """Prints that for people."""


PARTS = {
    "loopback": Part(parts.loopbacks, report.loopback),
    "delay": Part(parts.delays, report.delay),
    "tls": Part(tls.measure, tls.show),
    "compression": Part(compression.measure, compression.show),
    "wan": Part(wan.measure, wan.show),
    "latency": Part(latency.measure, latency.show),
    "idle": Part(idle.measure, idle.show),
    "oak": Part(oak.measure, oak.show),
    "commits": Part(commits.measure, commits.show),
}
"""By the name that --only knows, in the order in which they are measured and shown."""

_SPEED = r"[1-9]\d{0,4}"
LISTS = (
    ("round_trips", r"\d{1,5}", "whole numbers of ms, like 0,50"),
    ("wan_round_trips", r"\d{1,5}", "whole numbers of ms, like 50,100"),
    ("lines", _SPEED, "whole numbers of Mbit/s, like 10,100"),
    ("wan_lines", _SPEED, "whole numbers of Mbit/s, like 10,100"),
    ("levels", r"(none|auto|[1-9])", "none, auto, and 1 to 9, like none,1,auto"),
)
"""Options with commas: their items, and what they are."""


def arguments(given: list[str]) -> argparse.Namespace:
    """The options; ends the program for bad ones."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure copies, TLS, compression, long lines, latency, many slaves.",
    )
    parser.add_argument("--size", type=int, help="MiB of the stores over loopback [1024]")
    parser.add_argument("--delay-size", type=int, help="MiB of the store over slow links [256]")
    parser.add_argument("--rounds", type=int, help="of which the medians are told [5]")
    parser.add_argument(
        "--commits", type=int, help="small commits for the latency, and into a store [100]"
    )
    parser.add_argument(
        "--bandwidth", type=float, default=100.0, help="of slow links, MB/s; 0 is no limit [100]"
    )
    parser.add_argument(
        "--round-trips", default="0,20,50,100", help="of slow links, ms [0,20,50,100]"
    )
    parser.add_argument("--levels", default="none,1,3,auto", help="of compression [none,1,3,auto]")
    parser.add_argument("--lines", default="10,100,1000", help="for it, Mbit/s [10,100,1000]")
    parser.add_argument("--wan-lines", default="100,300", help="long lines, Mbit/s [100,300]")
    parser.add_argument("--wan-round-trips", default="50,100", help="of these, ms [50,100]")
    parser.add_argument("--line-seconds", type=float, help="of a copy over a line [5]")
    parser.add_argument("--slaves", type=int, help="that are idle [1000]")
    parser.add_argument("--idle-seconds", type=float, help="of looking at them [40]")
    parser.add_argument("--quick", action="store_true", help="smaller stores, fewer rounds")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--directory", type=Path, help="on the file system to measure [temporary]")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    options = parser.parse_args(given)
    for name, full, quick in (
        ("size", 1024, 128),
        ("delay_size", 256, 64),
        ("rounds", 5, 3),
        ("commits", 100, 20),
        ("line_seconds", 5.0, 1.0),
        ("slaves", 1000, 200),
        ("idle_seconds", 40.0, 20.0),
    ):
        value = getattr(options, name)
        setattr(options, name, (quick if options.quick else full) if value is None else value)
        least = SHORTEST if isinstance(full, float) else SMALLEST
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    for name, form, told in LISTS:
        if not re.fullmatch(f"{form}(,{form})*", getattr(options, name)):
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} are {told}; not {getattr(options, name)}")
    if options.directory is not None and not options.directory.is_dir():
        parser.error(f"--directory {options.directory} is no directory")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def planned(options: argparse.Namespace, home: Path, *, rsync: bool) -> Plan:
    """What the options ask for."""
    mib = 1024 * 1024
    return Plan(
        home,
        options.size * mib,
        options.delay_size * mib,
        options.rounds,
        options.commits,
        options.bandwidth,
        _numbers(options.round_trips),
        rsync,
        options.levels,
        _numbers(options.lines),
        options.line_seconds,
        _numbers(options.wan_lines),
        _numbers(options.wan_round_trips),
        options.slaves,
        options.idle_seconds,
    )


def measure(options: argparse.Namespace, home: Path, told: Console) -> dict[str, Any]:
    """All parts that were asked for; `home` is for stores and copies."""
    rsync = processes.rsync_version()
    plan = planned(options, home, rsync=bool(rsync))
    results: dict[str, Any] = {"machine": report.machine(home, rsync), "rounds": plan.rounds}
    if not rsync:
        told.print("rsync with --fsync is not installed: only ours is measured", highlight=False)
    for name, part in PARTS.items():
        if name in options.only:
            results[name] = part.measure(plan, told)
            told.print(f"{name}: done", highlight=False)
    return results


def show(results: dict[str, Any], console: Console) -> None:
    """Print all that was measured."""
    report.facts(results["machine"], console)
    for name, part in PARTS.items():
        if name in results:
            part.show(results[name], console)


def _stop(number: int, _: object) -> NoReturn:
    """End by way of all `finally` and `with`, so that no process is left."""
    sys.exit(128 + number)


def main(given: list[str]) -> int:
    """Measure and tell; the exit code of the script."""
    options = arguments(given)
    signal.signal(signal.SIGTERM, _stop)
    told = Console(stderr=True, quiet=options.json)
    try:
        with tempfile.TemporaryDirectory(
            prefix="tarfailover-bench-", dir=options.directory
        ) as home:
            results = measure(options, Path(home), told)
    except (BenchError, TarFailoverError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("FAILED: stopped before the end", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        show(results, Console(width=WIDTH))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
