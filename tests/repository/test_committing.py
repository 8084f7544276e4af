"""Commits of several threads, and of a disk that fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from copies import sound
from crash import FailingDisk
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import ConflictError, StoreIOError, StoreLockedError, TarFailoverError
from tarfailover.repository import WritableRepository, shelf
from tarfailover.repository.committing import Committer

SECONDS = 60


class SlowDisk(QuickDisk):
    """Waits in a sync, once it is told to, until it is let go."""

    def __init__(self) -> None:
        self.slow = False
        self.waiting = threading.Event()
        self.go = threading.Event()

    def sync(self, fd: int, path: Path) -> None:
        del fd, path
        if self.slow:
            self.waiting.set()
            assert self.go.wait(SECONDS)


class Full(SlowDisk):
    """Refuses a write, once it was let go."""

    def write(self, fd: int, path: Path, buffers: object, offset: int) -> int:
        if self.slow:
            self.waiting.set()
            assert self.go.wait(SECONDS)
            raise StoreIOError(f"{path}: cannot write: {path.name} is full")
        return super().write(fd, path, buffers, offset)  # type: ignore[arg-type]


def opened(directory: Path, disk: QuickDisk | None = None) -> WritableRepository:
    return repository.open_for_writing(directory, create=True, disk=disk or QuickDisk())


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def lines(directory: Path) -> int:
    return len((directory / "journal.log").read_bytes().splitlines())


def adding(store: WritableRepository, name: str, value: object = "x") -> Callable[[], None]:
    def work() -> None:
        with store.commit() as root:
            root.make(f"all/{name}").properties["x"] = value  # type: ignore[assignment]

    return work


def test_who_comes_while_the_disk_is_busy_shares_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, joined = SlowDisk(), threading.Semaphore(0)
    settle = Committer._settle

    def joining(self: Committer, turn: object) -> None:
        joined.release()
        settle(self, turn)  # type: ignore[arg-type]

    with opened(tmp_path, disk) as store:
        before, head = lines(tmp_path), store.head
        monkeypatch.setattr(Committer, "_settle", joining)
        disk.slow = True
        threads = [started(adding(store, "first"))]
        assert disk.waiting.wait(SECONDS)
        threads += [started(adding(store, f"n{number}")) for number in range(6)]
        for _ in range(7):
            assert joined.acquire(timeout=SECONDS)
        assert store.head == head, "nothing is told to be durable before it is"
        disk.slow = False
        disk.go.set()
        ended(threads)
        assert lines(tmp_path) == before + 2
    with repository.open(tmp_path) as seen:
        assert set(seen.node("all").children) == {"first", *(f"n{n}" for n in range(6))}
    sound(tmp_path)


def test_a_reader_does_not_wait_for_the_disk_of_a_commit(tmp_path: Path) -> None:
    disk = SlowDisk()
    with opened(tmp_path, disk) as store:
        adding(store, "before")()
        disk.slow = True
        thread = started(adding(store, "slow"))
        assert disk.waiting.wait(SECONDS)
        with store.commit() as root:
            assert "before" in root.node("all").children
        disk.go.set()
        ended([thread])


def test_many_threads_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list to which all append; who meets a conflict tries again."""
    monkeypatch.setattr(shelf, "MAX_WAITING", 2000)
    rounds, conflicts = 12, []

    def work(store: WritableRepository, number: int) -> None:
        done = 0
        while done < rounds:
            try:
                with store.commit() as root:
                    shared = root.node("shared").properties
                    shared["log"] = [*shared["log"].values, f"{number}/{done}"]
                    own = root.make(f"own/{number}/{done}")
                    own.properties["x"] = b"y" * 20_000
                done += 1
            except ConflictError as error:
                conflicts.append(error)

    with opened(tmp_path) as store:
        with store.commit() as root:
            root.make("shared").properties["log"] = ["begin"]
        ended([started(lambda number=number: work(store, number)) for number in range(5)])  # type: ignore[misc]
    with repository.open(tmp_path) as seen:
        log = seen.node("shared").properties["log"].values
        assert sorted(log[1:]) == sorted(f"{n}/{done}" for n in range(5) for done in range(rounds))
        for number in range(5):
            assert len(seen.node(f"own/{number}").children) == rounds
    assert all(each.path == "/shared" for each in conflicts)
    sound(tmp_path)


def test_a_lost_turn_is_told_to_all_who_were_in_it_and_to_who_built_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, joined = Full(), threading.Semaphore(0)
    settle = Committer._settle

    def joining(self: Committer, turn: object) -> None:
        joined.release()
        settle(self, turn)  # type: ignore[arg-type]

    errors: list[StoreIOError] = []

    def failing(name: str) -> Callable[[], None]:
        def work() -> None:
            with pytest.raises(StoreIOError) as caught:
                adding(store, name)()
            errors.append(caught.value)

        return work

    with opened(tmp_path, disk) as store:
        adding(store, "before")()
        head = store.head
        monkeypatch.setattr(Committer, "_settle", joining)
        disk.slow = True
        threads = [started(failing("a"))]
        assert disk.waiting.wait(SECONDS)
        threads += [started(failing(f"b{number}")) for number in range(3)]
        for _ in range(4):
            assert joined.acquire(timeout=SECONDS)
        disk.go.set()
        ended(threads)
        assert len(errors) == 4 and all("is full" in str(each) for each in errors)
        assert store.head == head
        disk.slow = False
        adding(store, "after")()
    with repository.open(tmp_path) as seen:
        assert set(seen.node("all").children) == {"before", "after"}
    sound(tmp_path)


def test_a_block_that_began_with_what_was_lost_is_committed_without_that(tmp_path: Path) -> None:
    disk = Full()
    with opened(tmp_path, disk) as store:
        adding(store, "before")()
        disk.slow = True

        def failing() -> None:
            with pytest.raises(StoreIOError, match="is full"):
                adding(store, "lost")()

        thread = started(failing)
        assert disk.waiting.wait(SECONDS)
        with store.commit() as root:
            assert "lost" in root.node("all").children
            root.make("all/mine")
            root.make("all/before").properties["x"] = 2
            disk.go.set()
            ended([thread])
            disk.slow = False
    with repository.open(tmp_path) as seen:
        assert set(seen.node("all").children) == {"before", "mine"}
        assert seen.node("all/before").properties["x"].value == 2
    sound(tmp_path)


def test_while_the_disk_is_full_memory_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Filled(QuickDisk):
        full = False

        def write(self, fd: int, path: Path, buffers: object, offset: int) -> int:
            if self.full:
                raise StoreIOError(f"{path}: cannot write: {path.name} is full")
            return super().write(fd, path, buffers, offset)  # type: ignore[arg-type]

    monkeypatch.setattr(shelf, "MAX_WAITING", 100_000)
    disk = Filled()
    with opened(tmp_path, disk) as store:
        disk.full = True
        for number in range(30):
            with pytest.raises(StoreIOError, match="is full"):
                adding(store, f"n{number}", bytes(15_000))()
        assert sum(map(len, store._committer._shelf._waiting.values())) < 200_000
        disk.full = False
        adding(store, "after")()
    with repository.open(tmp_path) as seen:
        assert set(seen.node("all").children) == {"after"}
    sound(tmp_path)


def test_a_block_that_is_open_when_the_store_is_closed_fails(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def closing() -> None:
        with store.commit() as root:
            root.make("x")
            store.close()

    with pytest.raises(TarFailoverError, match="closed"):
        closing()
    with repository.open(tmp_path) as seen:
        assert not seen.root.children


@pytest.mark.parametrize(("kinds", "error"), [(("write",), errno.ENOSPC), (("sync",), errno.EIO)])
def test_whatever_step_fails_the_store_holds_whole_commits(
    tmp_path: Path, kinds: tuple[str, ...], error: int
) -> None:
    """A failed write can be done again; after a failed sync the store must be opened again."""
    for at in range(1, 100):
        directory = tmp_path / str(at)
        disk = FailingDisk(at, kinds, error)
        committed: list[int] = []
        try:
            with opened(directory, disk) as store:
                for number in range(6):
                    try:
                        with store.commit() as root:
                            root.make(f"n{number}").properties["x"] = b"b" * (number * 5000)
                        committed.append(number)
                    except (StoreIOError, StoreLockedError):
                        assert disk.failed is not None
        except StoreIOError:
            assert disk.failed is not None
        with opened(directory) as store, store.commit() as root:
            found = {int(name[1:]) for name in root.children}
            assert found >= set(committed)
            assert len(found - set(committed)) <= 1
        sound(directory)
        if disk.failed is None:
            break
    else:
        raise AssertionError("it has more steps than were tried")
