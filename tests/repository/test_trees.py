"""Trees written and read back, and sequences of edits against a model in memory."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import (
    NAMES,
    PROPERTY_NAMES,
    SMALL_PROPERTIES,
    MemorySink,
    Model,
    build,
    model_of,
    models,
)

from tarfailover.errors import ContentError
from tarfailover.format.segment import NODE, records
from tarfailover.ids import Generation, RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.digest import content_digest
from tarfailover.repository.records import Template
from tarfailover.repository.values import Property, PropertyType

pytestmark = pytest.mark.load


def opened(sink: MemorySink, seed: int = 1) -> RepositoryWriter:
    return RepositoryWriter(sink, random.Random(seed).randbytes, wid="test", now=lambda: 1)


def committed(sink: MemorySink, model: Model, seed: int = 1) -> RecordId:
    writer = opened(sink, seed)
    super_root = writer.super_root()
    build(model, super_root.child("root"))
    return writer.commit(super_root)


@settings(max_examples=80)
@given(models())
def test_any_tree_reads_back_as_it_was_written(model: Model) -> None:
    sink = MemorySink()
    head = committed(sink, model)
    assert sink.head == head
    assert model_of(sink.node()) == Model({}, {"root": model})


def test_a_fresh_store_gets_a_head_with_an_empty_root() -> None:
    sink = MemorySink()
    opened_writer = opened(sink)
    opened_writer.commit(opened_writer.super_root())
    assert model_of(sink.node()) == Model({}, {"root": Model()})
    assert len(sink.segments) == 1 and sink.journal[0][1] == 1
    assert sink.node().template == Template(child="root")


def test_types_live_in_the_template_only_with_their_own_types() -> None:
    sink = MemorySink()
    model = Model(
        {
            "jcr:primaryType": Property.name("nt:base"),
            "jcr:mixinTypes": Property.names(["mix:a"]),
        },
        {
            "odd": Model(
                {
                    "jcr:primaryType": Property.of("nt:base"),
                    "jcr:mixinTypes": Property.name("mix:a"),
                }
            )
        },
    )
    committed(sink, model)
    root = sink.node().child("root")
    assert root is not None
    assert root.template == Template("nt:base", ("mix:a",), "odd")
    odd = root.child("odd")
    assert odd is not None and odd.template.primary is None and odd.template.mixins is None
    assert dict(odd.template.properties) == {"jcr:primaryType": 1, "jcr:mixinTypes": 7}


def test_properties_stand_in_the_order_of_signed_hash_and_name() -> None:
    sink = MemorySink()
    names = ["jcr:content", "a", "BB", "Aa", "é😀", "BBBB", "AaAa"]
    committed(sink, Model({name: Property.of(name) for name in names}))
    root = sink.node().child("root")
    assert root is not None
    assert [name for name, _ in root.template.properties] == [
        "jcr:content",
        "a",
        "Aa",
        "BB",
        "é😀",
        "AaAa",
        "BBBB",
    ]


def test_properties_are_asked_for_by_name_before_and_after_writing() -> None:
    sink = MemorySink()
    properties = {
        "jcr:primaryType": Property.name("nt:base"),
        "jcr:mixinTypes": Property.names(["mix:a"]),
        "a": Property.of(1),
        "b": Property.of("text"),
    }
    committed(sink, Model(properties))
    state = sink.node().child("root")
    assert state is not None
    builder = NodeBuilder(state)
    for name, prop in properties.items():
        assert state.property(name) == builder.property(name) == prop
    builder.set("a", Property.of(2))
    builder.remove_property("b")
    assert builder.property("a") == Property.of(2)
    assert builder.property("b") is None and builder.property("c") is None
    assert state.property("c") is None and NodeBuilder().property("a") is None


def test_the_stable_id_of_a_new_node_is_its_own() -> None:
    sink = MemorySink()
    head = committed(sink, Model())
    assert sink.node().stable_id == head


def test_one_changed_property_far_down_shares_the_rest() -> None:
    sink = MemorySink()
    wide = Model({}, {f"n{i}": Model({"x": Property.of(i)}, {"sub": Model()}) for i in range(500)})
    committed(sink, Model({}, {"wide": wide, "other": Model({}, {"a": Model(), "b": Model()})}))
    before = sink.node()
    segments = set(sink.segments)
    writer = opened(sink, 2)
    super_root = writer.super_root()
    super_root.child("root").child("wide").child("n77").set("x", Property.of(-1))
    writer.commit(super_root)
    [added] = set(sink.segments) - segments
    nodes = [record for record in records(sink.segments[added]) if record.type == NODE]
    assert len(nodes) == 4
    old, new = (state.child("root") for state in (before, sink.node()))
    assert old is not None and new is not None
    assert new.child_id("other") == old.child_id("other")
    old_wide, new_wide = old.child("wide"), new.child("wide")
    assert old_wide is not None and new_wide is not None
    assert {n for n, i in new_wide.child_ids() if old_wide.child_id(n) != i} == {"n77"}
    old_node, new_node = old_wide.child("n77"), new_wide.child("n77")
    assert old_node is not None and new_node is not None
    assert new_node.template_id == old_node.template_id
    assert new_node.child_id("sub") == old_node.child_id("sub")


def test_unchanged_property_values_are_shared_with_the_old_node() -> None:
    sink = MemorySink()
    committed(sink, Model({"big": Property.of(bytes(50_000)), "x": Property.of(1)}))
    written = sum(map(len, sink.segments.values()))
    writer = opened(sink, 2)
    super_root = writer.super_root()
    super_root.child("root").set("x", Property.of(2))
    writer.commit(super_root)
    assert sum(map(len, sink.segments.values())) - written < 1000
    assert model_of(sink.node()).children["root"].properties["big"] == Property.of(bytes(50_000))


def test_a_commit_without_a_change_writes_no_journal_line() -> None:
    sink = MemorySink()
    head = committed(sink, Model({}, {"a": Model(), "b": Model()}))
    writer = opened(sink, 2)
    super_root = writer.super_root()
    assert not super_root.child("root").child("a").remove_child("not there")
    assert writer.commit(super_root) == head
    assert len(sink.journal) == 1


def test_a_stored_subtree_can_be_attached_moved_and_changed() -> None:
    sink = MemorySink()
    writer = opened(sink)
    early = NodeBuilder()
    build(Model({}, {"x": Model({"p": Property.of(1)}), "y": Model()}), early)
    state = writer.write(early)
    super_root = writer.super_root()
    root = super_root.child("root")
    root.set_child("one", state)
    root.set_child("two", state)
    root.child("two").child("x").set("p", Property.of(2))
    assert root.has_child("one") and sorted(root.child_names()) == ["one", "two"]
    writer.commit(super_root)
    found = model_of(sink.node()).children["root"]
    assert found.children["one"].children["x"].properties == {"p": Property.of(1)}
    assert found.children["two"].children["x"].properties == {"p": Property.of(2)}
    assert found.children["two"].children["y"] == Model()


def test_a_chain_deeper_than_the_stack_is_written_read_and_digested() -> None:
    sink = MemorySink()
    writer = opened(sink)
    super_root = writer.super_root()
    node = super_root.child("root")
    for _ in range(5000):
        node = node.child("c")
    writer.commit(super_root)
    assert content_digest(sink.node()).nodes == 5002


def test_new_segments_carry_the_generation_of_the_head_but_are_not_compacted() -> None:
    sink = MemorySink()
    committed(sink, Model())
    [(segment, data)] = sink.segments.items()
    raw = bytearray(data)
    raw[4:8], raw[10:14] = (0x80000002).to_bytes(4, "big"), (3).to_bytes(4, "big")
    sink.segments[segment] = bytes(raw)
    writer = opened(sink, 2)
    super_root = writer.super_root()
    super_root.child("root").child("new")
    head = writer.commit(super_root)
    assert head.segment != segment
    assert sink.node().reader.generation(head.segment) == Generation(3, 2, False)


def test_a_child_without_a_name_is_refused() -> None:
    builder = NodeBuilder()
    with pytest.raises(ContentError, match="needs a name"):
        builder.child("")
    sink = MemorySink()
    committed(sink, Model())
    with pytest.raises(ContentError, match="needs a name"):
        builder.set_child("", sink.node())


# Edits against a model

EDIT = st.one_of(
    st.tuples(st.just("set"), PROPERTY_NAMES, SMALL_PROPERTIES),
    st.tuples(st.just("unset"), PROPERTY_NAMES, st.none()),
    st.tuples(st.just("child"), NAMES, models(SMALL_PROPERTIES)),
    st.tuples(st.just("grow"), st.integers(1, 70), st.none()),
    st.tuples(st.just("remove"), st.integers(0, 80), st.none()),
)
STEPS = st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=3), EDIT), max_size=6)


def steps_down(path: list[int], model: Model) -> Iterator[tuple[str, Model]]:
    """The children that the numbers of `path` choose, as far as there are any."""
    for choice in path:
        if not model.children:
            return
        name = sorted(model.children)[choice % len(model.children)]
        model = model.children[name]
        yield name, model


def apply_edit(builder: NodeBuilder, model: Model, edit: tuple[str, object, object]) -> None:
    kind, what, value = edit
    if kind == "set":
        builder.set(what, value)
        model.properties[what] = value
    elif kind == "unset":
        builder.remove_property(what)
        model.properties.pop(what, None)
    elif kind == "child":
        builder.remove_child(what)
        build(value, builder.child(what))
        model.children[what] = copy.deepcopy(value)
    elif kind == "grow":
        for number in range(what):
            builder.child(f"n{number}").set("x", Property.of(number))
            child = model.children.setdefault(f"n{number}", Model())
            child.properties["x"] = Property(PropertyType.LONG, (str(number),))
    else:
        for name in sorted(model.children)[:what]:
            assert builder.remove_child(name)
            del model.children[name]


@settings(max_examples=80)
@given(models(SMALL_PROPERTIES), st.lists(STEPS, max_size=5))
def test_any_edits_over_several_commits_equal_the_model(
    model: Model, commits: list[list[tuple[list[int], tuple[str, object, object]]]]
) -> None:
    sink = MemorySink()
    head = committed(sink, model)
    model = copy.deepcopy(model)
    history = [(head, copy.deepcopy(model))]
    for number, steps in enumerate(commits):
        writer = opened(sink, number + 2)
        super_root = writer.super_root()
        for path, edit in steps:
            builder, target = super_root.child("root"), model
            for name, below in steps_down(path, model):
                builder, target = builder.child(name), below
            apply_edit(builder, target, edit)
        history.append((writer.commit(super_root), copy.deepcopy(model)))
    for head, then in history:
        assert model_of(sink.node(head)) == Model({}, {"root": then})
