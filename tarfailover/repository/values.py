"""Property values as callers give and get them, and their text forms on disk.

Everything except binaries is stored as text; the text of a number is what Java
prints. Facts: storage format, section 5.7.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from tarfailover.errors import ContentError
from tarfailover.ids import RecordId

MAX_LONG = 2**63


class PropertyType(enum.IntEnum):
    """The twelve types of a property; the numbers are the tags in templates."""

    STRING = 1
    BINARY = 2
    LONG = 3
    DOUBLE = 4
    DATE = 5
    BOOLEAN = 6
    NAME = 7
    PATH = 8
    REFERENCE = 9
    WEAKREFERENCE = 10
    URI = 11
    DECIMAL = 12


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A binary of `length` bytes that the store's own segments hold under `record`."""

    record: RecordId
    length: int


@dataclass(frozen=True, slots=True)
class ExternalBlob:
    """A binary of which the store holds only `blob_id`, its name in a blob store."""

    record: RecordId
    blob_id: str


class Name(str):
    """A str that is to be stored as NAME, such as the name of a node type."""

    __slots__ = ()


class Path(str):
    """A str that is to be stored as PATH."""

    __slots__ = ()


class Uri(str):
    """A str that is to be stored as URI."""

    __slots__ = ()


class Reference(str):
    """A str that is to be stored as REFERENCE: the `jcr:uuid` of a node."""

    __slots__ = ()


class WeakReference(str):
    """A str that is to be stored as WEAKREFERENCE: the `jcr:uuid` of a node, or of none."""

    __slots__ = ()


Value: TypeAlias = str | bytes | StoredBlob | ExternalBlob
"""One value: the text of a non-binary, or a binary (bytes until it is stored)."""

Scalar: TypeAlias = str | bool | int | float | Decimal | dt.datetime | bytes
"""What `Property.of` takes for one value, besides stored and external binaries."""


@dataclass(frozen=True, slots=True)
class Property:
    """The type and the values of one property; one value unless `array`."""

    type: PropertyType
    values: tuple[Value, ...]
    array: bool = False

    def __post_init__(self) -> None:
        if not self.array and len(self.values) != 1:
            raise ContentError(f"a property that is no array has one value, not {len(self.values)}")
        wanted = (bytes, StoredBlob, ExternalBlob) if self.type == PropertyType.BINARY else (str,)
        for value in self.values:
            if not isinstance(value, wanted):
                raise ContentError(f"{value!r:.80} is no value of type {self.type.name}")

    @property
    def tag(self) -> int:
        """The type as in a template: negated for an array."""
        return -self.type if self.array else self.type

    @classmethod
    def of(
        cls,
        value: Scalar | StoredBlob | ExternalBlob | Sequence[Scalar | StoredBlob | ExternalBlob],
        kind: PropertyType | None = None,
    ) -> Property:
        """The property of `value`, an array for a list or tuple; raises ContentError.

        Without `kind` it follows from the first value: Name NAME, Path PATH and so on,
        other str STRING, bool BOOLEAN, int LONG, float DOUBLE, Decimal DECIMAL, datetime
        DATE, binaries BINARY; an empty array is STRING.
        """
        if isinstance(value, (list, tuple)):
            chosen = kind or (_type_of(value[0]) if value else PropertyType.STRING)
            return cls(chosen, tuple(_convert(each, chosen) for each in value), True)
        chosen = kind or _type_of(value)
        return cls(chosen, (_convert(value, chosen),))

    @classmethod
    def name(cls, value: str) -> Property:
        """The single NAME `value`, as jcr:primaryType has it."""
        return cls(PropertyType.NAME, (value,))

    @classmethod
    def names(cls, values: Sequence[str]) -> Property:
        """The NAME array `values`, as jcr:mixinTypes has it."""
        return cls(PropertyType.NAME, tuple(values), True)


_INFERRED: tuple[tuple[type | tuple[type, ...], PropertyType], ...] = (
    (Name, PropertyType.NAME),
    (Path, PropertyType.PATH),
    (Uri, PropertyType.URI),
    (Reference, PropertyType.REFERENCE),
    (WeakReference, PropertyType.WEAKREFERENCE),
    (str, PropertyType.STRING),
    (bool, PropertyType.BOOLEAN),
    (int, PropertyType.LONG),
    (float, PropertyType.DOUBLE),
    (Decimal, PropertyType.DECIMAL),
    (dt.datetime, PropertyType.DATE),
    ((bytes, StoredBlob, ExternalBlob), PropertyType.BINARY),
)


_EXACT: dict[type, PropertyType] = {
    str: PropertyType.STRING,
    bool: PropertyType.BOOLEAN,
    int: PropertyType.LONG,
    float: PropertyType.DOUBLE,
    bytes: PropertyType.BINARY,
}
"""The most frequent of them, found at once."""


def _type_of(value: object) -> PropertyType:
    exact = _EXACT.get(type(value))
    if exact is not None:
        return exact
    for python_type, property_type in _INFERRED:
        if isinstance(value, python_type):
            return property_type
    raise ContentError(f"{value!r:.80} is nothing that a property can hold")


def _convert(value: object, property_type: PropertyType) -> Value:
    if isinstance(value, (str, bytes, StoredBlob, ExternalBlob)):
        return value
    if isinstance(value, bool):
        natural, written = PropertyType.BOOLEAN, "true" if value else "false"
    elif isinstance(value, int):
        natural, written = PropertyType.LONG, long_text(value)
    elif isinstance(value, float):
        natural, written = PropertyType.DOUBLE, double_text(value)
    elif isinstance(value, Decimal):
        natural, written = PropertyType.DECIMAL, decimal_text(value)
    elif isinstance(value, dt.datetime):
        natural, written = PropertyType.DATE, date_text(value)
    else:
        raise ContentError(f"{value!r:.80} is nothing that a property can hold")
    if natural != property_type:
        raise ContentError(f"{value!r:.80} is of type {natural.name}, not {property_type.name}")
    return written


def long_text(value: int) -> str:
    """`value` as a LONG; raises ContentError if it does not fit 64 bits."""
    if not -MAX_LONG <= value < MAX_LONG:
        raise ContentError(f"{value} does not fit a LONG (64 bits)")
    return str(value)


def double_text(value: float) -> str:
    """`value` as Java's `Double.toString` prints it, for instance ``1.0E10``.

    Java before 19 prints some numbers with a digit more; they read back as the same number.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0:
        return sign + "0.0"
    if 1e-3 <= abs(value) < 1e7:
        plain = format(Decimal(repr(abs(value))), "f")
        return sign + (plain if "." in plain else plain + ".0")
    number = Decimal(repr(abs(value))).normalize()
    if len(number.as_tuple().digits) == 1:
        # Java wants two digits, the nearest ones: 4.9E-324, where one digit says 5E-324.
        number = Decimal(f"{abs(value):.1e}").normalize()
    mantissa = "".join(map(str, number.as_tuple().digits))
    return f"{sign}{mantissa[0]}.{mantissa[1:] or '0'}E{number.adjusted()}"


def decimal_text(value: Decimal) -> str:
    """`value` as Java's `BigDecimal.toString` prints it; raises ContentError if not finite."""
    if not value.is_finite():
        raise ContentError(f"{value} is no finite DECIMAL")
    return str(abs(value) if value.is_zero() else value)


def date_text(value: dt.datetime) -> str:
    """`value` in ISO 8601 with milliseconds; raises ContentError without a time zone."""
    if value.utcoffset() is None:
        raise ContentError(f"{value.isoformat()} has no time zone; a DATE needs one")
    written = value.isoformat(timespec="milliseconds")
    return written[:-6] + "Z" if written.endswith("+00:00") else written
