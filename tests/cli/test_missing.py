"""``blobs missing``: what a slave noted, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import QuickDisk, leaf, make_store

from tarfailover.store.blobs.missing import NAME, Missing, MissingBlobs

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return make_store(tmp_path / "copy", {"data00000a.tar": [leaf(1)]}, [leaf(1).segment])


def noted(copy: Path) -> None:
    MissingBlobs(
        "/copy/datastore",
        {
            "aa#5": Missing("it is gone", ("/content/dam/a/jcr:data",), since=1_700_000_000.0),
            "bb#6": Missing("it is gone", (), unneeded=True, since=1_700_000_000.0),
            "cc#7\x1b[2J": Missing("it is gone", (), since=1_700_000_000.0),
        },
    ).save(copy, QuickDisk())


def test_nothing_is_missing(copy: Path, run_text: Text, run_json: Json) -> None:
    assert run_text("blobs", "missing", copy) == (0, ["no binary is missing"])
    assert run_json("blobs", "missing", copy) == (0, {"store": str(copy), "missing": []})


def test_what_is_missing_and_who_needs_it(copy: Path, run_text: Text, run_json: Json) -> None:
    noted(copy)
    code, lines = run_text("blobs", "missing", copy)
    assert code == 1
    assert lines[-1] == "3 binaries missing"
    told = "\n".join(lines)
    assert "/content/dam/a/jcr:data" in told and "no node" in told and "not found yet" in told
    assert "\x1b" not in told
    code, found = run_json("blobs", "missing", copy)
    assert code == 1
    assert found["missing"][0] == {
        "id": "aa#5",
        "why": "it is gone",
        "paths": ["/content/dam/a/jcr:data"],
        "needed": True,
        "since": "2023-11-14T22:13:20.000Z",
    }
    assert [each["needed"] for each in found["missing"]] == [True, False, None]


def test_a_list_that_cannot_be_read(copy: Path, run_json: Json) -> None:
    for data in (b"{", b"[]", b'{"format": 7}', b'{"format":1,"blob_store":"","missing":[7]}'):
        (copy / NAME).write_bytes(data)
        code, found = run_json("blobs", "missing", copy)
        assert code == 13
        assert NAME in found["error"]["message"] and "remove the file" in found["error"]["message"]


def test_what_is_no_store(tmp_path: Path, run_json: Json) -> None:
    assert run_json("blobs", "missing", tmp_path)[0] == 11
