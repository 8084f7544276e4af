"""One writer at a time: real Oak respects our lock, and we respect Oak's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oak import OakPeer, until, waits_for_a_lock
from oak_content import FIXTURES

from tarfailover.errors import StoreLockedError
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop


def bytes_of(store: Path) -> dict[str, bytes]:
    """Every file of `store`."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_we_are_refused_while_oak_writes(
    oak: OakPeer, fixture_store: Callable[[str], Path]
) -> None:
    store = fixture_store("fresh")
    with oak.start("forever", store, 0, 0) as live:
        live.expect("waiting to be killed")
        found = bytes_of(store)
        with pytest.raises(StoreLockedError, match="another process"):
            StoreWriter.open(store)
        assert bytes_of(store) == found
        live.kill()
    with StoreWriter.open(store) as writer:
        assert writer.head is not None
        assert writer.head.hex == FIXTURES["fresh"].head


def test_oak_waits_while_we_write(oak: OakPeer, fixture_store: Callable[[str], Path]) -> None:
    store = fixture_store("fresh")
    writer = StoreWriter.open(store)
    with oak.start("recover", store) as waiting:
        until(lambda: waits_for_a_lock(waiting.pid), "Oak asks for the lock")
        assert waiting.running
        assert waiting.silent()
        writer.close()
        assert waiting.expect(r"head=(\S+)")[1] == FIXTURES["fresh"].head
        assert waiting.finish() == 0
