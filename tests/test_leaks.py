"""The check that nothing is left behind sees each kind of thing that can be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from leaks import Leftovers
from twisted.internet import reactor
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer


@implementer(IReadDescriptor)
class Watched:
    """The reading end of a pipe."""

    def __init__(self) -> None:
        self.ends = os.pipe()

    def fileno(self) -> int:
        """As the reactor wants it."""
        return self.ends[0]

    def logPrefix(self) -> str:  # noqa: N802 -- Twisted's name
        """As the reactor wants it."""
        return "watched"

    def doRead(self) -> None:  # noqa: N802 -- Twisted's name
        """Nothing comes."""

    def connectionLost(self, reason: object = None) -> None:  # noqa: ARG002, N802
        """Close it."""
        for end in self.ends:
            os.close(end)


def test_nothing_is_left_by_nothing() -> None:
    before = Leftovers.now()
    assert Leftovers.now().left_since(before) == []


def test_an_open_file_is_seen_until_it_is_closed(tmp_path: Path) -> None:
    before = Leftovers.now()
    with (tmp_path / "kept").open("w"):
        (line,) = Leftovers.now().left_since(before)
    assert line.startswith("open file ")
    assert line.endswith("/kept")
    assert Leftovers.now().left_since(before) == []


def test_a_thread_is_seen_until_it_ends() -> None:
    before, end = Leftovers.now(), threading.Event()
    thread = threading.Thread(target=end.wait, name="lingering")
    thread.start()
    try:
        (line,) = Leftovers.now().left_since(before)
    finally:
        end.set()
        thread.join()
    assert line.startswith("thread lingering ")
    assert Leftovers.now().left_since(before) == []


def test_a_delayed_call_is_seen_until_it_is_cancelled() -> None:
    before = Leftovers.now()
    call = reactor.callLater(3600, print)
    (line,) = Leftovers.now().left_since(before)
    call.cancel()
    assert line.startswith("delayed call ")
    assert Leftovers.now().left_since(before) == []


def test_what_the_reactor_watches_is_seen_until_it_is_removed() -> None:
    before, watched = Leftovers.now(), Watched()
    reactor.addReader(watched)
    try:
        assert any("in the reactor" in line for line in Leftovers.now().left_since(before))
    finally:
        reactor.removeReader(watched)
        watched.connectionLost()
    assert Leftovers.now().left_since(before) == []
