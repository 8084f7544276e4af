"""``verify`` and ``repair`` against a master, in this process and in others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from rot import Flip, files_of, small_samples, small_store
from services import Master
from stores import add_heads, leaf, tar_bytes
from twisted.internet.threads import deferToThread

from tarfailover.cli import main
from tarfailover.format.tar import BLOCK

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


@ensureDeferred
async def test_equal_stores(original: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_nobody_answers(copy: Path) -> None:
    """As a process: its own reactor, its exit code, one sentence."""
    for command in ("verify", "repair"):
        asked = [sys.executable, "-m", "tarfailover", command, "--master", "127.0.0.1"]
        ended = subprocess.run(
            [*asked, "--port", "1", str(copy)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 23
        assert ended.stderr.startswith("tarfailover: no connection to 127.0.0.1:1")
        assert len(ended.stderr.splitlines()) == 1
