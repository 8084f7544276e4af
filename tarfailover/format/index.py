"""The index of a tar: where each segment lies, versions 1 and 2.

Facts: storage format, section 3.1. Entries are sorted by id as two signed 64-bit
numbers; Oak looks up by interpolation and rejects any other order. Parsed and built
as numpy arrays: a store of a million segments is opened in a second or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tarfailover.errors import FormatError
from tarfailover.format import trailer
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE, MAX_TAR
from tarfailover.ids import Generation, SegmentId

SMALLEST_TAR = 3072
"""No tar with an index is shorter: one segment, three trailing entries, the end."""

Array = npt.NDArray[Any]

_V1 = np.dtype([("msb", ">i8"), ("lsb", ">i8"), ("position", ">u4"), ("length", ">u4"),
                ("generation", ">u4")])  # fmt: skip
_V2 = np.dtype([*_V1.descr, ("full", ">u4"), ("compacted", "u1")])
_LEGACY_WIDTH = 24
_BY_MAGIC = {trailer.INDEX_V1: _V1, trailer.INDEX_V2: _V2}


class IndexEntry(NamedTuple):
    """One segment of a tar."""

    segment: SegmentId
    position: int
    """Of the first data byte, behind the header."""
    length: int
    """Bytes, without padding."""
    generation: Generation


class Index(NamedTuple):
    """A parsed index: a structured array in index order, and where the index begins."""

    entries: Array
    """Fields msb, lsb, position, length, generation, and in version 2 full, compacted."""
    start: int
    """Offset in the file of the index entry's header: where the graph ends."""

    @property
    def version(self) -> int:
        """1 or 2."""
        return 2 if "full" in (self.entries.dtype.names or ()) else 1


def encode(entries: Sequence[IndexEntry]) -> bytes:
    """The data of the ``.idx`` entry, version 2, of at least one segment."""
    table = np.empty(len(entries), _V2)
    keys = np.frombuffer(b"".join(e.segment for e in entries), [("msb", ">i8"), ("lsb", ">i8")])
    table["msb"], table["lsb"] = keys["msb"], keys["lsb"]
    table["position"] = [e.position for e in entries]
    table["length"] = [e.length for e in entries]
    table["generation"] = [e.generation.generation for e in entries]
    table["full"] = [e.generation.full for e in entries]
    table["compacted"] = [e.generation.compacted for e in entries]
    ordered = table[np.lexsort((table["lsb"], table["msb"]))]
    return trailer.encode(ordered.tobytes(), len(entries), trailer.INDEX_V2, padded_size=True)


def tail_size(data: bytes | memoryview, length: int) -> int:
    """How many bytes at the end of a tar of `length` bytes hold the index and the end blocks.

    `data` is the end of the file, at least 1040 bytes of it. Raises FormatError if the
    file has no index.
    """
    _, size = _footer(data, length)
    return size + len(END_OF_ARCHIVE)


def parse(data: bytes | memoryview, length: int) -> Index:
    """The index of a tar of `length` bytes; `data` is its end, `tail_size` bytes or more.

    Raises FormatError, with the offset in `data`, for all that makes Oak reject an index.
    """
    footer, size = _footer(data, length)
    end = len(data) - len(END_OF_ARCHIVE)
    dtype = _BY_MAGIC[footer.magic]
    view = _payload(data, end, footer, dtype)
    if footer.size % BLOCK or footer.size < footer.count * _V1.itemsize + trailer.FOOTER_SIZE:
        raise FormatError(f"{footer.count} segments in an index of {footer.size} bytes", end - 8)
    entries = np.frombuffer(view, dtype)
    start = length - len(END_OF_ARCHIVE) - size
    _check(entries, start, end - trailer.FOOTER_SIZE - len(view))
    return Index(entries, start)


def _footer(data: bytes | memoryview, length: int) -> tuple[trailer.Footer, int]:
    """The index's footer, and the bytes of the index with its header, by the footer's count."""
    if length % BLOCK or not SMALLEST_TAR <= length <= MAX_TAR:
        raise FormatError(f"a tar of {length} bytes has no index", 0)
    end = len(data) - len(END_OF_ARCHIVE)
    footer = trailer.parse_footer(data, end, tuple(_BY_MAGIC), "tar index")
    size = trailer.extent(footer.count * _BY_MAGIC[footer.magic].itemsize)
    if footer.count < 1 or size + len(END_OF_ARCHIVE) > length:
        raise FormatError(f"an index of {footer.count} segments does not fit the file", end - 12)
    return footer, size


def _payload(
    data: bytes | memoryview, end: int, footer: trailer.Footer, dtype: np.dtype[Any]
) -> memoryview:
    try:
        return trailer.payload(data, end, footer, footer.count * dtype.itemsize, "index")
    except FormatError:
        if footer.magic == trailer.INDEX_V1 and _is_legacy(data, end, footer):
            raise FormatError(
                "this index is of the legacy oak-segment module; "
                "migrate the repository with oak-upgrade first",
                end - 4,
            ) from None
        raise


def _is_legacy(data: bytes | memoryview, end: int, footer: trailer.Footer) -> bool:
    try:
        trailer.payload(data, end, footer, footer.count * _LEGACY_WIDTH, "index")
    except FormatError:
        return False
    return True


def _check(entries: Array, start: int, base: int) -> None:
    msb, lsb = entries["msb"].astype("i8"), entries["lsb"].astype("i8")
    rising = (msb[1:] > msb[:-1]) | ((msb[1:] == msb[:-1]) & (lsb[1:] > lsb[:-1]))
    _refuse(~rising, base, entries, "the index is not sorted, or names a segment twice", 1)
    position, size = entries["position"].astype("i8"), entries["length"].astype("i8")
    wrong = (position % BLOCK != 0) | (position < BLOCK) | (position + size > start)
    _refuse(
        wrong, base, entries, "a segment lies off the blocks between the file's start and its index"
    )
    _refuse((size < 1) | (size > MAX_SEGMENT), base, entries, "a segment's length is impossible")


def _refuse(wrong: Array, base: int, entries: Array, what: str, shift: int = 0) -> None:
    if wrong.any():
        first = int(np.argmax(wrong)) + shift
        raise FormatError(what, base + first * entries.dtype.itemsize)
