"""Tar headers of many segments at once: up to five times as fast as one after the other.

What `tar.encode_header` writes, for names as `tar.segment_entry_name` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tarfailover.errors import FormatError
from tarfailover.format.tar import BLOCK, encode_header, segment_entry_name
from tarfailover.ids import NULL_ID, SegmentId

FEW = 16
"""Segments below which one after the other is faster."""

_CRC = 4
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), "u2")
"""The two digits of each byte."""
_GROUPS = ((0, 8), (9, 13), (14, 18), (19, 23), (24, 36), (37, 45))
"""Where in the name digits stand: those of the id, then those of the checksum."""
_SIZE = slice(124, 135)
_CHECKSUM = slice(148, 154)
_ZERO = ord("0")


def segment_headers(
    ids: Sequence[SegmentId], crcs: Sequence[int], sizes: Sequence[int], mtime: int
) -> list[bytes | memoryview]:
    """The headers of the entries of segments, 512 bytes each; `mtime` in seconds since 1970.

    Raises FormatError for what the fields of a header cannot hold.
    """
    if len(ids) < FEW:
        rows = zip(ids, crcs, sizes, strict=True)
        return [encode_header(segment_entry_name(i, crc), size, mtime) for i, crc, size in rows]
    if not 0 <= min(sizes) <= max(sizes) < 8**11:
        raise FormatError("an entry of such a size does not fit a tar header", 0)
    count = len(ids)
    names = np.frombuffer(b"".join(ids), "u1").reshape(count, len(NULL_ID))
    sums = np.array(crcs, ">u4").view("u1").reshape(count, _CRC)
    digits = _HEX[np.hstack((names, sums))].view("u1")
    octal = _octal(np.array(sizes, "i8"), 11)
    blank = np.frombuffer(encode_header(segment_entry_name(NULL_ID, 0), 0, mtime), "u1")
    table = np.empty((count, BLOCK), "u1")
    table[:] = blank
    begin = 0
    for start, stop in _GROUPS:
        table[:, start:stop] = digits[:, begin : begin + stop - start]
        begin += stop - start
    table[:, _SIZE] = octal
    rest = int(blank[_CHECKSUM].tobytes(), 8) - _ZERO * (digits.shape[1] + octal.shape[1])
    total = digits.sum(1, dtype="i8") + octal.sum(1, dtype="i8") + rest
    table[:, _CHECKSUM] = _octal(total, 6)
    whole = memoryview(table.data).cast("B")
    return [whole[at : at + BLOCK] for at in range(0, len(whole), BLOCK)]


def _octal(numbers: np.ndarray, digits: int) -> np.ndarray:
    """The octal digits of each number, as characters."""
    shifts = np.arange(3 * (digits - 1), -1, -3)
    return (((numbers[:, None] >> shifts) & 7) + _ZERO).astype("u1")
