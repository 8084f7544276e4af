"""What every test may use, and what every test is held to."""

from __future__ import annotations

import gc
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from leaks import Leftovers
from links import Rig
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import formatEvent, globalLogPublisher

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = CHECKOUT.parent / "shared"
TURNS = 20
"""Turns of the reactor that a test's last closings get before what is left counts as leaked."""

# No deadline and no complaint about slowness: a busy machine is no defect of the code.
settings.register_profile(
    "tarfailover",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize="CI" in os.environ,
)
settings.register_profile("few", parent=settings.get_profile("tarfailover"), max_examples=10)
settings.load_profile("tarfailover")


@pytest.fixture
def fixture_store(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a fresh copy of a store that real Oak wrote: ``fixture_store("killed")``.

    The zips lie in shared/fixtures beside the checkout; without them the test says so and skips.
    """

    def unzip(name: str) -> Path:
        archive = SHARED / "fixtures" / f"{name}.zip"
        if not archive.is_file():
            pytest.skip(f"no ../shared/fixtures/{name}.zip beside the checkout")
        store = tmp_path / name
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(store)
        return store

    return unzip


@pytest.fixture
def rig() -> Rig:
    """A clock, threads and connections in memory that do what the test says."""
    return Rig()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged while the test runs, line by line: ``warn the disk is full``."""
    lines: list[str] = []

    def keep(event: Any) -> None:
        lines.append(f"{event['log_level'].name} {formatEvent(event)}")

    globalLogPublisher.addObserver(keep)
    yield lines
    globalLogPublisher.removeObserver(keep)


@pytest.fixture(scope="session", autouse=True)
def started_reactor() -> None:
    """Lets the reactor open what it keeps for good before anybody counts what is open.

    The first port ever opened reserves a descriptor for the day when none are left.
    """
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    pytest_twisted.blockon(maybeDeferred(port.stopListening))


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test after which a file, a socket, a thread or a delayed call is still there.

    A test of something that by its nature stays is marked ``leaves_behind("why")``.
    """
    before = Leftovers.now()
    yield
    if request.node.get_closest_marker("leaves_behind") is None:
        left = _left_after_some_turns(before)
        if left:
            pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def _left_after_some_turns(before: Leftovers) -> list[str]:
    left = Leftovers.now().left_since(before)
    for _ in range(TURNS):
        if not left:
            break
        gc.collect()
        pytest_twisted.blockon(_one_turn())
        left = Leftovers.now().left_since(before)
    return left


def _one_turn() -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned
