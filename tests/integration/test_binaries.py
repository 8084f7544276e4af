"""External binaries over real sockets, and by real processes that are killed in the middle."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import pytest_twisted
from beside import beside
from binaries import add_to, holder, id_of
from blob_samples import put
from copies import every_head_is_whole
from daemons import Daemon
from proxies import Fault, Plan, Proxy
from services import Master, until
from sides import TAR
from stores import QuickDisk, Sample, head_in, make_store

from tarfailover.store.blobs import DATA_STORE, BlobStore

pytestmark = pytest.mark.load

MIB = 1024 * 1024
SMALL = [b"binary %d " % number * (number + 1) for number in range(30)]


def noise(seed: int, size: int) -> bytes:
    """Bytes that nothing makes smaller."""
    return random.Random(seed).randbytes(size)


def blobs_in(directory: Path) -> BlobStore:
    return BlobStore(directory, DATA_STORE, QuickDisk())


def whole(store: BlobStore, contents: list[bytes]) -> bool:
    """Whether all of `contents` are there, every byte of them."""
    ids = [store.parse(id_of(content)) for content in contents]
    for each in ids:
        if store.has(each):
            store.verify(each)
    return all(map(store.has, ids))


def mentioning(number: int, contents: list[bytes], *before: Sample) -> Sample:
    return holder(number, [id_of(each) for each in contents], [each.segment for each in before])


@pytest_twisted.ensureDeferred
async def test_a_master_and_a_slave_over_sockets(tmp_path: Path) -> None:
    store, theirs, own = tmp_path / "store", blobs_in(tmp_path / "theirs"), tmp_path / "own"
    contents = [*SMALL, b"", noise(1, 3 * MIB + 5)]
    for content in contents:
        put(theirs, content)
    first = mentioning(1, contents)
    make_store(store, {TAR: [first]}, [first.segment])
    async with (
        Master(store, blob_store=str(theirs.path)) as master,
        master.slave(tmp_path / "copy", blob_store=str(own)) as slave,
    ):
        await slave.in_sync(head_in(first.segment))
        assert whole(blobs_in(own), contents)
        later = [noise(2, 2 * MIB), b"words " * 200_000]
        for content in later:
            put(theirs, content)
        second = mentioning(2, later, first)
        add_to(store, [second])
        await slave.in_sync(head_in(second.segment))
        assert whole(blobs_in(own), later)


@pytest_twisted.ensureDeferred
async def test_a_slave_killed_in_the_middle_of_a_large_binary(tmp_path: Path) -> None:
    store, copy = tmp_path / "store", tmp_path / "copy"
    theirs, own = blobs_in(tmp_path / "theirs"), blobs_in(tmp_path / "own")
    large = noise(3, 12 * MIB)
    put(theirs, large)
    first = mentioning(1, [large])
    make_store(store, {TAR: [first]}, [first.segment])
    plans = [Plan(down=Fault(5 * MIB, "hold")), Plan(down=Fault(3 * MIB, "hold"))]
    came = [0]
    async with (
        Master(store, blob_store=str(theirs.path)) as master,
        Proxy(master.port, plans) as proxy,
    ):
        options = ("--blob-store", own.path, "--receive-buffer", 0)
        for number in range(len(plans)):
            with Daemon.slave(copy, proxy.port, *options) as slave:
                await proxy.strikes(number + 1)
                await until(lambda: part(own) > came[-1] + MIB, "a part on the disk", 20.0)
                slave.kill()
            came.append(part(own))
            assert not every_head_is_whole(copy), "no head before its binaries"
        before = proxy.down
        with Daemon.slave(copy, proxy.port, *options) as slave:
            await beside(lambda: slave.expect("is durable, 100 %.* 1 of 1 binaries"))
            await beside(slave.stop)
        assert proxy.down - before < len(large) - came[-1] + MIB, "only the rest came"
    assert whole(own, [large])
    assert every_head_is_whole(copy) == [head_in(first.segment)]


def part(store: BlobStore) -> int:
    """Bytes of a binary that is on its way."""
    return sum(each.size for each in store.partials()) if store.path.exists() else 0
