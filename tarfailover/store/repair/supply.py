"""What a repair gets from another copy, and what it has done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tarfailover.ids import RecordId, SegmentId
from tarfailover.store.intake import Arrival
from tarfailover.store.repair.damage import Damage


class Source(Protocol):
    """Another copy of the repository. All methods block, and raise LinkError."""

    def get(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival | str]:
        """The segments `ids` as they came, or why one did not."""

    def head(self) -> RecordId | None:
        """Its head."""


class Outcome(NamedTuple):
    """One damage, and what became of it."""

    file: str
    """A name inside the directory of the store."""
    offset: int | None
    what: str
    mended: bool
    how: str
    """What was done, or why nothing could be."""
    segment: SegmentId | None = None

    @classmethod
    def of(cls, damage: Damage, how: str, *, mended: bool) -> Outcome:
        """What became of `damage`."""
        segment = damage.entry.segment if damage.entry else None
        return cls(str(damage.tar), damage.offset, damage.what, mended, how, segment)


@dataclass
class Supply:
    """Counts what is fetched from `source`."""

    source: Source
    segments: int = 0
    bytes: int = 0

    def get(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival | str]:
        """As `Source.get`; asks for nothing if nothing is wanted."""
        if not ids:
            return {}
        found = self.source.get(ids)
        whole = [each for each in found.values() if not isinstance(each, str)]
        self.segments += len(whole)
        self.bytes += sum(each.length for each in whole)
        return found

    def whole(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival]:
        """Those of `ids` that came."""
        found = self.get(ids).items()
        return {segment: each for segment, each in found if not isinstance(each, str)}
