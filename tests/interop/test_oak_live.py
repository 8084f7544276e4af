"""We follow a directory while real Oak writes, compacts and cleans it."""

from __future__ import annotations

from pathlib import Path

import pytest
from oak_content import walked_by_us
from oak_peer import Peer, Store, until

from tarfailover.ids import SegmentId
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop


def head_of(snapshot: Snapshot) -> str:
    """The head as Oak prints it."""
    assert snapshot.head is not None
    return snapshot.head.record.hex


def tar_names(snapshot: Snapshot) -> set[str]:
    """The tars that `snapshot` shows."""
    return {str(reader.name) for reader in snapshot.tars.readers}


def files(store: Path) -> set[str]:
    """The tars that are in the directory."""
    return {path.name for path in store.glob("*.tar")}


def read_closure(snapshot: Snapshot) -> set[SegmentId]:
    """Reads every segment that the head of `snapshot` needs; raises if one cannot be read."""
    assert snapshot.head is not None
    pending = [snapshot.head.record.segment]
    reached = set(pending)
    while pending:
        for reference in snapshot.references(pending.pop()):
            if reference not in reached:
                reached.add(reference)
                pending.append(reference)
    assert all(snapshot.read(segment) for segment in reached)
    return reached


def followed(live: Store, follower: Follower, verb: str, *words: str) -> Snapshot:
    """Has Oak carry out a request and follows meanwhile; returns what is there afterwards.

    At no moment is there a head of which not everything can be read.
    """
    working = live.begin(verb, *words)
    until(lambda: bool(read_closure(follower.refresh())) and working.done, verb)
    head = working.result()["head"]
    snapshot = follower.refresh()
    assert head_of(snapshot) == head
    read_closure(snapshot)
    return snapshot


@pytest.mark.cell("following an Oak that writes into new tars")
def test_following_an_oak_that_writes_into_new_tars(peer: Peer, tmp_path: Path) -> None:
    with peer.open(tmp_path) as live:
        live.fill(seed=1, nodes=1)
        with Follower.open(tmp_path) as follower:
            seen = [
                followed(live, follower, "fill", f"seed={seed}", "nodes=60", "kib=200")
                for seed in range(2, 6)
            ]
            assert len({head_of(snapshot) for snapshot in seen}) == len(seen)
            assert len(tar_names(seen[-1])) > len(tar_names(seen[0]))
            live.close()
            assert head_of(follower.refresh()) == head_of(seen[-1])


@pytest.mark.cell("following an Oak that compacts (full, tail) and cleans")
def test_following_an_oak_that_compacts_and_cleans(peer: Peer, tmp_path: Path) -> None:
    """With the second generation Oak drops the first: new letters, tars deleted."""
    with peer.open(tmp_path) as live:
        live.fill(seed=1, nodes=300, kib=60)
        live.commit([["remove", "/content/run1/part0"]])
        live.compact("full")
        with Follower.open(tmp_path) as follower:
            before = followed(live, follower, "fill", "seed=3", "nodes=60", "kib=20").acquire()
            held = read_closure(before)
            tail = followed(live, follower, "compact", "tail")
            assert tail.head is not None
            assert tail.head.generation[:2] == (2, 1)
            followed(live, follower, "compact", "full")
            after = followed(live, follower, "fill", "seed=4", "nodes=60", "kib=20")
            assert after.head is not None
            assert after.head.generation[:2] == (3, 2)
            until(lambda: not tar_names(before) <= files(tmp_path), "Oak deletes tars")
            until(lambda: tar_names(follower.refresh()) == files(tmp_path), "we see what is left")
            read_closure(follower.snapshot)
            assert read_closure(before) == held
            before.release()


@pytest.mark.cell("a store whose Oak was killed, recovered by us")
def test_a_store_whose_oak_was_killed_is_recovered_by_us(
    peer: Peer, another_peer: Peer, tmp_path: Path
) -> None:
    """Killed in the middle of a write, with a tar just begun: nothing that it flushed is lost."""
    live = another_peer.open(tmp_path)
    live.fill(seed=1, nodes=60, kib=60)
    before = files(tmp_path)
    live.begin("fill", seed=2, nodes=100, kib=200, times=50)
    until(lambda: len(files(tmp_path) - before) > 1, "Oak begins tars")
    another_peer.kill()
    with Follower.open(tmp_path) as follower:
        snapshot = follower.refresh()
        head = head_of(snapshot)
        assert snapshot.head is not None
        assert not snapshot.head.skipped
    with StoreWriter.open(tmp_path) as writer:
        assert writer.head is not None
        assert writer.head.hex == head
    recovered = set(tmp_path.glob("*.bak"))
    with peer.open(tmp_path) as opened:
        assert opened.head() == head
        assert opened.digest() == walked_by_us(tmp_path).digest
    assert set(tmp_path.glob("*.bak")) == recovered, "Oak has nothing left to recover"


@pytest.mark.cell("the trees of an Oak that has it open, read by us")
def test_our_reader_finds_in_oaks_tree_what_oak_finds(peer: Peer, tmp_path: Path) -> None:
    with peer.open(tmp_path) as live:
        live.fill(seed=20260, nodes=300, kib=30)
        live.checkpoint(creator="test")
        live.commit([["remove", "/wide"]])
        live.fill(seed=20261, nodes=30)
        assert walked_by_us(tmp_path).digest == live.digest()
        assert walked_by_us(tmp_path).head == live.head()
