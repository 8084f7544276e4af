"""A setting: what one field of a configuration is called, means and accepts.

A configuration is a frozen dataclass: `setting`, `seconds` and `flag` declare its
fields, `table` reads them back. All names follow from the field's: ``master_host`` is
the option ``--master-host``, the property ``master.host`` of a ``.config`` file and
the environment variable ``TARFAILOVER_MASTER_HOST``.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tarfailover.access.ranges import Ranges, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tarfailover.osgi import Value

PREFIX = "TARFAILOVER_"
"""How the names of our environment variables begin."""

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY = 86400.0

Kind = Literal[
    "mode",
    "text",
    "path",
    "whole",
    "bytes",
    "seconds",
    "flag",
    "secret",
    "pattern",
    "list",
    "ranges",
    "compression",
    "choice",
    "rate",
]


class Secret(str):
    """A text that no message and no `repr` shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'" if self else "''"


NO_SECRET = Secret("")


@dataclass(frozen=True)
class Setting:
    """One setting: names, type, default, bounds and words.

    `default` is `dataclasses.MISSING` if the setting must be given. The bounds of a
    text are those of its length. `short` is the one-letter option or None. `oak` are the
    names that Oak has for it in a file, the first of which is then ours there too.
    """

    field: str
    kind: Kind
    default: object
    lowest: float
    highest: float
    doc: str
    short: str | None
    oak: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    """The values of a choice."""

    @property
    def option(self) -> str:
        """The command line option; '' for `mode`, which the program itself decides."""
        return "" if self.kind == "mode" else "--" + self.field.replace("_", "-")

    @property
    def osgi(self) -> str:
        """The property in a ``.config`` file."""
        return self.oak[0] if self.oak else self.field.replace("_", ".")

    @property
    def environment(self) -> str:
        """The environment variable; '' for `mode`."""
        return "" if self.kind == "mode" else PREFIX + self.field.upper()

    @property
    def unit(self) -> str:
        """The unit of the number: ``s``, ``bytes`` or ''."""
        return {"seconds": "s", "bytes": "bytes", "rate": "bytes/s"}.get(self.kind, "")

    @property
    def required(self) -> bool:
        """Whether the setting has no default and must be given."""
        return self.default is dataclasses.MISSING

    @property
    def help(self) -> str:
        """The words of --help, with unit and default."""
        if self.kind == "flag":
            return self.doc
        return f"{self.doc} [{'required' if self.required else f'default: {self._shown()}'}]"

    def convert(self, value: Value) -> Any:
        """Return `value` as the type of the field; raises ValueError, told with the bounds.

        `value` is typed, as from a file, or text, as from the environment or an option.
        """
        return _CONVERT[self.kind](self, value)

    def _shown(self) -> str:
        if isinstance(self.default, float):
            return f"{self.default:g} s"
        if self.kind == "bytes" and isinstance(self.default, int):
            return f"{self.default // MIB} MiB" if self.default >= MIB else f"{self.default} bytes"
        return str(self.default) or "empty"


def described(
    kind: Kind,
    doc: str,
    bounds: tuple[float, float] = (0, 0),
    short: str | None = None,
    oak: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """Return the metadata of a field; `bounds` are the lowest and the highest value."""
    named = {"kind": kind, "doc": doc, "bounds": bounds}
    return {**named, "short": short, "oak": oak, "choices": choices}


def setting(
    kind: Kind,
    default: object,
    doc: str,
    bounds: tuple[float, float] = (0, 0),
    short: str | None = None,
    oak: tuple[str, ...] = (),
) -> Any:
    """Declare a field of a configuration that has a default."""
    return dataclasses.field(default=default, metadata=described(kind, doc, bounds, short, oak))


def seconds(
    default: float, doc: str, bounds: tuple[float, float] = (0.1, DAY), short: str | None = None
) -> Any:
    """Declare a field that is a time in seconds."""
    return setting("seconds", default, doc, bounds, short)


def choice(choices: tuple[str, ...], doc: str) -> Any:
    """Declare a field that is one of `choices`, the first by default."""
    return dataclasses.field(default=choices[0], metadata=described("choice", doc, choices=choices))


def flag(doc: str) -> Any:
    """Declare a field that is off unless it is asked for."""
    return setting("flag", False, doc)


def table(configuration: type) -> tuple[Setting, ...]:
    """Return the settings of the dataclass `configuration`, in the order of its fields.

    A field that is declared by none of the functions here is none: others imply it.
    """
    return tuple(
        Setting(
            field=field.name,
            kind=field.metadata["kind"],
            default=field.default,
            lowest=field.metadata["bounds"][0],
            highest=field.metadata["bounds"][1],
            doc=field.metadata["doc"],
            short=field.metadata["short"],
            oak=field.metadata.get("oak", ()),
            choices=field.metadata.get("choices", ()),
        )
        for field in dataclasses.fields(configuration)
        if field.metadata
    )


_WHOLE = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_SIZE = re.compile(r"([0-9]{1,20}) ?(KiB|MiB|GiB)?")
_FACTOR = {None: 1, "KiB": 1024, "MiB": MIB, "GiB": GIB}
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_LATER_NAMES = {"primary": "master", "standby": "slave"}


def _mode(row: Setting, value: Value) -> str:
    expected = str(row.default)
    later = _LATER_NAMES.get(str(value), value)
    if later == expected:
        return str(value)
    if later in _LATER_NAMES.values():
        raise ValueError(
            f"is the other side; this is the {expected}: name a file with "
            f'mode="{expected}", or start the other program'
        )
    raise ValueError(f'is no mode; write mode="{expected}"')


def _text(row: Setting, value: Value) -> str:
    low, high = int(row.lowest), int(row.highest)
    if not isinstance(value, str) or not value.isprintable() or not low <= len(value) <= high:
        raise ValueError(f"is not a text of {low} to {high} printable characters")
    return value


def _path(_row: Setting, value: Value) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("is not a path; name a directory")
    return Path(value)


def _whole(row: Setting, value: Value) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    return _whole_within(row, value, f"a whole number {_bounds(row)}")


def _bytes(row: Setting, value: Value) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        value = int(match[1]) * _FACTOR[match[2]]
    what = f"a number of bytes {_bounds(row)}; KiB, MiB or GiB may follow it"
    return _whole_within(row, value, what)


def _rate(row: Setting, value: Value) -> int:
    if value == "0" or (type(value) is int and not value):
        return 0
    try:
        return _bytes(row, value)
    except ValueError as error:
        raise ValueError(f"{error}; 0 means no limit") from error


def _compression(_row: Setting, value: Value) -> str:
    if value in ("auto", "zstd", "none"):
        return str(value)
    raise ValueError("is no compression; write auto, zstd or none")


def _choice(row: Setting, value: Value) -> str:
    if value in row.choices:
        return str(value)
    raise ValueError(f"is not one of {', '.join(row.choices)}")


def _whole_within(row: Setting, value: Value, what: str) -> int:
    if type(value) is int and row.lowest <= value <= row.highest:
        return value
    raise ValueError(f"is not {what}")


def _seconds(row: Setting, value: Value) -> float:
    what = f"is not a number of seconds {_bounds(row)}"
    if isinstance(value, float):
        what += f'; F and D mean raw bits in Felix, write {row.osgi}="0.5"'
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        value = float("nan")
    if row.lowest <= value <= row.highest:
        return float(value)
    raise ValueError(what)


def _flag(_row: Setting, value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _TRUE + _FALSE:
        raise ValueError("is neither true nor false")
    return value.lower() in _TRUE


def _secret(row: Setting, value: Value) -> Secret:
    return Secret(_text(row, value))


def _pattern(row: Setting, value: Value) -> str:
    """A regular expression; those of Java and of Python mean the same, or are refused."""
    text = _text(row, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # [a&&b] is another thing in Java
            re.compile(text)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression that can be used here: {error}") from error
    return text


def _list(row: Setting, value: Value) -> str:
    """Entries with commas between them, from such a text or from an array of texts."""
    parts = value if isinstance(value, tuple) else (value,)
    texts = [part for part in parts if isinstance(part, str) and part.isprintable()]
    found = entries(",".join(texts))
    if len(texts) < len(parts) or len(found) > row.highest:
        most = int(row.highest)
        raise ValueError(f"is not a list of at most {most} texts, with commas between them")
    return ",".join(found)


def _ranges(row: Setting, value: Value) -> str:
    found = _list(row, value)
    Ranges.parse(found)
    return found


def _bounds(row: Setting) -> str:
    return f"from {row.lowest:.15g} to {row.highest:.15g}"


_CONVERT: dict[Kind, Callable[[Setting, Value], Any]] = {
    "mode": _mode,
    "text": _text,
    "path": _path,
    "whole": _whole,
    "bytes": _bytes,
    "seconds": _seconds,
    "flag": _flag,
    "secret": _secret,
    "pattern": _pattern,
    "list": _list,
    "ranges": _ranges,
    "compression": _compression,
    "choice": _choice,
    "rate": _rate,
}
