"""Faults that last: every connection meets them for ten minutes, and then none does."""

from __future__ import annotations

from pathlib import Path

import pytest
from cells import AGAIN, FAULTS, NAMED, SLOW
from failing import DOWN, FLIP, Strike
from worlds import PLAIN_LINK, TLS_LINK, Setup, World

from tarfailover.config import SlaveConfig
from tarfailover.slave import status

pytestmark = pytest.mark.load

LONG = 600.0
PAUSE = SlaveConfig(store=Path("nowhere")).retry_max
JITTER = 1.5
"""A pause by that of the settings, at the most."""

ATTEMPTS = (8, 16)
"""To connect, in that time: the pauses double from half a second to a minute."""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup.made(tmp_path_factory.mktemp("lasting"))


@pytest.mark.parametrize("does", [does for does in FAULTS if does not in SLOW])
@pytest.mark.parametrize("phase", ["hello", "head", "part 3"])
@pytest.mark.parametrize("link", [PLAIN_LINK, TLS_LINK])
def test_ten_minutes(setup: Setup, tmp_path: Path, link: str, phase: str, does: str) -> None:
    """It is told as long as it lasts, tried again with pauses, and over as soon as it can be."""
    world = World(tmp_path, setup, link, Strike(does, DOWN, phase, 20, 4))
    world.proxy.lasting = True
    world.slave.start()
    world.rig.advance(lambda: False, LONG)
    assert world.failures() or does == FLIP, "without TLS, only one segment came wrong"
    assert all(each.state in NAMED for each in world.failures())
    world.nothing_wrong()
    if phase == "part 3":
        assert world.in_sync, "each time there was less to bring, until there was no part 3"
    else:
        assert world.slave.state in NAMED
        assert ATTEMPTS[0] <= len(world.rig.attempts) <= ATTEMPTS[1]
    world.proxy.strike = None
    assert world.rig.advance(lambda: world.in_sync, PAUSE * JITTER + AGAIN)
    assert status.DIVERGED not in world.slave.history
    world.move_head()
    assert world.in_sync
    world.close()
