"""Real Oak judges what we wrote: it opens, reads, extends, compacts and cleans our stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from oak_content import digest_of, lives_on, walked_by_us
from oak_peer import Peer, Walked
from oak_vectors import EACH_ONCE, INTERNAL, OakStore
from replicate import replicate

from tarfailover.repository.sample import write_sample
from tarfailover.store.closure import references_first, walk
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

SMALL_TAR = 64 * 1024
"""Bytes at which the copies' tars are closed, so that every copy has several."""
REPLICATED = ("full", "killed")
"""The kinds of stores that go through real processes of ours."""


def copy_closure(source: Path, writer: StoreWriter) -> None:
    """Copies the closure of the head of `source`, and commits the head, without a wire."""
    with Follower.open(source) as follower:
        snapshot = follower.refresh()
        head = snapshot.head
        assert head is not None
        closure = walk(snapshot, [head.record.segment])
        assert not closure.missing
        for rank in references_first(snapshot, closure, head.record.segment).tolist():
            segment = snapshot.segment(rank)
            writer.append(segment, snapshot.read(segment))
        writer.commit(head.record, head.time_ms)


def kept_by(release: str, kind: str) -> OakStore:
    """The store of that kind which the release wrote."""
    (found,) = (each for each in INTERNAL if each.name == f"{release}-{kind}")
    return found


@pytest.fixture(params=EACH_ONCE)
def kept(request: pytest.FixtureRequest, release: str) -> OakStore:
    """Each kind of store that this release wrote."""
    return kept_by(release, request.param)


def as_kept(kept: OakStore) -> Walked:
    """What Oak must find."""
    return Walked(kept.head, kept.nodes, kept.properties, kept.blob_bytes, kept.sha256)


@pytest.mark.cell("a copy of ours: opened, extended, compacted, cleaned by Oak")
def test_oak_takes_our_copy_for_its_own(peer: Peer, kept: OakStore, tmp_path: Path) -> None:
    original, copy = kept.unpack(tmp_path / "original"), tmp_path / "copy"
    with StoreWriter.open(copy, create=True, tar_limit=SMALL_TAR) as writer:
        copy_closure(original, writer)
    assert peer.walk(copy) == as_kept(kept)
    assert not list(copy.glob("*.bak")), "every tar of ours has an index that Oak accepts"
    assert lives_on(peer, copy) == digest_of(copy)


@pytest.mark.cell("a copy of ours that was killed: recovered by Oak")
def test_oak_recovers_the_tar_that_we_had_not_closed(
    peer: Peer, kept: OakStore, tmp_path: Path
) -> None:
    """What lies on the disk after a commit is whole, whatever becomes of us."""
    original, copy, crashed = (tmp_path / name for name in ("original", "copy", "crashed"))
    kept.unpack(original)
    with StoreWriter.open(copy, create=True) as writer:
        copy_closure(original, writer)
        shutil.copytree(copy, crashed)
    with peer.open(crashed) as opened:
        assert opened.head() == kept.head
        assert opened.digest() == kept.sha256
    assert len(list(crashed.glob("*.bak"))) == 1, "one tar was open"


@pytest.mark.cell("store of Oak → our master → our slave → Oak")
@pytest.mark.parametrize("kind", REPLICATED)
def test_oak_lives_on_in_the_slaves_copy(peer: Peer, tmp_path: Path, kind: str) -> None:
    kept = kept_by(peer.release, kind)
    original, slave = kept.unpack(tmp_path / "original"), tmp_path / "slave"
    replicate(original, slave)
    assert peer.walk(slave) == as_kept(kept)
    assert not list(slave.glob("*.bak")), "every tar of the copy has an index that Oak accepts"
    assert lives_on(peer, slave) == digest_of(slave)


@pytest.mark.cell("a sample of ours: taken by Oak for its own, and by us after Oak")
def test_oak_takes_the_sample_for_its_own_and_we_go_on_after_oak(
    peer: Peer, tmp_path: Path
) -> None:
    with StoreWriter.open(tmp_path, create=True, tar_limit=1 << 20) as writer:
        write_sample(writer, nodes=300, binary_kib=40, commits=4, seed=1)
    assert peer.walk(tmp_path) == walked_by_us(tmp_path)
    assert not list(tmp_path.glob("*.bak")), "every tar of ours has an index that Oak accepts"
    assert lives_on(peer, tmp_path) == digest_of(tmp_path)
    with StoreWriter.open(tmp_path, tar_limit=1 << 20) as writer:
        write_sample(writer, nodes=100, binary_kib=40, commits=2, seed=2)
    appended = walked_by_us(tmp_path)
    assert peer.walk(tmp_path) == appended
    with peer.open(tmp_path) as opened:
        opened.compact("full")
        assert opened.digest() == appended.digest
