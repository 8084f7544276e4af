"""One writer at a time: real Oak respects our lock, and we respect Oak's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakPeer, until, waits_for_a_lock
from oak_content import FIXTURES

from tarfailover.errors import StoreLockedError
from tarfailover.store.lock import RepositoryLock

pytestmark = pytest.mark.interop


def test_we_are_refused_while_oak_writes(oak: OakPeer, tmp_path: Path) -> None:
    with oak.start("forever", tmp_path, 0, 0) as live:
        live.expect("waiting to be killed")
        with pytest.raises(StoreLockedError, match="another process"):
            RepositoryLock.acquire(tmp_path)
        live.kill()
    RepositoryLock.acquire(tmp_path).release()


def test_oak_waits_while_we_write(oak: OakPeer, fixture_store: Callable[[str], Path]) -> None:
    store = fixture_store("fresh")
    lock = RepositoryLock.acquire(store)
    with oak.start("recover", store) as waiting:
        until(lambda: waits_for_a_lock(waiting.pid), "Oak asks for the lock")
        assert waiting.running
        assert waiting.silent()
        lock.release()
        assert waiting.expect(r"head=(\S+)")[1] == FIXTURES["fresh"].head
        assert waiting.finish() == 0
