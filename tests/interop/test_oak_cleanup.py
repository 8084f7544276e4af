"""Our cleanup beside real Oak's: the same result, and Oak lives on with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_content import digest_of, free_port, lives_on
from oak_links import has
from oak_peer import Peer

from tarfailover.cli import main
from tarfailover.format.tar import TarName
from tarfailover.ids import SegmentId
from tarfailover.store.cleanup.marks import OAK, Rule
from tarfailover.store.cleanup.run import Cleanup, Report
from tarfailover.store.follower import Follower
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

COMPACTIONS = 3
RATIO = 1.5


def size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("*.tar"))


def contents(store: Path) -> dict[str, list[SegmentId]]:
    found = {}
    for path in sorted(store.glob("*.tar")):
        name = TarName.parse(path.name)
        assert name is not None
        reader = TarReader.open(path, name)
        found[path.name] = [entry.segment for entry in reader.entries()]
        reader.release()
    return found


def clean(store: Path, rule: Rule) -> Report:
    with StoreWriter.open(store) as writer:
        cleanup = Cleanup(writer, rule)
        while cleanup.step():
            pass
        cleanup.close()
    return cleanup.report


@pytest.mark.cell("our slave of our master, while Oak compacts and cleans")
def test_a_slave_stays_as_small_as_an_oak_that_compacts_and_cleans(
    peer: Peer, tmp_path: Path
) -> None:
    """Several times in a row, while the slave follows; then Oak opens and works on the copy."""
    store, copy = tmp_path / "primary", tmp_path / "copy"
    with peer.open(store) as live:
        live.fill(seed=1, nodes=200, kib=60)
        with Daemon.master(store) as master, Daemon.slave(copy, master.port) as slave:
            slave.expect("is durable")
            for number in range(1, COMPACTIONS + 1):
                has(slave, live.fill(seed=10 + number, nodes=100, kib=60)["head"])
                has(slave, live.compact()["head"])
                slave.expect(rf"cleanup for generation {number}/{number} compacted")
                assert size(copy) <= RATIO * size(store)
            slave.stop()
            master.stop()
    assert "Traceback" not in slave.output
    sound(copy)
    assert peer.walk(copy) == peer.walk(store)
    lives_on(peer, copy)


@pytest.mark.cell("our cleanup of a copy: the same segments go as in Oak's standby")
def test_the_same_segments_go_as_in_oaks_own_standby(peer: Peer, tmp_path: Path) -> None:
    """Two standbys in one state see the same compaction: one is cleaned up by Oak, one by us."""
    store, theirs, ours = tmp_path / "primary", tmp_path / "theirs", tmp_path / "ours"
    with peer.open(store) as live:
        live.fill(seed=1, nodes=200, kib=60)
    for copy in (theirs, ours):
        shutil.copytree(store, copy)
    port = free_port()
    with peer.open(store) as live, live.primary(port):
        live.fill(seed=2, nodes=100, kib=60)
        live.compact()
        for copy, cleans in ((theirs, "true"), (ours, "false")):
            with peer.open(copy, standby="true") as opened:
                with opened.standby(port, clean=cleans) as standby:
                    assert standby.sync() == 0
                assert opened.head() == live.head()
    before = contents(ours)
    assert contents(theirs) != before
    report = clean(ours, OAK._replace(retained=1))
    assert report.tars_removed + report.tars_rewritten > 0
    assert contents(ours) == contents(theirs)
    assert peer.walk(ours) == peer.walk(store)


@pytest.mark.cell("our cleanup after Oak's: nothing is left, and Oak reads the rest")
def test_after_oak_there_is_nothing_left_to_clean_up(peer: Peer, tmp_path: Path) -> None:
    with peer.open(tmp_path) as live:
        live.fill(seed=1, nodes=200, kib=60)
        for _ in range(2):
            live.compact()
    before = contents(tmp_path)
    assert clean(tmp_path, OAK).segments == 0
    assert contents(tmp_path) == before
    walked = peer.walk(tmp_path)
    assert main(["cleanup", "--retain", "1", str(tmp_path)]) == 0
    assert contents(tmp_path) != before
    sound(tmp_path)
    assert peer.walk(tmp_path) == walked


@pytest.mark.cell("our full compaction: then a tail and a full one of Oak's on it")
def test_oak_lives_on_with_what_we_have_compacted(peer: Peer, tmp_path: Path) -> None:
    with peer.open(tmp_path) as live:
        live.fill(seed=1, nodes=150, kib=60)
        live.checkpoint(creator="test")
        before = live.digest()
    assert main(["compact", str(tmp_path)]) == 0
    assert peer.digest(tmp_path) == before == digest_of(tmp_path)
    with peer.open(tmp_path) as live:
        live.fill(seed=2, nodes=40)
        told = live.compact("tail")
        assert (told["generation"], told["full"]) == ("2", "1"), "ours was found as the base"
        extended = live.digest()
    assert digest_of(tmp_path) == extended
    assert main(["compact", "--retain", "1", str(tmp_path)]) == 0
    with peer.open(tmp_path) as live:
        told = live.compact("full")
        assert (told["generation"], told["full"]) == ("4", "3")
        assert live.digest() == extended
    assert digest_of(tmp_path) == extended
    sound(tmp_path)


@pytest.mark.cell("our tail compaction: lived on with, Oak's on ours and ours on Oak's")
def test_oak_and_we_compact_the_tail_in_turns(peer: Peer, tmp_path: Path) -> None:
    """Each finds what the other left as the base, and Oak's cleanup keeps what is shared."""
    with peer.open(tmp_path) as opened:
        opened.fill(seed=1, nodes=100, kib=60)
        opened.checkpoint()
    assert main(["compact", str(tmp_path)]) == 0
    for number in range(1, 4):
        with peer.open(tmp_path) as opened:
            opened.fill(seed=10 + number, nodes=20, kib=20)
        before = digest_of(tmp_path)
        assert main(["compact", "--tail", str(tmp_path)]) == 0
        assert generation_of(tmp_path) == (2 * number, 1)
        with peer.open(tmp_path) as opened:
            assert opened.digest() == before == digest_of(tmp_path)
            opened.fill(seed=20 + number, nodes=20, kib=20)
            extended = opened.digest()
            opened.compact("tail")
            assert opened.digest() == extended
        assert generation_of(tmp_path) == (2 * number + 1, 1), "ours was found as the base"
        assert digest_of(tmp_path) == extended
        sound(tmp_path)
    assert lives_on(peer, tmp_path) == digest_of(tmp_path)


def generation_of(store: Path) -> tuple[int, int]:
    with Follower.open(store) as follower:
        return follower.head().generation[:2]
