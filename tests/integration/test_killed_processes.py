"""Real processes, ended with SIGKILL in the middle: what was stored is never pulled again."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from beside import beside
from copies import closure_of, every_head_is_whole, head_of, same, stored_in, write
from daemons import LINE_SECONDS, Daemon
from proxies import Fault, Plan, Proxy
from services import Master, Slave, until, within
from twisted.internet.threads import deferToThread

pytestmark = pytest.mark.load

MIDDLE = 1_500_000
"""Bytes after which a copy is held: a MiB of segments has come whole."""
NARROW = ("--window-max", "1MiB", "--receive-buffer", 0)
"""A slave that asks for a MiB at a time."""
TWO_REQUESTS = 2 * 1024 * 1024 + 512 * 1024
"""Bytes that may be under way when a connection breaks, at the most."""
KILLS = 2


@pytest_twisted.ensureDeferred
async def test_a_slave_killed_in_the_middle_of_its_first_copy(sample: Path, tmp_path: Path) -> None:
    copy, closure = tmp_path / "slave", closure_of(sample)
    stored: set[bytes] = set()
    plans = [Plan(down=Fault(MIDDLE, "hold"))] * KILLS
    async with Master(sample) as master, Proxy(master.port, plans) as proxy:
        for number in range(KILLS):
            with Daemon.slave(copy, proxy.port, *NARROW) as slave:
                await proxy.strikes(number + 1)
                await _stores_more(copy, closure, len(stored))
                slave.kill()
            assert stored < stored_in(copy, closure), "what was stored stays, and there is more"
            stored = stored_in(copy, closure)
        with Daemon.slave(copy, proxy.port, *NARROW) as slave:
            line = await beside(lambda: slave.expect(r"is durable, 100 %: .* (\d+) segments"))
            await beside(slave.stop)
    assert int(line[1]) == len(closure) - len(stored), "only what was lacking was pulled"
    assert every_head_is_whole(copy) == [head_of(sample)]
    same(sample, copy)


async def _stores_more(copy: Path, closure: dict[bytes, bytes], than: int) -> None:
    what = f"more than {than} segments in {copy}"
    await until(lambda: len(stored_in(copy, closure)) > than, what, LINE_SECONDS)


@pytest_twisted.ensureDeferred
async def test_a_slave_killed_while_it_follows(sample: Path, tmp_path: Path) -> None:
    """In the middle of commits that come as fast as they can."""
    copy = tmp_path / "slave"
    async with Master(sample) as master:
        with Daemon.slave(copy, master.port) as slave:
            await beside(lambda: slave.expect("in sync"))
            writing = deferToThread(lambda: [write(sample, seed=seed) for seed in range(10, 20)])
            await beside(lambda: slave.expect("is durable"))
            slave.kill()
        heads = await within(LINE_SECONDS, "commits", writing)
        every_head_is_whole(copy)
        with Daemon.slave(copy, master.port) as slave:
            await beside(lambda: slave.expect(f"head {heads[-1]} is durable"))
            await beside(slave.stop)
    every_head_is_whole(copy)
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_master_killed_in_the_middle_of_a_copy(sample: Path, tmp_path: Path) -> None:
    """The slave is not started anew: it comes back by itself when there is a master again."""
    copy, total = tmp_path / "slave", sum(map(len, closure_of(sample).values()))
    with Daemon.master(sample) as first, Daemon.master(sample) as second:
        ports = [await beside(lambda: first.port), await beside(lambda: second.port)]
        async with (
            Proxy(ports[0], [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
            Slave(copy, proxy.port, retry_initial=0.01, retry_max=0.05, receive_buffer=0) as slave,
        ):
            await proxy.strikes()
            first.kill()
            proxy.target = 1
            proxy.release()
            await slave.in_state("stalled")
            await until(lambda: proxy.accepted > 2, "attempts while there is no master")
            proxy.target = ports[1]
            await slave.in_sync(head_of(sample))
            assert proxy.down < total + TWO_REQUESTS
            await beside(second.stop)
    same(sample, copy)
