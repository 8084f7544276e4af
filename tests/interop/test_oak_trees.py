"""Real Oak judges what import stores; we check in depth what Oak wrote, and tell its changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oak_peer import Peer
from oak_vectors import EACH_ONCE

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


@pytest.mark.cell("our import: read and gone on with by Oak")
def test_oak_reads_and_goes_on_with_what_import_stored(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(EACH_ONCE["full"].unpack(tmp_path / "full"))]) == 0
    lines, new = tmp_path / "lines", tmp_path / "new"
    lines.write_text(capsys.readouterr().out)
    assert main(["import", "--create", "--input", str(lines), str(new), "/"]) == 0
    capsys.readouterr()
    assert main(["digest", "--json", str(new)]) == 0
    ours = json.loads(capsys.readouterr().out)
    walked = peer.walk(new)
    assert (walked.digest, walked.nodes) == (ours["sha256"], ours["nodes"])
    with peer.open(new) as opened:
        opened.fill(seed=3, nodes=20)
    assert deeply_whole(new).counts.nodes > ours["nodes"]
    with repository.open(new) as opened_by_us:
        heads = list(opened_by_us.heads())
        imported = opened_by_us.revision(heads[-1].head).root
        changes = list(diff(imported, opened_by_us.root))
        assert {change.kind for change in changes} <= {"added", "changed"}
        assert changes


@pytest.mark.cell("our diff: a compaction of Oak's is no change")
@pytest.mark.parametrize("how", ["full", "tail"])
def test_a_compaction_by_oak_is_no_change(peer: Peer, tmp_path: Path, how: str) -> None:
    with peer.open(tmp_path) as opened:
        opened.fill(seed=1, nodes=60, kib=20)
        opened.compact("full")
        opened.fill(seed=2, nodes=20)
        with repository.open(tmp_path) as before:
            opened.compact(how)
            with repository.open(tmp_path) as after:
                assert after.head.record != before.head.record
                found = summary(before.head.super_root, after.head.super_root)
                assert (found.added, found.removed, found.changed) == (0, 0, 0)
    deeply_whole(tmp_path)
