"""Stores that are written, compacted and cleaned up while slaves copy them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest_twisted
from copies import every_head_is_whole, head_of, heads_of, same, write
from format_samples import data_segment
from proxies import Fault, Plan, Proxy
from services import Master, Slave, until, within
from stores import (
    RECORD,
    Sample,
    add_heads,
    bulk,
    data_id,
    head_in,
    make_store,
    tar_bytes,
)
from twisted.internet.threads import deferToThread

from tarfailover.format.segment import NODE, VALUE
from tarfailover.ids import NO_GENERATION, Generation, RecordId

MIDDLE = 700_000
"""Bytes after which a copy is held: some segments have come, most were not asked for yet."""
NARROW = {"window_max": 1024 * 1024, "receive_buffer": 0, "retry_initial": 0.01}
"""A slave that asks for a MiB at a time."""
KEEPING = {"no_cleanup": True}
"""A slave whose older heads stay whole after a compaction."""
WRITE_SECONDS = 30.0
"""For some commits."""
COMMITS = 8


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_written_while_it_is_copied(sample: Path, tmp_path: Path) -> None:
    """Commits before, in the middle of, and after the first copy, from another thread."""
    copy = tmp_path / "slave"
    hold = Plan(down=Fault(MIDDLE, "hold"))
    async with (
        Master(sample) as master,
        Proxy(master.port, [hold]) as proxy,
        Slave(copy, proxy.port, **NARROW) as slave,
    ):
        await proxy.strikes()
        first = await _written(sample, range(10, 12))
        proxy.release()
        last = await _written(sample, range(20, 20 + COMMITS))
        await slave.in_sync(last[-1])
        assert slave.service.status.failures == 0
    written = heads_of(sample)
    assert written[-len(first + last) :] == first + last
    had = every_head_is_whole(copy)
    assert had[0] == written[-len(first + last) - 1], "the head that was being copied came first"
    assert had == [head for head in written if head in had], "heads came in the master's order"
    same(sample, copy)


async def _written(directory: Path, seeds: Iterable[int]) -> list[RecordId]:
    """Commits made in a thread while the reactor runs."""

    def commits() -> list[RecordId]:
        return [write(directory, nodes=40, binary_kib=64, seed=seed) for seed in seeds]

    heads: list[RecordId] = await within(WRITE_SECONDS, "commits", deferToThread(commits))
    return heads


# what Oak's compaction and cleanup do to a directory

BULKS = 40
SIZE = 128 * 1024
COMPACTED = Generation(1, 1, True)


class Old(NamedTuple):
    """A store before a compaction: three tars, each with bulk segments and one that needs them."""

    tars: dict[str, list[Sample]]
    root: Sample


def _node(number: int, needs: Iterable[Sample], generation: Generation = NO_GENERATION) -> Sample:
    """A data segment that refers to `needs` and has a node where the journal says so."""
    values = [(VALUE, b"\1x")] * RECORD
    references = tuple(each.segment for each in needs)
    data = data_segment(generation, references, [*values, (NODE, bytes(12))])
    return Sample(data_id(number), data, references, generation)


def _before(directory: Path) -> Old:
    bulks = [bulk(number, SIZE) for number in range(BULKS)]
    tars = {}
    leaves = []
    for number in range(2):
        some = bulks[number::2]
        node = _node(number, some)
        tars[f"data0000{number}a.tar"] = [*some, node]
        leaves.append(node)
    root = _node(2, leaves)
    tars["data00002a.tar"] = [root]
    make_store(directory, tars, [root.segment])
    return Old(tars, root)


def _compact(directory: Path, old: Old) -> Sample:
    """A new head of a new generation in a new tar; then only what it needs of the old is kept."""
    first, second = (old.tars[f"data0000{number}a.tar"][:-1] for number in range(2))
    kept = first[: len(first) // 2]
    fresh = bulk(BULKS, SIZE)
    new = _node(10, [*kept, fresh], COMPACTED)
    _put(directory, "data00003a.tar", [fresh, new])
    add_heads(directory, new.segment, time_ms=2)
    # The cleanup: a new letter with what is needed, then the old files go.
    _put(directory, "data00000b.tar", kept)
    assert second, "what goes altogether"
    for name in old.tars:
        (directory / name).unlink()
    return new


def _put(directory: Path, name: str, samples: list[Sample]) -> None:
    (directory / name).write_bytes(tar_bytes(name, samples))


@pytest_twisted.ensureDeferred
async def test_a_compaction_in_the_middle_of_a_copy(tmp_path: Path) -> None:
    """What is being copied goes on to be read from deleted files; the new head comes next."""
    store, copy = tmp_path / "master", tmp_path / "slave"
    old = _before(store)
    async with (
        Master(store, send_buffer=64 * 1024) as master,
        Proxy(master.port, [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
        Slave(copy, proxy.port, **NARROW, **KEEPING) as slave,
    ):
        await proxy.strikes()
        new = _compact(store, old)
        await _serves(master, head_in(new.segment))
        assert heads_of(copy) == []
        proxy.release()
        await slave.in_sync(head_in(new.segment))
        assert (slave.service.status.failures, proxy.accepted) == (0, 1)
    heads = [head_in(old.root.segment), head_in(new.segment)]
    assert every_head_is_whole(copy) == heads
    same(store, copy)


@pytest_twisted.ensureDeferred
async def test_a_compaction_and_a_cut_in_the_middle_of_a_copy(tmp_path: Path) -> None:
    """With the connection the old state is gone: what came of it stays, the new head is copied."""
    store, copy = tmp_path / "master", tmp_path / "slave"
    old = _before(store)
    async with (
        Master(store, send_buffer=64 * 1024) as master,
        Proxy(master.port, [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
        Slave(copy, proxy.port, **NARROW) as slave,
    ):
        await proxy.strikes()
        new = _compact(store, old)
        await _serves(master, head_in(new.segment))
        proxy.cut()
        await slave.in_sync(head_in(new.segment))
        assert (slave.service.status.failures, proxy.accepted) == (1, 2)
    assert every_head_is_whole(copy) == [head_in(new.segment)]
    same(store, copy)


@pytest_twisted.ensureDeferred
async def test_a_compaction_between_two_heads(tmp_path: Path) -> None:
    """A slave in sync follows to the new generation, and its older head stays whole."""
    store, copy = tmp_path / "master", tmp_path / "slave"
    old = _before(store)
    async with Master(store) as master, master.slave(copy, **KEEPING) as slave:
        await slave.in_sync(head_in(old.root.segment))
        new = _compact(store, old)
        await slave.in_sync(head_in(new.segment))
        assert slave.service.status.failures == 0
    assert len(every_head_is_whole(copy)) == 2
    same(store, copy)


@pytest_twisted.ensureDeferred
async def test_a_compaction_is_followed_by_a_cleanup_of_the_copy(tmp_path: Path) -> None:
    """A second slave, which had been cut in the middle of its first copy, is as small."""
    store, copies = tmp_path / "master", [tmp_path / "slave", tmp_path / "other"]
    old = _before(store)
    async with (
        Master(store) as master,
        Proxy(master.port, [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
        master.slave(copies[0]) as slave,
        Slave(copies[1], proxy.port, **NARROW) as other,
    ):
        await slave.in_sync(head_in(old.root.segment))
        await proxy.strikes()
        new = _compact(store, old)
        await _serves(master, head_in(new.segment))
        proxy.cut()
        for each in (slave, other):
            await each.in_sync(head_in(new.segment))
            await until(lambda each=each: not each.service.copy.cleanup_due, "a cleanup")
    for copy in copies:
        same(store, copy)
        assert _size(copy) <= 1.5 * _size(store)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.tar"))


async def _serves(master: Master, head: RecordId) -> None:
    factory = master.service.factory
    assert factory is not None

    def served() -> bool:
        shown = factory.snapshot.head
        return shown is not None and shown.record == head

    await until(served, f"the master serving {head}")


@pytest_twisted.ensureDeferred
async def test_a_store_gets_its_first_head_while_a_slave_waits(tmp_path: Path) -> None:
    """The journal may come last of all, as in a store that is being restored."""
    store, copy = tmp_path / "master", tmp_path / "slave"
    old = _before(store)
    journal = (store / "journal.log").read_bytes()
    (store / "journal.log").unlink()
    async with Master(store) as master, master.slave(copy, interval=0.1) as slave:
        await slave.in_state("refused")
        (store / "journal.log").write_bytes(journal)
        await slave.in_sync(head_in(old.root.segment))
    assert head_of(copy) == head_in(old.root.segment)
    same(store, copy)
