"""Failing over with real Oak, in both directions, and the old primary that comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_content import digest_of
from oak_links import OAK_SLAVE, QUICK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer

pytestmark = pytest.mark.interop


@pytest.mark.cell("promotion: an Oak standby's store, opened by Oak and served by our master")
def test_the_store_of_an_oak_standby_served_by_us(peer: Peer, tmp_path: Path) -> None:
    """The old primary comes back as an Oak standby of our master, and our slave follows, too."""
    old, new, ours = (tmp_path / name for name in ("old", "new", "ours"))
    with peer.open(old) as live:
        live.fill(seed=1, nodes=40, kib=40)
        live.checkpoint(creator="test")
        with oak_primary(live) as port, oak_standby(peer, new, port) as (copy, standby):
            synced(copy, standby, live.head())
    with (
        peer.open(new) as promoted,
        Daemon.master(new) as master,
        Daemon.slave(ours, master.port, *QUICK_SLAVE) as slave,
        oak_standby(peer, old, master.port) as (back, standby),
    ):
        synced(back, standby, promoted.head())
        for verb, *words in (("fill", "seed=2", "nodes=40", "kib=40"), ("compact", "full")):
            head = promoted.call(verb, *words)["head"]
            has(slave, head)
            synced(back, standby, head)
        expected = promoted.digest()
        assert back.digest() == expected
        slave.stop()
        master.stop()
    assert digest_of(ours) == expected


@pytest.mark.cell("promotion: our slave's store becomes an Oak primary that our old master follows")
@pytest.mark.parametrize("crashed", [False, True], ids=["clean", "crashed"])
def test_our_slaves_store_becomes_an_oak_primary(peer: Peer, tmp_path: Path, crashed: bool) -> None:
    """After a crash the old one has a head that the new one never had, and must give it up."""
    old, new = tmp_path / "old", tmp_path / "new"
    with peer.open(old) as live:
        live.fill(seed=1, nodes=40, kib=40)
        with Daemon.master(old) as master, Daemon.slave(new, master.port, *QUICK_SLAVE) as slave:
            has(slave, live.head())
            slave.stop()
            master.stop()
        if crashed:
            live.fill(seed=99, nodes=20)
    with peer.open(new) as promoted, oak_primary(promoted) as port:
        promoted.fill(seed=2, nodes=40, kib=40)
        if crashed:
            with Daemon.slave(old, port, *OAK_SLAVE) as back:
                back.expect("diverged")
                back.stop()
        given_up = ("--accept-new-history",) if crashed else ()
        with Daemon.slave(old, port, *OAK_SLAVE, *given_up) as back:
            has(back, promoted.head())
            has(back, promoted.compact("full")["head"])
            back.stop()
        expected = promoted.digest()
    sound(old)
    assert digest_of(old) == expected == peer.digest(old)
    with peer.open(old) as again:
        again.fill(seed=5, nodes=10)


@pytest.mark.cell("failing over to our slave's store and back again, with an Oak at either time")
def test_there_and_back_again(peer: Peer, tmp_path: Path) -> None:
    """Twice each side was the copy of the other, and Oak has written into both."""
    one, two = tmp_path / "one", tmp_path / "two"
    with peer.open(one) as live:
        live.fill(seed=0, nodes=40, kib=40)
    for turn in range(3):
        source, copy = (one, two) if turn % 2 == 0 else (two, one)
        given_up = ("--accept-new-history",) if turn == 2 else ()
        with peer.open(source) as live, oak_primary(live) as port:
            live.fill(seed=turn + 1, nodes=20)
            if turn == 2:  # it was ours, and Oak has written there since
                with Daemon.slave(copy, port, *OAK_SLAVE) as slave:
                    assert slave.end(20) != 0
                    assert "opened for writing elsewhere" in slave.output
            with Daemon.slave(copy, port, *OAK_SLAVE, *given_up) as slave:
                has(slave, live.head())
                has(slave, live.compact("full")["head"])
                slave.stop()
            expected = live.digest()
        sound(copy)
        assert digest_of(copy) == expected == peer.digest(copy)


@pytest.mark.cell("promotion with private data stores: each side goes on with those that it has")
def test_with_private_data_stores(peer: Peer, tmp_path: Path) -> None:
    """Our slave's becomes Oak's own; then Oak's own becomes our slave's, and Oak's again."""
    old, new = tmp_path / "old", tmp_path / "new"
    mine, its = tmp_path / "old-blobs", tmp_path / "new-blobs"
    with peer.open(old, blobs=mine) as live:
        live.fill(seed=1, nodes=40, kib=60)
        live.checkpoint(creator="test")
        live.commit([["remove", "/content/run1/part0"]])  # the checkpoint still has them
        with (
            Daemon.master(old, "--blob-store", mine) as master,
            Daemon.slave(new, master.port, *QUICK_SLAVE, "--blob-store", its) as slave,
        ):
            has(slave, live.head())
            slave.stop()
            master.stop()
    with peer.open(new, blobs=its) as promoted, oak_primary(promoted) as port:
        promoted.fill(seed=2, nodes=40, kib=60)
        with Daemon.slave(old, port, *OAK_SLAVE, "--blob-store", mine) as back:
            has(back, promoted.head())
            has(back, promoted.compact("full")["head"])
            back.stop()
        expected = promoted.digest()
    sound(old)
    assert digest_of(old, mine) == expected
    with peer.open(old, blobs=mine) as again:
        assert again.digest() == expected
        again.fill(seed=3, nodes=20, kib=60)
