"""``compact``: writes the head of a store anew, and removes what that makes needless."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.commands import WRITING, Subparsers
from tarfailover.cli.output import Output
from tarfailover.cli.wording import (
    error_document,
    generation_document,
    many,
    record_document,
    size,
)
from tarfailover.errors import ConfigError
from tarfailover.repository.collecting import Collected, collect
from tarfailover.store import state
from tarfailover.store.cleanup.marks import OAK
from tarfailover.store.writer import StoreWriter


def declare(group: Subparsers) -> None:
    """Add the command of this module."""
    parser = commands.add(
        group,
        "compact",
        _compact,
        "Write the head anew in a new generation, and clean up",
        description="Copies all that the head and its checkpoints hold into new segments, those "
        "of large binaries excepted, makes that the head, and removes what older generations "
        "leave. The content stays the same. With --tail only what came after the last "
        "compaction is copied, which is quicker, takes less space, and gives less back; full "
        "ones are still needed now and then. The store must not be open for writing elsewhere; "
        "readers and a master that serves it may go on. It takes space for the new segments, "
        "before older ones are removed.",
        examples=(
            "tarfailover compact /data/repository/segmentstore",
            "tarfailover compact --tail /data/repository/segmentstore",
            "tarfailover compact --retain 1 DIR",
        ),
        raises=WRITING,
    )
    commands.store_argument(parser)
    parser.add_argument(
        "--tail",
        action="store_true",
        help="share what the last compaction left; a full one is done if there was none",
    )
    parser.add_argument(
        "--retain",
        type=commands.number(1),
        default=OAK.retained,
        metavar="N",
        help="generations to keep, the new one among them "
        f"(default {OAK.retained}, as Oak beside its readers; 1 gives all space back)",
    )


def _compact(options: argparse.Namespace, output: Output) -> int:
    directory: Path = options.store
    if (directory / state.NAME).exists():
        raise ConfigError(
            f"{directory} is a slave's copy, which follows its master's compactions: compact the "
            f"master's store; of a copy that follows nobody any more remove {state.NAME} first"
        )
    with StoreWriter.open(directory) as writer, output.progress("compacting", "nodes") as progress:
        found = collect(
            writer,
            os.urandom,
            now=_now,
            tail=options.tail,
            retained=options.retain,
            progress=lambda done: progress(done, done),
        )
    _tell(directory, found, output)
    return found.report.failures[0].exit_code if found.report.failures else 0


def _now() -> int:
    return int(time.time() * 1000)


def _tell(directory: Path, found: Collected, output: Output) -> None:
    compacted, why_full, report, before, after = found
    output.document(
        {
            "store": str(directory),
            "head": record_document(compacted.head),
            "generation": generation_document(compacted.generation),
            "nodes": compacted.nodes,
            "why_full": why_full or None,
            "bytes_before": before,
            "bytes_after": after,
            "freed": report.freed,
            "failures": [error_document(each) for each in report.failures],
        }
    )
    for each in report.failures:
        output.marked("LEFT", str(each), "bold red")
    output.facts(
        [
            ("head", str(compacted.head)),
            ("generation", str(compacted.generation)),
            ("copied", many(compacted.nodes, "node")),
            *([("full", why_full)] if why_full else []),
            ("size", f"{size(before)} before, {size(after)} after"),
        ]
    )
