"""``diff``, ``history``, ``log``: what they print, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import content
import pytest

from tarfailover import repository
from tarfailover.cli import changes, main
from tarfailover.errors import SegmentMissingError
from tarfailover.ids import RecordId
from tarfailover.repository import history as histories
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.tree import Node
from tarfailover.repository.values import Property

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]


def first(root: NodeBuilder, _: RepositoryWriter) -> None:
    page = root.child("content").child("page")
    page.set("title", Property.of("old")).set("x", Property.of(1))
    page.child("a").child("b")
    root.child("other")


def second(root: NodeBuilder, _: RepositoryWriter) -> None:
    page = root.child("content").child("page")
    page.set("title", Property.of("new\x1b")).set("y", Property.of([1]))
    page.remove_property("x")
    page.remove_child("a")
    page.child("c").child("d")


def third(root: NodeBuilder, _: RepositoryWriter) -> None:
    root.child("other").set("z", Property.of(1))


def fourth(root: NodeBuilder, _: RepositoryWriter) -> None:
    root.child("content").child("page").child("c").set("z", Property.of(1))


@pytest.fixture
def heads(tmp_path: Path) -> list[RecordId]:
    return content.write(tmp_path / "store", first, second, third, fourth)


@pytest.fixture
def store(tmp_path: Path, heads: list[RecordId]) -> Path:
    assert heads
    return tmp_path / "store"


def test_diff(store: Path, run_text: Text) -> None:
    assert run_text("diff", store, "head~3", "head~2") == (
        1,
        [
            "~  /content/page",
            "    ~  title  STRING  old → new\\u001b",
            "    -  x  LONG  1",
            "    +  y  LONG[]  [1]",
            "-  /content/page/a",
            "+  /content/page/c",
            "5 changes",
        ],
    )
    whole = run_text("diff", "--all", store, "head~3", "head~2")[1]
    assert "-  /content/page/a/b" in whole and "+  /content/page/c/d" in whole
    assert run_text("diff", "--path", "/content", store, "head~2", "head~1") == (0, ["equal"])
    assert run_text("diff", "--path", "/content/page/c", store, "head~3")[1] == [
        "+  /content/page/c",
        "1 change",
    ]
    lines = run_text("diff", "--limit", "2", store, "head~3")[1]
    assert lines[-2:] == ["more changes are not shown; --limit 8 shows more of them", "2 changes"]


def test_diff_json(
    store: Path, heads: list[RecordId], run_json: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = run_json("diff", store, "head~3", "head~2", "--all")
    assert code == 1
    assert capsys.readouterr().err == ""
    assert (document["old"]["id"], document["new"]["id"]) == (str(heads[0]), str(heads[1]))
    assert (document["same"], document["more"]) == (False, False)
    assert document["changes"][0] == {
        "change": "changed",
        "path": "/content/page",
        "property": "title",
        "old": {"type": "STRING", "array": False, "value": "old"},
        "new": {"type": "STRING", "array": False, "value": "new\x1b"},
    }
    nodes = [(each["change"], each["path"]) for each in document["changes"] if not each["property"]]
    assert nodes == [
        ("removed", "/content/page/a"),
        ("removed", "/content/page/a/b"),
        ("added", "/content/page/c"),
        ("added", "/content/page/c/d"),
    ]
    assert run_json("diff", store, "head")[1]["same"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("head~9",), 19, "no 9 older heads"),
        (("head~1", "--path", "/nowhere"), 19, "no /nowhere in either"),
        (("nonsense",), 19, "names no state"),
    ],
)
def test_diff_of_what_is_not_there(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, why: str
) -> None:
    assert main(["diff", str(store), *arguments]) == code
    assert why in capsys.readouterr().err


def test_history(store: Path, heads: list[RecordId], run_text: Text, run_json: Json) -> None:
    times = [each["time"] for each in run_json("journal", store)[1]["lines"]][::-1]
    assert run_text("history", store, "/content/page") == (
        0,
        [
            f"{times[3]}  {heads[3]}  changed below",
            f"{times[1]}  {heads[1]}  changed: 3 properties",
            f"{times[0]}  {heads[0]}  present, and no older head is left",
        ],
    )
    lines = run_text("history", "--properties", store, "/content/page")[1]
    assert lines[2] == "    ~  title  STRING  old → new\\u001b"
    assert [line.split()[-1] for line in run_text("history", store, "/content/page/a")[1][:1]] == [
        "removed"
    ]
    assert [
        each["change"] for each in run_json("history", store, "/content/page/c")[1]["moments"]
    ] == [
        "changed",
        "added",
    ]
    lines = run_text("history", "--limit", 1, store, "/content/page")[1]
    assert lines[1].startswith("older changes are not shown")


def test_history_of_what_never_was(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(store), "/content/pgae"]) == 19
    assert "did you mean /content/page?" in capsys.readouterr().err


def test_log(store: Path, heads: list[RecordId], run_text: Text, run_json: Json) -> None:
    code, lines = run_text("log", "--changes", store)
    assert code == 0
    assert [line.split("0/0")[1].strip() for line in lines[1:]] == [
        "~1  /content/page/c",
        "~1  /other",
        "+1 -1 ~1  /content/page",
        "unknown: no older head is left",
    ]
    document = run_json("log", "--changes", "--limit", 2, store)[1]
    assert [each["id"] for each in document["heads"]] == [str(heads[3]), str(heads[2])]
    assert document["more"] is True
    assert document["heads"][1]["changes"] == {
        "added": 0,
        "removed": 0,
        "changed": 1,
        "properties": 1,
        "path": "/other",
    }
    assert run_text("log", "--limit", 1, store)[1][-1].startswith("older heads are not shown")


def test_log_tells_the_checkpoints_of_a_store_of_oak(
    fixture_store: Callable[[str], Path], run_text: Text, run_json: Json
) -> None:
    """After two compactions too: stable ids tell that what was only moved is equal."""
    store = fixture_store("compacted")
    lines = run_text("log", "--changes", store)[1]
    assert [line.split("compacted")[-1].split()[-1] for line in lines[1:6]] == [
        "none",
        "/",
        "/wide",
        "none",
        "/wide",
    ]
    assert lines[-1].endswith("creator=peer")
    [checkpoint] = run_json("log", store)[1]["checkpoints"]
    assert checkpoint["info"] == {"creator": "peer"}
    assert (
        run_json("ls", "--at", checkpoint["name"], store)[1]["head"]["checkpoint"]
        == checkpoint["name"]
    )


def test_an_older_head_that_cleanup_has_eaten_into_ends_the_history(
    store: Path, run_text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleanup may leave the segment of an old head, and take what that needs."""
    taken = run_text("journal", store)[1][3].split()[1]

    def lookup(top: Node, names: list[str]) -> Node | None:
        if str(repository_heads[top.record]) == taken:
            raise SegmentMissingError("gone")
        return histories.lookup_plainly(top, names)

    with repository.open(store) as opened:
        repository_heads = {
            opened.revision(line.head).root.record: line.head for line in opened.heads()
        }
    monkeypatch.setattr(histories, "lookup_plainly", histories.lookup, raising=False)
    monkeypatch.setattr(histories, "lookup", lookup)
    lines = run_text("history", store, "/content/page")[1]
    assert [line.split("  ")[-1] for line in lines] == [
        "changed below",
        "present, and no older head is left",
    ]

    def summary(*_: Node) -> None:
        raise SegmentMissingError("gone")

    monkeypatch.setattr(changes, "summary", summary)
    lines = run_text("log", "--changes", store)[1]
    assert all(line.endswith("unknown: no older head is left") for line in lines[1:])
