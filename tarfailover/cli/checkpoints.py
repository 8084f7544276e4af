"""``checkpoint``: keeps states of the content for a while."""

from __future__ import annotations

import argparse
import datetime as dt

from tarfailover.cli import commands
from tarfailover.cli.commands import READING, WRITING, Subparsers
from tarfailover.cli.opening import plain
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, iso, record_document, when
from tarfailover.errors import ContentError, NotFoundError
from tarfailover.repository import Checkpoint, open_for_writing, open_repository, paths

_EXAMPLE = "/data/repository/segmentstore"


def declare(group: Subparsers) -> None:
    """Add the command of this module, with its three subcommands."""
    parser = group.add_parser(
        "checkpoint",
        help="Make, list or release checkpoints",
        description="A checkpoint keeps the content as it is now until it expires or is "
        "released, through compactions too. `tarfailover checkpoint create --help` and so on "
        "have examples.",
        epilog=commands.exit_codes((*WRITING, ContentError, NotFoundError)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _declare_create(actions)
    _declare_list(actions)
    _declare_release(actions)


def _declare_create(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "create",
        _create,
        "Keep the content as it is now, and print the name of the checkpoint",
        description="Removes checkpoints that have expired, as Oak does. The store must not be "
        "open for writing elsewhere.",
        examples=(
            f"tarfailover checkpoint create {_EXAMPLE} --lifetime 7d --info creator=ops",
            "tarfailover ls --at $(tarfailover checkpoint create --lifetime 2h DIR) DIR /",
        ),
        raises=(*WRITING, ContentError),
    )
    commands.store_argument(parser)
    parser.add_argument(
        "--lifetime",
        type=commands.duration,
        required=True,
        metavar="TIME",
        help="how long it is kept: seconds, or as 10m, 2h, 7d",
    )
    parser.add_argument(
        "--info",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="what to note with it; may be given several times",
    )


def _declare_list(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "list",
        _list,
        "List the checkpoints that the head keeps, oldest first",
        description="Those that have expired are listed until the next one is made.",
        examples=(
            f"tarfailover checkpoint list {_EXAMPLE}",
            "tarfailover checkpoint list --json DIR | jq -r '.checkpoints[].name'",
        ),
        raises=READING,
    )
    commands.store_argument(parser)


def _declare_release(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "release",
        _release,
        "Remove checkpoints, so that a compaction can let go of what they alone keep",
        description="Oak, and what indexes its content, may need checkpoints of theirs: release "
        "your own. The store must not be open for writing elsewhere.",
        examples=(
            f"tarfailover checkpoint release {_EXAMPLE} 0fe9a1a2-7bd4-4d5c-8b54-7d4d2c0d2a5b",
        ),
        raises=(*WRITING, NotFoundError),
    )
    commands.store_argument(parser)
    parser.add_argument("names", metavar="NAME", nargs="+", help="as `list` shows them")


def _pair(written: str) -> tuple[str, str]:
    name, equals, text = written.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{written!r} is not NAME=TEXT")
    return name, text


def _create(options: argparse.Namespace, output: Output) -> int:
    with open_for_writing(options.store) as store:
        name = store.checkpoint(dt.timedelta(seconds=options.lifetime), dict(options.info))
        [made] = [each for each in store.checkpoints() if each.name == name]
        output.document({"store": str(options.store), "checkpoint": checkpoint_document(made)})
    output.line(name)
    return 0


def _list(options: argparse.Namespace, output: Output) -> int:
    with open_repository(options.store) as repository:
        found = repository.checkpoints()
        documents = [checkpoint_document(each) for each in found]
        output.document({"store": str(options.store), "checkpoints": documents})
        show_checkpoints(output, found)
    return 0


def _release(options: argparse.Namespace, output: Output) -> int:
    with open_for_writing(options.store) as store:
        for name in options.names:
            store.release(name)
        documents = [checkpoint_document(each) for each in store.checkpoints()]
        output.document({"store": str(options.store), "checkpoints": documents})
        output.line(f"released; {len(documents)} left")
    return 0


def checkpoint_document(checkpoint: Checkpoint) -> Document:
    """One checkpoint."""
    return {
        "name": checkpoint.name,
        **record_document(checkpoint.node.record),
        "created_ms": checkpoint.created_ms,
        "created": iso(checkpoint.created_ms),
        "expires_ms": checkpoint.expires_ms,
        "expires": iso(checkpoint.expires_ms),
        "info": checkpoint.info,
    }


def show_checkpoints(output: Output, checkpoints: list[Checkpoint]) -> None:
    """A table of checkpoints."""
    columns = [Column(title) for title in ("checkpoint", "created", "expires", "info")]
    rows = [
        (
            paths.escape(each.name),
            when(each.created_ms),
            when(each.expires_ms),
            plain(", ".join(f"{name}={value}" for name, value in sorted(each.info.items()))),
        )
        for each in checkpoints
    ]
    output.table(columns, rows)
