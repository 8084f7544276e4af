"""Every number that bounds Oak's dialect.

Facts: the standby protocol, sections 2.2, 2.3 and 2.5.
"""

from __future__ import annotations

from tarfailover.format.segment import MAX_SEGMENT

MAX_LINE = 8192
"""Bytes of a request without its line end."""

MAX_HEAD = 64
"""Bytes of the record id in a head's answer; 45 are usual."""
MAX_REFERENCES = 37 + 37 * (MAX_SEGMENT // 16)
"""Bytes of the text in a references answer: as many ids as fit into one segment."""
MAX_BLOB_ID = MAX_LINE
"""Bytes of a blob's id: it was asked for in a line."""
MAX_FRAME = 2**31 - 1
"""Bytes of any frame with its length, as in Oak. Only chunks of blobs come near, which pass by."""

SLICE = 32767
"""Bytes of an answer that a primary puts into one Snappy chunk."""
MIN_PACKED = 18
"""Bytes below which the last slice of an answer, and up to which a whole one, is stored."""
MAX_UNPACKED = 65536
"""Bytes that one Snappy chunk may hold."""
MAX_CHUNK = 4 + 32 + MAX_UNPACKED + MAX_UNPACKED // 6
"""Bytes of a Snappy chunk without its header: checksum, and what cannot be made smaller."""
