"""The graph of a tar: which segments each of its segments refers to.

Facts: storage format, section 3.2. Payload: `count` times
``16 bytes id | u32 n | n × 16 bytes id``. A record without edges is never written:
Oak rejects a graph of such records, and its cleanup dies without a graph.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tarfailover.errors import FormatError
from tarfailover.format import trailer
from tarfailover.ids import SegmentId

_RECORD = struct.Struct(">16sI")

Graph = dict[SegmentId, memoryview]
"""From a segment to its references: a view of n × 16 bytes."""


def encode(edges: Mapping[SegmentId, Sequence[SegmentId]]) -> bytes:
    """The data of the ``.gph`` entry; segments without references are left out."""
    return encode_rows({segment: b"".join(row) for segment, row in edges.items()})


def encode_rows(rows: Mapping[SegmentId, bytes | memoryview]) -> bytes:
    """As `encode`, where the references of each segment lie one after the other."""
    pieces: list[bytes | memoryview] = []
    for segment, row in rows.items():
        if row:
            pieces += _RECORD.pack(segment, len(row) // len(segment)), row
    return trailer.encode(b"".join(pieces), len(pieces) // 2, trailer.GRAPH, padded_size=False)


def parse_footer(data: bytes | memoryview, end: int) -> trailer.Footer:
    """The footer of the graph that ends at `end` of `data`; raises FormatError.

    A size is plausible as it is for Oak: a little less than what `count` records of
    one edge take, so that a few records without edges pass.
    """
    footer = trailer.parse_footer(data, end, (trailer.GRAPH,), "graph")
    if footer.size < max(trailer.FOOTER_SIZE, 4 + 34 * footer.count):
        raise FormatError(
            f"a graph of {footer.count} records cannot be {footer.size} bytes long",
            end - 8,
        )
    return footer


def parse(data: bytes | memoryview, end: int) -> Graph:
    """The graph whose footer ends at `end` of `data`; raises FormatError."""
    footer = parse_footer(data, end)
    size = footer.size - trailer.FOOTER_SIZE
    view = trailer.payload(data, end, footer, size, "graph")
    base = end - footer.size
    result: Graph = {}
    at = 0
    for _ in range(footer.count):
        if at + 20 > size:
            raise FormatError("the graph ends in the middle of a record", base + at)
        segment, n = _RECORD.unpack_from(view, at)
        stop = at + 20 + 16 * n
        if stop > size:
            raise FormatError(f"a record of {n} edges runs past the graph's end", base + at)
        result[segment] = view[at + 20 : stop]
        at = stop
    if at != size:
        raise FormatError(f"{size - at} bytes follow the last record of the graph", base + at)
    return result
