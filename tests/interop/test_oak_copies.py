"""Real Oak judges what we wrote: it opens, reads, extends, compacts and cleans our stores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakPeer
from oak_content import FIXTURES, lives_on
from replicate import replicate

from tarfailover.store.closure import references_first, walk
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

SMALL_TAR = 512 * 1024
"""Bytes at which the copies' tars are closed, so that every copy has several."""


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


@pytest.mark.parametrize("name", FIXTURES)
def test_oak_takes_our_copy_for_its_own(
    oak: OakPeer, fixture_store: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    original, copy = fixture_store(name), tmp_path / "copy"
    with StoreWriter.open(copy, create=True, tar_limit=SMALL_TAR) as writer:
        copy_closure(original, writer)
    assert oak.walk(copy) == FIXTURES[name]
    assert not list(copy.glob("*.bak")), "every tar of ours has an index that Oak accepts"
    oak.run("create", original, 120, 40, seed=7)
    assert lives_on(oak, copy) == oak.digest(original)


def test_oak_recovers_the_tar_that_we_had_not_closed(
    oak: OakPeer, fixture_store: Callable[[str], Path], tmp_path: Path
) -> None:
    """What lies on the disk after a commit is whole, whatever becomes of us."""
    copy, crashed = tmp_path / "copy", tmp_path / "crashed"
    with StoreWriter.open(copy, create=True, tar_limit=SMALL_TAR) as writer:
        copy_closure(fixture_store("compacted"), writer)
        shutil.copytree(copy, crashed)
    oak.run("recover", crashed)
    assert len(list(crashed.glob("*.bak"))) == 1, "one tar was open"
    assert oak.walk(crashed) == FIXTURES["compacted"]


@pytest.mark.parametrize("name", FIXTURES)
def test_oak_opens_the_slaves_copy(
    oak: OakPeer, fixture_store: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    original, slave = fixture_store(name), tmp_path / "slave"
    replicate(original, slave)
    assert oak.walk(slave) == FIXTURES[name]
    assert not list(slave.glob("*.bak")), "every tar of the copy has an index that Oak accepts"


def test_oak_lives_on_in_the_slaves_copy(
    oak: OakPeer, fixture_store: Callable[[str], Path], tmp_path: Path
) -> None:
    original, slave = fixture_store("compacted"), tmp_path / "slave"
    replicate(original, slave)
    oak.run("create", original, 120, 40, seed=7)
    assert lives_on(oak, slave) == oak.digest(original)
