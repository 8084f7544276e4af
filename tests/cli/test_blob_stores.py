"""Commands that read external binaries: ``--blob-store``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blob_samples import OAK_WALKED, put, with_blobs

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.store.blobs import open_blob_store

pytestmark = pytest.mark.load

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]

KINDS = pytest.mark.parametrize("kind", ["file", "blocks"])


@KINDS
def test_digest_is_that_of_oak(tmp_path: Path, run_json: Json, kind: str) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    code, found = run_json("digest", store, "--blob-store", blobs)
    assert (code, found["sha256"]) == (0, OAK_WALKED[kind])
    code, found = run_json("digest", store, "--blob-store", blobs, "--blob-store-kind", kind)
    assert (code, found["sha256"]) == (0, OAK_WALKED[kind])
    code, found = run_json("digest", store)
    assert code == 18 and "--blob-store" in found["error"]["message"]
    code, found = run_json("digest", store, "--blob-store", tmp_path / "nowhere")
    assert code == 11
    next(open_blob_store(blobs).files()).path.unlink()
    code, found = run_json("digest", store, "--blob-store", blobs)
    assert code == 30 and "is not there" in found["error"]["message"]


@KINDS
def test_cat_gives_the_bytes(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], kind: str
) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    with repository.open(store, blobs) as opened:
        paths = [n.path for n in opened.root.walk() if "data" in n.properties]
        expected = opened.node(paths[0]).properties["data"].binary.read()
    assert main(["cat", "--blob-store", str(blobs), str(store), paths[0], "data"]) == 0
    assert capfdbinary.readouterr().out == expected
    assert main(["cat", str(store), paths[0], "data"]) == 18


@KINDS
def test_export_and_du(
    tmp_path: Path, run_json: Json, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    assert main(["export", "--blob-store", str(blobs), str(store), "/"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["sha256"] and last["binary_bytes"] == 88205
    assert main(["export", "--blob-store", str(blobs), "--by-id", str(store), "/"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["sha256"] is None and last["binary_bytes"] == 88205 - 75296
    code, found = run_json("du", "--blob-store", blobs, store)
    assert (code, found["total"]["external"], found["total"]["external_bytes"]) == (0, 4, 75296)


@KINDS
def test_check_deep_tells_what_is_whole(
    tmp_path: Path, run_text: Text, run_json: Json, kind: str
) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    code, lines = run_text("check", "--deep", store, "--blob-store", blobs)
    assert code == 0
    assert f"binaries  4 in {blobs}, of which 73.5 KiB were read" in lines
    assert lines[-1] == "no fault"
    victim = next(open_blob_store(blobs).files())
    victim.path.write_bytes(bytes(victim.size))
    code, found = run_json("check", "--deep", store, "--blob-store", blobs)
    assert code == 1 and found["faults"] == 1
    (finding,) = found["findings"]
    assert str(victim.path) in finding["what"] and "/content/" in finding["path"]
    assert finding["part"].startswith("property data")
    # The head before the first commit names no binary yet; here the journal has only one.
    assert found["whole"] == {"head": None, "checkpoints": [], "all_looked_at": True}
    code, found = run_json("check", store, "--blob-store", blobs)
    assert code == 2 and "--blob-store goes with --deep" in found["error"]["message"]


def test_a_check_that_goes_on_looks_into_the_same_blob_store(
    tmp_path: Path, run_json: Json
) -> None:
    store, blobs = with_blobs("file", tmp_path)
    resume = tmp_path / "resume"
    check = ("check", "--deep", store, "--resume", resume, "--max-duration")
    with pytest.MonkeyPatch.context() as patch:
        times = iter(range(10**6))
        patch.setattr("time.monotonic", lambda: float(next(times)))
        assert run_json(*check, 20, "--blob-store", blobs)[0] == 3
    assert resume.exists()
    code, found = run_json(*check, "1h")
    assert code == 2 and f"a check with {blobs}" in found["error"]["message"]
    code, found = run_json(*check, "1h", "--blob-store", blobs)
    assert code == 0 and found["external_bytes"] == 75296
    assert not resume.exists()


# blobs list, blobs gc


@KINDS
def test_list(tmp_path: Path, run_json: Json, run_text: Text, kind: str) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    code, found = run_json("blobs", "list", store, "--blob-store", blobs)
    assert (code, found["kind"]) == (0, kind)
    assert (found["count"], found["bytes"], found["missing"]) == (4, 75296, 0)
    assert all(each["present"] and each["length"] for each in found["binaries"])
    code, lines = run_text("blobs", "list", "--limit", 1, store, "--blob-store", blobs)
    assert code == 0
    assert lines[-2:] == [
        "3 more are not shown; --limit 0 shows all 4",
        "4 binaries, 73.5 KiB, all of them there",
    ]
    next(open_blob_store(blobs).files()).path.unlink()
    code, found = run_json("blobs", "list", store, "--blob-store", blobs)
    assert (code, found["missing"]) == (1, 1)
    code, lines = run_text("blobs", "list", store, "--blob-store", blobs)
    assert code == 1 and any("MISSING: it, or a part of it" in line for line in lines)
    assert lines[-1] == "4 binaries, 73.5 KiB, 1 of them missing"
    code, found = run_json("blobs", "list", "--missing", store, "--blob-store", blobs)
    assert (code, found["count"], found["missing"]) == (1, 4, 1)
    (only,) = found["binaries"]
    assert all("/content/run7/" in path for path in only["paths"]) and only["paths"]
    code, lines = run_text("blobs", "list", "--missing", store, "--blob-store", blobs)
    assert code == 1 and any("/content/run7/" in line for line in lines)
    other = "blocks" if kind == "file" else "file"
    code, found = run_json(
        *("blobs", "list", store, "--blob-store-kind", other, "--blob-store", tmp_path / "store")
    )
    assert (code, found["missing"]) == (1, 4)


@KINDS
def test_gc(tmp_path: Path, run_json: Json, run_text: Text, kind: str) -> None:
    store, path = with_blobs(kind, tmp_path)
    blobs = open_blob_store(path)
    put(blobs, b"garbage")
    gc = ("blobs", "gc", store, "--blob-store", path)
    code, found = run_json(*gc)
    assert (code, found["removed"], found["young"], found["needed"]) == (0, 0, 1, 4)
    code, lines = run_text(*gc, "--min-age", 0, "--dry-run")
    assert code == 0 and lines == [
        "looked at     5 files, 73.5 KiB",
        "needed        4 files",
        "would remove  1 file, 7 bytes",
    ]
    assert len(list(blobs.files())) == 5
    code, found = run_json(*gc, "--min-age", 0, "--also", store)
    assert (code, found["removed"], found["removed_bytes"]) == (0, 1, 7)
    assert found["removed_files"][0]["bytes"] == 7
    assert len(list(blobs.files())) == 4
    assert run_text(*gc)[1][-1] == "removed    0 files, 0 bytes"


def test_gc_refuses_what_oak_collects(tmp_path: Path, run_json: Json, run_text: Text) -> None:
    store, path = with_blobs("file", tmp_path)
    put(open_blob_store(path), b"garbage")
    (path / "repository-1").touch()
    gc = ("blobs", "gc", store, "--blob-store", path, "--min-age", 0)
    code, found = run_json(*gc)
    assert code == 2 and "repository-1" in found["error"]["message"]
    assert found["registered"] == ["repository-1"]
    code, lines = run_text(*gc, "--dry-run")
    assert code == 0 and "an Oak instance has registered here" in lines[0]


# writing


@KINDS
@pytest.mark.parametrize("to", ["file", "blocks"])
def test_an_import_stores_large_binaries_outside(
    tmp_path: Path, run_json: Json, kind: str, to: str
) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    exported, new = tmp_path / "exported", tmp_path / "new"
    export_to(exported, "--blob-store", blobs, store, "/content")
    into = ("--blob-store", tmp_path / "newblobs", "--blob-store-kind", to)
    code, found = run_json("import", "--create", new, "/content", "--input", exported, *into)
    assert code == 0
    _, expected = run_json("digest", store, "/content", "--blob-store", blobs)
    assert found["sha256"] == expected["sha256"]
    code, found = run_json("digest", new, "/content", *into)
    assert (code, found["sha256"]) == (0, expected["sha256"])
    _, listed = run_json("blobs", "list", new, *into)
    assert (listed["count"], listed["missing"]) == (4, 0)
    if to == kind:
        _, before = run_json("blobs", "list", store, "--blob-store", blobs)
        ids = [sorted(each["id"] for each in told["binaries"]) for told in (before, listed)]
        assert ids[0] == ids[1]
    assert run_json("check", "--deep", new, *into)[0] == 0
    assert run_json("check", new)[0] == 0


def export_to(path: Path, *arguments: object) -> None:
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert main(["export", *map(str, arguments)]) == 0


@KINDS
def test_an_import_takes_binaries_by_their_ids(tmp_path: Path, run_json: Json, kind: str) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    exported, new = tmp_path / "exported", tmp_path / "new"
    export_to(exported, store, "/content")
    command = ("import", "--create", "--input", exported, new, "/content")
    code, found = run_json(*command)
    assert code == 18 and "is in a blob store: say where it is" in found["error"]["message"]
    code, found = run_json(*command, "--blob-store", blobs)
    assert code == 0
    _, expected = run_json("digest", store, "/content", "--blob-store", blobs)
    assert found["sha256"] == expected["sha256"]
    _, found = run_json("digest", new, "/content", "--blob-store", blobs)
    assert found["sha256"] == expected["sha256"]
    victim = next(open_blob_store(blobs).files())
    victim.path.unlink()
    code, found = run_json(*command, "--replace", "--blob-store", blobs)
    assert code == 18 and "does not have the binary" in found["error"]["message"]


@KINDS
def test_a_sample_has_its_large_binaries_outside(tmp_path: Path, run_json: Json, kind: str) -> None:
    def sample(name: str) -> tuple[Path, tuple[object, ...]]:
        place = ("--blob-store", tmp_path / f"{name}blobs", "--blob-store-kind", kind)
        size = ("--nodes", 60, "--binary-kib", 40, "--commits", 2)
        assert run_json("sample", tmp_path / name, *size, *place)[0] == 0
        return tmp_path / name, place

    (one, blobs), (other, _) = sample("one"), sample("other")
    assert all((other / each.name).read_bytes() == each.read_bytes() for each in one.iterdir())
    _, found = run_json("blobs", "list", one, *blobs)
    assert found["count"] > 3 and not found["missing"]
    _, found = run_json("check", "--deep", one, *blobs)
    assert not found["faults"] and found["external_bytes"] > 600_000
    code, found = run_json("sample", tmp_path / "new", *blobs, "--blob-store-from", 100)
    assert code == 2 and "from 16512 to 262144 bytes" in found["error"]["message"]


def test_an_import_that_is_refused_leaves_nothing_on_its_way(
    tmp_path: Path, run_json: Json
) -> None:
    store, blobs = with_blobs("file", tmp_path)
    exported = tmp_path / "exported"
    export_to(exported, "--blob-store", blobs, store, "/content")
    exported.write_bytes(b"".join(exported.read_bytes().splitlines(keepends=True)[:-1]))
    place = ("--blob-store", tmp_path / "new blobs", "--blob-store-kind", "file")
    command = ("import", "--create", "--input", exported, tmp_path / "new", "/content")
    code, found = run_json(*command, *place)
    assert code == 18 and "cut off" in found["error"]["message"]
    assert not list((tmp_path / "new blobs").rglob("*.part"))
