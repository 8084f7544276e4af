"""scripts/interop: what it says where real Oak cannot come, and the matrix that it prints."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import _interop
import pytest


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
def test_without_java_it_says_why_it_does_not_run(
    required: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(_interop.REQUIRED, required)
    assert asyncio.run(_interop.main([])) == code
    said = capsys.readouterr().out
    for tool in ("java", "javac", "mvn"):
        assert f"no {tool}" in said
    assert "a JDK and Maven" in said


def test_the_matrix_has_a_column_for_each_release(tmp_path: Path) -> None:
    cells = {"Oak → us": "ok", "us → Oak, killed": "failed"}
    (tmp_path / "1.82").write_text(json.dumps(cells))
    (tmp_path / "1.22").write_text(json.dumps({"Oak → us": "ok"}))
    assert [line.rstrip() for line in _interop.table(tmp_path).splitlines()] == [
        "",
        "the matrix         Oak 1.82   Oak 1.22",
        "Oak → us           ok         ok",
        "us → Oak, killed   failed     -",
    ]


def test_without_any_cell_there_is_no_matrix(tmp_path: Path) -> None:
    assert _interop.table(tmp_path) == ""
