"""One writer at a time: real Oak respects our lock, and we respect Oak's."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from oak_content import digest_of
from oak_peer import Peer, until

from tarfailover.cli import main
from tarfailover.errors import StoreLockedError
from tarfailover.store.writer import StoreWriter

pytestmark = [pytest.mark.interop, pytest.mark.cell("lock: never both, in either order")]


@pytest.fixture
def store(peer: Peer, tmp_path: Path) -> Path:
    """A store of Oak's that nobody has open."""
    with peer.open(tmp_path / "store") as opened:
        opened.fill(seed=1, nodes=20)
    return tmp_path / "store"


def bytes_of(store: Path) -> dict[str, bytes]:
    """Every file of `store`."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_we_are_refused_while_oak_writes(another_peer: Peer, store: Path) -> None:
    """Also after Oak was killed the head is the one that it made durable."""
    live = another_peer.open(store)
    head = live.head()
    found = bytes_of(store)
    with pytest.raises(StoreLockedError, match="another process"):
        StoreWriter.open(store)
    with Daemon.slave(store, 1) as slave:
        assert slave.end(20) != 0
        assert "lock" in slave.output
    for command in (
        ["compact"],
        ["cleanup"],
        ["checkpoint", "create", "--lifetime", "1h"],
        ["sample", "--append", "--nodes", "1"],
    ):
        assert main([command[0], *command[1:], str(store)]) == StoreLockedError.exit_code, command
    assert bytes_of(store) == found
    another_peer.kill()
    with StoreWriter.open(store) as writer:
        assert writer.head is not None
        assert writer.head.hex == head


def test_oak_waits_while_we_write(peer: Peer, store: Path) -> None:
    digest = digest_of(store)
    writer = StoreWriter.open(store)
    waiting = peer.opening(store)
    until(lambda: waits_for_a_lock(peer.pid), "Oak asks for the lock")
    assert not waiting.pending.done
    writer.close()
    waiting.pending.result()
    assert waiting.digest() == digest
    waiting.close()


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel has process `pid` queued for a POSIX record lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("-> POSIX" in line and f" WRITE {pid} " in line for line in lines)
