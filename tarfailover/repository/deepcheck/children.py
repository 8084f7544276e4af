"""Checks maps of children: levels, sizes, hashes, order, and that each name is in its bucket.

Facts: storage format, section 5.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from tarfailover.ids import RecordId
from tarfailover.repository import maps, paths
from tarfailover.repository.deepcheck.books import DAMAGE, Books, wrong
from tarfailover.repository.hashes import map_bucket, map_hash, utf16_key
from tarfailover.repository.maps import MAX_DIFFS, Branch, Diff, Leaf
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.records import MAX_MAP

PART = "its children"
CHILD = "the child with all below it"
TOP = -1
"""The level above a map that is no sub-map."""


class NodeItem(NamedTuple):
    """A child that is to be checked."""

    name: str
    record: RecordId


class MapItem(NamedTuple):
    """A map, or a part of one, that is to be checked."""

    record: RecordId
    above: int = TOP
    """The level of the branch above."""
    buckets: tuple[int, ...] = ()
    """The bucket at each level above, from `first` on."""
    first: int = 0
    """The level of the map's top."""
    hidden: tuple[tuple[int, str], ...] = ()
    """Hashes and names for which a diff says something else."""


Item: TypeAlias = NodeItem | MapItem


class Part:
    """A part of a map whose entries are being checked."""

    def __init__(self, items: Iterator[Item], record: RecordId, size: int | None = None) -> None:
        self.items = items
        self.record = record
        self.size = size
        """Entries that it says are below; None for a leaf, which says of each."""
        self.below: int | None = 0
        """Entries that its parts say they have; None if one of them is damaged."""
        self.entered = True

    def count(self, size: int | None) -> None:
        """Add up what a part below says."""
        self.below = None if size is None or self.below is None else self.below + size


class MapCheck:
    """Checks maps; what is in them comes back as items."""

    def __init__(self, reader: RecordReader, books: Books) -> None:
        self._reader = reader
        self._books = books

    def open(self, item: MapItem, above: Part | None) -> Part | None:
        """Begin with a map; None if it was done before, or cannot be read at all.

        `above` is the branch above it, which counts what this one says it has.
        """
        try:
            part = self._top(item) if item.above == TOP else self._trie(item, above)
        except DAMAGE as error:
            if above is not None:
                above.count(None)
            lost = "all children" if item.above == TOP else "some of the children"
            self._books.fault(PART, item.record, error, lost)
            return None
        return part

    def close(self, part: Part) -> None:
        """End with a map: its parts must add up to what it says."""
        if part.size is not None and part.below is not None and part.below != part.size:
            what = f"a map of {part.size:,} children has {part.below:,}"
            self._fault(part.record, what, "some of the children")
        if part.entered:
            self._books.leave()

    def _fault(self, record: RecordId, what: str, lost: str) -> None:
        self._books.fault(PART, record, wrong(self._reader, record, what), lost)

    def _top(self, item: MapItem) -> Part | None:
        record, diffs = self._flattened(item.record)
        if not diffs:
            return self._trie(item, None)
        hidden = tuple((diff.hash, name) for name, diff in diffs.items())
        items: list[Item] = [NodeItem(name, diff.value) for name, diff in diffs.items()]
        part = Part(iter([*items, item._replace(record=record, hidden=hidden)]), record)
        part.entered = False
        return part

    def _flattened(self, record: RecordId) -> tuple[RecordId, dict[str, Diff]]:
        """The map below all diffs, and the diffs by name, all checked."""
        diffs: dict[str, Diff] = {}
        for _ in range(MAX_DIFFS):
            parsed = maps.parse(self._reader, record)
            if not isinstance(parsed, Diff):
                self._in_base(record, diffs)
                return record, diffs
            name = self._reader.string(parsed.key)
            if parsed.hash != map_hash(name):
                self._fault(record, f"the diff has another hash than {name[:80]!r}", CHILD)
            diffs.setdefault(name, parsed)
            record = parsed.base
        raise self._reader.fault(record, f"more than {MAX_DIFFS} map diffs in a row")

    def _in_base(self, record: RecordId, diffs: dict[str, Diff]) -> None:
        for name in diffs:
            if maps.find(self._reader, record, name) is None:
                self._fault(record, f"a diff changes {name[:80]!r}, which is not there", CHILD)

    def _trie(self, item: MapItem, above: Part | None) -> Part | None:
        parsed = maps.parse(self._reader, item.record)
        if isinstance(parsed, Diff):
            raise self._reader.fault(item.record, "a diff stands below a branch")
        if item.above != TOP and parsed.level != item.above + 1:
            raise self._reader.fault(
                item.record, f"a map of level {parsed.level} stands below one of {item.above}"
            )
        size = parsed.size if isinstance(parsed, Branch) else len(parsed.hashes)
        self._check_size(item, size)
        if above is not None:
            above.count(size)
        if item.above == TOP:
            item = item._replace(first=parsed.level)
        return self._entered(item, parsed)

    def _check_size(self, item: MapItem, size: int) -> None:
        if not size or size > MAX_MAP:
            raise self._reader.fault(item.record, f"a map of {size:,} children")
        if item.above == TOP and size < 2:
            raise self._reader.fault(item.record, "a map of one child, where two or more are said")

    def _entered(self, item: MapItem, parsed: Leaf | Branch) -> Part | None:
        """The part to go through; None for one that was gone through before."""
        if item.hidden:
            # What a diff hides is no part of this head: the whole map counts as done only
            # for somebody who sees all of it.
            if self._books.is_clean("map", item.record):
                self._check_place(item, parsed)
                return None
        elif not self._books.enter("map", item.record):
            self._check_place(item, parsed)
            return None
        if isinstance(parsed, Branch):
            part = Part(self._parts(item, parsed), item.record, parsed.size)
        else:
            part = Part(self._children(item, parsed), item.record)
        part.entered = not item.hidden
        return part

    def _check_place(self, item: MapItem, parsed: Leaf | Branch) -> None:
        """Fault a map that was done, but now stands where its names do not belong."""
        try:
            while isinstance(parsed, Branch):
                record = next(iter(parsed.buckets.values()))
                parsed = maps.below(self._reader, record, parsed.level)
        except (*DAMAGE, StopIteration):
            return  # told when it was done
        if parsed.hashes and not self._belongs(item, parsed.hashes[0]):
            self._fault(item.record, "the names in a map belong into another bucket", CHILD)

    @staticmethod
    def _belongs(item: MapItem, hashed: int) -> bool:
        return all(
            map_bucket(hashed, item.first + place) == bucket
            for place, bucket in enumerate(item.buckets)
        )

    def _parts(self, item: MapItem, branch: Branch) -> Iterator[Item]:
        for bucket, record in branch.buckets.items():
            hidden = tuple(
                each for each in item.hidden if map_bucket(each[0], branch.level) == bucket
            )
            buckets = (*item.buckets, bucket)
            yield MapItem(record, branch.level, buckets, item.first, hidden)

    def _children(self, item: MapItem, leaf: Leaf) -> Iterator[Item]:
        before: tuple[int, bytes] | None = None
        hidden = {name for _, name in item.hidden}
        for hashed, key, value in zip(leaf.hashes, leaf.keys, leaf.values, strict=True):
            try:
                name = self._reader.string(key)
            except DAMAGE as error:
                self._books.fault("the name of a child", key, error, CHILD)
                continue
            order = hashed, utf16_key(name)
            self._check_entry(item, order, name, before)
            before = order
            if name not in hidden:
                yield NodeItem(name, value)

    def _check_entry(
        self, item: MapItem, order: tuple[int, bytes], name: str, before: tuple[int, bytes] | None
    ) -> None:
        what = ""
        if order[0] != map_hash(name):
            what = "has another hash than its name"
        elif not self._belongs(item, order[0]):
            what = "belongs into another bucket"
        elif before is not None and order <= before:
            what = "is not in order, or there twice"
        if what:
            told = paths.shortened(paths.escape(name), 80)
            self._fault(item.record, f"child {told} {what}", "looking it up by name may fail")
