"""How a slave knows an Oak primary again: by the heads that it told, since it tells no name.

A primary that has the segment of the copy's head is the one that the copy is of. But one that
compacts and cleans up twice while a long copy runs has it no more when the copy is done. So

- on one connection there is one primary: once that is known it stays known;
- of the heads that such a primary told, also while a copy ran, the newest is kept beyond the
  connection: the next one is known by that too.
"""

from __future__ import annotations

from tarfailover.ids import RecordId, SegmentId

MOST = 1000
"""Heads that are kept beside the newest: a copy that takes any time needs two."""


class Lineage:
    """Heads of one primary, and its newest one, beyond one connection."""

    def __init__(self) -> None:
        self._heads: dict[SegmentId, None] = {}
        self._newest: SegmentId = b""

    def witnesses(self, have: SegmentId) -> list[SegmentId]:
        """Segments of which the primary of the copy with the head in `have` has at least one."""
        if have in self._heads and self._newest not in (b"", have):
            return [have, self._newest]
        return [have]

    def told(self, have: RecordId | None, head: RecordId) -> None:
        """A primary that is known to be the one of the copy with head `have` told `head`.

        If `have` is None it becomes the one: nothing of another is of any worth.
        """
        if have is None or have.segment not in self._heads:
            self._heads.clear()
        for each in (have, head):
            if each is not None:
                self._heads.pop(each.segment, None)
                self._heads[each.segment] = None
        while len(self._heads) > MOST:
            del self._heads[next(iter(self._heads))]
        self._newest = head.segment

    def mentioned(self, head: RecordId) -> None:
        """It told `head` when it was asked for something else."""
        self._newest = head.segment
