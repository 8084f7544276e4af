"""``check`` and ``compare``: whether a store is whole, and whether two are equal."""

from __future__ import annotations

import argparse
import time

from tarfailover.cli import commands, deep
from tarfailover.cli.commands import CHECKING, DEEP, DIFFERS, READING, Subparsers
from tarfailover.cli.output import Output
from tarfailover.cli.reading import head_facts
from tarfailover.cli.wording import Document, head_document, many, size
from tarfailover.ids import text
from tarfailover.store.check import StoreCheck
from tarfailover.store.compare import Difference, StoreComparison
from tarfailover.store.finding import FAULT, Checked, Finding
from tarfailover.store.follower import Follower

_STYLES = {FAULT: "bold red", "note": "yellow"}


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    parser = commands.add(
        group,
        "check",
        _check,
        "Check every byte of a store",
        description="Headers, checksums, padding, tables, indexes, graphs, binary references, "
        "order, journal, and whether all that the head needs is there. Goes on after a fault and "
        "names each with file, offset and remedy. Notes are normal: traces of a crash, of a "
        "cleanup, of a living writer. With --deep, the content instead: every node, property, "
        "binary and map of children that the head reaches, and on damage what is lost and which "
        "older head is whole. External binaries are read with --blob-store, else only counted.",
        examples=(
            "tarfailover check /data/repository/segmentstore",
            "tarfailover check --json DIR | jq '.findings[] | select(.severity == \"fault\")'",
            "tarfailover check --deep --max-duration 10m --resume /var/tmp/deep DIR",
        ),
        raises=(*CHECKING, *DEEP),
        found={
            DIFFERS: "a fault was found",
            deep.UNFINISHED: "--max-duration was over before the end; no fault until then",
        },
    )
    commands.store_argument(parser)
    deep.arguments(parser)
    parser = commands.add(
        group,
        "compare",
        _compare,
        "Compare two stores: same head, same segments behind it, same bytes",
        description="Only the closure of the heads counts: what else lies in the tars, and how "
        "they are cut, may differ. Every segment is verified on both sides.",
        examples=(
            "tarfailover compare /data/repository/segmentstore /copy/segmentstore",
            "tarfailover compare --json A B | jq .same",
        ),
        raises=READING,
        found="the stores differ",
    )
    commands.store_argument(parser, "left")
    commands.store_argument(parser, "right")


def _check(options: argparse.Namespace, output: Output) -> int:
    if options.deep:
        return deep.run(options, output)
    deep.refuse_without_deep(options)
    findings: list[Document] = []
    started = time.monotonic()
    with output.progress("checking") as progress:
        check = StoreCheck(options.store, progress)
        for finding in check.run():
            if output.as_json:
                findings.append(finding._asdict())
            else:
                _tell(output, finding)
    checked = check.checked
    seconds = time.monotonic() - started
    output.document(_checked_document(options, checked, findings))
    output.facts(_summary(checked, seconds))
    good = not checked.faults
    verdict = "no fault" if good else many(checked.faults, "fault")
    verdict += f", {many(checked.notes, 'note')}" if checked.notes else ""
    output.line(verdict, "bold green" if good else "bold red")
    return 0 if good else DIFFERS


def _tell(output: Output, finding: Finding) -> None:
    place = finding.file if finding.offset is None else f"{finding.file}, offset {finding.offset}"
    mark = finding.severity.upper() if finding.severity == FAULT else finding.severity
    output.marked(f"{mark:<5}", f"{place}: {finding.what}", _STYLES[finding.severity])
    if finding.remedy and finding.severity == FAULT:
        output.marked("     ", f"remedy: {finding.remedy}", "")


def _summary(checked: Checked, seconds: float) -> list[tuple[str, str]]:
    speed = f", {size(checked.bytes / seconds)}/s" if seconds >= 1 else ""
    looked = f"{many(checked.segments, 'segment')} in {many(checked.tars, 'tar')}"
    facts = [("checked", f"{looked}, {size(checked.bytes)} in {seconds:.1f} s{speed}")]
    if checked.head is None:
        return [*facts, ("head", "none that can be used")]
    older = checked.head.record != checked.newest
    closure = f"{many(checked.closure_segments, 'segment')} of {size(checked.closure_bytes)}"
    facts += [fact for fact in head_facts(checked.head) if fact[0] != "in hex"]
    if older:
        facts.append(("", "an older head: that of the newest line of the journal cannot be used"))
    return [*facts, ("it needs", closure)]


def _checked_document(
    options: argparse.Namespace, checked: Checked, findings: list[Document]
) -> Document:
    return {
        "store": str(options.store),
        "head": head_document(checked.head) if checked.head else None,
        "newest": str(checked.newest) if checked.newest else None,
        "tars": checked.tars,
        "segments": checked.segments,
        "bytes": checked.bytes,
        "closure": {"segments": checked.closure_segments, "bytes": checked.closure_bytes},
        "faults": checked.faults,
        "notes": checked.notes,
        "findings": findings,
    }


def _compare(options: argparse.Namespace, output: Output) -> int:
    found: list[Document] = []
    with Follower.open(options.left) as left, Follower.open(options.right) as right:
        left.head()
        right.head()
        comparison = StoreComparison(left.snapshot, right.snapshot)
        with output.progress("comparing") as progress:
            for difference in comparison.run(progress):
                if output.as_json:
                    found.append(_difference_document(difference))
                else:
                    output.marked("DIFFERS", difference.what, "bold red")
    same = not comparison.differences
    one, other = comparison.heads
    output.document(
        {
            "left": str(options.left),
            "right": str(options.right),
            "same": same,
            "heads": [head_document(one), head_document(other)],
            "segments": comparison.segments,
            "bytes": comparison.bytes,
            "differences": found,
        }
    )
    output.facts(
        [
            ("left", f"{one.record}  {options.left}"),
            ("right", f"{other.record}  {options.right}"),
            ("compared", f"{many(comparison.segments, 'segment')} of {size(comparison.bytes)}"),
        ]
    )
    verdict = "equal" if same else f"not equal: {many(comparison.differences, 'difference')}"
    output.line(verdict, "bold green" if same else "bold red")
    return 0 if same else DIFFERS


def _difference_document(difference: Difference) -> Document:
    segment = None if difference.segment is None else text(difference.segment)
    return {**difference._asdict(), "segment": segment}
