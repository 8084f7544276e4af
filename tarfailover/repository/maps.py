"""The hash tries that hold the children of a node: looking up, listing, writing, changing.

A changed map is copied along the path from its top to the changed leaves; all other
branches and leaves are shared. One new value under a known name costs a single diff
record. Facts: storage format, section 5.9.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from tarfailover.errors import ContentError
from tarfailover.format.segment import BRANCH, LEAF
from tarfailover.ids import RecordId
from tarfailover.repository.hashes import map_bucket, map_hash, utf16_key
from tarfailover.repository.reader import RecordError, RecordReader, Segment
from tarfailover.repository.records import (
    DIFF_HEAD,
    ID_SIZE,
    MAP_SIZE_BITS,
    Draft,
    branch_draft,
    diff_draft,
    is_branch,
    leaf_draft,
)

MAX_DIFFS = 64
"""How many diff records may lie on each other; Oak writes one."""


class Entry(NamedTuple):
    """One name in a map: its hash, the record of the name, the record of the node."""

    hash: int
    name: str
    key: RecordId
    value: RecordId


class Leaf(NamedTuple):
    """A LEAF taken apart, in the order of the record."""

    level: int
    hashes: list[int]
    keys: list[RecordId]
    values: list[RecordId]


class Branch(NamedTuple):
    """A BRANCH taken apart: `size` entries below, sub-maps by their bit."""

    level: int
    size: int
    buckets: dict[int, RecordId]


class Diff(NamedTuple):
    """A diff: like the map `base`, but `key` (of hash `hash`) has `value`."""

    hash: int
    key: RecordId
    value: RecordId
    base: RecordId


Changes: TypeAlias = Mapping[str, RecordId | None]
"""What is to become of names: a new node, or None for a removal."""


def parse(reader: RecordReader, record: RecordId) -> Leaf | Branch | Diff:
    """The map record `record` taken apart; raises FormatError."""
    segment, at = reader.locate(record, LEAF, BRANCH)
    head = segment.u32(at)
    if head == DIFF_HEAD:
        return Diff(segment.u32(at + 4), *segment.record_ids(at + 8, 3))
    level, size = head >> MAP_SIZE_BITS, head & (1 << MAP_SIZE_BITS) - 1
    if is_branch(level, size):
        bitmap = segment.u32(at + 4)
        places = [place for place in range(32) if bitmap >> place & 1]
        ids = segment.record_ids(at + 8, len(places))
        return Branch(level, size, dict(zip(places, ids, strict=True)))
    ids = segment.record_ids(at + 4 + 4 * size, 2 * size)
    return Leaf(level, segment.u32s(at + 4, size), ids[::2], ids[1::2])


def flatten(
    reader: RecordReader, record: RecordId
) -> tuple[RecordId, Leaf | Branch, dict[str, Diff]]:
    """The map under all diffs of `record`, and the diffs by name, the topmost of each name."""
    diffs: dict[str, Diff] = {}
    for _ in range(MAX_DIFFS):
        parsed = parse(reader, record)
        if not isinstance(parsed, Diff):
            return record, parsed, diffs
        diffs.setdefault(reader.string(parsed.key), parsed)
        record = parsed.base
    raise reader.segment(record.segment).fault(f"more than {MAX_DIFFS} map diffs in a row", 0)


def size(reader: RecordReader, record: RecordId) -> int:
    """How many entries the map `record` has."""
    _, base, _ = flatten(reader, record)
    return _count(base)


def _leaf_entries(reader: RecordReader, leaf: Leaf) -> Iterator[Entry]:
    for hashed, key, value in zip(leaf.hashes, leaf.keys, leaf.values, strict=True):
        yield Entry(hashed, reader.string(key), key, value)


def below(reader: RecordReader, record: RecordId, above: int) -> Leaf | Branch:
    """The sub-map `record` of a branch at level `above`; its level must be higher."""
    parsed = parse(reader, record)
    if isinstance(parsed, Diff) or parsed.level <= above:
        segment, at = reader.locate(record, LEAF, BRANCH)
        raise _no_sub_map(segment, at, record, above)
    return parsed


def _no_sub_map(segment: Segment, at: int, record: RecordId, above: int) -> RecordError:
    return segment.fault(f"record {record.number} is no sub-map of a map at level {above}", at)


def trie_entries(reader: RecordReader, top: Leaf | Branch) -> Iterator[Entry]:
    """All entries below `top`, bucket by bucket; at most eight levels are pending."""
    pending: list[Iterator[Leaf | Branch]] = [iter((top,))]
    while pending:
        part = next(pending[-1], None)
        if part is None:
            pending.pop()
        elif isinstance(part, Leaf):
            yield from _leaf_entries(reader, part)
        else:
            pending.append(_sub_maps(reader, part))


def _sub_maps(reader: RecordReader, branch: Branch) -> Iterator[Leaf | Branch]:
    return (below(reader, each, branch.level) for each in branch.buckets.values())


def entries(reader: RecordReader, record: RecordId) -> Iterator[Entry]:
    """All entries of the map `record`, in the order of the trie; raises FormatError."""
    _, base, diffs = flatten(reader, record)
    for entry in trie_entries(reader, base):
        changed = diffs.get(entry.name)
        yield entry if changed is None else entry._replace(value=changed.value)


def find(reader: RecordReader, record: RecordId, name: str) -> Entry | None:
    """The entry `name` of the map `record`, None if there is none; raises FormatError.

    Reads of each record on the way only what leads to the name.
    """
    hashed = map_hash(name)
    above, diffs = -1, 0
    while diffs < MAX_DIFFS:
        segment, at = reader.locate(record, LEAF, BRANCH)
        head = segment.u32(at)
        level, count = head >> MAP_SIZE_BITS, head & (1 << MAP_SIZE_BITS) - 1
        if head == DIFF_HEAD and above < 0:
            key = segment.record_id(at + 8) if segment.u32(at + 4) == hashed else None
            if key is not None and reader.string(key) == name:
                return Entry(hashed, name, key, segment.record_id(at + 8 + ID_SIZE))
            record = segment.record_id(at + 8 + 2 * ID_SIZE)
            diffs += 1
            continue
        if head == DIFF_HEAD or level <= above:
            raise _no_sub_map(segment, at, record, above)
        if not is_branch(level, count):
            return _find_in_leaf(reader, segment, at, count, Entry(hashed, name, record, record))
        bitmap, place = segment.u32(at + 4), map_bucket(hashed, level)
        if not bitmap >> place & 1:
            return None
        before = (bitmap & (1 << place) - 1).bit_count()
        record, above = segment.record_id(at + 8 + ID_SIZE * before), level
    raise reader.segment(record.segment).fault(f"more than {MAX_DIFFS} map diffs in a row", 0)


def _find_in_leaf(
    reader: RecordReader, segment: Segment, at: int, count: int, wanted: Entry
) -> Entry | None:
    """The entry of a leaf of `count` entries that has the hash and the name of `wanted`."""
    hashes = segment.u32s(at + 4, count)
    place = bisect.bisect_left(hashes, wanted.hash)
    while place < count and hashes[place] == wanted.hash:
        key, value = segment.record_ids(at + 4 + 4 * count + 2 * ID_SIZE * place, 2)
        if reader.string(key) == wanted.name:
            return wanted._replace(key=key, value=value)
        place += 1
    return None


class _Change(NamedTuple):
    hash: int
    name: str
    value: RecordId | None


class _Part(NamedTuple):
    record: RecordId
    size: int


class MapWriter:
    """Writes maps and changed copies of maps."""

    def __init__(
        self,
        reader: RecordReader,
        write: Callable[[Draft], RecordId],
        string: Callable[[str], RecordId],
    ) -> None:
        """`write` stores a record; `string` gives the record of a new name."""
        self._reader = reader
        self._write = write
        self._string = string

    def create(self, children: Mapping[str, RecordId]) -> RecordId:
        """The map of `children`; raises ContentError for a map without entries."""
        listed = [_Change(map_hash(name), name, node) for name, node in children.items()]
        return self._top(self._build(self._apply((), listed), 0))

    def change(self, record: RecordId, changes: Changes) -> RecordId:
        """The map `record` after `changes`; raises ContentError if they leave it empty."""
        base_record, base, diffs = flatten(self._reader, record)
        wanted: dict[str, RecordId | None] = {name: diff.value for name, diff in diffs.items()}
        wanted.update(changes)
        if len(wanted) == 1:
            known = self._one_value(base_record, *next(iter(wanted.items())))
            if known is not None:
                return known
        listed = [_Change(map_hash(name), name, value) for name, value in wanted.items()]
        return self._top(self._update(base, listed, 0))

    @staticmethod
    def _top(part: _Part | None) -> RecordId:
        if part is None:
            raise ContentError("a node without children has no map")
        return part.record

    def _one_value(self, base: RecordId, name: str, value: RecordId | None) -> RecordId | None:
        """The diff that gives the known `name` the new `value`, None if it cannot be one."""
        known = find(self._reader, base, name)
        if value is None or known is None:
            return None
        if known.value == value:
            return base
        return self._write(diff_draft(known.hash, known.key, value, base))

    def _update(
        self, base: Leaf | Branch | None, changes: list[_Change], level: int
    ) -> _Part | None:
        """The sub-map `base` at `level` after `changes`; recursion ends at level 7."""
        if base is None:
            return self._build(self._apply((), changes), level)
        # A leaf that a shrinking map left behind may have a higher level than its place.
        if isinstance(base, Leaf) or base.level != level:
            return self._build(self._apply(trie_entries(self._reader, base), changes), level)
        buckets = dict(base.buckets)
        total = base.size
        for place, group in _by_bucket(changes, level).items():
            old = None if place not in buckets else below(self._reader, buckets[place], level)
            part = self._update(old, group, level + 1)
            total += (part.size if part else 0) - (_count(old) if old else 0)
            buckets.pop(place, None)
            if part:
                buckets[place] = part.record
        if is_branch(level, total):
            return _Part(self._write(branch_draft(level, total, buckets)), total)
        return self._build(self._gather(buckets, level), level)

    def _gather(self, buckets: dict[int, RecordId], level: int) -> list[Entry]:
        parts = (below(self._reader, record, level) for record in buckets.values())
        return [entry for part in parts for entry in trie_entries(self._reader, part)]

    def _apply(self, before: Iterable[Entry], changes: list[_Change]) -> list[Entry]:
        result = {entry.name: entry for entry in before}
        for hashed, name, value in changes:
            known = result.pop(name, None)
            if value is not None:
                key = self._string(name) if known is None else known.key
                result[name] = Entry(hashed, name, key, value)
        return list(result.values())

    def _build(self, made: list[Entry], level: int) -> _Part | None:
        """Write `made` as a new sub-map at `level`; recursion ends at level 7."""
        if not made:
            return None
        if not is_branch(level, len(made)):
            made.sort(key=lambda entry: (entry.hash, utf16_key(entry.name)))
            draft = leaf_draft(level, [(each.hash, each.key, each.value) for each in made])
            return _Part(self._write(draft), len(made))
        buckets = {}
        for place, group in _by_bucket(made, level).items():
            part = self._build(group, level + 1)
            if part:
                buckets[place] = part.record
        return _Part(self._write(branch_draft(level, len(made), buckets)), len(made))


_Hashed = TypeVar("_Hashed", Entry, _Change)


def _by_bucket(items: Iterable[_Hashed], level: int) -> dict[int, list[_Hashed]]:
    groups: dict[int, list[_Hashed]] = {}
    for item in items:
        groups.setdefault(map_bucket(item.hash, level), []).append(item)
    return groups


def _count(part: Leaf | Branch) -> int:
    return part.size if isinstance(part, Branch) else len(part.hashes)
