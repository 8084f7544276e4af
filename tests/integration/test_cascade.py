"""A master on the directory of a slave: no feature of its own, but it must work all the same."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from copies import every_head_is_whole, head_of, same, write
from proxies import Fault, Plan, Proxy
from services import Master, Slave, until

NARROW = {"window_max": 1024 * 1024, "receive_buffer": 0, "retry_initial": 0.01}


@pytest_twisted.ensureDeferred
async def test_a_second_slave_of_a_slave_that_is_still_copying(
    sample: Path, tmp_path: Path
) -> None:
    """It is refused as long as there is no head, and then follows whatever the first one gets."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with (
        Master(sample) as master,
        Proxy(master.port, [Plan(down=Fault(700_000, "hold"))]) as proxy,
        Slave(first, proxy.port, **NARROW) as near,
    ):
        await proxy.strikes()
        async with (
            Master(first) as middle,
            middle.slave(second, interval=0.1) as far,
        ):
            await far.in_state("refused")
            proxy.release()
            await far.in_sync(head_of(sample))
            head = write(sample, seed=10)
            await far.in_sync(head)
            assert near.service.copy is not None
            assert near.service.copy.head == head, "it came by way of the first slave"
    same(sample, first)
    same(sample, second)
    assert len(every_head_is_whole(second)) == 2


@pytest_twisted.ensureDeferred
async def test_the_second_slave_goes_on_when_the_first_is_started_anew(
    sample: Path, tmp_path: Path
) -> None:
    """The one writer of the middle directory ends and comes back; its readers hardly notice."""
    first, second = tmp_path / "first", tmp_path / "second"
    async with Master(sample) as master:
        async with master.slave(first) as near:
            await near.in_sync(head_of(sample))
        async with Master(first) as middle, middle.slave(second) as far:
            await far.in_sync(head_of(sample))
            async with master.slave(first):
                head = write(sample, seed=10)
                await far.in_sync(head)
            assert far.service.status.failures == 0
            factory = middle.service.factory
            assert factory is not None
            await until(lambda: len(factory.clients) == 1, "the second slave still connected")
    same(sample, second)
