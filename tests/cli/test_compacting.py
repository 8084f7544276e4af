"""The command ``compact``: same content, new generation, space given back, a line for Oak."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copies import sound, write

from tarfailover.cli import main
from tarfailover.format import gclog
from tarfailover.ids import RecordId
from tarfailover.repository import collecting
from tarfailover.store import state
from tarfailover.store.durable import Disk
from tarfailover.store.follower import Follower
from tarfailover.store.lock import RepositoryLock

pytestmark = pytest.mark.load

Json = Callable[..., tuple[int, Any]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    for seed in (1, 2, 3):
        write(directory, nodes=200, seed=seed)
    return directory


def size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("*.tar"))


def lines(store: Path) -> list[gclog.GcLine]:
    return list(gclog.parse((store / gclog.NAME).read_bytes()))


def test_a_compaction(store: Path, run_json: Json) -> None:
    before, digest = size(store), run_json("digest", store)[1]["sha256"]
    code, document = run_json("compact", store)
    assert code == 0
    assert document.keys() == {
        "store", "head", "generation", "nodes", "why_full",
        "bytes_before", "bytes_after", "freed", "failures",
    }  # fmt: skip
    assert document["why_full"] is None
    assert document["generation"] == {"generation": 1, "full": 1, "compacted": True}
    assert document["bytes_before"] == before
    assert document["bytes_after"] == size(store) > before, "Oak's way keeps what was before"
    assert run_json("digest", store)[1]["sha256"] == digest
    (line,) = lines(store)
    assert line.root == RecordId.parse(document["head"]["id"])
    assert (line.generation, line.full_generation, line.nodes) == (1, 1, document["nodes"])
    assert (line.repository_bytes, line.reclaimed_bytes) == (size(store), 0)
    sound(store)


def test_the_space_is_given_back(store: Path, run_json: Json) -> None:
    before = size(store)
    for number in (1, 2):
        code, document = run_json("compact", "--retain", 1, store)
        assert (code, document["failures"]) == (0, [])
        assert document["freed"] > 0
        assert lines(store)[-1].reclaimed_bytes == document["freed"]
        assert lines(store)[-1].repository_bytes == size(store) <= before
        assert len(lines(store)) == number
    sound(store)


def test_a_tail(
    store: Path, run_json: Json, run_text: Callable[..., tuple[int, list[str]]]
) -> None:
    """A full one where there is no base; then what is new; then nothing."""
    _, document = run_json("compact", "--tail", store)
    assert document["generation"] == {"generation": 1, "full": 1, "compacted": True}
    assert document["why_full"] == "no compaction is told of in gc.log"
    nodes = document["nodes"]
    write(store, nodes=5, seed=9)
    digest = run_json("digest", store)[1]["sha256"]
    _, document = run_json("compact", "--tail", store)
    assert document["generation"] == {"generation": 2, "full": 1, "compacted": True}
    assert document["why_full"] is None and document["nodes"] < nodes / 5
    assert run_json("digest", store)[1]["sha256"] == digest
    assert [(line.generation, line.full_generation) for line in lines(store)] == [(1, 1), (2, 1)]
    code, told = run_text("compact", "--tail", store)
    assert code == 0 and told[2] == "copied      0 nodes"
    assert len(lines(store)) == 2
    (store / gclog.NAME).unlink()
    assert any(line.startswith("full ") for line in run_text("compact", "--tail", store)[1])
    sound(store)


def test_a_reader_goes_on(store: Path) -> None:
    with Follower.open(store) as follower:
        held = follower.hold()
        head = follower.head()
        assert main(["compact", "--retain", "1", str(store)]) == 0
        assert held.read(head.record.segment)
        held.release()
        assert follower.refresh().head != head
        assert follower.head().generation[:2] == (1, 1)


def test_in_words(store: Path, run_text: Callable[..., tuple[int, list[str]]]) -> None:
    code, told = run_text("compact", store)
    assert code == 0
    assert [line.split()[0] for line in told] == ["head", "generation", "copied", "size"]
    assert told[1] == "generation  1/1 compacted"


def test_a_torn_line_of_gc_log_harms_nothing(store: Path) -> None:
    (store / gclog.NAME).write_bytes(b"7794688,0,17953")
    assert main(["compact", str(store)]) == 0
    (line,) = lines(store)
    assert line.generation == 1


@pytest.mark.parametrize("case", ["copy", "locked", "room", "headless"])
def test_refusals(store: Path, case: str, run_json: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    codes = {"copy": 2, "locked": 15, "room": 17, "headless": 14}
    if case == "copy":
        (store / state.NAME).write_text("{}")
    elif case == "room":
        monkeypatch.setattr(Disk, "free", lambda *_: collecting.SPARE)
    elif case == "headless":
        (store / "journal.log").unlink()
    if case == "locked":
        with RepositoryLock.acquire(store):
            code, document = run_json("compact", store)
    else:
        code, document = run_json("compact", store)
    assert code == codes[case] == document["error"]["exit_code"]
    tars = {name: data for name, data in before.items() if name.endswith(".tar")}
    assert {path.name: path.read_bytes() for path in store.glob("*.tar")} == tars
