"""When compression is on: links, slaves and compressors of many speeds, simulated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tarfailover.master.balance import BUFFERED, MIB, MOST_PATIENCE, PERIOD, Balance, Taken
from tarfailover.master.packing import Packing

MB = 1e6


@dataclass
class World:
    """Speeds in MB a second; one chunk is compressed while the one before it is sent."""

    link: float
    compressor: float = 300
    slave: float = 10_000
    """Bytes of segments that the slave takes."""
    reader: float = 1500
    ratio: float = 0.6
    buffered: float = 0
    """Bytes that the kernels still take at once."""

    def chunk(self, balance: Balance) -> None:
        """Send one MiB of segments."""
        wire = MIB * (self.ratio if balance.on else 1.0)
        worked = MIB / (self.compressor if balance.on else self.reader) / MB
        hidden, self.buffered = min(wire, self.buffered), max(0, self.buffered - wire)
        drained = max((wire - hidden) / self.link / MB, (wire - hidden) / wire * self.took)
        taken = Taken(MIB, int(wire), max(worked, drained), max(0.0, worked - drained), worked)
        balance.sent(taken)

    @property
    def took(self) -> float:
        return MIB / self.slave / MB


def share_on(world: World, balance: Balance, chunks: int = 2000) -> float:
    """The share of the chunks that is compressed."""
    on = 0
    for _ in range(chunks):
        on += balance.on
        world.chunk(balance)
    return on / chunks


@pytest.mark.parametrize("buffered", [0, 7.9 * MIB])
@pytest.mark.parametrize(
    ("world", "least", "most"),
    [
        (World(link=0.05), 1.0, 1.0),
        (World(link=1.2), 1.0, 1.0),
        (World(link=12), 1.0, 1.0),
        (World(link=40), 1.0, 1.0),
        (World(link=118), 0.9, 1.0),
        (World(link=300), 0.0, 0.1),
        (World(link=450), 0.0, 0.05),
        (World(link=3000), 0.0, 0.05),
        (World(link=3000, slave=430), 0.0, 0.05),
        (World(link=3000, slave=235), 0.0, 0.1),
        (World(link=3000, slave=90), 0.0, 0.1),
        (World(link=118, compressor=60), 0.0, 0.1),
        (World(link=118, ratio=0.97, compressor=2000), 0.0, 0.15),
        (World(link=450, ratio=1.0, compressor=5000), 0.0, 0.05),
        (World(link=3000, reader=100, compressor=80), 0.0, 0.1),
    ],
    ids=repr,
)
def test_on_where_it_brings_more(world: World, least: float, most: float, buffered: float) -> None:
    world.buffered = buffered
    assert least <= share_on(world, Balance()) <= most


@pytest.mark.parametrize(
    ("world", "least", "most"),
    [
        (World(link=430), 0.0, 0.0),
        (World(link=430, ratio=1.0, compressor=5000), 0.0, 0.0),
        (World(link=3000, slave=235), 0.0, 0.0),
        (World(link=12), 0.95, 1.0),
    ],
    ids=repr,
)
def test_within_one_machine_it_is_on_only_where_that_is_slow(
    world: World, least: float, most: float
) -> None:
    assert least <= share_on(world, Balance(local=True), 500) <= most


def test_a_link_that_becomes_slow_or_fast_is_noticed() -> None:
    balance, world = Balance(), World(link=1000)
    share_on(world, balance)
    assert not balance.on
    world.link = 10
    assert share_on(world, balance, 20) > 0.5
    assert balance.on
    world.link = 1000
    share_on(world, balance, 1000)
    assert not balance.on


def test_it_does_not_flap() -> None:
    for link in range(20, 400, 7):
        balance, world, changes = Balance(), World(link=link), 0
        for _ in range(3000):
            before = balance.on
            world.chunk(balance)
            changes += balance.on is not before
        assert changes <= 16, f"{changes} changes at {link} MB/s"


def test_small_answers_that_the_kernels_swallow_tell_nothing() -> None:
    balance = Balance()
    for _ in range(500):
        balance.begin()
        for _ in range(5):
            balance.sent(Taken(MIB // 2, MIB // 4, 0.0001, 0.0, 0.002))
    assert balance.on


def test_a_clock_that_goes_back_is_harmless() -> None:
    balance = Balance()
    for seconds in (-5.0, 0.0, -0.1):
        for _ in range((BUFFERED + 2 * PERIOD) // MIB):
            balance.sent(Taken(MIB, MIB, seconds, seconds, seconds))
    assert balance._patience <= MOST_PATIENCE


class TestPacking:
    def test_goes_by_the_balance(self) -> None:
        packing = Packing(1, always=False)
        assert packing.packer(0) is not None
        packing.balance.on = False
        assert packing.packer(0) is None

    def test_is_on_always_if_asked_for(self) -> None:
        packing = Packing(1, always=True)
        packing.balance.on = False
        assert packing.packer(0) is not None

    def test_is_on_where_the_throttle_is_slower_than_the_compressor(self) -> None:
        packing = Packing(1, always=False)
        packing.balance.on = False
        packing.balance.speed = 250e6
        assert packing.packer(200_000_000) is not None
        assert packing.packer(300_000_000) is None

    def test_keeps_one_stream_until_it_rests(self) -> None:
        packing = Packing(1, always=True)
        one = packing.packer(0)
        assert packing.packer(0) is one
        packing.rest()
        assert packing.packer(0) is not one
