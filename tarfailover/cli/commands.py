"""How a command is declared: its name, its help with examples, its exit codes."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tarfailover import errors
from tarfailover.cli.output import Output

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What `add_subparsers` returns; it has no public name, and no type arguments at run time."""


class CommandParser(argparse.ArgumentParser):
    """Of one command, whose options may stand anywhere, also between its arguments.

    The standard library's takes an optional argument for left out as soon as an option follows.
    """

    _mixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `argparse.ArgumentParser.parse_known_args`."""
        has_actions = any(each.nargs == argparse.PARSER for each in self._actions)
        if self._mixed or has_actions:
            return super().parse_known_args(args, namespace)
        self._mixed = True  # what is called now calls this once more
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixed = False


Run = Callable[[argparse.Namespace, Output], int]
"""Does a command and returns its exit code."""

DIFFERS = 1
"""The command worked, and found a fault or a difference."""
INTERRUPTED = 130
BROKEN_PIPE = 141

_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_STORE = (
    errors.NotAStoreError,
    errors.UnsupportedStoreError,
    errors.DamagedStoreError,
    errors.StoreIOError,
)
READING = (errors.FormatError, *_STORE, errors.NoHeadError)
CHECKING = (errors.NotAStoreError, errors.UnsupportedStoreError, errors.StoreIOError)
WRITING = (*READING, errors.StoreLockedError, errors.SegmentMissingError)

DEEP = (errors.NoHeadError, errors.NotFoundError)
"""What ``check --deep`` can end with beside that: it begins at a head."""

Errors = Sequence[type[errors.TarFailoverError]]


def add(
    commands: Subparsers,
    name: str,
    run: Run,
    summary: str,
    *,
    description: str,
    examples: Sequence[str],
    raises: Errors,
    found: str | Mapping[int, str] = "",
) -> argparse.ArgumentParser:
    """Declare the command `name`.

    `found` says what exit code 1 means, if it can be, or what all codes of its own do.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary}. {description}", 79),
        epilog=f"{_examples(examples)}\n\n{exit_codes(raises, found)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of text"
    )
    parser.set_defaults(run=run)
    return parser


def store_argument(parser: argparse.ArgumentParser, name: str = "store") -> None:
    """Declare the argument that names a directory."""
    parser.add_argument(
        name, metavar="DIR", type=Path, help="a segmentstore directory, in use or not"
    )


def number(minimum: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least `minimum`."""

    def parse(written: str) -> int:
        if not written.isdecimal() or int(written) < minimum:
            raise argparse.ArgumentTypeError(f"{written!r} is no number from {minimum} on")
        return int(written)

    return parse


def duration(written: str) -> int:
    """The type of an argument that is a time: seconds, or as 10m, 2h, 7d."""
    match = _DURATION.fullmatch(written)
    if match is None:
        raise argparse.ArgumentTypeError(f"{written!r} is no duration such as 600, 10m, 2h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _examples(examples: Sequence[str]) -> str:
    return "examples:\n" + "\n".join(f"  {each}" for each in examples)


def exit_codes(raises: Errors, found: str | Mapping[int, str] = "") -> str:
    """The exit codes of a command, one a line."""
    rows = [(0, "all is well")]
    own = {DIFFERS: found} if isinstance(found, str) else found
    own = {**own, errors.ConfigError.exit_code: "the command line is wrong"}
    rows += sorted((code, means) for code, means in own.items() if means)
    rows += sorted((each.exit_code, _sentence(each)) for each in set(raises))
    rows += [(INTERRUPTED, "interrupted by the keyboard")]
    return "exit codes:\n" + "\n".join(f"  {code:>3}  {means}" for code, means in rows)


def _sentence(error: type[errors.TarFailoverError]) -> str:
    """The first sentence of an error's docstring, as part of a list."""
    first = (error.__doc__ or error.__name__).split("\n")[0].rstrip(".")
    return first[0].lower() + first[1:]
