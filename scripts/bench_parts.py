"""What is measured: each part gives the records of its rounds."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import bench_processes as processes
import bench_stores as stores
from bench_ballast import Ballast
from bench_processes import BenchError, Process, Usage
from bench_stores import Made
from rich.console import Console

GIB = 1024**3
SMALL = {"32k": 4, "4k": 16}
"""Kinds of small segments, and by how much their stores are smaller."""


class Run(NamedTuple):
    """One copy by one program; seconds and bytes."""

    seconds: float
    """Ours: from when the slave has opened its directory and begins to connect, until it
    says that the head is durable. Of rsync: the whole client process."""
    whole: float
    """From the start of the process; of rsync the same as `seconds`."""
    sender: Usage
    receiver: Usage
    receiver_start: float
    """Seconds of processor before the copy began; not in `receiver`."""
    sender_peak: int
    receiver_peak: int


@dataclass
class Plan:
    """What was asked for; sizes in bytes."""

    home: Path
    size: int
    delay_size: int
    rounds: int
    commits: int
    bandwidth: float
    """Of the delayed link, MB/s; 0 for no limit."""
    round_trips: tuple[int, ...]
    """Of the delayed links, milliseconds."""
    rsync: bool
    levels: str
    """Of compression, with commas between; a number is a level of zstd."""
    lines: tuple[int, ...]
    """Speeds of the lines that compression is measured on, Mbit/s."""
    line_seconds: float
    """What a copy may take there, without compression."""
    wan_lines: tuple[int, ...]
    """Speeds of long lines, Mbit/s."""
    wan_round_trips: tuple[int, ...]
    """Milliseconds."""
    slaves: int
    idle_seconds: float
    """How long slaves that are in sync are looked at: their master answers every 20 s."""


def clear(target: Path) -> None:
    """No target, and nothing dirty."""
    shutil.rmtree(target, ignore_errors=True)
    os.sync()


def warm(source: Path, memory: Ballast) -> None:
    """Bring the whole source into the page cache, and keep the memory for the copy.

    Just before a copy begins: a machine may take away what was not used for some seconds.
    """
    for path in source.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(4 * stores.MIB):
                pass
    memory.fill()


def copy_ours(served: Process, port: int, store: Made, target: Path, *more: str) -> Run:
    """A first copy by a slave with `more` options; raises BenchError unless it is all there."""
    clear(target)
    before = served.usage()
    options = ("--store", str(target), "--port", str(port), "--interval", "60", *more)
    with (
        Ballast.held(target.parent, store.size) as memory,
        processes.twistd("tarfailover-slave", *options) as slave,
    ):
        warm(store.directory, memory)
        ready = slave.line(processes.READY)
        memory.drop()
        at_ready = slave.usage()
        durable = slave.line(processes.DURABLE)
        used, sent = slave.usage(), served.usage()
        peaks = processes.peak_memory(served.pid), processes.peak_memory(slave.pid)
    head, _, count = durable.match.groups()
    if (head, int(count)) != (str(store.head), store.segments):
        raise BenchError(f"copied {count} segments of {store.segments}, head {head}")
    return Run(
        durable.time - ready.time,
        durable.time - slave.started,
        sent.since(before),
        used.since(at_ready),
        at_ready.cpu,
        *peaks,
    )


def copy_rsync(served: Process, port: int, store: Made, target: Path) -> Run:
    """A first copy by rsync's client; raises BenchError unless it is the whole store."""
    clear(target)
    with Ballast.held(target.parent, store.size) as memory:
        warm(store.directory, memory)
        before = served.usage()
        memory.drop()
        client = processes.rsync_client(port, target)
    with client, processes.Watch(client.pid) as far, processes.Watch(served.pid) as near:
        seconds = client.end() - client.started
        used = client.usage()
    processes.wait_childless(served)
    sizes = [
        sum(path.stat().st_size for path in directory.glob("*.tar"))
        for directory in (target, store.directory)
    ]
    if sizes[0] != sizes[1]:
        raise BenchError(f"rsync copied {sizes[0]} bytes of {sizes[1]}")
    sent = served.usage().since(before)
    return Run(seconds, seconds, sent, used, 0.0, near.peak, far.peak)


class Servers(NamedTuple):
    """Who serves a store: ours, and an rsync daemon if there is one; each with its port."""

    ours: tuple[Process, int]
    rsync: tuple[Process, int] | None


@contextlib.contextmanager
def serving(store: Made, plan: Plan) -> Iterator[Servers]:
    """Both servers of `store`."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(processes.master(store.directory))
        theirs = None
        if plan.rsync:
            theirs = stack.enter_context(processes.rsync_daemon(store.directory, plan.home))
        yield Servers(ours, theirs)


def paired(
    store: Made, servers: Servers, plan: Plan, link: tuple[int, int] | None = None
) -> dict[str, list[Run]]:
    """Rounds of both programs in turns; `link` are the ports to use instead of the servers' own."""
    runs: dict[str, list[Run]] = {"ours": [], "rsync": []}
    target = plan.home / "target"
    for _ in range(plan.rounds):
        process, port = servers.ours
        runs["ours"].append(copy_ours(process, link[0] if link else port, store, target))
        if servers.rsync is not None:
            process, port = servers.rsync
            runs["rsync"].append(copy_rsync(process, link[1] if link else port, store, target))
    shutil.rmtree(target, ignore_errors=True)
    return runs


def loopbacks(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """First copies of stores of all kinds over loopback."""
    rows = []
    for kind in ("bulk", "mixed", *SMALL):
        rows.append(loopback(plan, kind, plan.size // SMALL.get(kind, 1)))
        told.print(f"loopback, {kind}: done", highlight=False)
    return rows


def loopback(plan: Plan, kind: str, size: int) -> dict[str, Any]:
    """First copies of a store of `kind` over loopback."""
    with made(plan, kind, size) as store, serving(store, plan) as servers:
        runs = paired(store, servers, plan)
    rows = {name: summary(each, store) for name, each in runs.items() if each}
    return {
        "kind": kind,
        "segments": store.segments,
        "bytes": store.size,
        "ratio": ratio(runs, "seconds"),
        "ratio_whole": ratio(runs, "whole"),
        **rows,
    }


def delays(plan: Plan, told: Console) -> list[dict[str, Any]]:
    """First copies over links of growing round trip."""
    rows = []
    with made(plan, "mixed", plan.delay_size) as store, serving(store, plan) as servers:
        reached = calibrate(0, plan.bandwidth, plan.delay_size)
        for round_trip in plan.round_trips:
            rows.append(_delayed(plan, store, servers, round_trip, reached))
            told.print(f"delay, {round_trip} ms: done", highlight=False)
    return rows


def _delayed(
    plan: Plan, store: Made, servers: Servers, round_trip: int, reached: float
) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        ports = [
            stack.enter_context(processes.proxy(each[1], round_trip, plan.bandwidth))[1]
            for each in servers
            if each is not None
        ]
        runs = paired(store, servers, plan, (ports[0], ports[-1]))
    bandwidth = plan.bandwidth * 1e6 or reached
    bound = round_trip / 1000 + store.size / bandwidth
    seconds = {name: median(each, "seconds") for name, each in runs.items() if each}
    return {
        "round_trip_ms": round_trip,
        "bytes": store.size,
        "bandwidth": bandwidth,
        "reached": reached,
        "bound": bound,
        "seconds": seconds,
        "of_bound": {name: each / bound for name, each in seconds.items()},
    }


@contextlib.contextmanager
def scratch(plan: Plan, name: str) -> Iterator[Path]:
    """A directory that is not there yet, and that is removed afterwards."""
    directory = plan.home / name
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def made(plan: Plan, kind: str, size: int) -> Iterator[Made]:
    """A store to copy, removed afterwards."""
    with scratch(plan, "source") as directory:
        yield stores.make(directory, kind, size)
    Ballast.remove(plan.home)


def calibrate(round_trip: float, bandwidth: float, size: int) -> float:
    """Bytes a second that a plain socket gets through the proxy: what it can do at the best."""
    block = bytes(stores.MIB)
    got: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        sink = threading.Thread(target=_swallow, args=(listening, size, got))
        sink.start()
        with processes.proxy(port, round_trip, bandwidth) as (_, through):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", through)) as sender:
                for _ in range(-(-size // len(block))):
                    sender.sendall(block)
                sink.join(processes.SECONDS)
    if not got:
        raise BenchError("the proxy did not bring all that was sent through it")
    return size / (got[0] - began)


def _swallow(listening: socket.socket, size: int, got: list[float]) -> None:
    connection, _ = listening.accept()
    room = bytearray(stores.MIB)
    with connection:
        left = size
        while left > 0 and (count := connection.recv_into(room)):
            left -= count
        if left <= 0:
            got.append(time.monotonic())


def median(runs: list[Run], field: str) -> float:
    """The median of one field of `runs`."""
    return float(statistics.median(getattr(run, field) for run in runs))


def ratio(runs: dict[str, list[Run]], field: str) -> float | None:
    """The median over the rounds of rsync's time by ours: above 1 we are the faster ones."""
    if not runs["rsync"]:
        return None
    pairs = zip(runs["rsync"], runs["ours"], strict=True)
    return float(statistics.median(getattr(b, field) / getattr(a, field) for b, a in pairs))


def summary(runs: list[Run], store: Made) -> dict[str, Any]:
    """Medians of all that was measured; processor seconds by GiB of segments."""

    def per_gib(values: Iterator[float]) -> float:
        return statistics.median(values) * GIB / store.size

    return {
        "seconds": median(runs, "seconds"),
        "whole": median(runs, "whole"),
        "all_seconds": [round(run.seconds, 4) for run in runs],
        "rate": store.size / median(runs, "seconds"),
        "sender_cpu": per_gib(run.sender.cpu for run in runs),
        "sender_main": per_gib(run.sender.main for run in runs),
        "receiver_cpu": per_gib(run.receiver.cpu for run in runs),
        "receiver_main": per_gib(run.receiver.main for run in runs),
        "receiver_start": statistics.median(run.receiver_start for run in runs),
        "sender_peak": max(run.sender_peak for run in runs),
        "receiver_peak": max(run.receiver_peak for run in runs),
    }
