"""The program: parses the command line, runs one command, turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tarfailover import __version__
from tarfailover.cli import (
    asking,
    blobs,
    browsing,
    certs,
    changes,
    checkpoints,
    cleaning,
    compacting,
    moving,
    reading,
    repairing,
    verifying,
    writing,
)
from tarfailover.cli.commands import BROKEN_PIPE, INTERRUPTED, WRITING, CommandParser, exit_codes
from tarfailover.cli.output import Output
from tarfailover.cli.wording import error_document
from tarfailover.errors import (
    BlobMissingError,
    ContentError,
    NotFoundError,
    StoreIOError,
    TarFailoverError,
)

_DESCRIPTION = """\
Looks at segment stores (Apache Jackrabbit Oak, TarMK), checks and compares them.

Reading commands work on a directory in use: they take no lock and write nothing.
Master and slave are run by twistd: see `twistd tarfailover-master --help` and
`twistd tarfailover-slave --help`."""


_GROUPS = (
    reading,
    browsing,
    changes,
    verifying,
    repairing,
    moving,
    writing,
    cleaning,
    compacting,
    checkpoints,
    blobs,
    certs,
    asking,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. `arguments` default to those of the process."""
    options = parser().parse_args(arguments)
    output = Output(as_json=options.json)
    try:
        code = int(options.run(options, output))
        # Here rather than at exit, where a reader who has gone would be told of as an error.
        sys.stdout.flush()
    except TarFailoverError as error:
        return _failed(output, error)
    except KeyboardInterrupt:
        print("tarfailover: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        told = StoreIOError(f"{where}{error.strerror or error}; check path and rights")
        return _failed(output, told)
    return code


def _failed(output: Output, error: TarFailoverError) -> int:
    """Tell why the command ended; the exit code says what kind of failure it was."""
    output.document({"error": error_document(error)})
    print(f"tarfailover: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="tarfailover",
        description=_DESCRIPTION,
        epilog=exit_codes(
            (*WRITING, BlobMissingError, ContentError, NotFoundError),
            "check found a fault, or compare or diff a difference",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tarfailover {__version__}")
    commands = top.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for group in _GROUPS:
        group.declare(commands)
    return top
