"""What a look at a tar finds."""

from __future__ import annotations

from typing import NamedTuple

from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import TarName


class Damage(NamedTuple):
    """Bytes of a tar that are not what they should be."""

    tar: TarName
    offset: int
    """Of the first of them, in the file."""
    what: str
    entry: IndexEntry | None = None
    """The segment in whose entry they are; None for the trailing entries of the tar."""
    lost: bool = False
    """Whether the data of the segment is wrong, so that it must come from another copy."""

    def __str__(self) -> str:
        return f"{self.tar}, offset {self.offset}: {self.what}"


def distance(one: bytes | memoryview, other: bytes | memoryview) -> int:
    """In how many bits two texts of one length differ."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
