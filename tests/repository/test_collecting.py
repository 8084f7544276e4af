"""A repository that is compacted while a program has it open for writing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from copies import sound
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import StoreIOError, TarFailoverError
from tarfailover.ids import Generation
from tarfailover.repository import WritableRepository, gate
from tarfailover.repository.digest import content_digest
from tarfailover.store.follower import Follower

SECONDS = 60


def opened(directory: Path, disk: QuickDisk | None = None) -> WritableRepository:
    return repository.open_for_writing(directory, create=True, disk=disk or QuickDisk())


def generation(directory: Path) -> Generation:
    with Follower.open(directory) as follower:
        return follower.head().generation


def digest(directory: Path) -> str:
    with repository.open(directory) as seen:
        return content_digest(seen.head.super_root.state).sha256


def test_commits_and_compactions_in_turns(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number, tail in enumerate((True, True, False, True, False, False), 1):
            with store.commit() as root:
                page = root.make(f"page{number}")
                page.properties["x"] = ["text"] * number
                page.properties["b"] = bytes(100_000)
                root.make("wide").make(f"n{number}").properties["y"] = number
            before, head = digest(tmp_path), store.head
            with repository.open(tmp_path) as old:
                found = store.compact(tail=tail, retained=1)
                assert store.head == found.compacted.head != head
                assert digest(tmp_path) == before
                assert bool(found.why_full) == (number == 1)
                assert generation(tmp_path) == found.compacted.generation
                assert old.node(f"page{number}").properties["b"].binary.length == 100_000
                with store.commit() as root:
                    root.children["old"] = old.node(f"page{number}")
            assert generation(tmp_path) == found.compacted.generation._replace(compacted=False)
    with repository.open(tmp_path) as seen:
        assert len(seen.node("wide").children) == 6
        assert seen.node("old").properties["x"].values == ("text",) * 6
    sound(tmp_path)


def test_it_waits_for_open_blocks_and_new_ones_wait_for_it(tmp_path: Path) -> None:
    begun, go, order = threading.Event(), threading.Event(), []

    def block() -> None:
        with store.commit() as root:
            begun.set()
            assert go.wait(SECONDS)
            root.make("first")
            with store.commit() as inner:
                inner.make("inner")
            order.append("block")

    def compacting() -> None:
        store.compact()
        order.append("compacted")

    def later() -> None:
        with store.commit() as root:
            order.append("later")
            root.make("later")

    with opened(tmp_path) as store:
        threads = [threading.Thread(target=block)]
        threads[0].start()
        assert begun.wait(SECONDS)
        threads.append(threading.Thread(target=compacting))
        threads[1].start()
        with store._gate._changed:
            assert store._gate._changed.wait_for(lambda: store._gate._wanted, SECONDS)
        threads.append(threading.Thread(target=later))
        threads[2].start()
        with pytest.raises(TarFailoverError, match="another thread is at it"):
            store.compact()
        go.set()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert order == ["block", "compacted", "later"]
    with repository.open(tmp_path) as seen:
        assert set(seen.root.children) == {"first", "inner", "later"}
    sound(tmp_path)


def test_a_block_of_this_thread_or_one_that_does_not_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.01)
    begun, go = threading.Event(), threading.Event()

    def block() -> None:
        with store.commit() as root:
            begun.set()
            assert go.wait(SECONDS)
            root.make("x")

    with opened(tmp_path) as store:
        with store.commit(), pytest.raises(TarFailoverError, match="end it first"):
            store.compact()
        thread = threading.Thread(target=block)
        thread.start()
        assert begun.wait(SECONDS)
        with pytest.raises(TarFailoverError, match=r"open for 0\.01 s"):
            store.compact()
        go.set()
        thread.join(SECONDS)
        assert store.compact().compacted.nodes == 3
    sound(tmp_path)


def test_a_block_does_not_wait_for_ever_for_a_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "LONGEST", 0.01)
    begun, go = threading.Event(), threading.Event()

    def compacting() -> None:
        with store._gate.alone():
            begun.set()
            assert go.wait(SECONDS)

    with opened(tmp_path) as store:
        thread = threading.Thread(target=compacting)
        thread.start()
        assert begun.wait(SECONDS)
        with pytest.raises(TarFailoverError, match=r"compaction .* 0\.01 s"), store.commit():
            raise AssertionError("it began beside a compaction")
        go.set()
        thread.join(SECONDS)
        with store.commit() as root:
            root.make("x")
    sound(tmp_path)


def test_without_room_nothing_changes_and_commits_go_on(tmp_path: Path) -> None:
    class Small(QuickDisk):
        def free(self, path: Path) -> int:
            del path
            return 0

    with opened(tmp_path, Small()) as store:
        head = store.head
        with pytest.raises(StoreIOError, match="to compact it may take 65 MiB of free space"):
            store.compact()
        assert store.head == head
        with store.commit() as root:
            root.make("x")
    sound(tmp_path)
