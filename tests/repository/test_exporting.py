"""Trees as lines of JSON: what goes out comes in again, and what was cut or changed does not."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import content
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import MemorySink, Model, build, model_of, models

from tarfailover import repository
from tarfailover.errors import ConfigError, ContentError, NotFoundError
from tarfailover.ids import RecordId
from tarfailover.repository import importing
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.digest import content_digest
from tarfailover.repository.exporting import DATA, export
from tarfailover.repository.importing import Imported, import_tree
from tarfailover.repository.opened import Revision
from tarfailover.repository.tree import Node
from tarfailover.repository.usage import usage
from tarfailover.repository.values import Property

pytestmark = pytest.mark.load


def opened(sink: MemorySink, seed: int = 1) -> RepositoryWriter:
    return RepositoryWriter(sink, random.Random(seed).randbytes, wid="t", now=lambda: 1)


def committed(model: Model) -> MemorySink:
    sink = MemorySink()
    writer = opened(sink)
    super_root = writer.super_root()
    build(model, super_root.child("root"))
    writer.commit(super_root)
    return sink


def exported(sink: MemorySink, path: str = "/") -> list[bytes]:
    revision = Revision(Node(sink.node()), 1)
    return [json.dumps(line).encode() + b"\n" for line in export(revision, revision.node(path))]


def imported(
    lines: list[bytes], sink: MemorySink | None = None, path: str = "/", *, replace: bool = False
) -> tuple[MemorySink, Imported]:
    into = MemorySink() if sink is None else sink
    found = import_tree(opened(into, 2), io.BytesIO(b"".join(lines)), path, replace=replace)
    return into, found


@settings(max_examples=60)
@given(models())
def test_what_goes_out_comes_in_again(model: Model) -> None:
    source = committed(model)
    lines = exported(source)
    into, found = imported(lines)
    assert model_of(into.node()).children["root"] == model
    assert exported(into)[1:] == lines[1:]
    root = source.node().child("root")
    assert root is not None
    assert found.digest == content_digest(root)
    assert json.loads(lines[-1])["sha256"] == found.digest.sha256


SMALL = Model(
    {
        "jcr:primaryType": Property.name("nt:base"),
        "data": Property.of([random.Random(5).randbytes(DATA + 5), b""]),
    },
    {
        "a": Model({"x": Property.of(1)}, {"b": Model()}),
        "c": Model({"long": Property.of("ä" * 9000)}),
    },
)
LINES = exported(committed(SMALL))


def test_the_lines_are_what_is_documented() -> None:
    first, *nodes, last = map(json.loads, LINES)
    assert first == {
        "tarfailover": "tree",
        "version": 1,
        "path": "/",
        "head": first["head"],
        "time_ms": 1,
    }
    assert [(line["depth"], line["name"]) for line in nodes if "name" in line] == [
        (0, ""),
        (1, "a"),
        (2, "b"),
        (1, "c"),
    ]
    assert nodes[0]["properties"]["data"] == {
        "type": "BINARY",
        "values": [{"length": DATA + 5}, {"length": 0}],
    }
    assert [len(line["data"]) for line in nodes if "data" in line] == [DATA * 4 // 3, 8]
    assert (last["end"], last["nodes"], last["properties"], last["binary_bytes"]) == (
        True,
        4,
        4,
        DATA + 5,
    )


@given(st.data())
def test_lines_that_were_lost_doubled_or_moved_are_never_committed(data: st.DataObject) -> None:
    lines = list(LINES)
    one = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda each: each != one))
    how = data.draw(st.sampled_from(["lose", "double", "swap", "cut"]))
    if how == "lose":
        del lines[one]
    elif how == "double":
        lines.insert(other, lines[one])
    elif how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one:] = [lines[one][: len(lines[one]) // 2]]
    sink = MemorySink()
    with pytest.raises(ContentError, match="nothing was committed"):
        imported(lines, sink)
    assert sink.journal == []


@settings(max_examples=200)
@given(st.data())
def test_any_change_of_a_byte_is_refused_or_gives_the_same_tree(data: st.DataObject) -> None:
    raw = bytearray(b"".join(LINES))
    place = data.draw(st.integers(0, 900) | st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    sink = MemorySink()
    try:
        _, found = imported([bytes(raw)], sink)
    except ContentError:
        assert sink.journal == []
    else:  # the digest left out, or a byte of the first line
        assert found.digest[:3] == (4, 4, DATA + 5)


HEAD = LINES[0]
END = b'{"end":true,"nodes":1,"properties":1,"binary_bytes":0,"sha256":null}\n'


def node(properties: object, **more: object) -> bytes:
    return json.dumps({"depth": 0, "name": "", "properties": properties, **more}).encode() + b"\n"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "line 1: the tree is cut off here"),
        ([b"[]\n"], "no JSON object"),
        ([b'{"tarfailover": "tree", "version": 2}\n'], "no tree of version 1"),
        ([HEAD, END], "are said, .0, 0, 0. came"),
        ([HEAD, b"[" * 100_000], "no JSON"),
        ([HEAD, b"9" * 9999], "no JSON"),
        ([HEAD, b"\xff\n"], "no JSON"),
        ([HEAD, node({}, depth=1)], "a node of depth 1 cannot stand here"),
        ([HEAD, node({}), node({})], "a node of depth 0 cannot stand here"),
        ([HEAD, node({}), node({}, depth=-1)], "a node of depth -1"),
        ([HEAD, node({}), node({}, depth=True)], "it is no node"),
        ([HEAD, node({}), node({}, depth=1)], "it has no name"),
        ([HEAD, node({}), node({}, depth=1, name=7)], "7 is no text"),
        ([HEAD, node({}), node({}, depth=1, name="\ud800")], "lone surrogate"),
        ([HEAD, node({}), *2 * [node({}, depth=1, name="a")]], "a child 'a' already"),
        ([HEAD, node([])], "it is no node"),
        ([HEAD, node({"x": 1})], "property 'x' has no type"),
        ([HEAD, node({"x": {"type": "NONE", "value": "1"}})], "no type that there is"),
        ([HEAD, node({"x": {"type": "LONG", "values": "1"}})], "or no list"),
        ([HEAD, node({"x": {"type": "LONG", "value": 1}})], "1 is no text"),
        ([HEAD, node({"x": {"type": "BINARY", "value": "1"}})], "is no binary"),
        ([HEAD, node({"x": {"type": "BINARY", "value": {"length": -1}}})], "is no binary"),
        (
            [HEAD, node({"x": {"type": "BINARY", "value": {"external": "i"}}})],
            "is in a blob store: say where",
        ),
        ([HEAD, node({"x": {"type": "BINARY", "value": {"length": 5}}}), END], "is no text"),
        (
            [HEAD, node({"x": {"type": "BINARY", "value": {"length": 2}}}), b'{"data":"YWJj"}\n'],
            "3 bytes where 2 are left",
        ),
        (
            [HEAD, node({"x": {"type": "BINARY", "value": {"length": 2}}}), b'{"data":"%"}\n'],
            "no base64",
        ),
        ([HEAD, node({"x": {"type": "LONG", "value": "1"}}), END, b"\n"], "more behind the end"),
    ],
)
def test_what_is_no_tree_is_told_with_its_line(lines: list[bytes], why: str) -> None:
    sink = MemorySink()
    with pytest.raises(ContentError, match=why):
        imported(lines, sink)
    assert sink.journal == []


def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_LINE", 200)
    with pytest.raises(ContentError, match="longer than 200 bytes"):
        imported(LINES)


def test_a_tree_without_a_digest_is_believed() -> None:
    line = node({"x": {"type": "LONG", "value": "1"}})
    sink, _ = imported([HEAD, line, END])
    assert model_of(sink.node()).children["root"] == Model({"x": Property.of(1)})


def test_where_a_tree_goes() -> None:
    sink = committed(Model({}, {"content": Model({}, {"old": Model({"x": Property.of(1)})})}))
    before = len(sink.journal)
    for path, error, why in [
        ("/content/old", ContentError, "/content/old is there already"),
        ("/", ContentError, "/ is there already"),
        ("/nowhere/new", NotFoundError, "no /nowhere to import into"),
        ("/a/b/c", NotFoundError, "no /a to import into"),
        ("\\x", ConfigError, "a backslash"),
    ]:
        with pytest.raises(error, match=why):
            imported(LINES, sink, path)
    assert len(sink.journal) == before
    _, found = imported(LINES, sink, "content/new")
    assert found.path == "/content/new"
    assert imported(LINES, sink, "/content/old", replace=True)[1].head == sink.head
    root = model_of(sink.node()).children["root"]
    assert root.children["content"].children == {"old": SMALL, "new": SMALL}
    imported(LINES, sink, replace=True)
    assert model_of(sink.node()) == Model({}, {"root": SMALL})


def test_a_deep_tree_needs_no_recursion() -> None:
    depth = 5000
    lines = [HEAD] + [node({}, depth=each, name="c" if each else "") for each in range(depth)]
    end = json.dumps({"end": True, "nodes": depth, "properties": 0, "binary_bytes": 0})
    sink, _ = imported([*lines, end.encode()])
    assert exported(sink)[1:-1] == lines[1:]
    assert usage(Node(sink.node())).nodes == depth + 1


def test_external_binaries_are_named_and_leave_no_digest(tmp_path: Path) -> None:
    content.write(
        tmp_path / "far",
        lambda root, writer: (
            root.set("far", Property.of(content.external(writer, "abc#5"))) and None
        ),
    )
    with repository.open(tmp_path / "far") as store:
        lines = list(export(store.head, store.root))
        assert lines[1]["properties"]["far"]["value"] == {"external": "abc#5"}
        assert lines[-1]["sha256"] is None
        assert (usage(store.root).external, usage(store.root).external_bytes) == (1, 5)


@pytest.mark.parametrize("name", ["fresh", "compacted", "killed"])
def test_what_real_oak_wrote_comes_through(fixture_store: Callable[[str], Path], name: str) -> None:
    with repository.open(fixture_store(name)) as store:
        lines = [json.dumps(line).encode() + b"\n" for line in export(store.head, store.root)]
        expected = content_digest(store.root.state)
        assert usage(store.root).nodes == expected.nodes
        assert usage(store.root).binary_bytes == expected.blob_bytes
    sink, found = imported(lines)
    assert found.digest == expected
    root = sink.node().child("root")
    assert root is not None and content_digest(root) == expected
    assert isinstance(found.head, RecordId)
