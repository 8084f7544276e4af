"""The gate: segments from a peer or a builder, verified before they are stored.

A segment passes when its checksum, kind, length, header and reference table are right
(design, rule 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from isal.isal_zlib import crc32

from tarfailover.errors import FormatError
from tarfailover.format import segment as segments
from tarfailover.ids import NO_GENERATION, SegmentId, is_bulk, text
from tarfailover.store import blobids
from tarfailover.store.durable import Buffer
from tarfailover.store.opentar import Incoming


class Arrival(NamedTuple):
    """A segment as it came: nothing about it is believed yet."""

    segment: SegmentId
    crc: int
    length: int
    chunks: Sequence[Buffer]

    @classmethod
    def of(cls, segment: SegmentId, data: bytes) -> Arrival:
        """A segment made in this process, whose checksum is that of its data."""
        return cls(segment, crc32(data), len(data), [data])


def verify(arrival: Arrival, read: blobids.Read) -> Incoming:
    """The arrival as a segment that may be stored; raises FormatError if it may not.

    `read` gives the segments stored before, where long blob ids may lie.
    """
    return with_blobs(checked(arrival), read)


def checked(arrival: Arrival) -> Incoming:
    """The arrival, verified, but not yet looked through for blob ids; raises FormatError.

    This much can be told of a segment whose references have not come yet.
    """
    segment, announced, length, chunks = arrival
    bulk = is_bulk(segment)
    if not bulk:
        chunks = [b"".join(chunks)]
    crc = 0
    for chunk in chunks:
        crc = crc32(chunk, crc)
    if crc != announced or sum(map(len, chunks)) != length:
        raise FormatError(
            f"segment {text(segment)}: the checksum of its {length} bytes is {crc:08x}, "
            f"announced was {announced:08x}",
            0,
        )
    if bulk and 1 <= length <= segments.MAX_SEGMENT:
        return Incoming(segment, crc, NO_GENERATION, (), (), length, chunks)
    data = b"".join(chunks)  # of one piece: not copied
    try:
        generation, references = segments.inspect(segment, data)
    except FormatError as error:
        raise error.within(f"segment {text(segment)}") from None
    return Incoming(segment, crc, generation, references, (), length, [data])


def mentions_blobs(incoming: Incoming) -> bool:
    """Whether a segment may mention external blobs."""
    return not is_bulk(incoming.segment) and segments.has_blob_ids(bytes(incoming.chunks[0]))


def with_blobs(incoming: Incoming, read: blobids.Read) -> Incoming:
    """The segment with the external blob ids that it mentions; raises FormatError.

    `read` gives the segments to which it refers.
    """
    if not mentions_blobs(incoming):
        return incoming
    data = bytes(incoming.chunks[0])
    blobs = blobids.mentioned(incoming.segment, data, incoming.references, read)
    return incoming._replace(blobs=blobs) if blobs else incoming
