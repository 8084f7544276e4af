"""Real Oak with a FileDataStore, followed by us: it reads our copy with the binaries we brought."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from oak_content import digest_of
from oak_peer import Peer

from tarfailover.store.blobs import open_blob_store

pytestmark = pytest.mark.interop


@pytest.mark.cell("a live Oak with a FileDataStore: copied, followed, opened and extended by Oak")
def test_oak_reads_our_copy_with_the_binaries_that_we_brought(peer: Peer, tmp_path: Path) -> None:
    store, blobs, copy, own = (tmp_path / name for name in ("store", "blobs", "copy", "own"))
    with peer.open(store, blobs=blobs) as live:
        live.fill(seed=1, nodes=40, kib=60)
        with (
            Daemon.master(store, "--blob-store", blobs) as master,
            Daemon.slave(copy, master.port, "--blob-store", own) as slave,
        ):
            slave.expect("in sync")
            live.checkpoint(creator="test")
            live.fill(seed=2, nodes=60, kib=300)
            head = live.head()
            slave.expect(f"head {head_as_ours(head)} is durable")
            slave.stop()
            master.stop()
    assert brought(own) == brought(blobs)
    assert peer.walk(copy, blobs=own) == peer.walk(store, blobs=blobs)
    # Failing over: an Oak goes on with both directories.
    with peer.open(copy, blobs=own) as promoted:
        promoted.fill(seed=3, nodes=20, kib=50)
    assert peer.digest(copy, blobs=own) == digest_of(copy, own)


def head_as_ours(head: str) -> str:
    """Oak's text of a record id, as our log has it."""
    segment, number = head.rsplit(".", 1)
    return f"{segment}:{int(number, 16)}"


def brought(directory: Path) -> set[tuple[str, int]]:
    """The binaries in a blob store, by digest and size."""
    return {(each.digest, each.size) for each in open_blob_store(directory, "file").files()}
