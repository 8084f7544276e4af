"""A FileDataStore beside the segments, private or shared, in links with real Oak at either end."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import Daemon
from oak_content import digest_of, lives_on, walked_by_us
from oak_links import OAK_SLAVE, QUICK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer, until

from tarfailover.cli import main
from tarfailover.store.blobs import open_blob_store

pytestmark = pytest.mark.interop

FILL = {"nodes": 40, "kib": 60}


def binaries(directory: Path) -> set[tuple[str, int]]:
    """The binaries in a data store, by digest and size."""
    return {(each.digest, each.size) for each in open_blob_store(directory, "file").files()}


@pytest.mark.cell("private data stores: Oak primary → our slave → our master → Oak standby")
def test_private_data_stores_down_a_chain(peer: Peer, tmp_path: Path) -> None:
    top, middle, last = (tmp_path / f"{name}-blobs" for name in ("top", "middle", "last"))
    with peer.open(tmp_path / "top", blobs=top) as live:
        live.fill(seed=1, **FILL)
        with (
            oak_primary(live) as port,
            Daemon.slave(tmp_path / "middle", port, *OAK_SLAVE, "--blob-store", middle) as slave,
        ):
            has(slave, live.head())
            with (
                Daemon.master(tmp_path / "middle", "--blob-store", middle) as master,
                oak_standby(peer, tmp_path / "last", master.port, last) as (copy, standby),
            ):
                synced(copy, standby, live.head())
                head = live.fill(seed=2, **FILL)["head"]
                has(slave, head)
                synced(copy, standby, head)
                expected = live.digest()
                assert copy.digest() == expected
                slave.stop()
                master.stop()
    assert binaries(middle) == binaries(last) == binaries(top)
    assert digest_of(tmp_path / "middle", middle) == expected


@pytest.mark.cell("a shared data store: Oak primary → our slave; our master → Oak standby")
def test_a_shared_data_store(peer: Peer, tmp_path: Path) -> None:
    """Nothing is written there by who follows, and no binary goes over the link."""
    shared = tmp_path / "shared"
    with peer.open(tmp_path / "top", blobs=shared) as live:
        live.fill(seed=1, **FILL)
        before = binaries(shared)
        given = ("--blob-store", shared, "--blob-store-shared")
        with (
            oak_primary(live) as port,
            Daemon.slave(tmp_path / "ours", port, *OAK_SLAVE, *given) as slave,
        ):
            has(slave, live.head())
            slave.stop()
        with (
            Daemon.master(tmp_path / "top") as master,
            oak_standby(peer, tmp_path / "theirs", master.port, shared) as (copy, standby),
        ):
            synced(copy, standby, live.head())
            assert copy.digest() == live.digest()
            master.stop()
        expected = live.digest()
    assert binaries(shared) == before
    assert digest_of(tmp_path / "ours", shared) == expected
    with peer.open(tmp_path / "ours", blobs=shared) as promoted:
        assert promoted.digest() == expected


@pytest.mark.cell("private data stores: store of Oak → our master → Oak standby, our slave at once")
def test_private_data_stores_side_by_side(peer: Peer, tmp_path: Path) -> None:
    top, ours, theirs = (tmp_path / f"{name}-blobs" for name in ("top", "ours", "theirs"))
    with peer.open(tmp_path / "top", blobs=top) as live:
        live.fill(seed=1, **FILL)
        with (
            Daemon.master(tmp_path / "top", "--blob-store", top) as master,
            Daemon.slave(
                tmp_path / "ours", master.port, *QUICK_SLAVE, "--blob-store", ours
            ) as slave,
            oak_standby(peer, tmp_path / "theirs", master.port, theirs) as (copy, standby),
        ):
            for seed in (2, 3):
                has(slave, live.head())
                synced(copy, standby, live.head())
                live.fill(seed=seed, **FILL)
            has(slave, live.head())
            synced(copy, standby, live.head())
            assert copy.digest() == live.digest()
            slave.stop()
            master.stop()
        expected = live.digest()
    assert binaries(ours) == binaries(theirs) == binaries(top)
    assert peer.digest(tmp_path / "ours", blobs=ours) == expected


@pytest.mark.cell("kill -9 of our slave while binaries come from an Oak primary")
def test_our_slave_is_killed_among_the_binaries(peer: Peer, tmp_path: Path) -> None:
    """The head waits for all of them, before and after."""
    top, own, copy = tmp_path / "top-blobs", tmp_path / "own-blobs", tmp_path / "copy"
    with peer.open(tmp_path / "top", blobs=top) as live:
        live.fill(seed=1, nodes=100, kib=500)
        given = (*OAK_SLAVE, "--blob-store", own)
        with oak_primary(live) as port:
            with Daemon.slave(copy, port, *given, "--rate-limit", "512KiB") as slave:
                slave.expect("syncing")
                until(lambda: own.is_dir() and any(own.rglob("*")), "the first bytes of one")
                slave.kill()
            assert "is durable" not in slave.output
            assert binaries(own) < binaries(top)
            with Daemon.slave(copy, port, *given) as slave:
                has(slave, live.head())
                slave.stop()
        expected = live.digest()
    assert binaries(own) == binaries(top)
    assert digest_of(copy, own) == expected == peer.digest(copy, blobs=own)


@pytest.mark.cell("private data stores: store of ours → our master → Oak standby, our slave")
def test_a_store_and_a_data_store_of_ours(peer: Peer, tmp_path: Path) -> None:
    """Oak brings the binaries that we stored, and it goes on in both copies."""
    store, theirs, ours = (tmp_path / name for name in ("store", "theirs", "ours"))
    own, last, copied = (tmp_path / f"{name}-blobs" for name in ("own", "last", "copied"))
    sample = ["sample", "--nodes", "60", "--binary-kib", "40", "--blob-store", str(own)]
    assert main([*sample, "--blob-store-kind", "file", str(store)]) == 0
    with (
        Daemon.master(store, "--blob-store", own) as master,
        Daemon.slave(ours, master.port, *QUICK_SLAVE, "--blob-store", copied) as slave,
        oak_standby(peer, theirs, master.port, last) as (copy, standby),
    ):
        synced(copy, standby, walked_by_us(store, own).head)
        assert main([*sample, "--append", "--seed", "2", str(store)]) == 0
        head = walked_by_us(store, own).head
        synced(copy, standby, head)
        has(slave, head)
        expected = digest_of(store, own)
        assert copy.digest() == expected
        slave.stop()
        master.stop()
    assert binaries(copied) == binaries(own) >= binaries(last) > set()
    assert peer.digest(ours, blobs=copied) == expected
    assert lives_on(peer, theirs, blobs=last) == lives_on(peer, ours, blobs=copied)
