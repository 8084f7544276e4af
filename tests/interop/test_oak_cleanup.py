"""Our cleanup beside real Oak's: the same result, and Oak lives on with it."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak import OakPeer, OakProcess
from oak_content import lives_on

from tarfailover.cli import main
from tarfailover.format.tar import TarName
from tarfailover.ids import RecordId, SegmentId
from tarfailover.repository.digest import content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.store.cleanup.marks import OAK, Rule
from tarfailover.store.cleanup.run import Cleanup, Report
from tarfailover.store.follower import Follower
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.interop

ONE_MIB_TARS = {"maxFileSizeMB": 1}
COMPACTIONS = 3
RATIO = 1.5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def live_oak(oak: OakPeer, store: Path, port: int) -> Iterator[OakProcess]:
    with oak.start("primary", store, port, **ONE_MIB_TARS) as live:
        live.expect("running=true")
        yield live


def told(live: OakProcess, command: str) -> str:
    """The head after `command`, as the slave's log writes it."""
    live.send(command)
    head = live.expect(r"head=(\S+)")[1]
    live.expect("bytes=")
    return str(RecordId.parse(head))


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


def test_a_slave_stays_as_small_as_an_oak_that_compacts_and_cleans(
    oak: OakPeer, tmp_path: Path
) -> None:
    """Several times in a row, while the slave follows; then Oak opens and works on the copy.

    Each time another Oak: one alone compacts at most every 10 hours.
    """
    store, copy = tmp_path / "primary", tmp_path / "copy"
    oak.run("create", store, 300, 60, seed=1, **ONE_MIB_TARS)
    with Daemon.master(store) as master, Daemon.slave(copy, master.port) as slave:
        slave.expect("is durable")
        for number in range(1, COMPACTIONS + 1):
            with live_oak(oak, store, free_port()) as live:
                written = told(live, "write 150 60")
                slave.expect(rf"head {re.escape(written)} is durable")
                compacted = told(live, "compact")
                slave.expect(rf"head {re.escape(compacted)} is durable")
                slave.expect(rf"cleanup for generation {number}/{number} compacted")
                assert live.finish() == 0
            assert size(copy) <= RATIO * size(store)
        slave.stop()
        master.stop()
    assert "Traceback" not in slave.output
    sound(copy)
    assert oak.walk(copy) == oak.walk(store)
    lives_on(oak, copy)


def test_the_same_segments_go_as_in_oaks_own_standby(oak: OakPeer, tmp_path: Path) -> None:
    """Two standbys in one state see the same compaction: one is cleaned up by Oak, one by us."""
    store, theirs, ours = tmp_path / "primary", tmp_path / "theirs", tmp_path / "ours"
    oak.run("create", store, 300, 60, seed=1, **ONE_MIB_TARS)
    for copy in (theirs, ours):
        shutil.copytree(store, copy)
    port = free_port()
    with live_oak(oak, store, port) as live:
        live.send("write 100 60")
        live.expect("bytes=")
        live.send("compact")
        live.expect("bytes=")
        oak.run("standby", theirs, "127.0.0.1", port, **ONE_MIB_TARS)
        oak.run("standby", ours, "127.0.0.1", port, autoclean="false", **ONE_MIB_TARS)
        assert live.finish() == 0
    before = contents(ours)
    assert contents(theirs) != before
    report = clean(ours, OAK._replace(retained=1))
    assert report.tars_removed + report.tars_rewritten > 0
    assert contents(ours) == contents(theirs)
    assert oak.walk(ours) == oak.walk(store)


def test_after_oak_there_is_nothing_left_to_clean_up(oak: OakPeer, tmp_path: Path) -> None:
    oak.run("create", tmp_path, 300, 60, seed=1, **ONE_MIB_TARS)
    for _ in range(2):
        oak.run("compact", tmp_path, **ONE_MIB_TARS)
    before = contents(tmp_path)
    assert clean(tmp_path, OAK).segments == 0
    assert contents(tmp_path) == before
    walked = oak.walk(tmp_path)
    assert main(["cleanup", "--retain", "1", str(tmp_path)]) == 0
    assert contents(tmp_path) != before
    sound(tmp_path)
    assert oak.walk(tmp_path) == walked


def test_oak_lives_on_with_what_we_have_compacted(oak: OakPeer, tmp_path: Path) -> None:
    """A full compaction of ours, with a checkpoint; then a tail and a full one of Oak's."""
    oak.run("create", tmp_path, 300, 60, seed=1, **ONE_MIB_TARS)
    oak.run("checkpoint", tmp_path)
    before = digest(tmp_path)
    assert main(["compact", str(tmp_path)]) == 0
    assert oak.digest(tmp_path) == before == digest(tmp_path)
    oak.run("create", tmp_path, 50, 20, seed=2, **ONE_MIB_TARS)
    extended = digest(tmp_path)
    said = oak.run("compact", tmp_path, "tail", **ONE_MIB_TARS)
    assert "generation=2, fullGeneration=1" in said, "ours was found as the base"
    assert main(["compact", "--retain", "1", str(tmp_path)]) == 0
    said = oak.run("compact", tmp_path, **ONE_MIB_TARS)
    assert "generation=4, fullGeneration=3" in said
    assert oak.digest(tmp_path) == extended == digest(tmp_path)
    sound(tmp_path)


def digest(store: Path) -> str:
    """The content digest, as we see it."""
    with Follower.open(store) as follower:
        head = NodeState(RecordReader(follower.snapshot), follower.head().record)
        return content_digest(head).sha256
