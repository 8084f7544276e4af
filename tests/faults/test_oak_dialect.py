"""Every fault, at any byte, in either direction, where slave and master speak Oak's dialect.

The slave is the one of an Oak primary, the master the one of Oak's standbys, and binaries come
behind the segments. Positions count from the first byte of the connection.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest
from cells import AMOUNT, CHANGED, ENDED, FAULTS, NAMED, NOTICED, SLOW
from failing import ANYWHERE, DOWN, FLIP, UP, Strike
from matrix import Report
from worlds import OAK_LINK, Setup, World

pytestmark = pytest.mark.load

PLACES = 2
"""How often each fault strikes in each direction: once in each half of the conversation."""
AGAIN = 15.0
"""Seconds from a failure until all is well: a pause, a connection and an interval."""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup.made(tmp_path_factory.mktemp("oak"))


@pytest.fixture(scope="module")
def sizes(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What is said each way, in bytes, until a first copy and a new head are there."""
    world = World(tmp_path_factory.mktemp("clean") / "oak", setup, OAK_LINK)
    world.slave.start()
    assert world.in_sync
    world.move_head()
    assert world.rig.advance(lambda: world.in_sync, AGAIN)
    (pair,) = world.proxy.pairs
    world.close()
    return {UP: pair.up.passed, DOWN: pair.down.passed}


def strike(does: str, direction: str, place: int, size: int, seed: int) -> Strike:
    """The fault, somewhere in that half of the conversation."""
    random = Random(f"{seed} {does} {direction} {place}")
    at = random.randrange(place * size // PLACES, (place + 1) * size // PLACES - AMOUNT)
    amount = 1 << random.randrange(8) if does == FLIP else random.randint(1, AMOUNT)
    return Strike(does, direction, ANYWHERE, at, amount)


def happens(world: World, does: str) -> None:
    """Whatever must hold from the fault to the end of it is asserted."""
    config = world.slave.service.config
    deadline = config.deadline_answer + config.deadline_idle + config.interval
    world.slave.start()
    if not world.struck:
        world.rig.advance(lambda: world.in_sync, AGAIN)
        world.move_head()
    assert world.rig.advance(lambda: world.struck, AGAIN), "it did not strike"
    world.rig.advance(lambda: bool(world.failures()), deadline + NOTICED)
    world.nothing_wrong()
    failures = world.failures()
    assert all(each.state in NAMED and each.why for each in failures), failures
    assert failures or does not in ENDED, "it was not noticed"
    assert not failures or does not in SLOW, failures
    assert world.rig.advance(lambda: world.in_sync, AGAIN), world.slave.service.status
    world.move_head()
    assert world.rig.advance(lambda: world.in_sync, AGAIN), "a new head is not followed"
    assert set(CHANGED + SLOW + ENDED) == set(FAULTS)


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("does", FAULTS)
def test_anywhere(
    does: str,
    direction: str,
    place: int,
    setup: Setup,
    sizes: dict[str, int],
    tmp_path: Path,
    report: Report,
) -> None:
    fault = strike(does, direction, place, sizes[direction], report.seed)
    world = World(tmp_path, setup, OAK_LINK, fault)
    try:
        happens(world, does)
        world.close()
    except BaseException as error:
        error.args = (f"{error}\n{fault}; again with FAULT_SEED={report.seed}",)
        with contextlib.suppress(Exception):
            world.abandon()
        raise
