"""We follow a directory while real Oak writes, compacts and cleans it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from oak import OakPeer, OakProcess, until

from tarfailover.ids import SegmentId
from tarfailover.repository.digest import content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

ONE_MIB_TARS = {"maxFileSizeMB": 1}
"""So that a few hundred nodes fill several tars."""


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


def free_port() -> int:
    """A port that nobody listens on; Oak's standby server does not accept 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def live_oak(oak: OakPeer, store: Path) -> Iterator[OakProcess]:
    """An Oak that has `store` open and commits what it is told."""
    with oak.start("primary", store, free_port(), **ONE_MIB_TARS) as live:
        live.expect("running=true")
        yield live


def told(live: OakProcess, command: str, follower: Follower) -> Snapshot:
    """Has Oak carry out `command` and follows meanwhile; returns what is there afterwards.

    At no moment is there a head of which not everything can be read.
    """
    live.send(command)
    until(lambda: bool(read_closure(follower.refresh())) and not live.silent(), command)
    head = live.expect(r"head=(\S+)")[1]
    live.expect("bytes=")
    snapshot = follower.refresh()
    assert head_of(snapshot) == head
    read_closure(snapshot)
    return snapshot


@contextlib.contextmanager
def following(store: Path) -> Iterator[Follower]:
    """A follower of `store`."""
    follower = Follower.open(store)
    try:
        yield follower
    finally:
        follower.close()


def test_following_an_oak_that_writes_into_new_tars(oak: OakPeer, tmp_path: Path) -> None:
    oak.run("create", tmp_path, 1, 0)
    with live_oak(oak, tmp_path) as live, following(tmp_path) as follower:
        seen = [told(live, "write 150 60", follower) for _ in range(4)]
        assert len({head_of(snapshot) for snapshot in seen}) == len(seen)
        assert len(tar_names(seen[-1])) > len(tar_names(seen[0]))
        assert live.finish() == 0
        assert head_of(follower.refresh()) == head_of(seen[-1])


def test_following_an_oak_that_compacts_and_cleans(oak: OakPeer, tmp_path: Path) -> None:
    """With the second generation Oak drops the first: new letters, tars deleted."""
    oak.run("create", tmp_path, 400, 60, seed=1, **ONE_MIB_TARS)
    oak.run("create", tmp_path, 100, 60, seed=2, **ONE_MIB_TARS)
    oak.run("remove", tmp_path, "/content/run1")
    oak.run("compact", tmp_path, **ONE_MIB_TARS)
    with live_oak(oak, tmp_path) as live, following(tmp_path) as follower:
        before = told(live, "write 100 20", follower).acquire()
        held = read_closure(before)
        told(live, "compact", follower)
        after = told(live, "write 100 20", follower)
        assert after.head is not None
        assert after.head.generation[:2] == (2, 2)
        until(lambda: not tar_names(before) <= files(tmp_path), "Oak deletes tars")
        until(lambda: tar_names(follower.refresh()) == files(tmp_path), "we see what is left")
        read_closure(follower.snapshot)
        assert read_closure(before) == held
        before.release()
        assert live.finish() == 0


def test_a_store_whose_oak_was_killed_is_recovered_by_us(oak: OakPeer, tmp_path: Path) -> None:
    """Killed in the middle of a write, with a tar just begun: nothing that it flushed is lost."""
    with live_oak(oak, tmp_path) as live:
        live.send("write 150 60")
        live.expect("bytes=")
        before = files(tmp_path)
        live.send("write 5000 60")
        until(lambda: len(files(tmp_path) - before) > 1, "Oak begins tars")
        live.kill()
    with following(tmp_path) as follower:
        snapshot = follower.refresh()
        head = head_of(snapshot)
        assert snapshot.head is not None
        assert not snapshot.head.skipped
    with StoreWriter.open(tmp_path) as writer:
        assert writer.head is not None
        assert writer.head.hex == head
    recovered = set(tmp_path.glob("*.bak"))
    assert oak.walk(tmp_path).head == head
    assert set(tmp_path.glob("*.bak")) == recovered, "Oak has nothing left to recover"


def test_our_reader_finds_in_oaks_tree_what_oak_finds(oak: OakPeer, tmp_path: Path) -> None:
    oak.run("create", tmp_path, 400, 30, seed=20260)
    oak.run("checkpoint", tmp_path)
    oak.run("remove", tmp_path, "/wide")
    oak.run("create", tmp_path, 60, 0, seed=20261)
    theirs = oak.walk(tmp_path)
    with following(tmp_path) as follower:
        snapshot = follower.refresh()
        assert snapshot.head is not None
        ours = content_digest(NodeState(RecordReader(snapshot), snapshot.head.record))
    assert ours == (theirs.nodes, theirs.properties, theirs.blob_bytes, theirs.digest)
