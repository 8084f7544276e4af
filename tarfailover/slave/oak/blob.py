"""A binary on its way from an Oak primary: always whole, from its first byte on.

The answer is one or more chunks, without numbers. The last may never come if the primary's
stream ends early, and a binary without bytes has no answer at all. The chunks' hashes tell
of damage on the way; that it is the binary is told by the digest in its id, in the store.
Facts: the standby protocol, sections 2.3 and 2.7.
"""

from __future__ import annotations

import re

from tarfailover.errors import PeerError, ProtocolError
from tarfailover.slave.asked import OnBytes
from tarfailover.wire.fields import printable
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak.frames import BlobPart

_LENGTH = re.compile(r".*#([0-9]{1,19})", re.ASCII)


def length_in(blob: str) -> int | None:
    """The length that the id of a file of a data store tells; None if it tells none."""
    found = _LENGTH.fullmatch(blob)
    return int(found[1]) if found else None


class ComingBlob:
    """Hands the bytes behind `offset` on; what is before it was here already."""

    def __init__(self, blob: str, offset: int, on_bytes: OnBytes) -> None:
        self.blob = blob
        self._skip = offset
        self._on_bytes = on_bytes
        self._came = 0
        self._chunk = 0
        """Bytes that came of the chunk that is coming."""
        self._total: int | None = None

    def part(self, part: BlobPart) -> int | None:
        """The next part came; the length of the whole if it was the last one.

        Raises ProtocolError for what is no continuation.
        """
        self._check(part)
        size = len(part.data)
        skipped = min(size, max(0, self._skip - self._came))
        self._came += size
        self._chunk += size
        if size > skipped:
            self._on_bytes(bytes(part.data[skipped:]))
        if not part.ends:
            return None
        self._chunk = 0
        if part.last != (self._came == part.total):
            raise ProtocolError(
                f"blob {printable(self.blob)} has {self._came} of {part.total} bytes, and its "
                f"chunk says that it is {'' if part.last else 'not '}the last one"
            )
        return part.total if part.last else None

    def _check(self, part: BlobPart) -> None:
        begins = self._came == self._chunk
        if part.first != begins or part.total != (self._total or part.total):
            raise ProtocolError(f"a chunk of blob {printable(self.blob)} does not go on with it")
        if self._came + len(part.data) > part.total:
            raise ProtocolError(
                f"blob {printable(self.blob)} has more than the {part.total} bytes of its answer"
            )
        self._total = part.total

    def left_out(self) -> int:
        """No more of it will come; its length if it has no bytes. Raises PeerError if it has."""
        if self._total is None and length_in(self.blob) == 0:
            return 0
        if self._total is None:
            raise PeerError(
                ErrorCode.BLOB_GONE,
                "the primary has no binary of this id, no blob store, or cannot read it",
            )
        raise PeerError(
            ErrorCode.DAMAGED,
            f"the primary's binary ended after {self._came} of {self._total} bytes",
        )
