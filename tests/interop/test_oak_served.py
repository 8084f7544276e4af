"""Our master serves Oak's standby and our slave at once: stores of Oak, of ours, living ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_build import OakError
from oak_content import digest_of, free_port, lives_on, walked_by_us
from oak_links import QUICK_SLAVE, has, oak_standby, synced
from oak_peer import Peer, until

from tarfailover.cli import main
from tarfailover.repository.sample import write_sample
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop


SLOW = ("--rate-limit", "1MiB")
"""So that a copy takes some seconds, and who is killed meanwhile is in the middle of it."""


def written_by_us(store: Path, seed: int) -> str:
    """Some more content of ours; returns the head as Oak writes it."""
    with StoreWriter.open(store, create=True, tar_limit=1 << 20) as writer:
        return write_sample(writer, nodes=60, binary_kib=40, commits=2, seed=seed).head.hex


@pytest.mark.cell(
    "our master, a store that we commit to, compact (full, tail), clean → Oak standby, our slave"
)
def test_a_store_of_ours_that_goes_on(peer: Peer, tmp_path: Path) -> None:
    """The standby cleans up after our compaction as after one of Oak's."""
    store, theirs, ours = tmp_path / "store", tmp_path / "theirs", tmp_path / "ours"
    head = written_by_us(store, 1)
    with (
        Daemon.master(store) as master,
        Daemon.slave(ours, master.port, *QUICK_SLAVE) as slave,
        oak_standby(peer, theirs, master.port) as (copy, standby),
    ):
        synced(copy, standby, head)
        synced(copy, standby, written_by_us(store, 2))
        assert main(["checkpoint", "create", "--lifetime", "1d", str(store)]) == 0
        synced(copy, standby, walked_by_us(store).head)
        before = copy.call("state")
        assert main(["compact", str(store)]) == 0
        synced(copy, standby, walked_by_us(store).head)
        after = copy.call("state")
        assert (after["generation"], after["full"]) == ("1", "1")
        assert int(after["segments"]) < 2 * int(before["segments"]), "Oak has cleaned up"
        synced(copy, standby, written_by_us(store, 3))
        assert main(["compact", "--tail", str(store)]) == 0
        synced(copy, standby, walked_by_us(store).head)
        after = copy.call("state")
        assert (after["generation"], after["full"]) == ("2", "1")
        has(slave, walked_by_us(store).head)
        expected = digest_of(store)
        assert copy.digest() == expected
        slave.stop()
        master.stop()
    assert peer.digest(ours) == expected
    assert lives_on(peer, theirs) == lives_on(peer, ours)


@pytest.mark.cell("our master, a store that Oak writes, compacts, cleans → Oak standby, our slave")
def test_a_living_store_for_both(peer: Peer, tmp_path: Path) -> None:
    """Both follow while it changes: whatever head they have is whole."""
    store, theirs, ours = tmp_path / "store", tmp_path / "theirs", tmp_path / "ours"
    with peer.open(store) as live:
        live.fill(seed=1, nodes=60, kib=40)
        with (
            Daemon.master(store) as master,
            Daemon.slave(ours, master.port, *QUICK_SLAVE) as slave,
            oak_standby(peer, theirs, master.port) as (copy, standby),
        ):
            for verb, words in (
                ("fill", ("seed=2", "nodes=20", "kib=40", "batch=2", "times=5")),
                ("compact", ("full",)),
                ("checkpoint", ("creator:test",)),
                ("fill", ("seed=20", "nodes=20", "batch=2", "times=3")),
                ("compact", ("tail",)),
                ("compact", ("full",)),
            ):
                working = live.begin(verb, *words)
                until(lambda: standby.sync() == 0 and working.done, verb)  # noqa: B023 -- at once
                working.result()
                copy.digest()  # raises if anything is missing
            head, expected = live.head(), live.digest()
            synced(copy, standby, head)
            has(slave, head)
            assert copy.digest() == expected
            slave.stop()
            master.stop()
    assert digest_of(ours) == expected
    sound(ours)
    assert lives_on(peer, theirs) == lives_on(peer, ours)


@pytest.mark.cell("kill -9 of the Oak that writes our master's store, and the next one on it")
def test_the_oak_below_our_master_is_killed(peer: Peer, another_peer: Peer, tmp_path: Path) -> None:
    """Who follows has a whole head meanwhile, and goes on with what the next Oak recovers."""
    store, theirs, ours = tmp_path / "store", tmp_path / "theirs", tmp_path / "ours"
    live = another_peer.open(store)
    live.fill(seed=1, nodes=60, kib=40)
    with (
        Daemon.master(store) as master,
        Daemon.slave(ours, master.port, *QUICK_SLAVE) as slave,
        oak_standby(peer, theirs, master.port) as (copy, standby),
    ):
        synced(copy, standby, live.head())
        before = set(store.glob("*.tar"))
        live.begin("fill", seed=2, nodes=100, kib=100, times=50)
        until(lambda: set(store.glob("*.tar")) > before, "Oak begins a tar")
        another_peer.kill()
        assert standby.sync() == 0
        copy.digest()  # raises if anything is missing
        with peer.open(store) as again:
            again.compact("full")
            head = again.fill(seed=99, nodes=20)["head"]
            synced(copy, standby, head)
            has(slave, head)
            expected = again.digest()
        assert copy.digest() == expected
        slave.stop()
        master.stop()
    assert digest_of(ours) == expected
    sound(ours)


@pytest.mark.cell("kill -9 of Oak's standby in the middle of a copy from our master")
def test_oaks_standby_is_killed_and_goes_on(peer: Peer, another_peer: Peer, tmp_path: Path) -> None:
    store, theirs = tmp_path / "store", tmp_path / "theirs"
    with peer.open(store) as written:
        head = written.fill(seed=1, nodes=300, kib=300)["head"]
        expected = written.digest()
    with Daemon.master(store, *SLOW) as master:
        standby = another_peer.open(theirs, standby="true").standby(master.port)
        standby.begin("sync")
        until(lambda: sum(tar.stat().st_size for tar in theirs.glob("*.tar")) > 1 << 20, "1 MiB")
        another_peer.kill()
        master.stop()
    with Daemon.master(store) as master, oak_standby(peer, theirs, master.port) as (copy, again):
        synced(copy, again, head)
        assert copy.digest() == expected
        master.stop()


@pytest.mark.cell("kill -9 of our master while Oak's standby copies")
def test_our_master_is_killed_and_oaks_standby_goes_on(peer: Peer, tmp_path: Path) -> None:
    """Oak counts the failed run, and the next one has what is left."""
    store, theirs, port = tmp_path / "store", tmp_path / "theirs", free_port()
    with peer.open(store) as written:
        head = written.fill(seed=1, nodes=300, kib=300)["head"]
        expected = written.digest()
    with oak_standby(peer, theirs, port, timeout=2000) as (copy, standby):
        with Daemon("tarfailover-master", "--store", store, "--port", port, *SLOW) as master:
            master.expect("listening on")
            run = standby.begin("sync")
            until(
                lambda: sum(tar.stat().st_size for tar in theirs.glob("*.tar")) > 1 << 20, "1 MiB"
            )
            master.kill()
        assert int(run.result()["failed"]) == 1
        assert copy.head() != head
        with Daemon("tarfailover-master", "--store", store, "--port", port) as master:
            master.expect("listening on")
            synced(copy, standby, head)
            assert copy.digest() == expected
            master.stop()


@pytest.mark.cell("a store that Oak's standby has is no store for our slave at the same time")
def test_a_standbys_store_is_locked_for_our_slave(peer: Peer, tmp_path: Path) -> None:
    store, theirs = tmp_path / "store", tmp_path / "theirs"
    with peer.open(store) as written:
        head = written.fill(seed=1, nodes=20)["head"]
    with Daemon.master(store) as master:
        with oak_standby(peer, theirs, master.port) as (copy, standby):
            synced(copy, standby, head)
            with Daemon.slave(theirs, master.port) as slave:
                assert slave.end(20) != 0
                assert "lock" in slave.output
        with Daemon.slave(theirs, master.port, *QUICK_SLAVE) as slave:
            slave.expect("in sync")
            waiting = peer.opening(theirs)
            with pytest.raises(OakError, match="no answer"):
                waiting.pending.result(0.5)
            slave.stop()
        waiting.pending.result()
        assert waiting.head() == head
        waiting.close()
        master.stop()
