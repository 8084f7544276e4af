"""What all commands inside a repository share: a state of it, a path, how values are told."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.wording import Document, iso, record_document, size
from tarfailover.errors import BlobMissingError, ContentError, NotFoundError, SegmentMissingError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.repository import Node, NodeProperty, Repository, Revision, paths
from tarfailover.repository import open as open_repository
from tarfailover.repository.opened import FORMS
from tarfailover.repository.record_writer import Outside
from tarfailover.repository.records import MEDIUM_LIMIT
from tarfailover.repository.values import ExternalBlob, StoredBlob, Value
from tarfailover.store.blobs import KINDS, BlobStore, open_blob_store

INSIDE = (*commands.READING, SegmentMissingError, ContentError, NotFoundError)
"""What a command that reads inside a repository can end with."""
WITH_BLOBS = (*INSIDE, BlobMissingError)
"""The same, for one that reads external binaries."""

PATH_HELP = "where to begin, such as /content/page (default: /)"
ROWS = 1000
"""Lines that are shown unless more are asked for."""
TEXT_SHOWN = 120
"""Characters of a value that a person is shown."""
VALUES_SHOWN = 8
"""Values of an array that a person is shown."""


def at_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--at``."""
    parser.add_argument("--at", metavar="WHEN", help=f"another state than the head: {FORMS}")


def path_argument(parser: argparse.ArgumentParser, meaning: str = PATH_HELP) -> None:
    """Declare the path of a node, by default the top."""
    parser.add_argument("path", metavar="PATH", nargs="?", default="/", help=meaning)


def limit_argument(parser: argparse.ArgumentParser, what: str, default: int = ROWS) -> None:
    """Declare ``--limit``."""
    parser.add_argument(
        "--limit",
        type=commands.number(0),
        default=default,
        metavar="N",
        help=f"how many {what} to show, 0 for all (default {default})",
    )


def blobs_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--blob-store`` and ``--blob-store-kind``."""
    parser.add_argument(
        "--blob-store",
        type=Path,
        metavar="DIR",
        help="where external binaries are: a FileDataStore or a FileBlobStore",
    )
    kind_argument(parser)


def kind_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--blob-store-kind``."""
    parser.add_argument(
        "--blob-store-kind",
        choices=KINDS,
        default="auto",
        help="file: Jackrabbit's FileDataStore; blocks: Oak's FileBlobStore (default: seen by "
        "its files)",
    )


def blob_store(options: argparse.Namespace, *, create: bool = False) -> BlobStore | None:
    """The blob store of a command; None if it is not told, or not known to the command."""
    directory = getattr(options, "blob_store", None)
    if directory is None:
        return None
    return open_blob_store(directory, options.blob_store_kind, create=create)


def outside_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where large binaries are stored."""
    parser.add_argument(
        "--blob-store",
        type=Path,
        metavar="DIR",
        help="store large binaries there: a FileDataStore or a FileBlobStore",
    )
    kind_argument(parser)
    parser.add_argument(
        "--blob-store-from",
        type=commands.number(0),
        default=MEDIUM_LIMIT,
        metavar="BYTES",
        help=f"how large, from {MEDIUM_LIMIT} (default, as Oak) to {MAX_SEGMENT} bytes",
    )


def outside(options: argparse.Namespace) -> Outside | None:
    """Where a command stores large binaries; None for segments."""
    store = blob_store(options, create=True)
    return None if store is None else Outside(store, os.urandom, options.blob_store_from)


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[tuple[Repository, Revision]]:
    """The repository of a command, and the state of it that ``--at`` names."""
    with open_repository(options.store, blob_store(options)) as repository:
        yield repository, repository.at(options.at)


def revision_document(revision: Revision) -> Document:
    """A state of the repository."""
    return {
        **record_document(revision.record),
        "time_ms": revision.time_ms,
        "time": iso(revision.time_ms),
        "checkpoint": revision.name or None,
    }


def context_document(options: argparse.Namespace, revision: Revision, node: Node) -> Document:
    """What every document about a node begins with."""
    return {
        "store": str(options.store),
        "head": revision_document(revision),
        "path": node.path,
    }


def primary_type(node: Node) -> str:
    """The node's primary type, empty if it has none."""
    return node.state.template.primary or ""


def node_document(node: Node) -> Document:
    """One node in a list."""
    return {
        "name": node.name,
        "path": node.path,
        "type": primary_type(node) or None,
        "children": len(node.children),
        "properties": len(node.properties),
        "record": str(node.record),
    }


def property_document(found: NodeProperty) -> Document:
    """A property with its values: text, or what is known of a binary without its bytes."""
    told = [_value_document(each) for each in found.stored.values]
    return {
        "type": found.type.name,
        "array": found.array,
        **({"values": told} if found.array else {"value": told[0]}),
    }


def _value_document(value: Value) -> str | Document:
    if isinstance(value, StoredBlob):
        return {"length": value.length}
    if isinstance(value, ExternalBlob):
        return {"external": value.blob_id}
    return str(value)


def told_value(found: NodeProperty) -> str:
    """The values of a property in one line for a person."""
    values = found.stored.values
    shown = [one_line(each) for each in values[:VALUES_SHOWN]]
    if not found.array:
        return shown[0]
    more = f", … ({len(values):,} values)" if len(values) > VALUES_SHOWN else ""
    return f"[{', '.join(shown)}{more}]"


def one_line(value: Value) -> str:
    """A value in one line: escaped, shortened, a binary only by its size."""
    if isinstance(value, StoredBlob):
        return f"<{size(value.length)}>"
    if isinstance(value, ExternalBlob):
        return f"<external {plain(value.blob_id)}>"
    return plain(str(value))


def plain(written: str) -> str:
    """`written` without what would move a terminal's cursor, and not too long."""
    cut = written[:TEXT_SHOWN]
    safe = "".join(each if each in "/\\" else paths.escape(each) for each in cut)
    rest = f"… ({len(written):,} characters)" if len(written) > TEXT_SHOWN else ""
    return safe + rest


def count(number: int) -> str:
    """A number in a table; nothing for 0, so that the others are seen."""
    return f"{number:,}" if number else ""


def properties_text(number: int) -> str:
    """A count of properties in words."""
    return f"{number:,} propert{'y' if number == 1 else 'ies'}"
