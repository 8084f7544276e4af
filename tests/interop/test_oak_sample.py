"""Real Oak judges our records: it reads the sample, works on in it, and we work on after Oak."""

from __future__ import annotations

from pathlib import Path

import pytest
from oak import OakPeer, Walked
from oak_content import lives_on

from tarfailover.repository.digest import content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.sample import write_sample
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

SMALL_TAR = 1024 * 1024
"""Bytes at which the sample's tars are closed, so that it has several."""


def walked_by_us(store: Path) -> Walked:
    """What our own reader finds in `store`, in the words of the judge."""
    with Follower.open(store) as follower:
        snapshot = follower.refresh()
        assert snapshot.head is not None
        record = snapshot.head.record
        found = content_digest(NodeState(RecordReader(snapshot), record))
    return Walked(record.hex, *found)


def test_oak_takes_the_sample_for_its_own_and_we_go_on_after_oak(
    oak: OakPeer, tmp_path: Path
) -> None:
    with StoreWriter.open(tmp_path, create=True, tar_limit=SMALL_TAR) as writer:
        write_sample(writer, nodes=300, binary_kib=40, commits=4, seed=1)
    assert oak.walk(tmp_path) == walked_by_us(tmp_path)
    assert not list(tmp_path.glob("*.bak")), "every tar of ours has an index that Oak accepts"
    assert lives_on(oak, tmp_path) == walked_by_us(tmp_path).digest

    with StoreWriter.open(tmp_path, tar_limit=SMALL_TAR) as writer:
        write_sample(writer, nodes=100, binary_kib=40, commits=2, seed=2)
    appended = walked_by_us(tmp_path)
    assert oak.walk(tmp_path) == appended
    oak.run("compact", tmp_path)
    assert oak.digest(tmp_path) == appended.digest
