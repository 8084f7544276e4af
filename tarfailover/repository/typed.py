"""Property values as Python has them.

===============  ===========================  ==============================================
type             Python                       from the text
===============  ===========================  ==============================================
STRING           str                          as it is
NAME, PATH, URI  Name, Path, Uri              as it is; each is a str
REFERENCE        Reference, a str             as it is
WEAKREFERENCE    WeakReference, a str         as it is
LONG             int                          decimal, 64 bits
DOUBLE           float                        as Java prints it; NaN and Infinity too
DECIMAL          decimal.Decimal              as Java prints it
BOOLEAN          bool                         ``true`` in any case is True, all else False
DATE             datetime.datetime, aware     ISO 8601 with milliseconds and offset
BINARY           Binary                       (not text)
===============  ===========================  ==============================================

Facts: storage format, section 5.7.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal

from tarfailover.errors import ContentError
from tarfailover.repository.values import (
    MAX_LONG,
    Name,
    Path,
    PropertyType,
    Reference,
    Uri,
    WeakReference,
)

_LONG = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,10})?")
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
SHOWN = 60
"""Characters of a wrong text that its error shows."""


def python_value(kind: PropertyType, text: str) -> str | int | float | bool | Decimal | dt.datetime:
    """The value that `text` of type `kind` stands for.

    Raises ContentError for a text that is none of its type, and for a DATE before the
    year 1 or after 9999, which Python's datetime does not have.
    """
    convert = _CONVERTERS.get(kind)
    if convert is None:
        return text
    try:
        return convert(text)
    except (ValueError, ArithmeticError) as error:
        raise ContentError(
            f"{text[:SHOWN]!r} is no {kind.name} that Python can hold; its text can be read"
        ) from error


def _long(text: str) -> int:
    value = int(_matched(_LONG, text)[0])
    if not -MAX_LONG <= value < MAX_LONG:
        raise ValueError(text)
    return value


def _double(text: str) -> float:
    special = _SPECIAL.get(text)
    return float(_matched(_NUMBER, text)[0]) if special is None else special


_SPECIAL = {each: float(each) for each in ("NaN", "Infinity", "+Infinity", "-Infinity")}


def _decimal(text: str) -> Decimal:
    return Decimal(_matched(_NUMBER, text)[0])


def _boolean(text: str) -> bool:
    return text.lower() == "true"


def _date(text: str) -> dt.datetime:
    match = _matched(_DATE, text)
    *numbers, millis = map(int, match.groups()[:7])
    offset = dt.timedelta()
    if match[8]:
        offset = dt.timedelta(hours=int(match[9]), minutes=int(match[10]))
    zone = dt.timezone(-offset if match[8] == "-" else offset)
    year, month, day, hour, minute, second = numbers
    return dt.datetime(year, month, day, hour, minute, second, millis * 1000, zone)


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match


_CONVERTERS: dict[
    PropertyType, Callable[[str], str | int | float | bool | Decimal | dt.datetime]
] = {
    PropertyType.NAME: Name,
    PropertyType.PATH: Path,
    PropertyType.URI: Uri,
    PropertyType.REFERENCE: Reference,
    PropertyType.WEAKREFERENCE: WeakReference,
    PropertyType.LONG: _long,
    PropertyType.DOUBLE: _double,
    PropertyType.DECIMAL: _decimal,
    PropertyType.BOOLEAN: _boolean,
    PropertyType.DATE: _date,
}
