"""Where a master's threads are what a test says, its disk is as slow as that."""

from __future__ import annotations

import pytest

from tarfailover.store.tarreader import TarReader


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read is waited for: `test_at_once` says what is in the kernel's memory."""
    monkeypatch.setattr(TarReader, "read_cached", lambda *_: None)
