"""What the benchmark tells: facts about the machine, and its numbers as tables."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MB = 1e6
MIB = 1024 * 1024

HOW = """\
How it was measured: all over 127.0.0.1; both programs in turns, one copy each a round; before
every copy the target is removed, nothing is dirty (sync), the source is in the page cache, and
so is a file that gives its memory to the copy when that begins: on a virtual machine, memory that
its host must give first costs whoever copies more than all else (scripts/bench_ballast.py).
`seconds` is ours from when the slave has opened its directory and begins to connect until it
says that the head is durable, and of rsync the whole client, which is up in a few milliseconds.
`whole` counts ours from the start of the process, the start of Python and Twisted included.
`ratio` is rsync's seconds by ours, the median over the rounds: above 1 we are faster. Ours
verifies every segment and syncs; rsync runs with --whole-file --fsync and verifies a checksum.
CPU is user and system time in seconds by GiB of segments, that of the start not counted (it is
named beside); memory is the largest VmHWM of one process. Read ratios: machines are noisy."""

HOW_DELAY = """\
The link is bench_proxy.py: half the round trip in each direction, limited bandwidth, no TCP
windows. `bound` is one round trip + bytes / bandwidth; of bound 1.00 is what no program beats.
`reached` is a plain socket through the same proxy without delay, which the proxy must not slow."""


def machine(directory: Path, rsync: str) -> dict[str, str]:
    """What the numbers depend on, besides the program."""
    return {
        "processors": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB",
        "kernel": platform.release(),
        "disk": _disk(directory),
        "python": platform.python_version(),
        "twisted": metadata.version("twisted"),
        "tarfailover": metadata.version("tarfailover"),
        "rsync": rsync or "none with --fsync is installed: apt install rsync (3.2.4 or newer)",
    }


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"model name\s*: (.*)", told)
    return found[1] if found else platform.machine()


def _disk(directory: Path) -> str:
    """Type of the file system, device, and whether that turns, as far as Linux tells."""
    device = directory.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == name:
            kind, source = fields[fields.index("-") + 1 :][:2]
            return f"{kind} on {source}{_turns(name)}"
    return "unknown"


def _turns(device: str) -> str:
    place = Path(f"/sys/dev/block/{device}")
    for each in (place / "queue/rotational", place / "../queue/rotational"):
        if each.exists():
            return ", turning" if each.read_text().strip() == "1" else ", not turning"
    return ""


def facts(machine: dict[str, str], console: Console) -> None:
    """Print what the numbers depend on."""
    shown = Table("machine", "", show_header=True, box=None)
    for name, value in machine.items():
        shown.add_row(name, value)
    console.print(shown, "")


def loopback(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the copies over loopback."""
    console.print(HOW, "", highlight=False)
    console.print(_copies(rows), "")
    console.print(_costs(rows), "")


def delay(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the copies over slow links."""
    console.print(HOW_DELAY, "", highlight=False)
    console.print(_links(rows), "")


def table(title: str, columns: Iterable[str]) -> Table:
    """An empty table: words on the left, numbers on the right."""
    made = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if number else "left")
    return made


def _copies(rows: list[dict[str, Any]]) -> Table:
    names = ("store", "MiB", "segments", "ours s", "MB/s", "whole s")
    made = table("first copy over loopback", (*names, "rsync s", "MB/s", "ratio", "ratio whole"))
    for row in rows:
        ours, theirs = row["ours"], row.get("rsync")
        made.add_row(
            row["kind"],
            f"{row['bytes'] / MIB:.0f}",
            str(row["segments"]),
            f"{ours['seconds']:.2f}",
            f"{ours['rate'] / MB:.0f}",
            f"{ours['whole']:.2f}",
            f"{theirs['seconds']:.2f}" if theirs else "-",
            f"{theirs['rate'] / MB:.0f}" if theirs else "-",
            or_dash(row["ratio"]),
            or_dash(row["ratio_whole"]),
        )
    return made


def _costs(rows: list[dict[str, Any]]) -> Table:
    names = ("store", "program", "sends: CPU s/GiB", "main thread", "MiB")
    made = table("what it costs", (*names, "receives: CPU s/GiB", "main thread", "start s", "MiB"))
    for row in rows:
        for program in ("ours", "rsync"):
            if program not in row:
                continue
            cost = row[program]
            mine = program == "ours"
            made.add_row(
                row["kind"],
                program,
                f"{cost['sender_cpu']:.2f}",
                f"{cost['sender_main']:.2f}" if mine else "-",
                f"{cost['sender_peak'] / MIB:.0f}",
                f"{cost['receiver_cpu']:.2f}",
                f"{cost['receiver_main']:.2f}" if mine else "-",
                f"{cost['receiver_start']:.2f}" if mine else "-",
                f"{cost['receiver_peak'] / MIB:.0f}",
            )
    return made


def _links(rows: list[dict[str, Any]]) -> Table:
    names = ("round trip", "MiB", "MB/s", "reached", "bound s", "ours s", "of bound")
    made = table("first copy over a slow link, mixed store", (*names, "rsync s", "of bound"))
    for row in rows:
        seconds, share = row["seconds"], row["of_bound"]
        made.add_row(
            f"{row['round_trip_ms']} ms",
            f"{row['bytes'] / MIB:.0f}",
            f"{row['bandwidth'] / MB:.0f}",
            f"{row['reached'] / MB:.0f}",
            f"{row['bound']:.2f}",
            f"{seconds['ours']:.2f}",
            f"{share['ours']:.2f}",
            or_dash(seconds.get("rsync")),
            or_dash(share.get("rsync")),
        )
    return made


def or_dash(value: float | None) -> str:
    """Two places, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.2f}"


def both(summary: dict[str, Any]) -> str:
    """Processor seconds by GiB of both sides."""
    return f"{summary['sender_cpu']:.2f} / {summary['receiver_cpu']:.2f}"
