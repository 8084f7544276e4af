"""``diff``, ``history``, ``log``: how a repository changed from head to head."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice

from tarfailover.cli import commands
from tarfailover.cli.checkpoints import checkpoint_document, show_checkpoints
from tarfailover.cli.commands import DIFFERS, Subparsers
from tarfailover.cli.opening import (
    INSIDE,
    limit_argument,
    path_argument,
    properties_text,
    property_document,
    revision_document,
    told_value,
)
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, generation_document, iso, many, record_document, when
from tarfailover.errors import NotFoundError, SegmentMissingError
from tarfailover.format.journal import JournalLine
from tarfailover.repository import Node, Repository, Revision, paths
from tarfailover.repository import open as open_repository
from tarfailover.repository.diff import Change, diff, own_properties
from tarfailover.repository.history import Moment, Summary, history, lookup, summary
from tarfailover.repository.opened import FORMS
from tarfailover.repository.walk import ordered

HEADS = 20
"""Heads that are shown unless more are asked for."""

_EXAMPLE = "/data/repository/segmentstore"
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    _declare_diff(group)
    _declare_history(group)
    _declare_log(group)


def _declare_diff(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "diff",
        _diff,
        "Show what differs between two states of the repository",
        description="Reads only where records differ, so it takes as long as the change is large. "
        "External binaries are compared by their ids alone, which have the digest of their bytes. "
        f"A state is one of: {FORMS}.",
        examples=(
            f"tarfailover diff {_EXAMPLE} head~1",
            "tarfailover diff --path /content --all DIR 2026-11-22T19:00Z head",
            "tarfailover diff --json --limit 0 DIR head~5 head | jq '.changes[].path'",
        ),
        raises=INSIDE,
        found="the two states differ",
    )
    commands.store_argument(parser)
    parser.add_argument("old", metavar="OLD", help="a state of the repository")
    parser.add_argument("new", metavar="NEW", nargs="?", default="head", help="(default: head)")
    parser.add_argument("--path", default="/", metavar="PATH", help="compare only from here on")
    parser.add_argument(
        "--all", action="store_true", help="also list every node below an added or a removed one"
    )
    limit_argument(parser, "changes")


def _declare_history(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "history",
        _history,
        "List the heads at which a node changed, or something below it",
        description="The newest first, as far back as heads are left: cleanup removes old ones.",
        examples=(
            f"tarfailover history {_EXAMPLE} /content/page",
            "tarfailover history --properties --limit 5 DIR /content/page",
        ),
        raises=INSIDE,
    )
    commands.store_argument(parser)
    path_argument(parser, "the node (default: /)")
    parser.add_argument(
        "--properties", action="store_true", help="also show which properties of it changed"
    )
    limit_argument(parser, "changes", HEADS)


def _declare_log(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "log",
        _log,
        "List the heads that are left, with their time, and the checkpoints",
        description="The newest first; each can be given where a state of the repository is asked "
        "for. To see the lines of the journal as they are, use journal.",
        examples=(
            f"tarfailover log --changes {_EXAMPLE}",
            "tarfailover log --json DIR | jq -r '.heads[0].id'",
        ),
        raises=INSIDE,
    )
    commands.store_argument(parser)
    parser.add_argument(
        "--changes",
        action="store_true",
        help="also count what each head changed, and tell below which node",
    )
    limit_argument(parser, "heads", HEADS)


def _diff(options: argparse.Namespace, output: Output) -> int:
    with open_repository(options.store) as repository:
        sides = repository.at(options.old), repository.at(options.new)
        changes = _changes(options, *sides)
        shown = islice(changes, options.limit or None)
        if output.as_json:
            return _diff_listing(options, output, sides, changes, shown)
        found = _Printed(output, whole=options.all)
        for change in shown:
            found.show(change)
        more = next(changes, None) is not None
    if more:
        output.line(f"more changes are not shown; --limit {4 * options.limit} shows more of them")
    output.line("equal" if not found.count else many(found.count, "change"))
    return DIFFERS if found.count else 0


def _changes(options: argparse.Namespace, old: Revision, new: Revision) -> Iterator[Change]:
    names = paths.split(options.path)
    before, after = lookup(old.root, names), lookup(new.root, names)
    if before is None and after is None:
        raise NotFoundError(f"there is no {paths.join(names)} in either of both states")
    return diff(before, after)


def _diff_listing(
    options: argparse.Namespace,
    output: Output,
    sides: tuple[Revision, Revision],
    changes: Iterator[Change],
    shown: Iterator[Change],
) -> int:
    counted = [0]

    def rows() -> Iterator[Document]:
        for change in shown:
            counted[0] += 1
            yield _change_document(change)
            yield from _below(change) if options.all else ()

    old, new = map(revision_document, sides)
    output.listing(
        {"store": str(options.store), "old": old, "new": new, "path": options.path},
        "changes",
        rows(),
        lambda: {"more": next(changes, None) is not None, "same": not counted[0]},
    )
    return DIFFERS if counted[0] else 0


def _below(change: Change) -> Iterator[Document]:
    """What is below an added or removed node, for a program."""
    if change.name is None:
        for step in islice(ordered(change.node), 1, None):
            yield {"change": change.kind, "path": step.node.path, "property": None}


def _change_document(change: Change) -> Document:
    document: Document = {"change": change.kind, "path": change.node.path, "property": change.name}
    if change.name is not None:
        document["old"] = property_document(change.old) if change.old else None
        document["new"] = property_document(change.new) if change.new else None
    return document


class _Printed:
    """Changes on their way to a person: each node once, its properties below it."""

    def __init__(self, output: Output, *, whole: bool = False) -> None:
        self._output = output
        self._whole = whole
        self._node: Node | None = None
        self.count = 0

    def show(self, change: Change) -> None:
        """Print one change."""
        self.count += 1
        sign, style = _SIGNS[change.kind]
        if change.name is None:
            self._output.marked(sign, paths.shortened(change.node.path), style)
            if self._whole:
                for step in islice(ordered(change.node), 1, None):
                    self._output.marked(sign, paths.shortened(step.node.path), style)
            return
        if change.node is not self._node:
            self._node = change.node
            self._output.marked("~", paths.shortened(change.node.path), "yellow")
        self._output.marked(f"    {sign}", property_text(change), style)


def property_text(change: Change) -> str:
    """A property that differs, in one line."""
    sides = [side for side in (change.old, change.new) if side is not None]
    kinds = list(dict.fromkeys(side.kind for side in sides))
    values = " → ".join(map(told_value, sides))
    return f"{paths.escape(change.name or '')}  {' → '.join(kinds)}  {values}"


def _history(options: argparse.Namespace, output: Output) -> int:
    with open_repository(options.store) as repository:
        moments = history(repository, options.path)
        first = next(moments, None)
        if first is None:
            repository.node(options.path)  # says what is there
            return 0
        rest = _chained(first, moments)
        shown = islice(rest, options.limit or None)
        if output.as_json:
            output.listing(
                {"store": str(options.store), "path": options.path},
                "moments",
                (_moment_document(each) for each in shown),
                lambda: {"more": next(rest, None) is not None},
            )
            return 0
        for moment in shown:
            _show_moment(output, moment, properties=options.properties)
        more = next(rest, None) is not None
    if more:
        output.line(f"older changes are not shown; --limit {4 * options.limit} shows more of them")
    return 0


def _chained(first: Moment, rest: Iterator[Moment]) -> Iterator[Moment]:
    yield first
    yield from rest


def _what(moment: Moment) -> str:
    if moment.oldest:
        return "present"
    if moment.before is None:
        return "added"
    return "removed" if moment.after is None else "changed"


def _own_changes(moment: Moment) -> list[Change]:
    """The properties of the node itself that differ; what is below it is not read."""
    if moment.before is None or moment.after is None:
        return []
    return list(own_properties(moment.before, moment.after))


def _moment_document(moment: Moment) -> Document:
    return {
        **record_document(moment.line.head),
        "time_ms": moment.line.time_ms,
        "time": iso(moment.line.time_ms),
        "change": _what(moment),
        "node": None if moment.after is None else str(moment.after.record),
        "properties": [_change_document(each) for each in _own_changes(moment)],
    }


def _show_moment(output: Output, moment: Moment, *, properties: bool) -> None:
    what = _what(moment)
    told = {"present": "present, and no older head is left"}.get(what, what)
    own = _own_changes(moment)
    if what == "changed":
        told = f"changed: {properties_text(len(own))}" if own else "changed below"
    output.line(f"{when(moment.line.time_ms)}  {moment.line.head}  {told}")
    for change in own if properties else ():
        sign, style = _SIGNS[change.kind]
        output.marked(f"    {sign}", property_text(change), style)


def _log(options: argparse.Namespace, output: Output) -> int:
    with open_repository(options.store) as repository:
        heads = repository.heads()
        lines = list(islice(heads, options.limit or None))
        behind = next(heads, None)
        checkpoints = repository.checkpoints()
        told = _logged(repository, lines, behind) if options.changes else _plain(lines)
        if output.as_json:
            output.listing(
                {
                    "store": str(options.store),
                    "checkpoints": [checkpoint_document(each) for each in checkpoints],
                },
                "heads",
                (_line_document(repository, line, found) for line, found in told),
                lambda: {"more": behind is not None},
            )
            return 0
        titles = ["time", "head", "generation", *["changes"] * options.changes]
        rows = [_line_row(repository, line, found)[: len(titles)] for line, found in told]
        output.table([Column(title) for title in titles], rows)
        if behind is not None:
            output.line(
                f"older heads are not shown; --limit {4 * options.limit} shows more of them"
            )
        if checkpoints:
            output.line()
            show_checkpoints(output, checkpoints)
    return 0


_Logged = tuple[JournalLine, Summary | None]


def _plain(lines: list[JournalLine]) -> Iterator[_Logged]:
    return ((line, None) for line in lines)


def _logged(
    repository: Repository, lines: list[JournalLine], behind: JournalLine | None
) -> Iterator[_Logged]:
    """Each head with what it changed; None where the one before it cannot be read."""
    older = [*lines[1:], *([behind] if behind else [])]
    for place, line in enumerate(lines):
        found = None
        if place < len(older):
            try:
                found = summary(
                    repository.revision(older[place].head).root, repository.revision(line.head).root
                )
            except SegmentMissingError:
                found = None  # cleanup took what the older head needs
        yield line, found


def _line_row(repository: Repository, line: JournalLine, found: Summary | None) -> tuple[str, ...]:
    generation = repository.reader.generation(line.head.segment)
    return when(line.time_ms), str(line.head), str(generation), _summary_text(found)


def _summary_text(found: Summary | None) -> str:
    if found is None:
        return "unknown: no older head is left"
    counts = [("+", found.added), ("-", found.removed), ("~", found.changed)]
    told = " ".join(f"{sign}{number:,}" for sign, number in counts if number)
    return f"{told}  {paths.shortened(found.path, 200)}" if found.path else "none"


def _line_document(repository: Repository, line: JournalLine, found: Summary | None) -> Document:
    return {
        **record_document(line.head),
        "time_ms": line.time_ms,
        "time": iso(line.time_ms),
        "generation": generation_document(repository.reader.generation(line.head.segment)),
        "changes": None
        if found is None
        else {
            "added": found.added,
            "removed": found.removed,
            "changed": found.changed,
            "properties": found.properties,
            "path": found.path,
        },
    }
