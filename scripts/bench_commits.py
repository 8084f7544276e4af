"""Commits for the benchmark: into a segment store, and the same tree into SQLite."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import bench_report as report
from bench_parts import Plan
from bench_processes import BenchError
from rich.console import Console

from tarfailover import repository
from tarfailover.repository import Binary, WritableNode

KIB = 1024
MIB = 1024 * KIB
THREADS = 8
FANOUT = 100
"""Nodes below one parent, and of those that small commits change."""
NODES_PER_COMMIT = 200
"""Nodes of the large commit for each small one that was asked for."""
BINARY = 4 * MIB
BINARIES = 8
BUSY_SECONDS = 60
HOW = """\
The same tree into a segment store, by `repository.open_for_writing`, and into SQLite, by Python's
`sqlite3`: a table of nodes and one of properties, one transaction per commit, synchronous=FULL,
with its write-ahead log and with its rollback journal. In turns, each into an empty directory,
medians over the rounds; a result counts when all hold the same. A small commit finds a node by its
path, sets a property, and adds a node of three; a commit of ours waits for the disk twice, one of
the write-ahead log once. `a sync` is what the disk takes for 4 KiB alone. `ratio` is ours by the
faster of SQLite's."""

Tree = dict[tuple[str, ...], dict[str, object]]
"""Properties by path."""


class Writer(Protocol):
    """Something that trees are committed to; for any number of threads."""

    def small(self, thread: int, number: int) -> None:
        """Commit: set a property of a node, and add a node."""

    def large(self, nodes: int) -> None:
        """Commit so many nodes at once."""

    def binary(self, number: int, data: bytes) -> None:
        """Commit one large binary."""

    def tree(self) -> Tree:
        """All that was committed."""

    def close(self) -> None:
        """Let go of it."""


def _properties(number: int) -> dict[str, object]:
    return {"number": number, "title": f"title of node {number}", "score": number / 7}


class Ours:
    """A segment store."""

    def __init__(self, directory: Path) -> None:
        self._store = repository.open_for_writing(directory / "store", create=True)

    def small(self, thread: int, number: int) -> None:
        """Commit: set a property of a node, and add a node."""
        with self._store.commit() as root:
            node = root.make(f"small/{thread}/{number % FANOUT}")
            node.properties["changed"] = number
            self._fill(node.make(f"n{number}"), number)

    @staticmethod
    def _fill(node: WritableNode, number: int) -> None:
        for name, value in _properties(number).items():
            node.properties[name] = value  # type: ignore[assignment]

    def large(self, nodes: int) -> None:
        """Commit so many nodes at once."""
        with self._store.commit() as root:
            for parent in range(-(-nodes // FANOUT)):
                above = root.make(f"large/{parent}")
                for number in range(parent * FANOUT, min(nodes, (parent + 1) * FANOUT)):
                    self._fill(above.make(f"n{number}"), number)

    def binary(self, number: int, data: bytes) -> None:
        """Commit one large binary."""
        with self._store.commit() as root:
            root.make(f"binary/{number}").properties["data"] = data

    def tree(self) -> Tree:
        """All that was committed."""
        found: Tree = {}
        with repository.open(self._store.directory) as opened:
            for node in opened.root.walk():
                values: dict[str, object] = {}
                for name, each in node.properties.items():
                    value = each.value
                    values[name] = value.read() if isinstance(value, Binary) else value
                found[tuple(node.names)] = values
        return found

    def close(self) -> None:
        """Let go of it."""
        self._store.close()


SCHEMA = """
CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER, name TEXT, UNIQUE (parent, name));
CREATE TABLE property (node INTEGER, name TEXT, value, PRIMARY KEY (node, name)) WITHOUT ROWID;
INSERT INTO node VALUES (1, 0, '');
"""


class Sqlite:
    """A data base of SQLite, with a connection for each thread."""

    def __init__(self, directory: Path, journal: str) -> None:
        self._path = directory / "sqlite.db"
        self._journal = journal
        self._own = threading.local()
        self._all: list[sqlite3.Connection] = []
        directory.mkdir()
        self._connection().executescript(SCHEMA)

    def _connection(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if known is None:
            known = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            known.execute(f"PRAGMA journal_mode={self._journal}")
            known.execute("PRAGMA synchronous=FULL")
            self._own.connection = known
            self._all.append(known)
        return known

    def _commit(self, work: Callable[[sqlite3.Connection], None]) -> None:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    @staticmethod
    def _child(connection: sqlite3.Connection, parent: int, name: str) -> int:
        row = connection.execute(
            "SELECT id FROM node WHERE parent = ? AND name = ?", (parent, name)
        ).fetchone()
        if row is not None:
            return int(row[0])
        made = connection.execute("INSERT INTO node (parent, name) VALUES (?, ?)", (parent, name))
        return int(made.lastrowid or 0)

    def _make(self, connection: sqlite3.Connection, path: str) -> int:
        node = 1
        for name in path.split("/"):
            node = self._child(connection, node, name)
        return node

    @staticmethod
    def _set(connection: sqlite3.Connection, node: int, values: dict[str, object]) -> None:
        rows = [(node, name, value) for name, value in values.items()]
        connection.executemany("INSERT OR REPLACE INTO property VALUES (?, ?, ?)", rows)

    def small(self, thread: int, number: int) -> None:
        """Commit: set a property of a node, and add a node."""

        def work(connection: sqlite3.Connection) -> None:
            node = self._make(connection, f"small/{thread}/{number % FANOUT}")
            self._set(connection, node, {"changed": number})
            self._set(connection, self._child(connection, node, f"n{number}"), _properties(number))

        self._commit(work)

    def large(self, nodes: int) -> None:
        """Commit so many nodes at once."""

        def work(connection: sqlite3.Connection) -> None:
            for parent in range(-(-nodes // FANOUT)):
                above = self._make(connection, f"large/{parent}")
                for number in range(parent * FANOUT, min(nodes, (parent + 1) * FANOUT)):
                    node = self._child(connection, above, f"n{number}")
                    self._set(connection, node, _properties(number))

        self._commit(work)

    def binary(self, number: int, data: bytes) -> None:
        """Commit one large binary."""

        def work(connection: sqlite3.Connection) -> None:
            self._set(connection, self._make(connection, f"binary/{number}"), {"data": data})

        self._commit(work)

    def tree(self) -> Tree:
        """All that was committed."""
        connection = self._connection()
        parents: dict[int, tuple[int, str]] = {}
        for node, parent, name in connection.execute("SELECT id, parent, name FROM node"):
            parents[node] = parent, name
        paths = {node: tuple(self._names(parents, node)) for node in parents}
        found: Tree = {path: {} for path in paths.values()}
        for node, name, value in connection.execute("SELECT node, name, value FROM property"):
            found[paths[node]][name] = value
        return found

    @staticmethod
    def _names(parents: dict[int, tuple[int, str]], node: int) -> list[str]:
        names: list[str] = []
        while node != 1:
            node, name = parents[node]
            names.append(name)
        return names[::-1]

    def close(self) -> None:
        """Let go of it."""
        for connection in self._all:
            connection.close()


WRITERS: dict[str, Callable[[Path], Writer]] = {
    "ours": Ours,
    "sqlite_wal": lambda directory: Sqlite(directory, "WAL"),
    "sqlite_rollback": lambda directory: Sqlite(directory, "DELETE"),
}


class Work(NamedTuple):
    """One thing that is measured."""

    name: str
    unit: str
    amount: float
    """How many of `unit` it is."""
    run: Callable[[Writer], None]


def works(plan: Plan) -> Iterator[Work]:
    """What is measured, by what was asked for."""
    commits, nodes = plan.commits, plan.commits * NODES_PER_COMMIT
    yield Work("small commits", "commits/s", commits, lambda to: _small(to, 0, commits))
    name, each = f"small commits of {THREADS} threads", -(-commits // 4)
    yield Work(name, "commits/s", THREADS * each, lambda to: _threads(to, each))
    yield Work(f"one commit of {nodes:,} nodes", "nodes/s", nodes, lambda to: to.large(nodes))
    chance = random.Random(1)  # noqa: S311 -- not for secrets
    data = [chance.randbytes(BINARY) for _ in range(BINARIES)]
    name = f"binaries of {BINARY // MIB} MiB, a commit each"
    yield Work(name, "MiB/s", BINARIES * BINARY / MIB, lambda to: _binaries(to, data))


def _small(to: Writer, thread: int, commits: int) -> None:
    for number in range(commits):
        to.small(thread, number)


def _threads(to: Writer, commits: int) -> None:
    failed: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            _small(to, thread, commits)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise BenchError(f"a thread that commits failed: {failed[0]}")


def _binaries(to: Writer, data: list[bytes]) -> None:
    for number, each in enumerate(data):
        to.binary(number, each)


def measure(plan: Plan, told: Console) -> dict[str, Any]:
    """All works with all writers, in turns."""
    rows = []
    for work in works(plan):
        rates: dict[str, list[float]] = {name: [] for name in WRITERS}
        for _ in range(plan.rounds):
            trees = []
            for name, made in WRITERS.items():
                directory = plan.home / "commits"
                rate, tree = _measured(work, made, directory)
                rates[name].append(rate)
                trees.append(tree)
            if any(tree != trees[0] for tree in trees):
                raise BenchError(f"{work.name}: not all hold the same tree afterwards")
        found = {name: statistics.median(each) for name, each in rates.items()}
        best = max(found["sqlite_wal"], found["sqlite_rollback"])
        rows.append({"work": work.name, "unit": work.unit, **found, "ratio": found["ours"] / best})
        told.print(f"commits, {work.name}: done", highlight=False)
    return {"sync_ms": 1000 * _sync_seconds(plan.home), "rows": rows}


def _measured(work: Work, made: Callable[[Path], Writer], directory: Path) -> tuple[float, Tree]:
    shutil.rmtree(directory, ignore_errors=True)
    os.sync()
    try:
        with closing(made(directory)) as writer:
            began = time.perf_counter()
            work.run(writer)
            seconds = time.perf_counter() - began
            return work.amount / seconds, writer.tree()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sync_seconds(home: Path) -> float:
    """The median of appending 4 KiB and waiting until they are on the disk."""
    path, times = home / "syncs", []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4 * KIB))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(times)


def show(found: dict[str, Any], console: Console) -> None:
    """Print what was measured."""
    console.print(HOW, "", highlight=False)
    table = report.table(
        f"commits (a sync: {found['sync_ms']:.1f} ms)",
        ("", "unit", "ours", "SQLite, WAL", "SQLite, rollback", "ratio"),
    )
    for row in found["rows"]:
        numbers = (row[name] for name in WRITERS)
        table.add_row(
            row["work"], row["unit"], *(f"{each:,.0f}" for each in numbers), f"{row['ratio']:.2f}"
        )
    console.print(table, "")
