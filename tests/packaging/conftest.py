"""The archives, built once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from installs import build, copy_checkout


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's sources."""
    return copy_checkout(tmp_path_factory.mktemp("packaging") / "sources")


@pytest.fixture(scope="session")
def archives(sources: Path) -> Path:
    """The folder with a source archive of the checkout and the wheel made from it."""
    build(sources, sources.parent / "dist")
    return sources.parent / "dist"


@pytest.fixture(scope="session")
def wheel(archives: Path) -> Path:
    """The wheel."""
    (found,) = archives.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def sdist(archives: Path) -> Path:
    """The source archive."""
    (found,) = archives.glob("*.tar.gz")
    return found
