"""Many slaves of one master, over real sockets, and what they do to its directory: nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest_twisted
from copies import fingerprint, head_of, heads_of, same, write
from services import Master, until

SLAVES = 10
NEVER = 3600.0
"""An interval that no test lives to see the end of."""


@pytest_twisted.ensureDeferred
async def test_ten_at_once(sample: Path, tmp_path: Path) -> None:
    before, head = fingerprint(sample), head_of(sample)
    copies = [tmp_path / f"slave{number}" for number in range(SLAVES)]
    async with Master(sample) as master, AsyncExitStack() as stack:
        slaves = [await stack.enter_async_context(master.slave(copy)) for copy in copies]
        for slave in slaves:
            await slave.in_sync(head)
        assert master.service.factory is not None
        assert len(master.service.factory.clients) == SLAVES
    assert fingerprint(sample) == before
    for copy in copies:
        same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_one_more_than_allowed_waits_until_one_leaves(sample: Path, tmp_path: Path) -> None:
    async with Master(sample, max_clients=1) as master, AsyncExitStack() as first:
        one = await first.enter_async_context(master.slave(tmp_path / "one"))
        await one.in_sync()
        async with master.slave(tmp_path / "other", retry_max=0.05) as other:
            await other.in_state("refused")
            await first.aclose()
            await other.in_sync()
    same(sample, tmp_path / "other")


@pytest_twisted.ensureDeferred
async def test_a_commit_is_followed_without_waiting_for_the_interval(
    sample: Path, tmp_path: Path
) -> None:
    """Several in a row: what begins a cycle is the answer to the one before."""
    copy = tmp_path / "slave"
    first = head_of(sample)
    async with Master(sample) as master, master.slave(copy, interval=NEVER, poll_wait=600) as slave:
        await slave.in_sync(first)
        written = [first]
        for seed in range(10, 13):
            await until(lambda: _waiting(master) == 1, "the slave's long poll")
            written.append(write(sample, seed=seed))
            await slave.in_sync(written[-1])
    assert heads_of(copy) == written
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_without_a_long_poll_the_interval_brings_the_next_head(
    sample: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "slave"
    async with Master(sample) as master, master.slave(copy, interval=0.1, poll_wait=0) as slave:
        await slave.in_sync(head_of(sample))
        await slave.in_sync(write(sample, seed=10))
    same(sample, copy)


def _waiting(master: Master) -> int:
    """How many slaves wait for the head to move."""
    assert master.service.factory is not None
    return sum(len(client._waiters) for client in master.service.factory.clients)
