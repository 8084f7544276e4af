"""``head``, ``segments``, ``journal``, ``digest``: what is in a store."""

from __future__ import annotations

import argparse
from itertools import islice

from tarfailover.cli import commands
from tarfailover.cli.commands import Subparsers
from tarfailover.cli.inventory import Inventory
from tarfailover.cli.opening import WITH_BLOBS, at_argument, blobs_argument, opened
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import (
    Document,
    generation_document,
    head_document,
    iso,
    many,
    record_document,
    size,
    when,
)
from tarfailover.format import journal as lines
from tarfailover.format.journal import JournalLine
from tarfailover.repository.digest import content_digest
from tarfailover.store import closure, journal
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Head, Snapshot

LINES = 20
"""Lines of the journal that are shown unless more are asked for."""


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    _declare_head(group)
    _declare_segments(group)
    _declare_journal(group)
    _declare_digest(group)


def _declare_head(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "head",
        _head,
        "Show the head: the newest state of the repository that is whole",
        description="Newer lines of the journal that cannot be the head are told with the reason.",
        examples=(
            "tarfailover head /data/repository/segmentstore",
            "tarfailover head --json DIR | jq -r .head.id",
        ),
        raises=commands.READING,
    )
    commands.store_argument(parser)


def _declare_segments(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "segments",
        _segments,
        "Count the segments by tar and by generation",
        description="'needed' are those in the closure of the head: what a copy must hold.",
        examples=(
            "tarfailover segments /data/repository/segmentstore",
            "tarfailover segments --json DIR | jq .total",
        ),
        raises=commands.READING,
    )
    commands.store_argument(parser)


def _declare_journal(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "journal",
        _journal,
        "List the heads that the journal names, the newest first",
        description="A head whose segment is gone is normal history: cleanup removed it.",
        examples=(
            "tarfailover journal /data/repository/segmentstore",
            "tarfailover journal --verify --limit 5 DIR",
        ),
        raises=commands.READING,
    )
    commands.store_argument(parser)
    parser.add_argument(
        "--limit",
        type=commands.number(0),
        default=LINES,
        metavar="N",
        help=f"how many to show, 0 for all (default {LINES})",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also tell whether all that a head needs is there",
    )


def _declare_digest(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "digest",
        _digest,
        "Compute the content digest of the head: one number for all nodes, properties, binaries",
        description="Equal digests mean equal content, whatever the segments: use it to compare a "
        "store before and after compaction. To compare a copy with its original, use compare. "
        "External binaries are part of it, so it needs their blob store.",
        examples=(
            "tarfailover digest /data/repository/segmentstore",
            "tarfailover digest --at head~1 DIR /content",
            "tarfailover digest --blob-store /data/repository/datastore DIR",
        ),
        raises=WITH_BLOBS,
    )
    commands.store_argument(parser)
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="of this node alone, instead of the checkpoints too"
    )
    at_argument(parser)
    blobs_argument(parser)


def _head(options: argparse.Namespace, output: Output) -> int:
    with Follower.open(options.store) as follower:
        head = follower.head()
    document = {"store": str(options.store), "head": head_document(head)}
    output.document({**document, "skipped": list(head.skipped)})
    output.facts(head_facts(head))
    for line in head.skipped:
        output.marked("skipped", line, "yellow")
    return 0


def head_facts(head: Head) -> list[tuple[str, str]]:
    """A head as names and values."""
    time = when(head.time_ms)
    return [
        ("head", str(head.record)),
        ("in hex", head.record.hex),
        ("generation", str(head.generation)),
        ("time", f"{time} ({head.time_ms} ms)" if head.time_ms else time),
    ]


def _segments(options: argparse.Namespace, output: Output) -> int:
    with Follower.open(options.store) as follower:
        inventory = Inventory.of(follower.snapshot)
        why = str(follower.no_head) if follower.no_head is not None else None
    output.document({"store": str(options.store), "no_head": why, **inventory.document()})
    for title, columns, rows in inventory.tables():
        output.line(title, "bold")
        output.table(columns, rows)
        output.line()
    output.line(inventory.sentence())
    if why is not None:
        output.marked("no head", why, "bold red")
    return 0


def _journal(options: argparse.Namespace, output: Output) -> int:
    path = options.store / lines.NAME
    # Measured first: what a head needs was on disk when its line was written.
    end = journal.size(path)
    with Follower.open(options.store) as follower:
        snapshot = follower.snapshot
        heads = journal.newest_first(path, end)
        shown = islice(heads, options.limit or None)
        found = [_Told(line, snapshot, verify=options.verify) for line in shown]
        more = next(heads, None) is not None
    output.document(
        {"store": str(options.store), "lines": [each.document() for each in found], "more": more}
    )
    if not found:
        output.line(f"{path} names no head")
        return 0
    columns = [Column("time"), Column("head"), Column("state")]
    output.table(columns, [each.row() for each in found])
    if more:
        output.line(f"older heads are not shown; --limit {4 * options.limit} shows more of them")
    return 0


class _Told:
    """What can be told about one line of the journal."""

    def __init__(self, line: JournalLine, snapshot: Snapshot, *, verify: bool) -> None:
        segment = line.head.segment
        self.line = line
        self.present = snapshot.contains(segment)
        self.is_head = snapshot.head is not None and line.head == snapshot.head.record
        self.generation = snapshot.entry(segment)[1].generation if self.present else None
        self.missing: int | None = None
        if verify and self.present:
            self.missing = len(closure.walk(snapshot, [segment]).missing)

    def row(self) -> tuple[str, str, str]:
        return when(self.line.time_ms), str(self.line.head), self.state()

    def state(self) -> str:
        if not self.present:
            return "gone"
        parts = [f"generation {self.generation}"]
        if self.missing is not None:
            parts.append(f"{many(self.missing, 'segment')} missing" if self.missing else "whole")
        return ", ".join(parts + ["the head"] * self.is_head)

    def document(self) -> Document:
        generation = None if self.generation is None else generation_document(self.generation)
        return {
            **record_document(self.line.head),
            "time_ms": self.line.time_ms,
            "time": iso(self.line.time_ms),
            "offset": self.line.offset,
            "present": self.present,
            "generation": generation,
            "missing": self.missing,
        }


def _digest(options: argparse.Namespace, output: Output) -> int:
    with opened(options) as (_, revision), output.busy("reading the content"):
        node = revision.super_root if options.path is None else revision.node(options.path)
        found = content_digest(node.state)
    head = revision.record
    output.document({"store": str(options.store), "head": record_document(head), **found._asdict()})
    output.facts(
        [
            ("digest", found.sha256),
            ("head", str(head)),
            ("nodes", f"{found.nodes:,}"),
            ("properties", f"{found.properties:,}"),
            ("binaries", f"{size(found.blob_bytes)} ({found.blob_bytes} bytes)"),
        ]
    )
    return 0
