"""Commands that read external binaries: ``--blob-store``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blob_samples import OAK_WALKED, with_blobs

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.store.blobs import open_blob_store

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
