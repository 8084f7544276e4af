"""Real Oak judges what we wrote: it opens, reads, extends, compacts and cleans our stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakPeer
from oak_content import FIXTURES, lives_on

from tarfailover.store.closure import references_first, walk
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

SMALL_TAR = 512 * 1024
"""Bytes at which the copies' tars are closed, so that every copy has several."""


def copy_closure(source: Path, target: Path) -> None:
    """Copies the closure of the head of `source` into the new store `target`, without a wire."""
    follower = Follower.open(source)
    try:
        snapshot = follower.refresh()
        head = snapshot.head
        assert head is not None
        closure = walk(snapshot, [head.record.segment])
        assert not closure.missing
        with StoreWriter.open(target, create=True, tar_limit=SMALL_TAR) as writer:
            for rank in references_first(snapshot, closure, head.record.segment).tolist():
                segment = snapshot.segment(rank)
                writer.append(segment, snapshot.read(segment))
            writer.commit(head.record, head.time_ms)
    finally:
        follower.close()


@pytest.mark.parametrize("name", FIXTURES)
def test_oak_takes_our_copy_for_its_own(
    oak: OakPeer, fixture_store: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    original, copy = fixture_store(name), tmp_path / "copy"
    copy_closure(original, copy)
    assert oak.walk(copy) == FIXTURES[name]
    assert not list(copy.glob("*.bak")), "every tar of ours has an index that Oak accepts"
    oak.run("create", original, 120, 40, seed=7)
    assert lives_on(oak, copy) == oak.digest(original)
