"""The hashes and the order of names that Oak's lookups depend on.

Java counts strings in UTF-16 code units, and so do both hashes and the order here.
Facts: storage format, sections 5.7 and 5.9.
"""

from __future__ import annotations

import functools

MASK = 0xFFFFFFFF

MAP_MULTIPLIER = 0xDEECE66D
MAP_ADDEND = 0xB

MAP_BITS = 5
"""Bits of a map hash that one level of a map consumes."""

MAP_LAST_LEVEL = 7
"""The level at which the bits are used up and a leaf may be of any size."""


def utf16_key(name: str) -> bytes:
    """The sort key that puts names in Java's order: UTF-16 code units, not code points."""
    return name.encode("utf-16-be", "surrogatepass")


@functools.lru_cache(maxsize=65536)
def java_hash(name: str) -> int:
    """Java's `String.hashCode` of `name`, as an unsigned 32-bit number."""
    result = 0
    if name.isascii():
        for unit in name.encode():
            result = 31 * result + unit & MASK
        return result
    units = utf16_key(name)
    for high, low in zip(units[::2], units[1::2], strict=True):
        result = 31 * result + (high << 8 | low) & MASK
    return result


def signed(value: int) -> int:
    """The unsigned 32-bit `value` read as Java's signed int."""
    return value - (value >> 31 << 32)


def property_key(name: str) -> tuple[int, bytes]:
    """The sort key of a property in a template: signed Java hash, then the name."""
    return signed(java_hash(name)), utf16_key(name)


def map_hash(name: str) -> int:
    """The hash under which a map of children keeps `name`, unsigned 32-bit."""
    return ((java_hash(name) ^ MAP_MULTIPLIER) * MAP_MULTIPLIER + MAP_ADDEND) & MASK


def map_bucket(hashed: int, level: int) -> int:
    """Which of the 32 sub-maps of a branch at `level` (0 to 6) takes the map hash `hashed`.

    At level 6 only two bits are left; Java's shift by a negative count then copies the
    sign bit, which is part of the format.
    """
    shift = 32 - MAP_BITS * (level + 1)
    if shift < 0:
        return (signed(hashed) >> (32 + shift)) & 31
    return (hashed >> shift) & 31
