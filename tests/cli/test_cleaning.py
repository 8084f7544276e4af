"""The command ``cleanup``: what it says, what it does, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade as hm
import pytest
from copies import sound

from tarfailover.cli import main
from tarfailover.ids import Generation
from tarfailover.store import state
from tarfailover.store.lock import RepositoryLock

Json = Callable[..., tuple[int, Any]]

OLD = hm.data(0x11, hm.bulk(0x81, 5000))
BULK = hm.bulk(0x82, 700)
OLDER = hm.data(0x12, BULK)
TOP = hm.data(0x13, BULK, generation=Generation(2, 2, True))
TARS = {
    "data00000a.tar": [hm.bulk(0x81, 5000), OLD],
    "data00001a.tar": [BULK, hm.bulk(0x83, 9000), OLDER],
    "data00002a.tar": [TOP],
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    tars = {name: hm.closed_tar(name, pieces) for name, pieces in TARS.items()}
    return hm.store(tmp_path / "store", tars, hm.line(OLD) + hm.line(TOP))


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.glob("data*"))


def test_what_would_be_removed(store: Path, run_json: Json) -> None:
    before = hm.contents(store)
    with RepositoryLock.acquire(store):
        code, document = run_json("cleanup", "--dry-run", store)
    assert code == 0
    assert document == {
        "store": str(store),
        "dry_run": True,
        "generation": {"generation": 2, "full": 2, "compacted": True},
        "retained": 2,
        "tars_removed": 1,
        "tars_rewritten": 1,
        "segments": 4,
        "freed": (store / "data00000a.tar").stat().st_size + 512 + 9216 + 1024,
        "tars": [
            {
                "name": "data00000a.tar",
                "action": "removed",
                "segments": 2,
                "dropped": 2,
                "freed": (store / "data00000a.tar").stat().st_size,
            },
            {
                "name": "data00001a.tar",
                "action": "rewritten",
                "segments": 3,
                "dropped": 2,
                "freed": 512 + 9216 + 1024,
            },
        ],
    }
    after = hm.contents(store)
    after.pop("repo.lock")
    assert after == before


def test_what_is_removed(store: Path, run_json: Json) -> None:
    size = sum(path.stat().st_size for path in store.glob("*.tar"))
    code, document = run_json("cleanup", store)
    left = sum(path.stat().st_size for path in store.glob("*.tar"))
    assert code == 0
    assert document == {
        "store": str(store),
        "dry_run": False,
        "generation": {"generation": 2, "full": 2, "compacted": True},
        "retained": 2,
        "tars_removed": 1,
        "tars_rewritten": 1,
        "segments": 4,
        "freed": size - left,
        "failures": [],
    }
    assert names(store) == ["data00001b.tar", "data00002a.tar"]
    sound(store)


def test_in_words(store: Path, run_text: Callable[..., tuple[int, list[str]]]) -> None:
    assert run_text("cleanup", "--dry-run", "--retain", 2, store) == (
        0,
        [
            "tar             would be   segments  gone      free",
            "data00000a.tar  removed           2     2  10.5 KiB",
            "data00001a.tar  rewritten         3     2  10.5 KiB",
            "head        generation 2/2 compacted, 2 generations kept",
            "would free  21.0 KiB",
        ],
    )
    assert run_text("cleanup", store) == (
        0,
        [
            "head   generation 2/2 compacted, 2 generations kept",
            "tars   1 removed, 1 rewritten",
            "gone   4 segments",
            "freed  21.0 KiB",
        ],
    )
    assert run_text("cleanup", "--dry-run", store)[1][-1] == "would free  0 bytes"


def test_more_generations_may_be_kept(store: Path, run_json: Json) -> None:
    code, document = run_json("cleanup", "--retain", 3, store)
    assert (code, document["segments"], document["retained"]) == (0, 1, 3)
    assert main(["cleanup", str(store)]) == 0
    with pytest.raises(SystemExit) as refused:
        main(["cleanup", "--retain", "0", str(store)])
    assert refused.value.code == 2


def test_of_a_copy_what_was_pulled_ahead_is_kept(store: Path, run_json: Json) -> None:
    ahead = hm.data(0x21, generation=Generation(3, 3, True))
    name = "data00003a.tar"
    (store / name).write_bytes(hm.closed_tar(name, [ahead]))
    assert run_json("cleanup", "--dry-run", store)[1]["tars_removed"] == 2
    (store / state.NAME).write_text("{}")
    assert run_json("cleanup", store)[1]["tars_removed"] == 1
    assert name in names(store)


def test_a_store_in_use_is_refused(store: Path, run_json: Json) -> None:
    before = names(store)
    with RepositoryLock.acquire(store):
        assert run_json("cleanup", store)[0] == 15
    assert names(store) == before


@pytest.mark.parametrize("dry", [True, False])
def test_nothing_is_removed_while_the_newest_head_is_broken(
    store: Path, run_json: Json, dry: bool
) -> None:
    """What it needs may come back; and what an older head needs may be all that is left."""
    broken = hm.data(0x31, hm.data(0x32), generation=Generation(3, 3, True))
    name = "data00003a.tar"
    (store / name).write_bytes(hm.closed_tar(name, [broken]))
    with (store / "journal.log").open("ab") as file:
        file.write(hm.line(broken))
    before = names(store)
    code, document = run_json("cleanup", *["--dry-run"] * dry, store)
    assert code == 13
    assert "newest head" in document["error"]["message"]
    assert names(store) == before


def test_a_store_without_a_head_is_refused(store: Path, run_json: Json) -> None:
    (store / "journal.log").unlink()
    assert run_json("cleanup", store)[0] == 14
    assert names(store) == sorted(TARS)


def test_what_could_not_be_cleaned_up_is_told(store: Path, run_json: Json) -> None:
    hm.flip(store / "data00001a.tar", 512 + 100)
    code, document = run_json("cleanup", store)
    assert code == 13
    (failure,) = document["failures"]
    assert (failure["kind"], failure["exit_code"]) == ("DamagedStoreError", 13)
    assert "data00001a.tar, offset 512" in failure["message"]
    assert names(store) == ["data00001a.tar", "data00002a.tar"]
