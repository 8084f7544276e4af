"""Maps of children against dictionaries: names that collide, changes, what is shared."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import NAMES, MemorySink

from tarfailover.errors import ContentError, FormatError
from tarfailover.format.segment import BRANCH
from tarfailover.ids import RecordId
from tarfailover.repository import maps
from tarfailover.repository.hashes import map_bucket, map_hash, utf16_key
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.records import branch_draft, diff_draft, leaf_draft
from tarfailover.repository.segment_writer import SegmentWriter

Children = dict[str, RecordId]

COLLIDING = ["".join(pairs) for pairs in itertools.product(("Aa", "BB"), repeat=6)]


class Bench:
    """Writes maps, and checks every map that it reads."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.segments = SegmentWriter(
            self.sink, random.Random(5).randbytes, wid="test", now=lambda: 1
        )
        self.records = RecordWriter(self.segments)
        self.reader = RecordReader(self.segments)
        self.maps = maps.MapWriter(self.reader, self.segments.write, self.records.string)
        self._made = 0

    def node(self) -> RecordId:
        self._made += 1
        return self.records.string(f"stands for node {self._made}")

    def read(self, record: RecordId) -> Children:
        self.check(record, 0)
        found = {entry.name: entry.value for entry in maps.entries(self.reader, record)}
        assert len(found) == maps.size(self.reader, record)
        for name, value in found.items():
            entry = maps.find(self.reader, record, name)
            assert entry is not None and entry.value == value and entry.hash == map_hash(name)
            assert self.reader.string(entry.key) == name
        assert maps.find(self.reader, record, "never there") is None
        return found

    def check(self, record: RecordId, level: int) -> int:
        """Sizes, levels, places and orders of the trie, as section 5.9 has them."""
        part = maps.parse(self.reader, record)
        if isinstance(part, maps.Diff):
            assert level == 0 and part.hash == map_hash(self.reader.string(part.key))
            assert not isinstance(maps.parse(self.reader, part.base), maps.Diff)
            return self.check(part.base, 0)
        assert part.level == level
        if isinstance(part, maps.Branch):
            assert part.size == sum(self.check(each, level + 1) for each in part.buckets.values())
            for place, each in part.buckets.items():
                for name in self.names(each):
                    assert map_bucket(map_hash(name), level) == place
            return part.size
        keys = [self.reader.string(key) for key in part.keys]
        order = [(map_hash(name), utf16_key(name)) for name in keys]
        assert order == sorted(order) and part.hashes == [each for each, _ in order]
        assert 0 < len(keys) <= 32 or level == 7
        return len(keys)

    def names(self, record: RecordId) -> list[str]:
        return [entry.name for entry in maps.entries(self.reader, record)]

    def written_since(self, before: int) -> int:
        """How many records the open segment has more than `before`."""
        assert self.segments._open is not None
        return self.segments._open._count - before


@pytest.mark.parametrize("count", [2, 31, 32, 33, 64, 1000, 5000])
def test_a_new_map_holds_what_it_was_given(count: int) -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(count)}
    assert bench.read(bench.maps.create(children)) == children


def test_names_with_one_hash_end_in_a_large_leaf_at_level_seven() -> None:
    assert len({map_hash(name) for name in COLLIDING}) == 1
    bench = Bench()
    children = {name: bench.node() for name in COLLIDING}
    record = bench.maps.create(children)
    assert bench.read(record) == children
    for level in range(7):
        branch = maps.parse(bench.reader, record)
        assert isinstance(branch, maps.Branch) and branch.level == level
        [record] = branch.buckets.values()
    leaf = maps.parse(bench.reader, record)
    assert isinstance(leaf, maps.Leaf) and leaf.level == 7 and len(leaf.keys) == 64


def test_one_new_value_under_a_known_name_is_one_record() -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(500)}
    base = bench.maps.create(children)
    children["child 77"] = bench.node()
    changed = bench.maps.change(base, {"child 77": children["child 77"]})
    diff = maps.parse(bench.reader, changed)
    assert isinstance(diff, maps.Diff) and diff.base == base
    assert bench.read(changed) == children


def test_a_diff_over_a_diff_is_folded() -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(500)}
    base = bench.maps.create(children)
    one = bench.maps.change(base, {"child 1": bench.node()})
    children["child 1"] = bench.node()
    again = bench.maps.change(one, {"child 1": children["child 1"]})
    diff = maps.parse(bench.reader, again)
    assert isinstance(diff, maps.Diff) and diff.base == base
    children["child 2"] = bench.node()
    two = bench.maps.change(again, {"child 2": children["child 2"]})
    assert isinstance(maps.parse(bench.reader, two), maps.Branch)
    assert bench.read(two) == children


def test_the_old_value_again_is_the_old_map() -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(40)}
    base = bench.maps.create(children)
    assert bench.maps.change(base, {"child 3": children["child 3"]}) == base
    changed = bench.maps.change(base, {"child 3": bench.node()})
    assert bench.maps.change(changed, {"child 3": children["child 3"]}) == base


def test_a_change_writes_only_the_path_to_it() -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(3000)}
    base = bench.maps.create(children)
    bench.segments.seal()
    bench.node()
    before = bench.written_since(0)
    changed = bench.maps.change(base, {"new": bench.node(), "child 9": None})
    # One node, one name, and for each of two leaves at most one branch per level above it.
    assert bench.written_since(before) <= 2 + 2 * 4
    assert "new" in bench.names(changed)


def test_a_map_that_shrinks_becomes_a_leaf() -> None:
    bench = Bench()
    children = {f"child {number}": bench.node() for number in range(60)}
    base = bench.maps.create(children)
    kept = dict(list(children.items())[:5])
    changed = bench.maps.change(base, {name: None for name in children if name not in kept})
    assert isinstance(maps.parse(bench.reader, changed), maps.Leaf)
    assert bench.read(changed) == kept


def test_a_leaf_left_at_a_higher_level_is_read_and_changed() -> None:
    """Oak may leave the one non-empty bucket of a shrunk branch as the top map."""
    bench = Bench()
    children = {name: bench.node() for name in ("a", "b")}
    entries = sorted((map_hash(n), bench.records.string(n), v) for n, v in children.items())
    top = bench.segments.write(leaf_draft(3, entries))
    assert {e.name: e.value for e in maps.entries(bench.reader, top)} == children
    children["c"] = bench.node()
    assert bench.read(bench.maps.change(top, {"c": children["c"]})) == children


def test_a_map_beyond_what_oak_writes_is_refused() -> None:
    with pytest.raises(ContentError, match="500000001 children"):
        branch_draft(0, 500_000_001, {})


def test_an_emptied_map_is_refused() -> None:
    bench = Bench()
    base = bench.maps.create({"a": bench.node(), "b": bench.node()})
    with pytest.raises(ContentError, match="no map"):
        bench.maps.change(base, {"a": None, "b": None})


def test_diffs_without_end_are_a_fault() -> None:
    bench = Bench()
    base = bench.maps.create({"a": bench.node(), "b": bench.node()})
    key, value = bench.records.string("a"), bench.node()
    for _ in range(maps.MAX_DIFFS - 1):
        base = bench.segments.write(diff_draft(map_hash("a"), key, value, base))
    found = maps.find(bench.reader, base, "a")
    assert found is not None and found.value == value
    base = bench.segments.write(diff_draft(map_hash("a"), key, value, base))
    with pytest.raises(FormatError, match="map diffs in a row"):
        maps.find(bench.reader, base, "b")


def test_a_branch_below_itself_is_a_fault() -> None:
    bench = Bench()
    top = bench.maps.create({f"child {number}": bench.node() for number in range(40)})
    segment, at = bench.reader.locate(top, BRANCH)
    raw = bytearray(segment.data)
    raw[at + 8 : at + 14] = bytes(2) + top.number.to_bytes(4, "big")
    bench.sink.segments[top.segment] = bytes(raw)
    with pytest.raises(FormatError, match="no sub-map of a map at level 0"):
        list(maps.entries(RecordReader(bench.sink), top))


MANY = st.sampled_from(COLLIDING) | NAMES | st.integers(0, 300).map(lambda n: f"n{n}")
EDITS = st.lists(st.dictionaries(MANY, st.booleans(), min_size=1, max_size=60), max_size=6)


@settings(max_examples=60)
@given(st.sets(MANY, min_size=2, max_size=150), EDITS)
def test_any_changes_equal_those_of_a_dictionary(
    start: set[str], edits: list[dict[str, bool]]
) -> None:
    bench = Bench()
    children = {name: bench.node() for name in sorted(start)}
    record = bench.maps.create(children)
    for edit in edits:
        changes = {name: bench.node() if present else None for name, present in edit.items()}
        after = {**children, **changes}
        left = {name: value for name, value in after.items() if value is not None}
        if len(left) < 2:
            continue
        before, record = (children, record), bench.maps.change(record, changes)
        assert {e.name: e.value for e in maps.entries(bench.reader, before[1])} == before[0]
        children = left
        assert bench.read(record) == children
