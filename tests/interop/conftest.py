"""Real Oak for the interop tests, or the reason why it is not here.

Which absence skips and which fails:

- no JDK or no Maven: skipped, with a reason that names all that is missing;
- Maven without network: skipped on a person's machine, a failure in CI (`offline_is_a_failure`);
- Maven, javac or Oak refuses: always a failure;
- with ``TARFAILOVER_INTEROP=required`` in the environment nothing is skipped.

`scripts/interop` runs the tests once for each release, named in ``OAK_RELEASE``, and prints the
matrix from what each run leaves in the file ``OAK_CELLS``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pluggy
import pytest
from oak_build import (
    RELEASES,
    Built,
    OakAbsentError,
    OakOfflineError,
    Toolchain,
    build,
    oak_is_required,
    offline_is_a_failure,
)
from oak_peer import Peer

CHOSEN = [name for name in RELEASES if os.environ.get("OAK_RELEASE", name) == name]
"""The releases that this run is about."""

CELLS: dict[str, str] = {}
"""How each cell of the matrix went."""


@pytest.fixture(scope="session", params=CHOSEN)
def release(request: pytest.FixtureRequest) -> str:
    """A release of Oak: each in turn."""
    name: str = request.param
    return name


def built(release: str) -> Built:
    """That release, built from its published artifacts by the first who asks, or a skip."""
    try:
        return build(Toolchain.find(RELEASES[release]))
    except OakAbsentError as absent:
        if oak_is_required(os.environ):
            raise
        pytest.skip(str(absent))
    except OakOfflineError as offline:
        if offline_is_a_failure(os.environ):
            raise
        pytest.skip(str(offline).splitlines()[0])


@pytest.fixture(scope="session")
def oak_built(release: str) -> Built:
    """Real Oak of that release."""
    return built(release)


@pytest.fixture(scope="session")
def peer(oak_built: Built, release: str) -> Iterator[Peer]:
    """One process with real Oak for all tests."""
    with Peer(oak_built, release) as started:
        yield started
        started.finish()


@pytest.fixture
def another_peer(oak_built: Built, release: str) -> Iterator[Peer]:
    """A process with real Oak for one test, which may kill it."""
    with Peer(oak_built, release) as started:
        yield started


@pytest.fixture
def other_peer(release: str) -> Iterator[Peer]:
    """A process with the other release of Oak."""
    (other,) = (name for name in RELEASES if name != release)
    with Peer(built(other), other) as started:
        yield started
        started.finish()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Keeps how the cells went; one that failed once has failed."""
    outcome = yield
    report = outcome.get_result()
    for marker in item.iter_markers("cell"):
        (name,) = marker.args
        if not report.passed:
            CELLS[name] = report.outcome
        elif report.when == "call":
            CELLS.setdefault(name, "ok")


def pytest_sessionfinish() -> None:
    """Leaves the cells for who prints the matrix."""
    if "OAK_CELLS" in os.environ:
        Path(os.environ["OAK_CELLS"]).write_text(json.dumps(CELLS))
