"""``ls``, ``cat``, ``tree``: what they print, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import content
import pytest

from tarfailover.cli import browsing, main
from tarfailover.errors import FormatError
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.values import Property

pytestmark = pytest.mark.load

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]
BYTES = bytes(range(256)) * 100


def fill(root: NodeBuilder, writer: RepositoryWriter) -> None:
    page = root.child("content").child("page")
    page.set("jcr:primaryType", Property.name("nt:page"))
    page.set("title", Property.of("two\nlines \x1b[31m\\"))
    page.set("longs", Property.of(list(range(20))))
    page.set("text", Property.of("x" * 500))
    page.set("data", Property.of(writer.blob(BYTES)))
    page.set("datas", Property.of([b"a", b"bb"]))
    page.set("far", Property.of(content.external(writer, "abc#5")))
    page.child("a/b").child("c")
    page.child("red\x1b[31m")
    for number in range(12):
        root.child("wide").child(f"n{number}")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    content.write(
        tmp_path / "store",
        fill,
        lambda root, _: root.child("new").set("x", Property.of(1)) and None,
    )
    return tmp_path / "store"


def test_ls(store: Path, run_text: Text) -> None:
    assert run_text("ls", store, "/content/page") == (
        0,
        [
            "name           type  children  properties",
            "a\\u002fb                    1",
            "red\\u001b[31m",
        ],
    )
    assert run_text("ls", store, "content") == (
        0,
        ["name  type     children  properties", "page  nt:page         2           7"],
    )
    assert run_text("ls", store, "content/page/a\\u002fb/c")[1] == [
        "/content/page/a\\u002fb/c has no children"
    ]


def test_ls_is_cut_and_says_so(store: Path, run_text: Text, run_json: Json) -> None:
    lines = run_text("ls", "--limit", 3, store, "/wide")[1]
    assert lines[1:] == ["n0", "n1", "n10", "9 more are not shown; --limit 0 shows all 12"]
    assert len(run_text("ls", "--limit", 0, store, "/wide")[1]) == 13
    document = run_json("ls", "--limit", 3, store, "/wide")[1]
    assert (document["count"], document["more"], len(document["children"])) == (12, True, 3)


def test_ls_json_at_an_older_head(store: Path, run_json: Json) -> None:
    code, document = run_json("ls", "--at", "head~1", store)
    assert code == 0
    assert [child["path"] for child in document["children"]] == ["/content", "/wide"]
    assert document["children"][1] == {
        "name": "wide",
        "path": "/wide",
        "type": None,
        "children": 12,
        "properties": 0,
        "record": document["children"][1]["record"],
    }
    assert document["head"]["id"] != run_json("ls", store)[1]["head"]["id"]


def test_cat_of_a_node(store: Path, run_text: Text, run_json: Json) -> None:
    lines = run_text("cat", store, "/content/page")[1]
    assert lines[0] == "node      /content/page"
    assert lines[3:] == [
        "property         type      value",
        "data             BINARY    <25.0 KiB>",
        "datas            BINARY[]  [<1 byte>, <2 bytes>]",
        "far              BINARY    <external abc#5>",
        "jcr:primaryType  NAME      nt:page",
        "longs            LONG[]    [0, 1, 2, 3, 4, 5, 6, 7, … (20 values)]",
        f"text             STRING    {'x' * 120}… (500 characters)",
        "title            STRING    two\\u000alines \\u001b[31m\\",
    ]
    found = run_json("cat", store, "/content/page")[1]["properties"]
    assert found["data"] == {"type": "BINARY", "array": False, "value": {"length": 25600}}
    assert found["far"]["value"] == {"external": "abc#5"}
    assert found["longs"]["values"] == [str(number) for number in range(20)]
    assert found["title"]["value"] == "two\nlines \x1b[31m\\"


def test_cat_of_one_property(
    store: Path, run_text: Text, run_json: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (store, "/content/page")
    assert main(["cat", *map(str, page), "title"]) == 0
    assert capsys.readouterr().out == "two\nlines \x1b[31m\\\n"
    assert run_text("cat", *page, "longs")[1] == [str(number) for number in range(20)]
    assert run_text("cat", "--index", 7, *page, "longs")[1] == ["7"]
    assert run_json("cat", "--index", 1, *page, "datas")[1]["value"] == {"length": 2}
    document = run_json("cat", *page, "text")[1]
    assert (document["property"], document["type"], document["value"]) == (
        "text",
        "STRING",
        "x" * 500,
    )


def test_cat_of_a_binary_gives_its_bytes(store: Path) -> None:
    def cat(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "tarfailover", "cat", str(store), "/content/page"]
        return subprocess.run(
            [*command, *arguments], stdout=subprocess.PIPE, check=True, timeout=60
        ).stdout

    assert cat("data") == BYTES
    assert cat("datas", "--index", "1") == b"bb"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("/content/pge",), 19, "no /content/pge; did you mean /content/page?"),
        (("/content/page", "titel"), 19, "has no property titel; did you mean title?"),
        (("/content/page", "far"), 18, "external blob store"),
        (("/content/page", "datas"), 2, "choose one with --index"),
        (("/content/page", "title", "--index", "0"), 2, "property title is no array"),
        (("/content/page", "longs", "--index", "20"), 2, "an array of 20 values"),
        (("/", "--at", "yesterday"), 19, "names no state of the repository"),
        (("\\",), 2, "a backslash in a name"),
    ],
)
def test_cat_of_what_cannot_be_shown(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, why: str
) -> None:
    assert main(["cat", str(store), *arguments]) == code
    assert why in capsys.readouterr().err
    assert main(["cat", "--json", str(store), *arguments]) in (code, 0)
    document = json.loads(capsys.readouterr().out)
    assert "error" not in document or why in document["error"]["message"]


def test_tree(store: Path, run_text: Text) -> None:
    assert run_text("tree", store, "/content", "--depth", 3) == (
        0,
        [
            "/content  (1)",
            "└── page  nt:page  (2)",
            "    ├── a\\u002fb  (1)",
            "    │   └── c",
            "    └── red\\u001b[31m",
        ],
    )
    lines = run_text("tree", store, "--limit", 2)[1]
    assert lines == [
        "/  (3)",
        "├── content  (1)",
        "more nodes are not shown; --limit 8 shows more of them",
    ]


def test_tree_json(store: Path, run_json: Json) -> None:
    document = run_json("tree", store, "--depth", 0, "--limit", 0)[1]
    assert document["more"] is False
    assert [(node["depth"], node["path"]) for node in document["nodes"][:4]] == [
        (0, "/"),
        (1, "/content"),
        (2, "/content/page"),
        (3, "/content/page/a\\u002fb"),
    ]
    assert len(document["nodes"]) == 20
    assert run_json("tree", store, "--limit", 2)[1]["more"] is True


def test_an_error_in_the_middle_of_a_list_ends_it_as_one_document(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise FormatError("damaged", 7, "segment x")

    monkeypatch.setattr(browsing, "node_document", broken)
    assert main(["tree", "--json", str(store)]) == 10
    document = json.loads(capsys.readouterr().out)
    assert document["nodes"] == []
    assert document["error"]["message"] == "segment x, offset 7: damaged"


def test_the_wide_and_the_deep_of_a_sample(tmp_path: Path, run_json: Json, run_text: Text) -> None:
    assert main(["sample", str(tmp_path / "s"), "--nodes", "10", "--commits", "1"]) == 0
    document = run_json("tree", tmp_path / "s", "--depth", 0, "--limit", 0)[1]
    assert max(node["depth"] for node in document["nodes"]) > 100
    by_count = max(document["nodes"], key=lambda node: node["children"])
    assert by_count["children"] >= 700
    listed = run_json("ls", tmp_path / "s", by_count["path"], "--limit", 0)[1]
    assert listed["count"] == by_count["children"] == len(listed["children"])
    assert len(run_text("tree", tmp_path / "s", "--depth", 0, "--limit", 0)[1]) == len(
        document["nodes"]
    )


@pytest.mark.parametrize("command", ["ls", "cat", "tree", "du", "history"])
def test_options_may_stand_between_the_arguments(store: Path, run_json: Json, command: str) -> None:
    limit = ["--limit", 5] if command == "history" else ["--at", "head"]
    code, found = run_json(command, store, *limit, "/")
    assert (code, found) == run_json(command, *limit, store, "/")
    assert code == 0
