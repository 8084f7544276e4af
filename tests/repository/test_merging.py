"""Three-way merges: what two commits may do at once, and what they may not."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import (
    MemorySink,
    Model,
    TwoWaysError,
    build,
    merged_models,
    model_of,
)
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import ConflictError
from tarfailover.repository import WritableNode, WritableRepository
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter, TreeWriter
from tarfailover.repository.merging import merge
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.segment_writer import SegmentWriter
from tarfailover.repository.values import Property

pytestmark = pytest.mark.load

BIG = random.Random(1).randbytes(20_000)
OTHER = random.Random(2).randbytes(20_000)


@pytest.fixture
def store(tmp_path: Path) -> WritableRepository:
    made = repository.open_for_writing(tmp_path, create=True, disk=QuickDisk())
    with made.commit() as root:
        page = root.make("page")
        page.properties["x"] = 1
        page.properties["big"] = BIG
        page.make("a").properties["y"] = 1
        page.make("b/below").properties["y"] = 1
        for number in range(40):
            root.make(f"wide/n{number}").properties["y"] = number
    return made


Change = Callable[[WritableNode], object]


def setting(path: str, name: str, value: object) -> Change:
    def change(root: WritableNode) -> None:
        root.node(path).properties[name] = value  # type: ignore[assignment]

    return change


def removing(path: str, name: str = "") -> Change:
    def change(root: WritableNode) -> None:
        if name:
            del root.node(path).properties[name]
        else:
            root.remove(path)

    return change


def making(path: str, kind: str | None = None, **properties: object) -> Change:
    def change(root: WritableNode) -> None:
        node = root.make(path, kind)
        for name, value in properties.items():
            node.properties[name] = value  # type: ignore[assignment]

    return change


def replacing(path: str, **properties: object) -> Change:
    def change(root: WritableNode) -> None:
        root.remove(path)
        making(path, **properties)(root)

    return change


def both(*changes: Change) -> Change:
    def change(root: WritableNode) -> None:
        for each in changes:
            each(root)

    return change


def at_once(store: WritableRepository, ours: Change, theirs: Change) -> None:
    with store, store.commit() as root:
        ours(root)
        with store.commit() as other:
            theirs(other)


MERGED = {
    "different properties": (setting("page", "u", 1), setting("page", "v", 2)),
    "different nodes": (setting("page/a", "u", 1), setting("page/b", "v", 2)),
    "the same value": (setting("page", "x", 2), setting("page", "x", 2)),
    "the same binary": (setting("page", "big", OTHER), setting("page", "big", OTHER)),
    "the same small binary": (setting("page", "s", b"ab"), setting("page", "s", b"ab")),
    "the same removal": (removing("page/a"), removing("page/a")),
    "the same property removed": (removing("page", "x"), removing("page", "x")),
    "a removal and another node": (removing("page/a"), setting("page/b", "v", 2)),
    "children of a node made twice": (
        making("new/one", "nt:a", u=1),
        making("new/two", "nt:a", v=2),
    ),
    "the same node": (making("new/one", u=1), making("new/one", u=1)),
    "many in a wide node": (
        both(*(setting(f"wide/n{n}", "y", -1) for n in range(0, 40, 2))),
        both(*(removing(f"wide/n{n}") for n in range(1, 40, 2))),
    ),
    "touched, unchanged": (setting("page/a", "y", 1), removing("page/a")),
    "replaced by what it is": (replacing("page/a", y=1), removing("page/a")),
    "replaced, and changed elsewhere": (replacing("page/b", u=1), setting("page/a", "v", 2)),
    "copied": (
        lambda root: root.children.__setitem__("copy", root.node("page")),
        setting("page", "x", 7),
    ),
    "moved, and changed elsewhere": (
        both(
            lambda root: root.node("page").children.__setitem__("c", root.node("page/b")),
            removing("page/b"),
        ),
        setting("page/a", "y", 7),
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_what_does_not_touch_merges_in_either_order(
    store: WritableRepository, tmp_path: Path, name: str
) -> None:
    ours, theirs = MERGED[name]
    began = store.head
    at_once(store, ours, theirs)
    with repository.open(tmp_path) as merged:
        found = model_of(merged.root.state)
    again = tmp_path / "again"
    again.mkdir()
    with repository.open_for_writing(again, create=True, disk=QuickDisk()) as other:
        with other.commit() as root, repository.open(tmp_path) as first:
            for child, node in first.at(began).root.children.items():
                root.children[child] = node
        at_once(other, theirs, ours)
    with repository.open(again) as merged:
        assert model_of(merged.root.state) == found


CONFLICTS = {
    "two values": (
        (setting("page", "x", 2), setting("page", "x", 3)),
        "/page: property x = LONG '2' in this commit, and property x = LONG '3' in one that came",
    ),
    "two binaries": (
        (setting("page", "big", OTHER), setting("page", "big", b"short")),
        "/page: property big = BINARY of 20000 bytes .* = BINARY of 5 bytes in one",
    ),
    "two types": (
        (setting("page", "x", [2]), setting("page", "x", "2")),
        r"/page: property x = LONG \['2'\] in this commit, and property x = STRING '2'",
    ),
    "set and removed": (
        (setting("page", "x", 2), removing("page", "x")),
        "/page: property x = LONG '2' in this commit, and property x removed in",
    ),
    "removed and set": (
        (removing("page", "x"), setting("page", "x", 2)),
        "/page: property x removed in this commit, and property x = LONG '2' in",
    ),
    "removed and changed below": (
        (removing("page"), setting("page/b/below", "y", 2)),
        "/page: removed in this commit, and changed in one",
    ),
    "changed below and removed": (
        (setting("page/b/below", "y", 2), removing("page/b")),
        "/page/b: changed in this commit, and removed in one",
    ),
    "added below and removed": (
        (making("page/b/new"), removing("page")),
        "/page: changed in this commit, and removed in one",
    ),
    "two new nodes": (
        (making("new", "nt:a"), making("new", "nt:b")),
        "/new: property jcr:primaryType = NAME 'nt:a' in this .* = NAME 'nt:b' in one",
    ),
    "replaced and changed": (
        (replacing("page/b", u=1), setting("page/b/below", "y", 2)),
        "/page/b/below: removed in this commit, and changed in one",
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_cannot_be_both_is_a_conflict_that_names_path_and_changes(
    store: WritableRepository, tmp_path: Path, name: str
) -> None:
    (ours, theirs), told = CONFLICTS[name]
    with pytest.raises(ConflictError, match=told):
        at_once(store, ours, theirs)
    with repository.open(tmp_path) as seen:
        assert len(list(seen.heads())) == 3, "theirs was committed, and ours was not"


# Any trees: against a merge of plain values

LEAVES = st.builds(
    Model, st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2).map(Property.of), max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.builds(
        Model,
        st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2).map(Property.of), max_size=3),
        st.dictionaries(st.sampled_from("abcd"), below, max_size=4),
    ),
    max_leaves=8,
)


@settings(max_examples=80)
@given(TREES, TREES, TREES, st.booleans())
def test_any_merge_is_that_of_plain_trees(
    base: Model, ours: Model, theirs: Model, replaced: bool
) -> None:
    """As edits of a builder, and as trees written anew."""
    sink = MemorySink()
    writer = RepositoryWriter(sink, random.Random(1).randbytes, wid="w", now=lambda: 1)
    states = []
    for model in (base, theirs):
        top = writer.super_root()
        become(top.child("root"), model)
        writer.commit(top)
        assert writer.head is not None
        states.append(writer.head)
    tree = TreeWriter(SegmentWriter(sink, random.Random(2).randbytes, wid="w", now=lambda: 1))
    before, there = (NodeState(tree.reader, each.id) for each in states)
    top = NodeBuilder(before)
    if replaced:
        top.remove_child("root")
        build(ours, top.child("root"))
    else:
        become(top.child("root"), ours)
    try:
        expected = merged_models(base, ours, theirs)
    except TwoWaysError:
        with pytest.raises(ConflictError):
            merge(before, top, there, tree.write)
        return
    found = tree.write(merge(before, top, there, tree.write))
    assert model_of(found) == Model({}, {"root": expected})


def become(builder: NodeBuilder, model: Model) -> None:
    """Edit `builder` until it is `model`."""
    pending = [(builder, copy.deepcopy(model))]
    while pending:
        node, wanted = pending.pop()
        for name in set(node.property_names()) - set(wanted.properties):
            node.remove_property(name)
        for name, prop in wanted.properties.items():
            if node.property(name) != prop:
                node.set(name, prop)
        for name in set(node.names()) - set(wanted.children):
            node.remove_child(name)
        pending += [(node.child(name), below) for name, below in wanted.children.items()]
