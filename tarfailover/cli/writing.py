"""``sample``: writes a repository to try things on."""

from __future__ import annotations

import argparse
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.commands import WRITING, Subparsers
from tarfailover.cli.opening import outside, outside_arguments
from tarfailover.cli.output import Output
from tarfailover.cli.wording import many, record_document
from tarfailover.errors import ConfigError
from tarfailover.repository.sample import write_sample
from tarfailover.repository.sample_content import SAMPLE_DAY
from tarfailover.store.writer import StoreWriter

NODES = 1000
BINARY_KIB = 64
COMMITS = 3


def declare(group: Subparsers) -> None:
    """Add the command of this module."""
    parser = commands.add(
        group,
        "sample",
        _sample,
        "Write a sample repository",
        description="Nodes with properties of every type, strings and binaries of every length, in "
        "commits that share structure. The same numbers and seed into a new directory give the "
        "same bytes.",
        examples=(
            "tarfailover sample /tmp/sample --nodes 20000 --binary-kib 512 --commits 3",
            "tarfailover sample /tmp/sample --append --nodes 100 --commits 1",
            "tarfailover sample /tmp/sample --blob-store /tmp/blobs --blob-store-kind file",
        ),
        raises=WRITING,
    )
    parser.add_argument("store", metavar="DIR", type=Path, help="missing, empty, or --append")
    _number(parser, "--nodes", NODES, "how many nodes to add")
    _number(parser, "--binary-kib", BINARY_KIB, "size of the binary that every 20th node carries")
    _number(parser, "--commits", COMMITS, "over how many commits to spread them", minimum=1)
    _number(parser, "--seed", 0, "what to make the content from")
    outside_arguments(parser)
    parser.add_argument(
        "--append", action="store_true", help="add to the store that is in the directory"
    )


def _number(
    parser: argparse.ArgumentParser, name: str, default: int, meaning: str, minimum: int = 0
) -> None:
    parser.add_argument(
        name,
        type=commands.number(minimum),
        default=default,
        metavar="N",
        help=f"{meaning} (default {default})",
    )


def _sample(options: argparse.Namespace, output: Output) -> int:
    directory: Path = options.store
    if not options.append and directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty: name a new directory, or add to its store with --append"
        )
    # A fixed time in the headers too: the same seed gives the same bytes.
    with (
        StoreWriter.open(
            directory, create=not options.append, clock=SAMPLE_DAY.timestamp
        ) as writer,
        output.progress("writing", "nodes") as progress,
    ):
        result = write_sample(
            writer,
            nodes=options.nodes,
            binary_kib=options.binary_kib,
            commits=options.commits,
            seed=options.seed,
            progress=lambda done: progress(done, options.nodes),
            outside=outside(options),
        )
    output.document(
        {
            "store": str(directory),
            "head": record_document(result.head),
            "run": result.run,
            "nodes": result.nodes,
            "commits": result.commits,
            "seed": options.seed,
        }
    )
    output.facts(
        [
            ("store", str(directory)),
            ("head", str(result.head)),
            ("added", f"{many(result.nodes, 'node')} in {many(result.commits, 'commit')}"),
            ("below", f"/content/sample/{result.run}"),
        ]
    )
    return 0
