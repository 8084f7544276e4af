"""``cleanup``: removes what a store needs no more."""

from __future__ import annotations

import argparse
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.commands import WRITING, Subparsers
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, error_document, generation_document, many, size
from tarfailover.errors import DamagedStoreError
from tarfailover.ids import Generation
from tarfailover.store import state
from tarfailover.store.cleanup.marks import OAK, Marks, Rule, Share, shares
from tarfailover.store.cleanup.run import Cleanup, Report
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.writer import StoreWriter


def declare(group: Subparsers) -> None:
    """Add the command of this module."""
    parser = commands.add(
        group,
        "cleanup",
        _cleanup,
        "Remove the segments of older generations",
        description="What Oak's own cleanup would remove after a compaction, and nothing that the "
        "head needs. A tar of which less than three quarters are kept is written anew, which takes "
        "space for one tar at a time. The store must not be open elsewhere; readers may go on. A "
        "running slave does this by itself.",
        examples=(
            "tarfailover cleanup --dry-run /data/repository/segmentstore",
            "tarfailover cleanup --retain 1 /copy/segmentstore",
        ),
        raises=WRITING,
    )
    commands.store_argument(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only say what would be removed: takes no lock and changes nothing",
    )
    parser.add_argument(
        "--retain",
        type=commands.number(1),
        default=OAK.retained,
        metavar="N",
        help="generations to keep, the head's among them "
        f"(default {OAK.retained}, as Oak; 1 keeps what the last compaction kept)",
    )


def _cleanup(options: argparse.Namespace, output: Output) -> int:
    directory: Path = options.store
    # What a slave has pulled for a head to come is of use to it.
    rule = OAK._replace(retained=options.retain, ahead=(directory / state.NAME).exists())
    with Follower.open(directory) as follower:
        _refuse_doubt(directory, follower)
        if options.dry_run:
            return _tell_plan(directory, follower.snapshot, rule, output)
    with StoreWriter.open(directory) as writer, output.busy("cleaning up"):
        report = _run(Cleanup(writer, rule))
    _tell(directory, rule, report, output)
    return report.failures[0].exit_code if report.failures else 0


def _refuse_doubt(directory: Path, follower: Follower) -> None:
    """Raise NoHeadError without a head, DamagedStoreError if it is not the newest one."""
    head = follower.head()
    if head.skipped:
        raise DamagedStoreError(
            f"{directory}: the newest head of the journal cannot be used ({head.skipped[0]}); a "
            "cleanup could remove what would mend it: restore what is missing first, or take "
            "that line out of journal.log"
        )


def _run(cleanup: Cleanup) -> Report:
    try:
        while cleanup.step():
            pass
    finally:
        cleanup.close()
    return cleanup.report


def _tell_plan(directory: Path, snapshot: Snapshot, rule: Rule, output: Output) -> int:
    marks = Marks(snapshot, rule)
    chosen = [share for share in shares(snapshot, marks) if share.empty or share.sparse]
    freed = [_freed(share, snapshot) for share in chosen]
    generation = marks.head.generation
    output.document(
        {
            **_document(directory, rule, generation, dry_run=True),
            "tars_removed": sum(share.empty for share in chosen),
            "tars_rewritten": sum(share.sparse for share in chosen),
            "segments": sum(share.dropped for share in chosen),
            "freed": sum(freed),
            "tars": [
                {
                    "name": str(share.name),
                    "action": _action(share),
                    "segments": share.segments,
                    "dropped": share.dropped,
                    "freed": each,
                }
                for share, each in zip(chosen, freed, strict=True)
            ],
        }
    )
    columns = [Column("tar"), Column("would be"), Column("segments", True), Column("gone", True)]
    rows = [
        (str(s.name), _action(s), str(s.segments), str(s.dropped), size(each))
        for s, each in zip(chosen, freed, strict=True)
    ]
    if rows:
        output.table([*columns, Column("free", True)], rows)
    output.facts([("head", f"generation {generation}, {_retained(rule)}"),
                  ("would free", size(sum(freed)))])  # fmt: skip
    return 0


def _freed(share: Share, snapshot: Snapshot) -> int:
    """Bytes that the file system gets back, about: the entries at a tar's end shrink too."""
    return snapshot.tars.readers[share.tar].size() if share.empty else share.dropped_size


def _action(share: Share) -> str:
    return "removed" if share.empty else "rewritten"


def _retained(rule: Rule) -> str:
    return f"{many(rule.retained, 'generation')} kept"


def _document(directory: Path, rule: Rule, generation: Generation, *, dry_run: bool) -> Document:
    return {
        "store": str(directory),
        "dry_run": dry_run,
        "generation": generation_document(generation),
        "retained": rule.retained,
    }


def _tell(directory: Path, rule: Rule, report: Report, output: Output) -> None:
    output.document(
        {
            **_document(directory, rule, report.generation, dry_run=False),
            "tars_removed": report.tars_removed,
            "tars_rewritten": report.tars_rewritten,
            "segments": report.segments,
            "freed": report.freed,
            "failures": [error_document(each) for each in report.failures],
        }
    )
    for each in report.failures:
        output.marked("LEFT", str(each), "bold red")
    output.facts(
        [
            ("head", f"generation {report.generation}, {_retained(rule)}"),
            ("tars", f"{report.tars_removed} removed, {report.tars_rewritten} rewritten"),
            ("gone", many(report.segments, "segment")),
            ("freed", size(report.freed)),
        ]
    )
