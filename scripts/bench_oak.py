"""A slave of ours beside Oak's own standby: first copies from the same real Oak primary.

Needs a JDK and Maven, for Oak's published artifacts; see `tests/interop`. Oak's standby is
a process of its own for each copy, whose start is not counted, with Java's default
settings; of ours, too, the time begins when it connects.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bench_processes as processes
from _env import ROOT
from bench_parts import Plan, scratch
from bench_processes import BenchError
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(ROOT / "tests" / "support"))

from oak_build import RELEASES, Built, OakAbsentError, OakOfflineError, Toolchain, build
from oak_peer import Part, Peer, Store

from tarfailover.ids import RecordId

RELEASE = "1.82"
JVM = ("-Xmx1g",)
LINKS = {"loopback": (0, 1.0), "50 ms": (50, 0.125)}
"""Round trip in ms, and the share of the size that the store over that link has."""
PHOTO_KIB = 60
NODES_A_MIB = 205
WARMING = 3
"""Copies by ours that do not count: Java's compiler is then through with the primary."""
OPTIONS = ("--dialect", "oak", "--interval", "60")


class Copied(NamedTuple):
    """One first copy; seconds and bytes."""

    seconds: float
    receiver_cpu: float
    primary_cpu: float
    peak: int


class Served(NamedTuple):
    """A real Oak primary and the store that it serves."""

    peer: Peer
    store: Store
    head: str
    port: int


def measure(plan: Plan, told: Console) -> dict[str, Any]:
    """First copies by both, over loopback and over a link with a round trip."""
    try:
        built = build(Toolchain.find(RELEASES[RELEASE]))
    except (OakAbsentError, OakOfflineError) as absent:
        return {"absent": str(absent).splitlines()[0]}
    rows = []
    for name, (round_trip, share) in LINKS.items():
        rows.append(_link(plan, built, name, round_trip, int(plan.delay_size * share)))
        told.print(f"oak, {name}: done", highlight=False)
    return {"release": RELEASE, "rows": rows}


def _link(plan: Plan, built: Built, name: str, round_trip: int, size: int) -> dict[str, Any]:
    runs: dict[str, list[Copied]] = {"ours": [], "oak": []}
    with scratch(plan, "source") as source, _primary(built, source, size) as served:
        with contextlib.ExitStack() as stack:
            port = served.port
            if round_trip:
                port = stack.enter_context(processes.proxy(port, round_trip, 0))[1]
            for _ in range(WARMING):
                _ours(served, port, plan.home / "target")
            for _ in range(plan.rounds):
                runs["ours"].append(_ours(served, port, plan.home / "target"))
                runs["oak"].append(_oaks(built, served, port, plan.home / "target"))
        stored = sum(path.stat().st_size for path in source.glob("*.tar"))
    pairs = zip(runs["oak"], runs["ours"], strict=True)
    return {
        "link": name,
        "round_trip_ms": round_trip,
        "bytes": stored,
        "ratio": statistics.median(oak.seconds / ours.seconds for oak, ours in pairs),
        **{who: _summary(each) for who, each in runs.items()},
    }


@contextlib.contextmanager
def _primary(built: Built, source: Path, size: int) -> Iterator[Served]:
    nodes = max(100, NODES_A_MIB * size // 2**20)
    with Peer(built, RELEASE, JVM) as peer, peer.open(source, tar=256) as store:
        store.begin("fill", nodes=nodes, kib=PHOTO_KIB).result(processes.SECONDS)
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        with store.primary(port):
            yield Served(peer, store, store.head(), port)


def _ours(served: Served, port: int, target: Path) -> Copied:
    shutil.rmtree(target, ignore_errors=True)
    before = processes.usage(served.peer.pid)
    options = ("--store", str(target), "--port", str(port), *OPTIONS)
    with processes.twistd("tarfailover-slave", *options) as slave:
        ready = slave.line(processes.READY)
        at_ready = slave.usage()
        durable = slave.line(processes.DURABLE)
        used, peak = slave.usage().since(at_ready).cpu, processes.peak_memory(slave.pid)
    if durable.match[1] != str(RecordId.parse(served.head)):
        raise BenchError(f"the copy has head {durable.match[1]}, the primary {served.head}")
    sent = processes.usage(served.peer.pid).since(before).cpu
    return Copied(durable.time - ready.time, used, sent, peak)


def _oaks(built: Built, served: Served, port: int, target: Path) -> Copied:
    shutil.rmtree(target, ignore_errors=True)
    with Peer(built, RELEASE, JVM) as peer:  # killed: its own end takes seconds
        copy = peer.open(target, tar=256, standby="true")
        standby: Part = copy.standby(port, timeout=int(1000 * processes.SECONDS))
        sent, used = processes.usage(served.peer.pid), processes.usage(peer.pid)
        began = time.monotonic()
        failed = standby.begin("sync").result(processes.SECONDS)["failed"]
        seconds = time.monotonic() - began
        copied = Copied(
            seconds,
            processes.usage(peer.pid).since(used).cpu,
            processes.usage(served.peer.pid).since(sent).cpu,
            processes.peak_memory(peer.pid),
        )
        if failed != "0" or copy.head() != served.head:
            raise BenchError(f"Oak's standby has head {copy.head()}, the primary {served.head}")
    return copied


def _summary(runs: list[Copied]) -> dict[str, float]:
    return {
        field: statistics.median(getattr(run, field) for run in runs) for field in Copied._fields
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Print the table."""
    if "absent" in found:
        console.print(f"\nBeside Oak's standby: not measured, {found['absent']}", highlight=False)
        return
    title = (
        f"First copies from a primary of Oak {found['release']}, by a slave and by Oak's standby"
    )
    console.print(f"\n{title}", highlight=False)
    table = Table("link", "MiB", "ours", "Oak's", "times", "CPU s, ours", "Oak's",
                  "primary's CPU s, ours", "Oak's", "peak MiB, ours", "Oak's")  # fmt: skip
    for row in found["rows"]:
        ours, oak = row["ours"], row["oak"]
        table.add_row(
            row["link"],
            f"{row['bytes'] / 2**20:.0f}",
            f"{ours['seconds']:.2f} s",
            f"{oak['seconds']:.2f} s",
            f"{row['ratio']:.1f}",
            *(
                f"{each[field]:.2f}"
                for field in ("receiver_cpu", "primary_cpu")
                for each in (ours, oak)
            ),
            *(f"{each['peak'] / 2**20:.0f}" for each in (ours, oak)),
        )
    console.print(table)
