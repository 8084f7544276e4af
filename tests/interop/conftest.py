"""Real Oak for the interop tests, or the reason why it is not here.

Which absence skips and which fails is a rule of its own, see `support/oak.py`:

- no JDK, no Maven or no shared material: skipped, with a reason that names what is missing;
- Maven without network: skipped on a person's machine, a failure in CI (`offline_is_a_failure`);
- Maven, javac or Oak refuses: always a failure;
- with ``TARFAILOVER_INTEROP=required`` (as ``scripts/interop`` sets it) nothing is skipped.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from oak import (
    SHARED,
    OakAbsentError,
    OakOfflineError,
    OakPeer,
    Toolchain,
    build,
    oak_is_required,
    offline_is_a_failure,
)


def _excuse(error: Exception, is_failure: bool) -> None:
    if is_failure:
        pytest.fail(f"{error}", pytrace=False)
    pytest.skip(f"{error}".splitlines()[0])


@pytest.fixture(scope="session")
def oak() -> OakPeer:
    """Real Oak, built from its published artifacts."""
    try:
        return build(Toolchain.find())
    except OakAbsentError as absent:
        _excuse(absent, oak_is_required(os.environ))
    except OakOfflineError as offline:
        _excuse(offline, offline_is_a_failure(os.environ))
    raise AssertionError("pytest.fail and pytest.skip do not return")


@pytest.fixture
def oak_store(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a fresh copy of a fixture that real Oak wrote, by its name."""

    def unzip(name: str) -> Path:
        archive = SHARED / "fixtures" / f"{name}.zip"
        if not archive.is_file():
            _excuse(
                OakAbsentError(f"no shared/fixtures/{name}.zip beside the checkout"),
                oak_is_required(os.environ),
            )
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(tmp_path / name)
        return tmp_path / name

    return unzip
