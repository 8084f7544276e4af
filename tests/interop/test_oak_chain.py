"""Chains: an Oak primary, our slave of it, our master beside that, and whoever follows this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_content import digest_of, lives_on
from oak_links import OAK_SLAVE, QUICK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer

pytestmark = pytest.mark.interop

CHANGES = (
    ("fill", "seed=2", "nodes=40", "kib=40"),
    ("checkpoint", "creator:test"),
    ("compact", "full"),
    ("fill", "seed=3", "nodes=20"),
    ("compact", "tail"),
    ("compact", "full"),
)
"""What an Oak does to its store while others follow."""


@pytest.mark.cell("Oak primary → our slave → our master → Oak standby, our slave")
def test_a_cascade(peer: Peer, tmp_path: Path) -> None:
    """Each head goes down the chain while Oak writes, compacts and cleans at the top."""
    middle, theirs, ours = (tmp_path / name for name in ("middle", "theirs", "ours"))
    with peer.open(tmp_path / "store") as live:
        live.fill(seed=1, nodes=60, kib=40)
        with (
            oak_primary(live) as port,
            Daemon.slave(middle, port, *OAK_SLAVE) as slave,
        ):
            has(slave, live.head())
            with (
                Daemon.master(middle) as master,
                Daemon.slave(ours, master.port, *QUICK_SLAVE) as last,
                oak_standby(peer, theirs, master.port) as (copy, standby),
            ):
                for verb, *words in CHANGES:
                    head = live.call(verb, *words)["head"]
                    has(slave, head)
                    has(last, head)
                    synced(copy, standby, head)
                expected = live.digest()
                assert copy.digest() == expected
                for each in (last, slave, master):
                    each.stop()
    for store in (middle, ours):
        sound(store)
        assert digest_of(store) == expected == peer.digest(store)


@pytest.mark.cell("Oak primary → our slave → opened, extended, compacted, cleaned, served by Oak")
def test_oak_lives_on_in_the_copy_of_its_primary_and_serves_it(peer: Peer, tmp_path: Path) -> None:
    copy, theirs, ours = (tmp_path / name for name in ("copy", "theirs", "ours"))
    with peer.open(tmp_path / "store") as live:
        live.fill(seed=1, nodes=60, kib=40)
        live.checkpoint(creator="test")
        with oak_primary(live) as port, Daemon.slave(copy, port, *OAK_SLAVE) as slave:
            has(slave, live.head())
            slave.stop()
        assert peer.digest(copy) == live.digest()
    expected = lives_on(peer, copy)
    assert not list(copy.glob("*.bak")), "every tar of the copy has an index that Oak accepts"
    with peer.open(copy) as promoted, oak_primary(promoted) as port:
        with oak_standby(peer, theirs, port) as (follower, standby):
            synced(follower, standby, promoted.head())
            assert follower.digest() == expected
        with Daemon.slave(ours, port, *OAK_SLAVE) as slave:
            has(slave, promoted.head())
            slave.stop()
    assert digest_of(ours) == expected
