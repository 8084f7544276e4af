"""The check that nothing is left behind sees each kind of thing that can be."""

from __future__ import annotations

import threading
from pathlib import Path

from leaks import Leftovers
from twisted.internet import reactor


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
