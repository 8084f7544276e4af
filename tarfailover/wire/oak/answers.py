"""What a primary answers, as frames: ``u32 length | u8 type | …``; length counts what follows it.

Each function gives the pieces of one frame for `snappy.Packer.pack`, large data among
them as it is. There is no frame that says "no": what is not to be had is not answered.
Facts: the standby protocol, section 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.wire.fields import checked_id, in_range
from tarfailover.wire.oak.hashes import chunk_seed, murmur
from tarfailover.wire.oak.limits import MAX_BLOB_ID, MAX_FRAME, MAX_HEAD, MAX_REFERENCES
from tarfailover.wire.stream import Piece

HEAD, SEGMENT, BLOB, REFERENCES = range(4)
FIRST, LAST = 1, 2
"""Flags of a blob's chunk."""

SEGMENT_LEAD = struct.Struct(">16sQ")
"""Id and hash, behind the type."""
BLOB_LEAD = struct.Struct(">BQI")
"""Flags, length of the blob and length of its id, behind the type."""
BLOB_HASH = struct.Struct(">Q")
"""Behind the id; then comes the data."""

_FRAME = struct.Struct(">IB")


def head(record: RecordId) -> bytes:
    """The answer to `GetHead`."""
    return text_frame(HEAD, record.hex)


def references(asked: str, segments: Iterable[SegmentId]) -> bytes:
    """The answer to `GetReferences`; `asked` is the segment as the request wrote it."""
    return text_frame(REFERENCES, f"{asked}:{','.join(map(text, segments))}")


def text_frame(kind: int, written: str) -> bytes:
    """A frame that is nothing but a text; raises ProtocolError if that is too long."""
    data = written.encode("utf-8")
    limit = MAX_HEAD if kind == HEAD else MAX_REFERENCES
    in_range(len(data), limit, "the length of an answer's text")
    return _FRAME.pack(1 + len(data), kind) + data


def segment(name: SegmentId, data: Piece) -> tuple[bytes, Piece]:
    """The answer to `GetSegment`; raises ProtocolError for what no segment can be."""
    size = in_range(len(data), MAX_SEGMENT, "the length of a segment")
    lead = SEGMENT_LEAD.pack(checked_id(name, "an answer"), murmur(data))
    return _FRAME.pack(1 + len(lead) + size, SEGMENT) + lead, data


def blob_chunk(
    name: str, total: int, data: Piece, *, first: bool, last: bool
) -> tuple[bytes, Piece]:
    """A part of the answer to `GetBlob`, which is one or more of them; raises ProtocolError.

    `total` is the length of the whole blob. One without bytes has no answer.
    """
    written = name.encode("utf-8")
    in_range(len(written), MAX_BLOB_ID, "the length of a blob's id")
    flags = first * FIRST | last * LAST
    lead = BLOB_LEAD.pack(flags, in_range(total, 2**63 - 1, "the length of a blob"), len(written))
    lead += written + BLOB_HASH.pack(murmur(chunk_seed(flags, total), data))
    size = 1 + len(lead) + len(data)
    in_range(size, MAX_FRAME - 4, "the length of a frame")
    return _FRAME.pack(size, BLOB) + lead, data
