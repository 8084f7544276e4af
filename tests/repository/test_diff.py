"""The structural diff: equal to a plain comparison of two trees, and as cheap as the change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import NAMES, MemorySink, Model, build, models

from tarfailover import repository
from tarfailover.errors import FormatError
from tarfailover.format.segment import NODE
from tarfailover.ids import RecordId
from tarfailover.repository import paths
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.diff import Change, diff
from tarfailover.repository.history import summary
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader, Segment
from tarfailover.repository.tree import Node
from tarfailover.repository.values import Property

pytestmark = pytest.mark.load

Found = tuple[str, str, str | None]


def told(change: Change) -> Found:
    return change.kind, change.node.path, change.name


def opened(sink: MemorySink, seed: int = 1) -> RepositoryWriter:
    return RepositoryWriter(sink, random.Random(seed).randbytes, wid="t", now=lambda: 1)


def committed(model: Model, sink: MemorySink | None = None, seed: int = 1) -> Node:
    """The content's top after a commit that leaves exactly `model` in it."""
    sink = sink or MemorySink()
    writer = opened(sink, seed)
    super_root = writer.super_root()
    super_root.remove_child("root")
    build(model, super_root.child("root"))
    return Node(sink.node(writer.commit(super_root))).children["root"].fresh()


def expected(old: Model, new: Model, names: tuple[str, ...] = ()) -> Iterator[Found]:
    """The differences of two values, said as directly as can be."""
    path = paths.join(names)
    for name in {*old.properties, *new.properties}:
        if old.properties.get(name) != new.properties.get(name):
            yield kind(name in old.properties, name in new.properties), path, name
    for name in {*old.children, *new.children}:
        below = (*names, name)
        if name in old.children and name in new.children:
            yield from expected(old.children[name], new.children[name], below)
        else:
            yield kind(name in old.children, name in new.children), paths.join(below), None


def kind(before: bool, after: bool) -> str:
    return "changed" if before and after else "removed" if before else "added"


@settings(max_examples=60)
@given(models(), models())
def test_two_trees_differ_as_their_values_do(old: Model, new: Model) -> None:
    before, after = committed(old), committed(new, seed=2)
    assert sorted(map(str, map(told, diff(before, after)))) == sorted(map(str, expected(old, new)))
    assert list(diff(before, before)) == []


@settings(max_examples=40)
@given(models(), st.lists(st.tuples(NAMES, models()), max_size=3), st.integers(0, 120))
def test_a_commit_on_a_store_differs_by_its_edits(
    model: Model, edits: list[tuple[str, Model]], wide: int
) -> None:
    sink = MemorySink()
    model.children |= {f"n{number}": Model() for number in range(wide)}
    before = committed(model, sink)
    writer = opened(sink, 2)
    super_root = writer.super_root()
    root = super_root.child("root")
    after = Model(dict(model.properties), dict(model.children))
    for name, child in edits:
        root.remove_child(name)
        build(child, root.child(name))
        after.children[name] = child
    if wide:
        root.remove_child("n0")
        after.children.pop("n0", None)
    writer.commit(super_root)
    now = Node(sink.node()).children["root"].fresh()
    assert sorted(map(str, map(told, diff(before, now)))) == sorted(
        map(str, expected(model, after))
    )
    assert sorted(map(str, map(told, diff(now, before)))) == sorted(
        map(str, expected(after, model))
    )


class CountingReader(RecordReader):
    """Counts how often a record is looked at."""

    count = 0

    def locate(self, record: RecordId, *types: int) -> tuple[Segment, int]:
        self.count += 1
        return super().locate(record, *types)


def cost(nodes: int, changes: int) -> tuple[int, int]:
    """Records read, and changes found, by the diff of a commit to a tree of `nodes` nodes."""
    sink = MemorySink()
    wide = Model({}, {f"n{number}": Model({"x": Property.of(number)}) for number in range(nodes)})
    old = committed(
        Model({}, {"wide": wide, "other": Model({}, {"a": Model(), "b": Model()})}), sink
    )
    writer = opened(sink, 2)
    super_root = writer.super_root()
    for number in range(changes):
        super_root.child("root").child("wide").child(f"n{number}").set("x", Property.of(-1))
    writer.commit(super_root)
    reader = CountingReader(sink)
    before = Node(NodeState(reader, old.record))
    after = Node(NodeState(reader, sink.node().id)).children["root"].fresh()
    reader.count = 0
    found = sum(1 for _ in diff(before, after))
    return reader.count, found


@pytest.mark.parametrize("changes", [1, 2, 20])
def test_the_cost_grows_with_the_change_and_not_with_the_repository(changes: int) -> None:
    small, large = cost(500, changes), cost(8_000, changes)
    assert small[1] == large[1] == changes
    assert large[0] < 150 * changes
    assert large[0] < 4 * small[0]


def test_what_is_equal_under_other_records_is_equal() -> None:
    model = Model(
        {
            "big": Property.of(bytes(50_000)),
            "bigs": Property.of([bytes(20_000), b"x"]),
            "text": Property.of("t" * 20_000),
        },
        {"c": Model({"x": Property.of(1)})},
    )
    sink = MemorySink()
    before, after = committed(model, sink), committed(model, sink, seed=2)
    assert before.record != after.record
    assert list(diff(before, after)) == []
    other = Model({**model.properties, "big": Property.of(bytes(49_999) + b"\1")}, model.children)
    assert [told(each) for each in diff(before, committed(other, seed=3))] == [
        ("changed", "/", "big")
    ]


def test_a_type_and_a_shape_count_as_differences() -> None:
    before = committed(Model({"a": Property.of("1"), "b": Property.of("1"), "c": Property.of("1")}))
    after = committed(
        Model({"a": Property.of(1), "b": Property.of(["1"]), "c": Property.of("1")}), seed=2
    )
    assert [told(each) for each in diff(before, after)] == [
        ("changed", "/", "a"),
        ("changed", "/", "b"),
    ]


def test_a_tree_on_one_side_only() -> None:
    node = committed(Model({}, {"a": Model()}))
    assert [told(each) for each in diff(None, node)] == [("added", "/", None)]
    assert [told(each) for each in diff(node, None)] == [("removed", "/", None)]
    assert list(diff(None, None)) == []


def test_a_deep_change_needs_no_recursion() -> None:
    def chain(value: int) -> Node:
        sink = MemorySink()
        writer = opened(sink, value)
        super_root = writer.super_root()
        node = super_root.child("root")
        for _ in range(5000):
            node = node.child("c")
        node.set("x", Property.of(value))
        writer.commit(super_root)
        return Node(sink.node())

    [found] = diff(chain(1), chain(2))
    assert len(found.node.names) == 5001


def test_copies_of_a_node_that_change_alike_are_two_changes() -> None:
    twin = Model({"x": Property.of(1), "y": Property.of(1)})
    changed = Model({"x": Property.of(2), "y": Property.of(2)})
    before = committed(Model({}, {"a": twin, "b": twin}))
    after = committed(Model({}, {"a": changed, "b": changed}), seed=2)
    found = summary(before, after)
    assert (found.changed, found.properties, found.path) == (2, 4, "/")


def test_a_loop_is_a_fault_and_no_endless_walk() -> None:
    def looping(seed: int) -> Node:
        sink = MemorySink()
        writer = opened(sink, seed)
        super_root = writer.super_root()
        super_root.child("root").child("b").child("c").set("x", Property.of(seed))
        head = writer.commit(super_root)
        [(segment, data)] = sink.segments.items()
        raw, top = bytearray(data), Node(sink.node())
        _, at = RecordReader(sink).locate(top.node("root/b").record, NODE)
        raw[at + 14 : at + 18] = top.node("root").record.number.to_bytes(4, "big")
        sink.segments[segment] = bytes(raw)
        return Node(NodeState(RecordReader(sink), head))

    with pytest.raises(FormatError, match="its own ancestor"):
        list(diff(looping(1), looping(2)))


def test_across_a_compaction_of_oak_stable_ids_save_the_reading(
    fixture_store: Callable[[str], Path],
) -> None:
    with repository.open(fixture_store("compacted")) as store:
        lines = list(store.heads())
        reader = CountingReader(store.snapshot)
        copied, original = (
            Node(NodeState(reader, lines[place].head)).children["root"].fresh() for place in (3, 4)
        )
        assert copied.record != original.record
        reader.count = 0
        assert list(diff(original, copied)) == []
        assert reader.count < 10
