"""A binary on its way from an Oak primary: always whole, from its first byte on.

The answer is one or more chunks, without numbers. The last may never come if the primary's
stream ends early, and a binary without bytes has no answer at all. The chunks' hashes tell
of damage on the way; that it is the binary is told by the digest in its id, in the store.
Facts: the standby protocol, sections 2.3 and 2.7.
"""

from __future__ import annotations

import re

from tarfailover.errors import PeerError
from tarfailover.slave.asked import OnBytes
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak.frames import BlobPart

_LENGTH = re.compile(r".*#([0-9]{1,19})", re.ASCII)


def length_in(blob: str) -> int | None:
    """The length that the id of a file of a data store tells; None if it tells none."""
    found = _LENGTH.fullmatch(blob)
    return int(found[1]) if found else None


class ComingBlob:
    """Hands the bytes behind `offset` on; what is before it was here already.

    One that is not what it says costs no other: the rest of it is passed over.
    """

    def __init__(self, blob: str, offset: int, on_bytes: OnBytes) -> None:
        self.blob = blob
        self._skip = offset
        self._on_bytes = on_bytes
        self._came = 0
        self._chunk = 0
        """Bytes that came of the chunk that is coming."""
        self._total = length_in(blob)
        self._begun = False
        self._fault = ""

    def part(self, part: BlobPart) -> int | None:
        """The next part came; the length of the whole if it was the last one.

        Raises PeerError, DAMAGED, with the last part of one that is not what it says.
        """
        self._fault = self._fault or self._wrong(part)
        self._begun = True
        size = len(part.data)
        skipped = min(size, max(0, self._skip - self._came))
        self._came += size
        self._chunk += size
        if size > skipped and not self._fault:
            self._on_bytes(bytes(part.data[skipped:]))
        if not part.ends:
            return None
        self._chunk = 0
        return self._whole() if part.last else None

    def _wrong(self, part: BlobPart) -> str:
        """What is wrong with the next part; empty if nothing is."""
        begins = self._came == self._chunk
        total, self._total = self._total, part.total
        if total not in (None, part.total):
            return f"has {part.total} bytes, where {total} were told"
        if part.first != begins:
            return "does not come from its beginning on"
        if self._came + len(part.data) > part.total:
            return f"has more bytes than the {part.total} of its answer"
        return ""

    def _whole(self) -> int:
        if not self._fault and self._came == self._total:
            return self._came
        raise self._damaged()

    def _damaged(self) -> PeerError:
        why = self._fault or f"ended after {self._came} of {self._total} bytes"
        return PeerError(ErrorCode.DAMAGED, f"the primary's binary {why}")

    def left_out(self) -> int:
        """No more of it will come; its length if it has no bytes. Raises PeerError if it has."""
        if self._begun:
            raise self._damaged()
        if self._total == 0:
            return 0
        raise PeerError(
            ErrorCode.BLOB_GONE,
            "the primary has no binary of this id, no blob store, or cannot read it",
        )
