"""``export``, ``import``, ``du``: trees out of a repository, into one, and how large they are."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tarfailover.cli import commands
from tarfailover.cli.commands import WRITING, Subparsers
from tarfailover.cli.opening import (
    WITH_BLOBS,
    at_argument,
    blobs_argument,
    context_document,
    count,
    opened,
    outside,
    outside_arguments,
    path_argument,
    properties_text,
)
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, many, record_document, size
from tarfailover.errors import BlobMissingError, ContentError, NotFoundError
from tarfailover.repository import Node, paths
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.exporting import export
from tarfailover.repository.importing import import_tree
from tarfailover.repository.usage import Usage, usage
from tarfailover.repository.walk import sorted_children
from tarfailover.store.writer import StoreWriter

_EXAMPLE = "/data/repository/segmentstore"


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    _declare_export(group)
    _declare_import(group)
    _declare_du(group)


def _declare_export(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "export",
        _export,
        "Print a tree with its binaries as lines of JSON",
        description="A line for each node, before those of its children, lines of base64 behind it "
        "for its binaries, and a last line with counts and digest: a file that lacks it was cut "
        "off. Equal trees give equal lines. Binaries in an external blob store are named only, "
        "unless it is at hand.",
        examples=(
            f"tarfailover export {_EXAMPLE} /content/site > site.json",
            "tarfailover export --at head~5 DIR /content | gzip > content.json.gz",
            "tarfailover export --blob-store /data/datastore DIR /content > content.json",
            "tarfailover export DIR / | jq -c 'select(.depth == 2) | .name'",
        ),
        raises=WITH_BLOBS,
    )
    commands.store_argument(parser)
    path_argument(parser)
    at_argument(parser)
    blobs_argument(parser)
    parser.add_argument(
        "--by-id",
        action="store_true",
        help="name external binaries only, even if their blob store is at hand",
    )


def _declare_import(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "import",
        _import,
        "Store a tree that export printed, in one commit",
        description="Reads from the standard input. Nothing changes unless the whole tree came and "
        "is what its last line says. A binary that it only names must be in the blob store. "
        "The store must not be open elsewhere, and should be nobody's "
        "copy: a slave's store that is written to has diverged.",
        examples=(
            f"tarfailover import {_EXAMPLE} /content/site < site.json",
            "tarfailover import --create /tmp/new / < content.json",
        ),
        raises=(*WRITING, ContentError, NotFoundError, BlobMissingError),
    )
    parser.add_argument("store", metavar="DIR", type=Path, help="a store that nobody writes")
    parser.add_argument("path", metavar="PATH", help="where; the node above must be there")
    parser.add_argument(
        "--input", metavar="FILE", type=Path, help="read FILE instead of the standard input"
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace the node at PATH, with all below it"
    )
    parser.add_argument(
        "--create", action="store_true", help="make a new store if DIR is missing or empty"
    )
    outside_arguments(parser)


def _declare_du(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "du",
        _du,
        "Count what lies below a node, child by child, the largest first",
        description="Nodes, properties, bytes of texts and of binaries, by path: what several "
        "paths share counts at each of them. No byte of a binary is read; "
        "a blob store is only asked for lengths that ids do not tell.",
        examples=(
            f"tarfailover du {_EXAMPLE} /content",
            "tarfailover du --json DIR / | jq .total.binary_bytes",
        ),
        raises=WITH_BLOBS,
    )
    commands.store_argument(parser)
    path_argument(parser)
    at_argument(parser)
    blobs_argument(parser)


def _export(options: argparse.Namespace, output: Output) -> int:
    output.as_json = False  # what it prints is JSON anyway; an error is told on stderr alone
    with opened(options) as (_, revision):
        for line in export(revision, revision.node(options.path), by_id=options.by_id):
            sys.stdout.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
    return 0


def _import(options: argparse.Namespace, output: Output) -> int:
    place = outside(options)
    with (
        _input(options.input) as lines,
        # Without a head, if an import into a new store was refused before.
        StoreWriter.open(options.store, create=options.create, headless=options.create) as sink,
        output.busy("storing"),
        RepositoryWriter(sink, os.urandom, wid="import", now=_now_ms, outside=place) as writer,
    ):
        found = import_tree(writer, lines, options.path, replace=options.replace)
    output.document(
        {
            "store": str(options.store),
            "head": record_document(found.head),
            "path": found.path,
            **found.digest._asdict(),
        }
    )
    nodes, properties = many(found.digest.nodes, "node"), properties_text(found.digest.properties)
    output.facts(
        [
            ("head", str(found.head)),
            ("stored", f"{nodes}, {properties}, {size(found.digest.blob_bytes)} of binaries"),
            ("below", paths.shortened(found.path)),
            ("digest", found.digest.sha256),
        ]
    )
    return 0


@contextmanager
def _input(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _now_ms() -> int:
    return int(time.time() * 1000)


def _du(options: argparse.Namespace, output: Output) -> int:
    with opened(options) as (_, revision), output.busy("counting"):
        node = revision.node(options.path)
        total = usage(node, below=False)
        own = Usage(**vars(total))
        children = []
        for name, record in sorted_children(node):
            child = node.below(name, record)
            counted = usage(child)
            children.append((child, counted))
            total.add(counted)
        children.sort(key=lambda each: -each[1].bytes)
        context = context_document(options, revision, node)
    output.document(
        {
            **context,
            "total": vars(total),
            "own": vars(own),
            "children": [_usage_document(child, counted) for child, counted in children],
        }
    )
    columns = [Column("path")]
    columns += [
        Column(title, right=True)
        for title in ("nodes", "properties", "texts", "binaries", "external", "bytes")
    ]
    rows = [(_path(child), *_cells(counted)) for child, counted in children]
    output.table(columns, [*rows, (f"{_path(node)} (total)", *_cells(total))])
    return 0


def _path(node: Node) -> str:
    return paths.shortened(node.path, 200)


def _usage_document(node: Node, counted: Usage) -> Document:
    return {"name": node.name, "path": node.path, **vars(counted)}


def _cells(counted: Usage) -> tuple[str, ...]:
    return (
        count(counted.nodes),
        count(counted.properties),
        size(counted.text_bytes),
        size(counted.binary_bytes),
        count(counted.external),
        size(counted.external_bytes) if counted.external else "",
    )
