"""What differs between two maps of children: sub-maps that both share are not read.

Maps that came from one another by changes share all but the path to what changed, so the
cost grows with the change. Facts: storage format, section 5.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tarfailover.ids import RecordId
from tarfailover.repository import maps
from tarfailover.repository.maps import Branch, Entry, Leaf
from tarfailover.repository.reader import RecordReader


class Differing(NamedTuple):
    """A name whose record differs; None on the side that has no such name."""

    name: str
    old: RecordId | None
    new: RecordId | None


class Side(NamedTuple):
    """A map and who reads it."""

    reader: RecordReader
    record: RecordId


class _Part(NamedTuple):
    """A sub-map of one side."""

    reader: RecordReader
    map: Leaf | Branch

    def below(self, place: int) -> _Part | None:
        """The sub-map in bucket `place` of a branch."""
        record = self.map.buckets.get(place) if isinstance(self.map, Branch) else None
        if record is None:
            return None
        return _Part(self.reader, maps.below(self.reader, record, self.map.level))

    def entries(self) -> Iterator[Entry]:
        return maps.trie_entries(self.reader, self.map)


def differing(old: Side, new: Side) -> Iterator[Differing]:
    """The names whose records differ between two maps, in no order that means anything.

    Raises FormatError, SegmentMissingError or DamagedStoreError for a damaged map.
    """
    old_top, old_map, old_diffs = maps.flatten(*old)
    new_top, new_map, new_diffs = maps.flatten(*new)
    named = {*old_diffs, *new_diffs}
    for name in named:
        found = Differing(name, _value(old, name), _value(new, name))
        if found.old != found.new:
            yield found
    if old_top != new_top:
        for found in _tries(_Part(old.reader, old_map), _Part(new.reader, new_map)):
            if found.name not in named:
                yield found


def _value(side: Side, name: str) -> RecordId | None:
    entry = maps.find(side.reader, side.record, name)
    return None if entry is None else entry.value


def _tries(old: _Part, new: _Part) -> Iterator[Differing]:
    """The difference of two tries; at most eight levels of 32 are pending."""
    pending: list[tuple[_Part | None, _Part | None]] = [(old, new)]
    while pending:
        one, other = pending.pop()
        places = _differing_buckets(one, other)
        if places is None or one is None or other is None:
            yield from _entries(one.entries() if one else (), other.entries() if other else ())
        else:
            pending.extend((one.below(place), other.below(place)) for place in places)


def _differing_buckets(old: _Part | None, new: _Part | None) -> list[int] | None:
    """The buckets to be compared, None where the two have no buckets in common."""
    if old is None or new is None:
        return None
    one, other = old.map, new.map
    if not isinstance(one, Branch) or not isinstance(other, Branch) or one.level != other.level:
        return None
    places = {**one.buckets, **other.buckets}
    return [each for each in places if one.buckets.get(each) != other.buckets.get(each)]


def _entries(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[Differing]:
    before = {entry.name: entry.value for entry in old}
    for entry in new:
        known = before.pop(entry.name, None)
        if known != entry.value:
            yield Differing(entry.name, known, entry.value)
    for name, record in before.items():
        yield Differing(name, record, None)
