"""``blobs list``, ``blobs gc``: the external binaries of a repository."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tarfailover.cli import commands, missing
from tarfailover.cli.commands import DIFFERS, Subparsers
from tarfailover.cli.opening import (
    at_argument,
    blob_store,
    kind_argument,
    limit_argument,
    opened,
    plain,
    revision_document,
)
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, many, size
from tarfailover.errors import (
    BlobMissingError,
    ContentError,
    FormatError,
    NotFoundError,
    SegmentMissingError,
    StoreLockedError,
)
from tarfailover.ids import RecordId
from tarfailover.repository.holders import holders
from tarfailover.store.blobs import BlobStore, Stored
from tarfailover.store.blobs.collect import Collection, registered
from tarfailover.store.blobs.needed import needed
from tarfailover.store.snapshot import Snapshot

DAY = 86400
"""Seconds for which a file that nothing mentions is kept, as Oak does."""

_EXAMPLE = "/copy/segmentstore --blob-store /copy/datastore"
_LOOKING = (*commands.READING, SegmentMissingError, NotFoundError)


def declare(group: Subparsers) -> None:
    """Add the command of this module, with its subcommands."""
    parser = group.add_parser(
        "blobs",
        help="Look at external binaries, or remove those that nobody needs",
        description="Binaries in a FileDataStore or FileBlobStore. `tarfailover blobs gc "
        "--help` and the others have examples.",
        epilog=commands.exit_codes(commands.READING),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _declare_list(actions)
    missing.declare(actions)
    _declare_gc(actions)


def _declare_list(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "list",
        _list,
        "List the external binaries that the head needs, and whether they are there",
        description="Those that the segments of the head mention, checkpoints included. "
        "They are looked for by name and size; `tarfailover check --deep` reads them.",
        examples=(
            f"tarfailover blobs list {_EXAMPLE}",
            f"tarfailover blobs list --missing {_EXAMPLE}",
            "tarfailover blobs list --json DIR --blob-store DIR | jq -r .binaries[].id",
        ),
        raises=_LOOKING,
        found="a binary is missing",
    )
    commands.store_argument(parser)
    _directory(parser)
    at_argument(parser)
    limit_argument(parser, "binaries")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="only those that are not there, with the paths that need them: reads all nodes",
    )


def _declare_gc(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "gc",
        _gc,
        "Remove the external binaries that no segment of the store mentions",
        description="What any segment mentions stays: all that the heads of the journal and "
        "their checkpoints need, and what a slave has pulled for a head to come. So first let "
        "older generations be cleaned up. A slave may go on meanwhile. A store in which an Oak "
        "instance has registered itself is refused: it collects by itself.",
        examples=(
            f"tarfailover blobs gc --dry-run {_EXAMPLE}",
            "tarfailover blobs gc DIR --also OTHER_DIR --blob-store DIR",
        ),
        raises=(*_LOOKING, ContentError, BlobMissingError, StoreLockedError),
    )
    commands.store_argument(parser)
    _directory(parser)
    parser.add_argument(
        "--also",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="another segment store that uses the same blob store; can be given many times",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be removed: changes nothing"
    )
    parser.add_argument(
        "--min-age",
        type=commands.number(0),
        default=DAY,
        metavar="SECONDS",
        help="keep what was written, or written again, so short a time ago: a commit that is "
        f"being written may need it (default {DAY}, a day)",
    )


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blob-store", metavar="DIR", type=Path, required=True, help="where the binaries are"
    )
    kind_argument(parser)


class _Needed:
    """The binaries of a head, each once, and what became of them."""

    def __init__(self, store: BlobStore, snapshot: Snapshot, head: RecordId) -> None:
        self._store = store
        self._snapshot = snapshot
        self._head = head
        self.count = self.bytes = self.missing = 0

    def __iter__(self) -> Iterator[Document]:
        seen: set[bytes] = set()
        for mention in needed(self._snapshot, [self._head.segment]):
            if mention.blob not in seen:
                seen.add(mention.blob)
                yield self._told(mention.blob)

    def _told(self, raw: bytes) -> Document:
        self.count += 1
        # As a node has it, so that it is found there.
        shown = raw.decode("utf-8", "replace")
        try:
            blob = self._store.parse(raw)
        except FormatError as error:
            self.missing += 1
            return {"id": shown, "length": None, "present": False, "why": error.what}
        present = self._store.has(blob)
        self.missing += not present
        length = self._store.length(blob) if present else blob.length
        self.bytes += length or 0
        why = None if present else "it, or a part of it, is not there with its size"
        return {"id": shown, "length": length, "present": present, "why": why}

    def with_paths(self) -> Iterator[Document]:
        """Those that are missing, and the properties that hold them: some of many."""
        missing = [each for each in self if not each["present"]]
        if not missing:
            return
        found = holders(self._snapshot, self._head, [each["id"] for each in missing], lambda: True)
        for each in missing:
            yield {**each, "paths": found.paths.get(each["id"], [])}

    def totals(self) -> Document:
        """What is known when all were looked at."""
        return {"count": self.count, "bytes": self.bytes, "missing": self.missing}


def _list(options: argparse.Namespace, output: Output) -> int:
    store = blob_store(options)
    assert store is not None  # noqa: S101 - the parser demands it
    with opened(options) as (repository, revision):
        found = _Needed(store, repository.snapshot, revision.record)
        rows = found.with_paths() if options.missing else iter(found)
        if output.as_json:
            output.listing(
                {
                    "store": str(options.store),
                    "blob_store": str(store.path),
                    "kind": store.layout.kind,
                    "head": revision_document(revision),
                },
                "binaries",
                rows,
                found.totals,
            )
        else:
            _tell_list(options, output, found, rows)
    return DIFFERS if found.missing else 0


def _tell_list(
    options: argparse.Namespace, output: Output, found: _Needed, rows: Iterator[Document]
) -> None:
    shown = list(islice(rows, options.limit or None))
    rest = sum(1 for _ in rows)
    if shown:
        last = Column("needed by" if options.missing else "state")
        columns = [Column("binary"), Column("length", right=True), last]
        output.table(columns, [_row(each) for each in shown])
    if rest:
        output.line(f"{rest:,} more are not shown; --limit 0 shows all {rest + len(shown):,}")
    told = f"{found.count:,} binar{'y' if found.count == 1 else 'ies'}, {size(found.bytes)}"
    missing = f"{found.missing:,} of them missing" if found.missing else "all of them there"
    output.line(f"{told}, {missing}", "bold red" if found.missing else "bold green")


def _row(told: Document) -> tuple[str, str, str]:
    length = "" if told["length"] is None else size(told["length"])
    if "paths" in told:
        return plain(told["id"]), length, "\n".join(map(plain, told["paths"])) or "no node"
    return plain(told["id"]), length, "there" if told["present"] else f"MISSING: {told['why']}"


def _gc(options: argparse.Namespace, output: Output) -> int:
    store = blob_store(options)
    assert store is not None  # noqa: S101 - the parser demands it
    directories = [options.store, *options.also]
    began = time.time_ns()
    with Collection(store, directories, began_ns=began, margin_s=options.min_age) as collection:
        with output.busy("looking up what is needed"):
            collection.mark()
        swept = collection.sweep(dry_run=options.dry_run)
        if output.as_json:
            output.listing(
                {
                    "stores": [str(each) for each in directories],
                    "blob_store": str(store.path),
                    "kind": store.layout.kind,
                    "dry_run": options.dry_run,
                    "min_age": options.min_age,
                    "registered": registered(store),
                },
                "removed_files",
                map(_file_document, swept),
                lambda: vars(collection.collected),
            )
            return 0
        with output.busy("removing" if not options.dry_run else "looking at all files"):
            for _ in swept:
                pass
    found = collection.collected
    if options.dry_run and registered(store):
        output.marked("NOTE", "an Oak instance has registered here: it collects by itself", "")
    verb = "would remove" if options.dry_run else "removed"
    young = f"{many(found.young, 'file')} too young" if found.young else ""
    output.facts(
        [
            ("looked at", f"{many(found.files, 'file')}, {size(found.bytes)}"),
            ("needed", many(found.needed, "file")),
            *([("kept", young)] if young else []),
            (verb, f"{many(found.removed, 'file')}, {size(found.removed_bytes)}"),
        ]
    )
    return 0


def _file_document(stored: Stored) -> Document:
    return {"digest": stored.digest, "path": str(stored.path), "bytes": stored.size}
