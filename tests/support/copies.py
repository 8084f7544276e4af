"""Stores to replicate, written by our own writer, and what must be true of their copies."""

from __future__ import annotations

import os
from pathlib import Path

from stores import QuickDisk, closure_in

from tarfailover.format import journal as lines
from tarfailover.ids import RecordId, SegmentId
from tarfailover.repository.sample import write_sample
from tarfailover.store.check import StoreCheck
from tarfailover.store.compare import StoreComparison
from tarfailover.store.finding import FAULT
from tarfailover.store.follower import Follower
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.writer import StoreWriter

TAR_LIMIT = 1024 * 1024


def write(directory: Path, *, nodes: int = 10, binary_kib: int = 0, seed: int = 1) -> RecordId:
    """One more commit, or the first one; returns the new head."""
    options = {"create": True, "tar_limit": TAR_LIMIT, "disk": QuickDisk()}
    with StoreWriter.open(directory, **options) as writer:  # type: ignore[arg-type]
        made = write_sample(writer, nodes=nodes, binary_kib=binary_kib, commits=1, seed=seed)
    return made.head


def sample_store(directory: Path, *, nodes: int = 200, binary_kib: int = 256) -> RecordId:
    """A store of some MiB in several tars, by default about 5; returns its head."""
    write(directory, nodes=nodes, binary_kib=binary_kib)
    return write(directory, nodes=20, seed=2)


def head_of(directory: Path) -> RecordId:
    """The head of a store."""
    with Follower.open(directory) as follower:
        return follower.head().record


def closure_of(directory: Path) -> dict[SegmentId, bytes]:
    """All segments that the head needs."""
    with Follower.open(directory) as follower:
        return closure_in(follower.snapshot, follower.head().record.segment)


def stored_in(directory: Path, known: dict[SegmentId, bytes]) -> set[SegmentId]:
    """Those of `known` that are in the tars of a directory, which needs no head."""
    with Follower.open(directory) as follower:
        return {segment for segment in known if follower.snapshot.contains(segment)}


def heads_of(directory: Path) -> list[RecordId]:
    """Every head that the journal names, oldest first."""
    path = directory / lines.NAME
    return [line.head for line in lines.parse(path.read_bytes())] if path.exists() else []


def same(master: Path, slave: Path) -> None:
    """Both have the same head, and byte for byte the same closure; the slave's has no fault."""
    with Follower.open(master) as one, Follower.open(slave) as other:
        comparison = StoreComparison(one.snapshot, other.snapshot)
        differences = list(comparison.run())
        assert not differences, differences
        assert comparison.segments > 0
    sound(slave)


def sound(directory: Path) -> None:
    """A check finds no fault."""
    faults = [str(f) for f in StoreCheck(directory).run() if f.severity == FAULT]
    assert not faults, faults


def every_head_is_whole(directory: Path) -> list[RecordId]:
    """Each head that was ever named has all it needs; returns them, oldest first."""
    heads = heads_of(directory)
    with Follower.open(directory) as follower:
        for head in heads:
            assert closure_in(follower.snapshot, head.segment)
    return heads


def closed(directory: Path) -> None:
    """The store was closed: every tar has its index, the lock is free, nothing was mended."""
    assert sorted(directory.glob("data*.tar")), f"{directory} has no tar"
    with Follower.open(directory) as follower:
        scanned = [str(r.name) for r in follower.snapshot.tars.readers if r.index is None]
    assert scanned == [], "tars without an index"
    RepositoryLock.acquire(directory).release()
    before = sorted(os.listdir(directory))  # noqa: PTH208 - names are what is compared
    with StoreWriter.open(directory, headless=True) as writer:
        assert writer.repairs == ()
    assert sorted(os.listdir(directory)) == before  # noqa: PTH208
    assert not list(directory.glob("*.bak"))


def fingerprint(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Inode, times of change, and content of the directory and of every file in it."""
    found = {}
    for path in [directory, *sorted(directory.iterdir())]:
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[path.name] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, content)
    return found
