"""What the integration tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from copies import sample_store


@pytest.fixture(scope="session")
def sample_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of about 5 MiB in several tars; nobody changes it."""
    directory = tmp_path_factory.mktemp("sample") / "store"
    sample_store(directory)
    return directory


@pytest.fixture
def sample(sample_once: Path, tmp_path: Path) -> Path:
    """A store of about 5 MiB in several tars, for one test alone."""
    directory = tmp_path / "master"
    shutil.copytree(sample_once, directory)
    return directory


@pytest.fixture
def a_copy(tmp_path: Path) -> Callable[[int], Path]:
    """Where the copies of several slaves lie."""
    return lambda number: tmp_path / f"slave{number}"
