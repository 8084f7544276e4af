"""The command ``checkpoint``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copies import sound, write

from tarfailover.cli import main
from tarfailover.store.lock import RepositoryLock

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write(tmp_path / "store", nodes=20, seed=1)
    return tmp_path / "store"


def test_create_list_and_release(store: Path, run_json: Json, run_text: Text) -> None:
    assert run_json("checkpoint", "list", store) == (
        0,
        {"store": str(store), "checkpoints": []},
    )
    arguments = ("--lifetime", "7d", "--info", "creator=ops", "--info", "why=a=b")
    code, made = run_json("checkpoint", "create", store, *arguments)
    made = made["checkpoint"]
    assert code == 0 and made["info"] == {"creator": "ops", "why": "a=b"}
    assert made["expires_ms"] - made["created_ms"] == 7 * 86_400_000
    code, [name] = run_text("checkpoint", "create", store, "--lifetime", "90")
    assert code == 0
    listed = run_json("checkpoint", "list", store)[1]["checkpoints"]
    assert [each["name"] for each in listed] == [made["name"], name]
    assert run_json("ls", "--at", name, store)[1]["head"]["checkpoint"] == name
    lines = run_text("checkpoint", "list", store)[1]
    assert len(lines) == 3 and lines[1].endswith("creator=ops, why=a=b")
    assert run_text("checkpoint", "release", store, made["name"]) == (0, ["released; 1 left"])
    left = run_json("checkpoint", "release", store, name)[1]
    assert left["checkpoints"] == []
    sound(store)


def test_what_cannot_be(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "release", str(store), "x"]) == 19
    assert "there are none" in capsys.readouterr().err
    with RepositoryLock.acquire(store):
        assert main(["checkpoint", "create", str(store), "--lifetime", "1h"]) == 15
    for written in ("--lifetime 0", "--lifetime 1w", "--info a=b", "--lifetime 1 --info x"):
        with pytest.raises(SystemExit) as ended:
            main(["checkpoint", "create", str(store), *written.split()])
        assert ended.value.code == 2
