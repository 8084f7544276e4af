"""``blobs missing``: the external binaries that a copy lacks, and who needs them."""

from __future__ import annotations

import argparse
from itertools import islice

from tarfailover.cli import commands
from tarfailover.cli.commands import DIFFERS, Subparsers
from tarfailover.cli.opening import limit_argument, plain
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, many
from tarfailover.errors import (
    DamagedStoreError,
    NotAStoreError,
    StoreIOError,
    UnsupportedStoreError,
)
from tarfailover.reports import moment
from tarfailover.store.blobs.missing import Missing, MissingBlobs
from tarfailover.store.directory import check_manifest

_RAISES = (NotAStoreError, UnsupportedStoreError, DamagedStoreError, StoreIOError)


def declare(actions: Subparsers) -> None:
    """Add the command of this module."""
    parser = commands.add(
        actions,
        "missing",
        _missing,
        "List the external binaries that a slave could not get from its master",
        description="Those that the copy's head lacks because the slave runs with --blobs=warn, "
        "as it noted them; it asks the master for them again every minute. The directory is "
        "that of the copy's segments.",
        examples=(
            "tarfailover blobs missing /copy/segmentstore",
            "tarfailover blobs missing --json DIR | jq -r '.missing[].paths[]'",
        ),
        raises=_RAISES,
        found="a binary is missing",
    )
    commands.store_argument(parser)
    limit_argument(parser, "binaries")


def _missing(options: argparse.Namespace, output: Output) -> int:
    check_manifest(options.store)
    listed = MissingBlobs.load(options.store).blobs
    if output.as_json:
        rows = (_document(blob, each) for blob, each in listed.items())
        output.listing({"store": str(options.store)}, "missing", rows, dict)
        return DIFFERS if listed else 0
    shown = [*islice(listed.items(), options.limit or None)]
    if shown:
        columns = [Column("binary"), Column("since"), Column("needed by"), Column("why")]
        output.table(columns, [_row(blob, each) for blob, each in shown])
    if len(listed) > len(shown):
        output.line(f"{len(listed) - len(shown):,} more are not shown; --limit 0 shows all")
    told = f"{many(len(listed), 'binary')} missing" if listed else "no binary is missing"
    output.line(told.replace("binarys", "binaries"), "bold red" if listed else "bold green")
    return DIFFERS if listed else 0


def _row(blob: str, each: Missing) -> tuple[str, str, str, str]:
    needed = "\n".join(map(plain, each.paths)) or ("no node" if each.unneeded else "not found yet")
    return plain(blob), moment(each.since) or "", needed, plain(each.why)


def _document(blob: str, each: Missing) -> Document:
    return {
        "id": blob,
        "why": each.why,
        "paths": list(each.paths),
        "needed": False if each.unneeded else True if each.paths else None,
        "since": moment(each.since),
    }
