"""Oak's history of bugs in what a primary logs: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from planted import BOTH, found
from sides import MasterSide, chain, store_of
from standbys import asking, standby
from stores import data_id, head_in
from twisted.logger import Logger

from tarfailover.ids import text
from tarfailover.master.connection import Connection
from tarfailover.master.factory import MasterFactory
from tarfailover.master.oaksources import OakSource
from tarfailover.master.segments import SegmentSource
from tarfailover.wire import messages as m
from tarfailover.wire.oak.frames import HeadAnswer
from tarfailover.wire.oak.requests import GetHead, GetSegment

pytestmark = pytest.mark.load

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)
NONE_SUCH = data_id(999)


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(rig, store_of(tmp_path / "store", SAMPLES))
    yield side
    side.close()


def loud(log: list[str]) -> list[str]:
    """What was logged that wakes somebody up."""
    return [line for line in log if line.startswith(("critical", "error"))]


@BOTH
def test_oak_2150_the_log_does_not_grow_with_the_segments(
    planted: bool, rig: Rig, tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a line for each of them."""
    if planted:
        segment = OakSource._segment

        def told(self: OakSource, asked: bytes) -> bytes:
            MasterFactory.log.info("segment {segment}", segment=text(asked))
            return segment(self, asked)

        monkeypatch.setattr(OakSource, "_segment", told)
    lines: list[int] = []
    for count in (3, 300):
        log.clear()
        samples = chain(count)
        side = MasterSide(rig, store_of(tmp_path / str(count), samples))
        peer, _ = standby(side)
        peer.ask(*asking(each.segment for each in samples))
        rig.settle()
        assert len(peer.take()) == 2 * count + 1
        side.close()
        lines.append(len(log))
    with found(planted):
        assert lines[0] == lines[1]


@BOTH
@pytest.mark.parametrize("how", ["it leaves", "it is cut off"])
def test_oak_2396_a_client_that_leaves_is_no_trouble(
    planted: bool, how: str, master: MasterSide, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line without a traceback, however it leaves."""
    if planted:
        disconnected = MasterFactory.disconnected

        def trouble(self: MasterFactory, client: Any, reason: Any) -> None:
            self.log.failure("exception caught on the server", reason)
            disconnected(self, client, reason)

        monkeypatch.setattr(MasterFactory, "disconnected", trouble)
    peer, link = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    peer.transport.loseConnection() if how == "it leaves" else link.cut()
    master.rig.settle()
    with found(planted):
        assert not loud(log)
        assert any("disconnected (" in line for line in log)


@BOTH
def test_oak_4880_the_level_of_a_line_says_who_must_act(
    planted: bool, rig: Rig, tmp_path: Path, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-4880, 6673, 8202: what is normal is info, a client's trouble a warning, ours an error."""
    if planted:
        info, warn = Logger.info, Logger.warn
        monkeypatch.setattr(Logger, "info", warn)
        monkeypatch.setattr(Logger, "error", info)
    side = MasterSide(rig, store_of(tmp_path / "s", SAMPLES))
    peer, _ = standby(side)
    peer.ask(GetHead(), GetSegment(SAMPLES[0].segment))
    rig.settle()
    with found(planted):
        assert log and all(line.startswith("info") for line in log)
    peer.ask(GetSegment(NONE_SUCH))
    rig.settle()
    if not planted:
        assert log[-1].startswith("warn raw at a local client: no answer for segment ")
    (side.factory._follower.directory / "journal.log").write_bytes(b"")
    side.refresh()
    with found(planted):
        assert [line.startswith("error no head can be served: ") for line in loud(log)] == [True]
    side.close()


@BOTH
def test_oak_4926_what_is_not_there_is_no_noise(
    planted: bool, master: MasterSide, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-4926, 5087, 4965: an error, with a stack trace, for each segment that was looked for."""
    if planted:
        monkeypatch.setattr(master.factory.seldom, "warn", _error)
    peer, _ = standby(master)
    peer.ask(*(GetSegment(data_id(1000 + number)) for number in range(1000)), GetHead())
    master.rig.settle()
    assert peer.take() == [HeadAnswer(HEAD)]
    with found(planted):
        assert not loud(log)
        assert len(log) < 20


def _error(_: str, words: str, **values: Any) -> None:
    MasterFactory.log.error(words, **values)


@BOTH
@pytest.mark.parametrize("dialect", ["oak", "native"])
def test_oak_5137_what_nobody_foresaw_is_told(
    planted: bool,
    dialect: str,
    master: MasterSide,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception in the server vanished, and the client waited."""
    if planted:
        monkeypatch.setattr(Connection, "_broken", lambda *_: None)
    monkeypatch.setattr(OakSource, "_answer", _raises)
    monkeypatch.setattr(SegmentSource, "_located", _raises)
    if dialect == "oak":
        peer, link = standby(master)
        peer.ask(GetSegment(SAMPLES[0].segment))
    else:
        slave, link = master.welcome()
        slave.ask(m.Get((SAMPLES[0].segment,)))
    master.rig.settle()
    with found(planted):
        assert not link.alive
        assert master.factory.errors == {m.ErrorCode.INTERNAL: 1}
        assert any(line.startswith("critical") and "an answer failed" in line for line in log)


def _raises(*_: object) -> None:
    raise RuntimeError("what nobody foresaw")
