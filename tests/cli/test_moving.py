"""``export``, ``import``, ``du``, and the digest of a part: as somebody uses them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import content
import pytest

from tarfailover.cli import main
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.values import Property
from tarfailover.store.lock import RepositoryLock

pytestmark = pytest.mark.load

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]


def fill(root: NodeBuilder, writer: RepositoryWriter) -> None:
    page = root.child("content").child("page")
    page.set("title", Property.of("ä" * 10))
    page.set("data", Property.of(writer.blob(bytes(20_000))))
    page.child("a").set("x", Property.of(1))
    root.child("other").set("longs", Property.of([1, 22]))
    root.child("other").set("far", Property.of(content.external(writer, "abc#5000")))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    content.write(tmp_path / "store", fill)
    return tmp_path / "store"


def run(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tarfailover", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)


def test_a_tree_through_pipes_into_a_new_store(
    store: Path, tmp_path: Path, run_json: Json, run_text: Text
) -> None:
    exported = run("export", store, "/content")
    assert (exported.returncode, exported.stderr) == (0, b"")
    assert json.loads(exported.stdout.splitlines()[0])["path"] == "/content"
    new = tmp_path / "new"
    cut = run("import", "--create", new, "/", given=exported.stdout[:-5])
    assert cut.returncode == 18
    assert cut.stderr.startswith(b"tarfailover: line ")
    done = run("import", "--create", "--json", new, "/", given=exported.stdout)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["nodes"], document["properties"], document["blob_bytes"]) == (3, 3, 20_000)
    assert run_json("head", new)[1]["head"]["id"] == document["head"]["id"]
    assert run_json("digest", new, "/")[1]["sha256"] == document["sha256"]
    assert run_json("digest", store, "/content")[1]["sha256"] == document["sha256"]
    assert run_text("check", "--deep", new)[1][-1] == "no fault"
    assert run_json("check", new)[1]["faults"] == 0


def give(monkeypatch: pytest.MonkeyPatch, lines: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))


def test_import_from_a_file_beside_what_is_there(
    store: Path, tmp_path: Path, run_text: Text, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(store), "/content/page"]) == 0
    file = tmp_path / "page.json"
    file.write_text(capsys.readouterr().out)
    code, lines = run_text("import", "--input", file, store, "/other/copy")
    assert (code, lines[1]) == (0, "stored  2 nodes, 3 properties, 19.5 KiB of binaries")
    assert run_text("diff", store, "head~1")[1] == ["+  /other/copy", "1 change"]
    assert main(["import", "--input", str(file), str(store), "/other/copy"]) == 18
    assert "is there already" in capsys.readouterr().err
    assert run_text("import", "--replace", "--input", file, store, "/other/copy")[0] == 0
    assert main(["import", "--input", str(tmp_path / "none"), str(store), "/x"]) == 17


@pytest.mark.parametrize(("path", "code"), [("/nowhere/x", 19), ("/x\\", 2)])
def test_import_to_where_nothing_can_be(
    store: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: int
) -> None:
    give(monkeypatch, b"")
    assert main(["import", str(store), path]) == code


def test_import_into_a_store_in_use(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, b"")
    lock = RepositoryLock.acquire(store)
    try:
        assert run("import", store, "/x").returncode == 15
    finally:
        lock.release()
    assert main(["import", str(store / "none"), "/x"]) == 11
    assert capsys.readouterr().err


def test_an_error_of_export_is_no_line_of_the_tree(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--json", str(store), "/nowhere"]) == 19
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "there is no /nowhere" in printed.err


def test_du(store: Path, run_text: Text, run_json: Json) -> None:
    code, lines = run_text("du", store)
    assert code == 0
    assert [line.split() for line in lines[1:]] == [
        ["/content", "3", "3", "21", "bytes", "19.5", "KiB"],
        ["/other", "1", "2", "3", "bytes", "0", "bytes", "1", "4.9", "KiB"],
        ["/", "(total)", "5", "5", "24", "bytes", "19.5", "KiB", "1", "4.9", "KiB"],
    ]
    document = run_json("du", store, "/content")[1]
    assert document["total"] == {
        "nodes": 3,
        "properties": 3,
        "text_bytes": 21,
        "binary_bytes": 20_000,
        "external": 0,
        "external_bytes": 0,
    }
    assert document["own"]["nodes"] == 1
    assert [child["path"] for child in document["children"]] == ["/content/page"]


def test_the_digest_at_another_state(store: Path, run_json: Json) -> None:
    before = run_json("digest", store, "/content")[1]["sha256"]
    content.write(
        store, lambda root, _: root.child("content").remove_child("page") and None, seed=2
    )
    assert run_json("digest", store, "/content")[1]["sha256"] != before
    assert run_json("digest", "--at", "head~1", store, "/content")[1]["sha256"] == before
