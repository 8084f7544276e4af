"""Links that break at every kind of byte, hang and lag: the slave goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_twisted
from copies import closure_of, head_of, same, write
from proxies import Fault, Plan, Proxy, blackhole
from services import Master, Slave, until

pytestmark = pytest.mark.load

HASTE = {"retry_initial": 0.01, "retry_max": 0.02}
SMALL = {"window_max": 1024 * 1024, "receive_buffer": 0}
"""So that a copy needs many requests, one after the other."""
DOWN = (0, 1, 4, 9, 60, 110, 150, 1000, 65_000, 65_700, 300_000, 1_200_000, 2_000_000)
"""In the answers: nothing of them, inside a length, a type, a welcome, a list, segments."""
UP = (0, 1, 4, 9, 20, 50, 51, 60, 80, 100, 150, 200)
"""In the requests: HELLO, HEAD, LIST and the first GETs."""

FRAMING = 64 * 1024
"""Bytes of an answer beside the segments themselves, at the most, for a store this small."""


def _slave(copy: Path, port: int, **settings: Any) -> Slave:
    """A slave that comes back without delay."""
    return Slave(copy, port, **{**HASTE, **settings})


@pytest.mark.parametrize("does", ["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_answers_cut_anywhere(
    sample: Path, tmp_path: Path, does: Literal["close", "reset"]
) -> None:
    plans = [Plan(down=Fault(after, does)) for after in DOWN]
    await _copied_in_spite_of(plans, sample, tmp_path / "slave")


@pytest.mark.parametrize("does", ["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_requests_cut_anywhere(
    sample: Path, tmp_path: Path, does: Literal["close", "reset"]
) -> None:
    plans = [Plan(up=Fault(after, does)) for after in UP]
    await _copied_in_spite_of(plans, sample, tmp_path / "slave")


async def _copied_in_spite_of(plans: list[Plan], store: Path, copy: Path) -> None:
    """One slave meets all the faults, one after the other, and then a good link."""
    async with (
        Master(store) as master,
        Proxy(master.port, plans) as proxy,
        _slave(copy, proxy.port, **SMALL) as slave,
    ):
        await slave.in_sync(head_of(store))
        assert proxy.struck == len(plans)
        assert proxy.accepted == len(plans) + 1
    same(store, copy)


@pytest_twisted.ensureDeferred
async def test_what_came_before_the_cut_is_not_pulled_again(sample: Path, tmp_path: Path) -> None:
    copy, closure = tmp_path / "slave", closure_of(sample)
    total = sum(map(len, closure.values()))
    stored, passed = [], []

    def note() -> None:
        if slave.service.status.state == "stalled":
            assert slave.service.copy is not None
            writer = slave.service.copy.writer
            stored.append(sum(len(closure[s]) for s in closure if writer.contains(s)))
            passed.append(proxy.down)

    async with (
        Master(sample) as master,
        Proxy(master.port, [Plan(down=Fault(total // 2, "close"))]) as proxy,
        _slave(copy, proxy.port, **SMALL) as slave,
    ):
        slave.service.status.watchers.append(note)
        await slave.in_sync(head_of(sample))
        again = proxy.down - passed[0]
    assert len(stored) == 1, "the link broke once"
    assert stored[0] > total // 4, "all that had come whole was kept"
    assert again < total - stored[0] + FRAMING
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_in_the_answers_ends_by_the_idle_deadline(
    sample: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "slave"
    async with (
        Master(sample) as master,
        Proxy(master.port, [blackhole(1_000_000)]) as proxy,
        _slave(copy, proxy.port, deadline_idle=0.3) as slave,
    ):
        await proxy.strikes()
        await slave.in_state("stalled")
        assert "deadline idle" in slave.service.status.why
        await slave.in_sync(head_of(sample))
        assert proxy.accepted == 2
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_before_any_answer_ends_by_the_hello_deadline(
    sample: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "slave"
    async with (
        Master(sample) as master,
        Proxy(master.port, [blackhole(0)]) as proxy,
        _slave(copy, proxy.port, deadline_hello=0.2) as slave,
    ):
        await slave.in_state("stalled")
        assert "deadline hello" in slave.service.status.why
        await slave.in_sync(head_of(sample))
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_black_hole_while_waiting_for_a_head_ends_by_the_answer_deadline(
    sample: Path, tmp_path: Path
) -> None:
    """The link dies while all is in sync; the next head comes over the next connection."""
    copy = tmp_path / "slave"
    async with (
        Master(sample) as master,
        Proxy(master.port) as proxy,
        _slave(copy, proxy.port, poll_wait=0.3, interval=0.1, deadline_answer=0.2) as slave,
    ):
        await slave.in_sync(head_of(sample))
        (pair,) = proxy.pairs
        pair.swallow()
        head = write(sample, seed=10)
        await slave.in_state("stalled")
        assert "deadline answer" in slave.service.status.why
        await slave.in_sync(head)
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_master_that_vanished_lets_go_of_the_slave(sample: Path, tmp_path: Path) -> None:
    """The other side of a black hole: the master keeps no client that takes nothing."""
    async with (
        Master(sample, deadline_slow_reader=0.2, send_buffer=256 * 1024) as master,
        Proxy(master.port, [Plan(down=Fault(500_000, "hold"))]) as proxy,
        _slave(tmp_path / "slave", proxy.port, receive_buffer=0) as slave,
    ):
        await proxy.strikes()
        factory = master.service.factory
        assert factory is not None
        (client,) = factory.clients
        await until(lambda: client not in factory.clients, "the end of the slow reader")
        assert slave.service.status.state == "syncing", "the slave could not hear of it"
        proxy.cut()
        await slave.in_sync(head_of(sample))
    same(sample, tmp_path / "slave")


@pytest_twisted.ensureDeferred
async def test_a_slow_link_with_delay(sample: Path, tmp_path: Path) -> None:
    """Slow is not dead: the idle deadline is shorter than the copy takes, and never passes."""
    copy = tmp_path / "slave"
    async with (
        Master(sample) as master,
        Proxy(master.port, [Plan(rate=10_000_000, delay=0.02)]) as proxy,
        _slave(copy, proxy.port, deadline_idle=0.3, deadline_answer=0.3) as slave,
    ):
        await slave.in_sync(head_of(sample))
        assert slave.service.status.failures == 0
        assert proxy.accepted == 1
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_nobody_listens_at_first(sample: Path, tmp_path: Path) -> None:
    """A slave may be started before its master."""
    copy = tmp_path / "slave"
    async with Master(sample) as master, Proxy(1) as proxy, _slave(copy, proxy.port) as slave:
        await slave.in_state("stalled")
        proxy.target = master.port
        await slave.in_sync(head_of(sample))
    same(sample, copy)
