"""What a file, the environment and the options give for the settings of a table.

Everything given is converted, also what a stronger source overrides: an unknown name or a
bad value is a ConfigError that names the place and the remedy.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NoReturn

from tarfailover.errors import ConfigError
from tarfailover.settings import PREFIX, Setting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from tarfailover import osgi

    Rows = Sequence[Setting]
    Given = Iterator[tuple[str, Any]]
    """Fields and their values."""


def from_file(rows: Rows, values: Mapping[str, osgi.Entry]) -> Given:
    """What the properties `values` give; raises ConfigError."""
    known = {name: row for row in rows for name in (row.osgi, *row.oak)}
    first: dict[str, str] = {}
    for name, entry in values.items():
        if name not in known:
            _unknown(f"{entry.where}: unknown property", name, known, "remove the line")
        row = known[name]
        if first.setdefault(row.field, name) != name:
            raise ConfigError(f"{entry.where}: {name} is {first[row.field]}; remove one of the two")
        yield _converted(row, entry.value, f"{entry.where}: {name}")


def from_environment(rows: Rows, environ: Mapping[str, str], passed: Collection[str]) -> Given:
    """What the variables `environ` give; those in `passed` are somebody else's."""
    known = {row.environment: row for row in rows if row.environment}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name in known:
            yield _converted(known[name], environ[name], f"environment variable {name}")
        elif name not in passed:
            _unknown("unknown environment variable", name, known, "unset it")


def from_options(rows: Rows, options: Mapping[str, str | int | None]) -> Given:
    """What the `options` give: None is one that was not given, 0 a flag that was not."""
    known = {row.option[2:]: row for row in rows if row.option}
    for name, value in options.items():
        if name == "config" or value is None:
            continue
        if name not in known:
            _unknown("unknown option", f"--{name}", [f"--{k}" for k in known], "leave it out")
        if known[name].kind == "flag" and isinstance(value, int):
            if value:
                yield known[name].field, True
        else:
            yield _converted(known[name], value, f"option --{name}")


def _converted(row: Setting, value: osgi.Value, where: str) -> tuple[str, Any]:
    try:
        return row.field, row.convert(value)
    except ValueError as error:
        shown = "the value" if row.kind == "secret" else repr(value)
        raise ConfigError(f"{where}: {shown} {error}") from error


def _unknown(what: str, name: str, known: Iterable[str], remedy: str) -> NoReturn:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(names)}."
    raise ConfigError(f"{what} {name}; {hint} Otherwise {remedy}")
