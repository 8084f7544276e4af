"""The matrix can fail: each fault of the programs that it is there to find is planted once."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cells import MIDDLE, Cell, run
from failing import BLACKHOLE, CUT, DOWN, FLIP, TRICKLE, UP, Strike
from matrix import Report
from worlds import PLAIN_LINK, Setup, World

from tarfailover.deadline import Deadline
from tarfailover.errors import TarFailoverError
from tarfailover.format import journal as lines
from tarfailover.master.factory import MasterFactory
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.pull import Pull
from tarfailover.wire.fields import Reader
from tarfailover.wire.stream import Segment, StreamParser


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup.made(tmp_path_factory.mktemp("harness"))


@pytest.fixture
def found(setup: Setup, tmp_path: Path) -> Callable[[str, str, int, str], str]:
    """What the matrix says of a cell, '' if all is well."""

    def say(does: str, phase: str, at: int, direction: str = DOWN) -> str:
        amount = 4 if does == FLIP else 1
        world = World(tmp_path, setup, PLAIN_LINK, Strike(does, direction, phase, at, amount))
        cell = Cell(PLAIN_LINK, direction, "head" if phase == "head" else MIDDLE, does)
        try:
            run(world, cell)
            world.close()
        except (AssertionError, TarFailoverError) as error:
            with contextlib.suppress(AssertionError):
                world.abandon()
            return str(error)
        return ""

    return say


Found = Callable[..., str]
IN_A_BULK_SEGMENT = (FLIP, "part 0", 1000)
"""Which nothing but its checksum protects."""


@pytest.mark.parametrize(
    "planted", [IN_A_BULK_SEGMENT, (FLIP, "head", 30), (CUT, "part 4", 0), (BLACKHOLE, "part 4", 9)]
)
def test_without_any_plant_all_is_well(found: Found, planted: tuple[str, str, int]) -> None:
    """Else the tests below would prove nothing."""
    assert found(*planted) == ""


def test_a_slave_that_believes_what_comes(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = StreamParser._complete

    def believing(self: StreamParser, *item: Any) -> Any:
        made = complete(self, *item)
        return (
            made._replace(crc=zlib.crc32(b"".join(made.chunks)))
            if isinstance(made, Segment)
            else made
        )

    monkeypatch.setattr(StreamParser, "_complete", believing)
    assert "differs from byte" in found(*IN_A_BULK_SEGMENT)


def test_an_answer_without_a_checksum(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "checksum", lambda self: self.number(4))
    assert "a line in the journal that the master never wrote" in found(FLIP, "head", 35)


def test_a_head_that_moves_before_its_closure_is_there(
    found: Found, setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Pull._list_ended

    def early(self: Pull, cursor: bytes) -> Any:
        (tmp_path / "slave" / lines.NAME).write_bytes((setup.store / lines.NAME).read_bytes())
        return ended(self, cursor)

    monkeypatch.setattr(Pull, "_list_ended", early)
    assert "segment" in found(CUT, "part 4", 0)


def test_a_deadline_that_is_missing(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Deadline.start

    def forgetful(self: Deadline) -> None:
        if self._error.name not in ("idle", "answer"):
            start(self)

    monkeypatch.setattr(Deadline, "start", forgetful)
    assert "neither in sync nor failed within 31 s" in found(BLACKHOLE, "part 4", 9)


def test_a_master_that_never_lets_go(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Deadline.start

    def forgetful(self: Deadline) -> None:
        if self._error.name != "idle-client":
            start(self)

    monkeypatch.setattr(Deadline, "start", forgetful)
    assert "the master holds on to" in found(BLACKHOLE, "part 7", 9)


def test_a_slave_that_does_not_come_back(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlaveFactory, "clientConnectionLost", lambda *_: None)
    assert "not mended" in found(CUT, "part 4", 0)


def test_a_delayed_call_that_is_left(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = MasterFactory.disconnected

    def leaking(self: Any, *args: Any) -> None:
        gone(self, *args)
        self.clock.callLater(10_000, print)

    monkeypatch.setattr(MasterFactory, "disconnected", leaking)
    assert "DelayedCall" in found(CUT, "part 4", 0)


def test_a_slave_that_takes_slow_for_dead(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    came = SlaveProtocol.dataReceived

    def impatient(self: SlaveProtocol, data: bytes) -> None:
        if len(data) == 8:
            self.transport.abortConnection()
        came(self, data)

    monkeypatch.setattr(SlaveProtocol, "dataReceived", impatient)
    assert "stalled" in found(TRICKLE, "part 4", 100)


def test_a_fault_that_never_strikes(found: Found) -> None:
    assert "it did not strike" in found(CUT, "get 99", 0, UP)


def test_an_object_that_is_kept(setup: Setup, tmp_path: Path) -> None:
    report, kept = Report(1), []
    world = World(tmp_path, setup, PLAIN_LINK, Strike(CUT, DOWN, "part 4", 0))
    run(world, Cell(PLAIN_LINK, DOWN, MIDDLE, CUT))
    world.close()
    kept.append(world.slave.service)
    report.watch(world.objects())
    del world
    assert "SlaveService" in report.still_alive()
    kept.clear()
    assert report.still_alive() == []
