"""Real Oak judges what import stores; we check in depth what Oak wrote, and tell its changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakPeer

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.repository.deepcheck import Books, DeepCheck
from tarfailover.repository.diff import diff
from tarfailover.repository.history import summary

pytestmark = pytest.mark.interop


def deeply_whole(store: Path) -> Books:
    """The counts of a deep check that must find nothing."""
    with repository.open(store) as opened:
        books = Books()
        check = DeepCheck(opened.snapshot, books, clock=lambda: 0.0)
        assert list(check.run(opened.head.record)) == []
    return books


def test_oak_reads_and_goes_on_with_what_import_stored(
    oak: OakPeer,
    fixture_store: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", str(fixture_store("fresh"))]) == 0
    lines, new = tmp_path / "lines", tmp_path / "new"
    lines.write_text(capsys.readouterr().out)
    assert main(["import", "--create", "--input", str(lines), str(new), "/"]) == 0
    capsys.readouterr()
    assert main(["digest", "--json", str(new)]) == 0
    ours = json.loads(capsys.readouterr().out)
    walked = oak.walk(new)
    assert (walked.digest, walked.nodes) == (ours["sha256"], ours["nodes"])
    oak.run("create", new, 60, 20, seed=3)
    assert deeply_whole(new).counts.nodes > ours["nodes"]
    with repository.open(new) as opened:
        heads = list(opened.heads())
        imported = opened.revision(heads[-1].head).root
        changes = list(diff(imported, opened.root))
        assert {change.kind for change in changes} <= {"added", "changed"}
        assert changes


def test_a_compaction_by_oak_is_no_change(
    oak: OakPeer, fixture_store: Callable[[str], Path]
) -> None:
    store = fixture_store("fresh")
    with repository.open(store) as opened:
        before = opened.head
        oak.run("compact", store)
        with repository.open(store) as later:
            assert later.head.record != before.record
            found = summary(before.super_root, later.head.super_root)
            assert (found.added, found.removed, found.changed) == (0, 0, 0)
    deeply_whole(store)
