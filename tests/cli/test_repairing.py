"""``verify`` and ``repair`` against a master, in this process and in others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blob_samples import with_blobs
from copies import sample_store
from pytest_twisted import ensureDeferred
from rot import Flip, files_of, head_segment, random_flips, small_samples, small_store
from services import Master
from stores import add_heads, leaf, make_store, tar_bytes
from twisted.internet.threads import deferToThread

from tarfailover.cli import main
from tarfailover.errors import LinkError
from tarfailover.format.blobid import Block
from tarfailover.format.tar import BLOCK
from tarfailover.store.blobs.missing import Missing, MissingBlobs
from tarfailover.store.blobs.needed import needed
from tarfailover.store.blobs.opening import open_blob_store
from tarfailover.store.durable import Disk
from tarfailover.store.follower import Follower
from tarfailover.store.state import SlaveState

pytestmark = pytest.mark.load

TAR, LAST = "data00000a.tar", "data00002a.tar"
FIRST = small_samples()[0]
SECONDS = 60


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return small_store(tmp_path / "original")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


async def run(
    capsys: pytest.CaptureFixture[str], master: Master, command: str, *rest: object
) -> tuple[int, Any]:
    """Exit code and document of a command that asks `master`."""
    capsys.readouterr()
    link = ["--master", "127.0.0.1", "--port", str(master.port)]
    code = await deferToThread(main, [command, "--json", *link, *map(str, rest)])
    return code, json.loads(capsys.readouterr().out)


def told(document: Any) -> Sequence[tuple[str, str, str | None, int | None]]:
    return [(f["side"], f["kind"], f["file"], f["offset"]) for f in document["findings"]]


@pytest.mark.parametrize("most", [4000, 3])
@ensureDeferred
async def test_equal_stores(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tarfailover.cli.peer.MAX_IDS", most)
    count = sum(len(tar) for tar in small_samples())
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
        assert (code, found["finished"], found["segments"], found["findings"]) == (
            0,
            True,
            count,
            [],
        )
        assert found["bytes_received"] < 100 * count + 200, "only digests and a list"
        code, found = await run(capsys, master, "repair", copy)
        assert (code, found["found"], found["fetched"]["segments"]) == (0, 0, 0)


@ensureDeferred
async def test_damage_is_told_with_its_side_and_mended(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = files_of(original)
    Flip(TAR, BLOCK + 9, 3).strike(copy)
    Flip(LAST, BLOCK + 700, 0).strike(original)
    Flip(LAST, 4, 1).strike(copy)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
        assert code == 1
        assert sorted(told(found)) == [
            ("both", "damaged", LAST, 0),
            ("here", "damaged", TAR, BLOCK),
        ]
        code, found = await run(capsys, master, "repair", copy)
        assert (code, found["found"], found["mended"]) == (0, 2, 2)
    assert files_of(copy) == right
    async with Master(copy) as slave:
        code, found = await run(capsys, slave, "repair", original)
        assert (code, found["mended"]) == (0, 1)
    assert files_of(original) == right, "a damaged master is mended from its copy"


@ensureDeferred
async def test_damage_on_the_master_alone(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Flip(TAR, BLOCK + 9, 3).strike(original)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
        assert (code, told(found)) == (1, [("master", "damaged", TAR, BLOCK)])
        assert str(original / TAR) in found["findings"][0]["what"]
        Flip(TAR, BLOCK + 10, 3).strike(copy)
        right = files_of(copy)
        code, found = await run(capsys, master, "repair", copy)
        assert (code, found["found"], found["mended"]) == (1, 1, 0)
        assert files_of(copy) == right, "nothing is written from a damaged master"


@ensureDeferred
async def test_other_bytes_under_one_id(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = FIRST[0]._replace(data=b"x" * len(FIRST[0].data))
    (copy / TAR).write_bytes(tar_bytes(TAR, [other, *FIRST[1:]]))
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert (code, told(found)) == (1, [("unknown", "different", TAR, BLOCK)])


@ensureDeferred
async def test_a_tar_that_is_gone(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = files_of(original)
    (copy / "data00001a.tar").unlink()
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
        assert code == 1
        assert {each["kind"] for each in found["findings"]} == {"missing"}
        code, found = await run(capsys, master, "repair", copy)
        assert (code, found["found"], found["mended"]) == (0, 1, 1)
        code, found = await run(capsys, master, "verify", copy)
        assert (code, found["findings"]) == (0, [])
    assert files_of(copy).keys() == right.keys(), "it has its number again"


@pytest.mark.parametrize("old", [False, True])
@ensureDeferred
async def test_a_master_of_another_repository_is_refused(
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    old: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would only be found to have other segments, all of them whole: that is not equal."""
    other = make_store(tmp_path / "other", {TAR: [leaf(300)]}, [leaf(300).segment])
    Flip(TAR, 4, 1).strike(copy)
    before = files_of(copy)
    if old:
        monkeypatch.setattr("tarfailover.master.packing.SUPPORTED", ())
    async with Master(other) as master:
        for command in ("repair",) if old else ("repair", "verify"):
            code, found = await run(capsys, master, command, copy)
            assert code == 24 and "another repository" in found["error"]["message"]
    assert files_of(copy) == before


@ensureDeferred
async def test_a_master_of_another_name_is_refused(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SlaveState(repository="production").save(copy, Disk())
    async with Master(original, repository="staging") as master:
        for command in ("repair", "verify"):
            code, found = await run(capsys, master, command, copy)
            assert code == 24 and "'staging'" in found["error"]["message"]
    async with Master(original) as unnamed:
        code, _ = await run(capsys, unnamed, "repair", copy)
        assert code == 0, "what has no name may be the right one: the segments tell"


@ensureDeferred
async def test_a_master_that_has_one_of_many_segments_is_none_of_another_repository(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the segments that it is asked for first it has none, but its head needs one of them."""
    newer = head_segment(99, [])
    stores = {TAR: [leaf(number) for number in range(310, 320)], LAST: [newer]}
    some = make_store(tmp_path / "some", stores, [newer.segment])
    other = make_store(tmp_path / "other", {TAR: [newer]}, [newer.segment])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tarfailover.cli.stranger.SAMPLED", 1)
        async with Master(other) as master:
            code, _ = await run(capsys, master, "repair", some)
    assert code == 0


@ensureDeferred
async def test_a_copy_that_is_behind_is_not_damaged(
    original: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = leaf(200, [FIRST[0].segment])
    (original / "data00003a.tar").write_bytes(tar_bytes("data00003a.tar", [new]))
    add_heads(original, new.segment)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert (code, found["behind"], found["findings"]) == (0, 1, [])


@ensureDeferred
async def test_a_damaged_index(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tarfailover.cli.digesting.CLOSING_SECONDS", 0.0)
    size = (copy / TAR).stat().st_size
    Flip(TAR, size - 1024 - 60, 3).strike(copy)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
        assert code == 1
        (only,) = told(found)
        assert only[:3] == ("here", "damaged", TAR)
        code, found = await run(capsys, master, "repair", copy)
        assert (code, found["mended"]) == (0, 1)


@ensureDeferred
async def test_a_tar_that_is_closed_in_this_moment(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = (copy / LAST).read_bytes()
    (copy / LAST).write_bytes(whole[:-1536])

    def closed(seconds: float) -> None:
        del seconds
        (copy / LAST).write_bytes(whole)

    monkeypatch.setattr("tarfailover.cli.digesting.time.sleep", closed)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert (code, found["findings"]) == (0, [])


@ensureDeferred
async def test_a_list_without_an_end(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tarfailover.cli.digesting.MISSING", 3)
    new = [leaf(200 + number) for number in range(5)]
    top = leaf(300, [each.segment for each in new])
    (original / "data00003a.tar").write_bytes(tar_bytes("data00003a.tar", [*new, top]))
    add_heads(original, top.segment)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert code == 20 and "no copy of it" in found["error"]["message"]


@ensureDeferred
async def test_in_parts(
    original: Path,
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tarfailover.cli.digesting.STEP", 2000)
    steps: dict[object, int] = {}

    def late(verification: object) -> bool:
        steps[verification] = steps.get(verification, 0) + 1
        return steps[verification] > 2

    monkeypatch.setattr("tarfailover.cli.digesting.Verification._late", late)
    Flip(TAR, BLOCK + 9, 3).strike(copy)
    kept = tmp_path / "kept"
    codes = []
    async with Master(original) as master:
        for _ in range(20):
            code, found = await run(capsys, master, "verify", "--resume", kept, copy)
            codes.append(code)
            if found["finished"]:
                break
    assert found["finished"] and len(codes) > 3
    assert set(codes) == {1}, "what was found before is told again"
    assert told(found) == [("here", "damaged", TAR, BLOCK)]
    assert found["segments"] == sum(len(tar) for tar in small_samples()) - 1
    assert not kept.exists()


@ensureDeferred
async def test_a_file_that_is_no_state(
    original: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.write_text("{}")
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", "--resume", kept, copy)
        assert code == 2 and str(kept) in found["error"]["message"]
        code, _ = await run(capsys, master, "verify", "--resume", copy / "kept", copy)
        assert code == 2


@ensureDeferred
async def test_over_mutual_tls(
    original: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs = tmp_path / "certs"
    assert main(["certs", "init", str(certs), "--master", "127.0.0.1", "--slave", "oak2"]) == 0
    shown = {"tls_certificate": str(certs / "master.pem"), "tls_key": str(certs / "master.key")}
    own = ["--tls-certificate", certs / "oak2.pem", "--tls-key", certs / "oak2.key"]
    async with Master(original, tls_ca=str(certs / "ca.pem"), **shown) as master:
        code, found = await run(capsys, master, "verify", "--tls-ca", certs / "ca.pem", *own, copy)
        assert (code, found["findings"]) == (0, [])
        code, found = await run(capsys, master, "verify", "--tls-ca", certs / "ca.pem", copy)
        assert code == 25 and "certificate" in found["error"]["message"]
        code, found = await run(capsys, master, "verify", copy)
        assert code in (20, 21, 23), "a master with TLS, and no word of it here"


@ensureDeferred
async def test_a_master_that_is_too_old(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tarfailover.master.packing.SUPPORTED", ())
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert code == 21 and "cannot tell digests" in found["error"]["message"]


@ensureDeferred
async def test_a_master_that_goes_away_in_the_middle(
    original: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(*_: object) -> bytes:
        raise LinkError("pulled out")

    monkeypatch.setattr("tarfailover.master.digests.DigestSource.next", cut)
    async with Master(original) as master:
        code, found = await run(capsys, master, "verify", copy)
    assert code == 21 and "the log of the master" in found["error"]["message"]


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def lacking_one(store: Path, own: Path, kind: str) -> str:
    """The id of a binary that the head of `store` needs, and that is not in `own`."""
    blobs = open_blob_store(str(own), kind, create=False)
    with Follower.open(store) as follower:
        mentions = needed(follower.snapshot, [follower.head().record.segment])
        found = [each.blob for each in mentions if not blobs.has(blobs.parse(each.blob))]
    return found[0].decode()


@pytest.mark.parametrize("kind", ["file", "blocks"])
@ensureDeferred
async def test_external_binaries(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, blobs = with_blobs(kind, tmp_path / "original")
    copy, own = shutil.copytree(store, tmp_path / "copy"), shutil.copytree(blobs, tmp_path / "own")
    right = tree(own)
    files = sorted((path for path in own.rglob("*") if path.stat().st_size > 9), key=str)
    flipped, cut, *_, gone = [path for path in files if path.is_file() and path.name[0] != "."]
    Flip(flipped.name, 5, 2).strike(flipped.parent)
    os.truncate(cut, 3)
    gone.unlink()
    with_own = ["--blob-store", own, "--blob-store-kind", kind, copy]
    nobodys = open_blob_store(str(own), kind, create=False).layout.unit(Block("ab" * 32, 7)).text
    lacking = lacking_one(copy, own, kind)
    noted = {nobodys: Missing("gone"), lacking: Missing("gone", ("/a",))}
    MissingBlobs(str(own), noted).save(copy, Disk())
    async with Master(store, blob_store=str(blobs), blob_store_kind=kind) as master:
        code, found = await run(capsys, master, "verify", *with_own)
        assert code == 1
        damaged = {each["file"] for each in found["findings"] if each["kind"] == "damaged"}
        assert damaged == {str(flipped), str(cut)}
        code, found = await run(capsys, master, "repair", *with_own)
        assert (code, found["found"]) == (0, found["mended"])
        assert found["binaries"]["fetched"] > 0
        assert set(MissingBlobs.load(copy).blobs) == {nobodys}, "of what is here nothing is listed"
        code, found = await run(capsys, master, "verify", *with_own)
        assert (code, found["findings"]) == (0, [])
    now = tree(own)
    assert {name: now.get(name) for name in right if name != str(gone.relative_to(own))} == {
        name: data for name, data in right.items() if name != str(gone.relative_to(own))
    }


@ensureDeferred
async def test_a_binary_that_nobody_has_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, blobs = with_blobs("file", tmp_path / "original")
    copy, own = shutil.copytree(store, tmp_path / "copy"), shutil.copytree(blobs, tmp_path / "own")
    victim = max(own.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
    for directory in (own, blobs):
        place = (directory / victim.relative_to(own)).parent
        Flip(victim.name, 5, 2).strike(place)
    before = tree(own)
    async with Master(store, blob_store=str(blobs)) as master:
        code, found = await run(capsys, master, "repair", "--blob-store", own, copy)
    assert (code, found["found"], found["mended"]) == (1, 1, 0)
    assert tree(own) == before


def killed_at_the_first_mended(command: list[str]) -> int:
    """Run a command, and kill it with SIGKILL when it has mended something; its exit code."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("mended"):
                process.kill()
                break
        return process.wait(SECONDS)


@ensureDeferred
async def test_kill_9_in_the_middle_of_a_repair(tmp_path: Path) -> None:
    original = tmp_path / "original"
    sample_store(original)
    copy = shutil.copytree(original, tmp_path / "copy")
    for flip in random_flips(copy, 300, seed=1):
        flip.strike(copy)
    rotten, right = files_of(copy), files_of(original)
    async with Master(original) as master:
        command = [sys.executable, "-m", "tarfailover", "repair", "--master", "127.0.0.1"]
        command += ["--port", str(master.port), str(copy)]
        assert await deferToThread(killed_at_the_first_mended, command) == -9
        for name, data in files_of(copy).items():
            assert none_worse(data, right[name], rotten[name]), name
        ended = await deferToThread(subprocess.run, command, capture_output=True, timeout=SECONDS)
        assert ended.returncode == 0, ended.stderr
    assert files_of(copy) == right


def none_worse(*states: bytes) -> bool:
    """Whether each byte is what it was, or still what it had become."""
    now, right, rotten = (np.frombuffer(each, "u1") for each in states)
    return bool(((now == right) | (now == rotten)).all())


def test_nobody_answers(copy: Path) -> None:
    """As a process: its own reactor, its exit code, one sentence."""
    asked = [sys.executable, "-m", "tarfailover", "verify", "--master", "127.0.0.1", "--port", "1"]
    ended = subprocess.run(
        [*asked, str(copy)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 23
    assert ended.stderr.startswith("tarfailover: no connection to 127.0.0.1:1")
    assert len(ended.stderr.splitlines()) == 1
