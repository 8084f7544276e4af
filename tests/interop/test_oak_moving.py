"""First copies during which Oak compacts and cleans up twice: half of what was begun is gone."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_content import digest_of
from oak_links import OAK_SLAVE, QUICK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer, Store, until

pytestmark = pytest.mark.interop


class Limit:
    """Keeps a copy slow until all that is to happen meanwhile has happened."""

    def __init__(self, folder: Path, name: str) -> None:
        self._settings = folder / "limit.config"
        self._settings.write_text(f'{name}="64KiB"\n')
        self.option = ("--config", self._settings)

    def lift(self, of: Daemon) -> None:
        self._settings.write_text("")
        of.signal(signal.SIGHUP)


def filled(store: Store) -> None:
    """Some 2 MB, nearly all of them in segments that the next compaction makes garbage."""
    store.fill(seed=1, nodes=800, kib=15)


def compact_twice(store: Store) -> None:
    """After which Oak has nothing of the first generation any more."""
    for seed in (2, 3):
        store.fill(seed=seed, nodes=20)
        store.compact("full")


@pytest.mark.cell("an Oak primary that compacts and cleans while our slave's first copy runs")
@pytest.mark.parametrize("asked", ["all", "little"])
def test_the_primary_cleans_up_under_our_first_copy(peer: Peer, tmp_path: Path, asked: str) -> None:
    """What was asked for comes; what is gone is known without any deadline; then the next head."""
    store, copy = tmp_path / "store", tmp_path / "copy"
    ahead = ("--window-max", "1MiB") if asked == "little" else ()
    with peer.open(store) as live:
        filled(live)
        first = live.head()
        limit = Limit(tmp_path, "rate.limit")
        options = (*OAK_SLAVE, *limit.option, *ahead)
        with oak_primary(live) as port, Daemon.slave(copy, port, *options) as slave:
            slave.expect("syncing")
            compact_twice(live)
            limit.lift(slave)
            if asked == "all":
                has(slave, first)
            else:
                slave.expect("stalled: .*the primary has no segment .*was it compacted")
            has(slave, live.head())
            slave.stop()
        expected = live.digest()
    assert "deadline" not in slave.output and "diverged" not in slave.output
    sound(copy)
    assert digest_of(copy) == expected == peer.digest(copy)


@pytest.mark.cell("our master on an Oak that compacts and cleans while first copies run")
def test_oak_cleans_up_under_first_copies_from_our_master(peer: Peer, tmp_path: Path) -> None:
    """What they began with is pinned: the runs succeed with the head that they were told."""
    store, theirs, ours = (tmp_path / name for name in ("store", "theirs", "ours"))
    limit = Limit(tmp_path, "rate.limit.client")
    with peer.open(store) as live:
        filled(live)
        first = live.head()
        with (
            Daemon.master(store, *limit.option) as master,
            Daemon.slave(ours, master.port, *QUICK_SLAVE) as slave,
            oak_standby(peer, theirs, master.port) as (copy, standby),
        ):
            running = standby.begin("sync")
            slave.expect("syncing")
            until(lambda: any(t.stat().st_size > 1 << 16 for t in theirs.glob("*.tar")), "64 KiB")
            before = set(store.glob("*.tar"))
            compact_twice(live)
            # Oak does so every five seconds.
            until(lambda: not before <= set(store.glob("*.tar")), "Oak deletes tars")
            assert not running.done
            limit.lift(master)
            assert running.result()["failed"] == "0"
            assert copy.head() == first
            has(slave, first)
            synced(copy, standby, live.head())
            has(slave, live.head())
            expected = live.digest()
            assert copy.digest() == expected
            slave.stop()
            master.stop()
    assert "stalled" not in slave.output
    sound(ours)
    assert digest_of(ours) == expected == peer.digest(theirs)
