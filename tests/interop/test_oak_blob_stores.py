"""Real Oak on blob stores that we filled, or from which we removed what nobody needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from blob_samples import with_blobs
from oak_content import digest_of
from oak_peer import Peer

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.repository.deepcheck import Books, DeepCheck
from tarfailover.store.blobs import open_blob_store
from tarfailover.store.blobs.needed import needed

pytestmark = pytest.mark.interop

KINDS = pytest.mark.parametrize(("kind", "option"), [("file", "blobs"), ("blocks", "blocks")])


def deeply_whole(store: Path, blobs: Path) -> int:
    """The external binaries of a store in which a deep check finds nothing, each of them read."""
    with repository.open(store, blobs) as opened:
        check = DeepCheck(opened.snapshot, Books(), clock=lambda: 0.0, blobs=open_blob_store(blobs))
        assert list(check.run(opened.head.record)) == []
        return check.books.counts.external


@pytest.mark.cell("our import into a blob store: read, extended, compacted, cleaned by Oak")
@KINDS
def test_oak_reads_the_binaries_that_import_stored(
    peer: Peer, tmp_path: Path, kind: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, blobs = with_blobs(kind, tmp_path)
    assert main(["export", "--blob-store", str(blobs), str(store), "/"]) == 0
    lines, new, own = tmp_path / "lines", tmp_path / "new", tmp_path / "own"
    lines.write_text(capsys.readouterr().out)
    place = ["--blob-store", str(own), "--blob-store-kind", kind]
    assert main(["import", "--create", "--input", str(lines), *place, str(new), "/"]) == 0
    assert peer.digest(new, **{option: own}) == digest_of(new, own)
    with repository.open(new) as ours:
        head = ours.head.record.segment
        mentioned = {each.blob.decode() for each in needed(ours.snapshot, [head])}
    with peer.open(new, **{option: own}) as opened:
        # Oak's own collector will miss none, however small its margin.
        assert len(mentioned) == 4 and opened.marked() == mentioned
        opened.fill(seed=3, nodes=40, kib=50)
        extended = opened.digest()
        for _ in range(2):
            opened.compact("full")
        assert opened.digest() == extended
    assert deeply_whole(new, own) == 4 + 2
    assert digest_of(new, own) == extended


@pytest.mark.cell("our collection in a blob store: Oak misses nothing, and stores it again")
@pytest.mark.parametrize("option", ["blobs", "blocks"])
def test_oak_misses_nothing_after_a_collection(peer: Peer, tmp_path: Path, option: str) -> None:
    store, blobs = tmp_path / "store", tmp_path / "blobs"
    with peer.open(store, **{option: blobs}) as opened:
        opened.fill(seed=1, nodes=60, kib=30)
        opened.commit([("remove", "/content/run1/part0")])
        for _ in range(2):
            opened.compact("full")
        kept = opened.digest()
    before = {each.digest for each in open_blob_store(blobs).files()}
    gc = ["blobs", "gc", str(store), "--blob-store", str(blobs), "--min-age", "0"]
    assert main(gc) == 0
    after = {each.digest for each in open_blob_store(blobs).files()}
    assert len(before) == 3 and len(after) == 1
    assert peer.digest(store, **{option: blobs}) == kept
    # What is gone is stored again when it is written again.
    with peer.open(store, **{option: blobs}) as opened:
        opened.fill(seed=1, nodes=60, kib=30)
    assert {each.digest for each in open_blob_store(blobs).files()} == before
    assert deeply_whole(store, blobs) == 3
