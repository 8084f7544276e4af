"""What Python gives as values of properties, on the way into the store.

==========================================  ================================================
given                                       stored as
==========================================  ================================================
Name, Path, Uri, Reference, WeakReference   NAME, PATH, URI, REFERENCE, WEAKREFERENCE
str                                         STRING; jcr:primaryType, jcr:mixinTypes: NAME
bool, int, float, Decimal                   BOOLEAN, LONG (64 bits), DOUBLE, DECIMAL
datetime, with a time zone                  DATE, in milliseconds
bytes, bytearray, memoryview                BINARY
an object that has `read`                   BINARY: read to its end, in pieces, now
a Binary, a NodeProperty                    the same; bytes that this store has are shared
a list or tuple of these                    an array; all of one type
==========================================  ================================================

With an explicit type, texts of all types are taken that can be read back as this type, and
an int for DOUBLE and DECIMAL. A ContentError tells what is wrong with a value.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol, TypeAlias

from tarfailover.errors import ContentError
from tarfailover.repository.nodes import MIXIN_TYPES, PRIMARY_TYPE
from tarfailover.repository.reader import MAX_STRING, RecordReader
from tarfailover.repository.record_writer import Readable, read_fully
from tarfailover.repository.records import MAX_MIXINS, MEDIUM_LIMIT
from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import NodeProperty
from tarfailover.repository.typed import python_value
from tarfailover.repository.values import (
    ExternalBlob,
    Property,
    PropertyType,
    StoredBlob,
    Value,
)

One: TypeAlias = (
    str
    | bool
    | int
    | float
    | Decimal
    | dt.datetime
    | bytes
    | bytearray
    | memoryview
    | Readable
    | Binary
)
Settable: TypeAlias = One | NodeProperty | Sequence[One]
"""What a property can be set to."""

HELD_PROPERTY = 100
"""Bytes that a property takes in memory beside its values, about."""


class Binaries(Protocol):
    """Where binaries go that are too long to stand in a record."""

    def binary(self, source: Readable, /) -> StoredBlob | ExternalBlob:
        """Store all that `source` gives."""

    def adopt_binary(
        self, blob: StoredBlob | ExternalBlob, reader: RecordReader, /
    ) -> StoredBlob | ExternalBlob:
        """Take over a binary that `reader` reads."""


def check_name(name: object) -> None:
    """Raise ContentError unless `name` can be that of a node or of a property."""
    if not isinstance(name, str) or not name or "/" in name:
        raise ContentError(f"{name!r:.80} is no name: it needs a character, and no slash")
    if not name.isascii():
        _bytes_of(name)


def held_bytes(prop: Property) -> int:
    """Bytes that `prop` takes in memory, about."""
    sizes = (len(each) for each in prop.values if isinstance(each, (str, bytes)))
    return HELD_PROPERTY + sum(sizes)


def stored_property(
    name: str, value: Settable, kind: PropertyType | None, binaries: Binaries
) -> Property:
    """The property of `value`; long binaries are stored right away. Raises ContentError."""
    check_name(name)
    if isinstance(value, NodeProperty):
        if kind in (None, value.type):
            return _copied(value, binaries)
        value = value.value
    if kind is None and name in (PRIMARY_TYPE, MIXIN_TYPES):
        kind = PropertyType.NAME
    if kind is None and isinstance(value, (int, float)):
        return Property.of(value)
    many = isinstance(value, (list, tuple))
    given = value if isinstance(value, (list, tuple)) else [value]
    if name == MIXIN_TYPES and kind == PropertyType.NAME and len(given) > MAX_MIXINS:
        raise ContentError(f"a node cannot have more than {MAX_MIXINS} mixins")
    found = [_plain(each, kind, binaries) for each in given]
    prop = Property.of(found if many else found[0], kind)
    for each in prop.values:
        if isinstance(each, str):
            _check_text(prop.type, each)
    return prop


def _copied(prop: NodeProperty, binaries: Binaries) -> Property:
    values: list[Value] = []
    for each in prop.stored.values:
        if isinstance(each, (StoredBlob, ExternalBlob)):
            values.append(binaries.adopt_binary(each, prop.reader))
        else:
            values.append(each)
    return Property(prop.type, tuple(values), prop.array)


def _plain(
    value: object, kind: PropertyType | None, binaries: Binaries
) -> str | bool | int | float | Decimal | dt.datetime | bytes | StoredBlob | ExternalBlob:
    """`value` as `Property.of` takes it."""
    if isinstance(value, (str, bool, float, Decimal, dt.datetime)):
        return value
    if isinstance(value, int):
        converts = {PropertyType.DOUBLE: float, PropertyType.DECIMAL: Decimal}
        return converts[kind](value) if kind in converts else value
    if isinstance(value, (bytes, bytearray, memoryview)):
        held = bytes(value)
        return held if len(held) < MEDIUM_LIMIT else binaries.binary(io.BytesIO(held))
    if isinstance(value, Binary):
        if isinstance(value.blob, bytes):
            return value.blob
        return binaries.adopt_binary(value.blob, value.reader)
    if hasattr(value, "read"):
        return _streamed(value, binaries)
    raise ContentError(
        f"{value!r:.80} is nothing that a property can hold"
        + "; to remove a property, use del" * (value is None)
    )


def _streamed(source: Readable, binaries: Binaries) -> bytes | StoredBlob | ExternalBlob:
    first = source.read(MEDIUM_LIMIT)
    if not isinstance(first, bytes):
        raise ContentError(
            f"{source!r:.80} gives {type(first).__name__} and not bytes: open it in binary mode"
        )
    if first:
        first += read_fully(source.read, MEDIUM_LIMIT - len(first))
    if len(first) < MEDIUM_LIMIT:
        return first
    return binaries.binary(_Begun(first, source))


class _Begun:
    """A stream of which the beginning was read before."""

    def __init__(self, first: bytes, rest: Readable) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none only at the end."""
        if self._first:
            taken, self._first = self._first[:size], self._first[size:]
            return taken
        return self._rest.read(size)


def _check_text(kind: PropertyType, text: str) -> None:
    if (len(text) if text.isascii() else len(_bytes_of(text))) > MAX_STRING:
        raise ContentError(f"a text cannot have more than {MAX_STRING:,} bytes")
    if kind != PropertyType.STRING:
        python_value(kind, text)


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ContentError(f"{text!r:.80} has a lone surrogate: {error.reason}") from error
