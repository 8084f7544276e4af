"""The slave's cleanup: after each compaction, in parts, until it is done, and whatever fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from bare_copies import bring, clean, opened, tars_size
from links import Rig
from sides import MasterSide, SlaveSide, served
from stores import (
    QuickDisk,
    Sample,
    add_heads,
    bulk,
    closure_in,
    head_in,
    leaf,
    make_store,
    tar_bytes,
)

from tarfailover.errors import StoreIOError
from tarfailover.ids import Generation, SegmentId
from tarfailover.slave import cleaning, status
from tarfailover.store.cleanup import run
from tarfailover.store.follower import Follower
from tarfailover.store.intake import Arrival
from tarfailover.store.state import SlaveState
from tarfailover.store.writer import StoreWriter

SHARED = [bulk(number, 40_000) for number in range(5)]
"""Of which the first compaction keeps two, and each other one less than the one before."""
RATIO = 1.5
"""What a copy may take of what its master takes."""


class Compacting:
    """A master's store that is compacted again and again; each keeps less, and brings something."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.number = 0
        first = leaf(0, [each.segment for each in SHARED], size=100)
        make_store(directory, {"data00000a.tar": [*SHARED, first]}, [first.segment])
        self.head = first

    def compact(self) -> Sample:
        """The next generation; only what its head needs is left."""
        self.number += 1
        number = self.number
        own = bulk(100 + number, 40_000)
        kept = SHARED[number + 2 :]
        triple = Generation(number, number, True)
        self.head = leaf(number, [*(s.segment for s in kept), own.segment], 100, triple)
        old = list(self.directory.glob("*.tar"))
        name = f"data{10 * number:05d}a.tar"
        (self.directory / name).write_bytes(tar_bytes(name, [*kept, own, self.head]))
        add_heads(self.directory, self.head.segment)
        for path in old:
            path.unlink()
        return self.head

    def commit(self, references: Sequence[SegmentId] = ()) -> Sample:
        """One more head of the same generation."""
        number = 1000 + 10 * self.number + len(list(self.directory.glob("*.tar")))
        triple = self.head.generation._replace(compacted=False)
        new = leaf(number, [self.head.segment, *references], generation=triple)
        name = f"data{number:05d}a.tar"
        (self.directory / name).write_bytes(tar_bytes(name, [new]))
        add_heads(self.directory, new.segment)
        self.head = new
        return new


@pytest.fixture
def store(tmp_path: Path) -> Compacting:
    return Compacting(tmp_path / "master")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleanup that takes many parts."""
    monkeypatch.setattr(run, "STEP", 512)
    monkeypatch.setattr("tarfailover.store.cleanup.rewrite.READ_AT_ONCE", 512)


class Pair:
    """A master of a store that is compacted, and a slave in sync with it."""

    def __init__(self, rig: Rig, store: Compacting, copy: Path, **settings: object) -> None:
        self.rig, self.store, self.copy = rig, store, copy
        self.master: MasterSide = served(rig, store.directory)
        self.slave = SlaveSide(rig, copy, **settings).start()
        assert self.slave.state == status.IN_SYNC

    @property
    def status(self) -> status.Status:
        return self.slave.service.status

    def changed(self) -> None:
        """The master sees what was done to its store, and the slave follows."""
        self.master.refresh()
        self.rig.settle()
        assert self.slave.head == head_in(self.store.head.segment)
        assert self.slave.state == status.IN_SYNC

    def look(self) -> None:
        """The master looks at its directory; what comes of it is up to the test."""
        self.master.factory.refresh()

    def finish(self) -> None:
        self.slave.stop()
        self.master.close()
        with Follower.open(self.store.directory) as one, Follower.open(self.copy) as other:
            root = one.head().record.segment
            assert other.head().record == one.head().record
            assert closure_in(one.snapshot, root) == closure_in(other.snapshot, root)
        assert not list(self.copy.glob("*.new"))


@pytest.fixture
def pair(rig: Rig, store: Compacting, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(rig, store, tmp_path / "copy")
    yield made
    made.finish()


def cleaned_in(directory: Path) -> str:
    state = SlaveState.load(directory)
    assert state is not None
    return state.cleaned


def test_the_copy_stays_as_small_as_the_master_after_any_number_of_compactions(pair: Pair) -> None:
    for number in range(1, 9):
        pair.store.compact()
        pair.changed()
        assert tars_size(pair.copy) <= RATIO * tars_size(pair.store.directory)
        assert cleaned_in(pair.copy) == f"{number}/{number}"
    assert (pair.status.cleanups, pair.status.cleanup_failures) == (9, 0)
    assert pair.status.failures == 0


def test_heads_of_one_generation_are_cleaned_up_once(pair: Pair) -> None:
    pair.store.compact()
    pair.changed()
    for _ in range(3):
        pair.store.commit()
        pair.changed()
    assert pair.status.cleanups == 2


def test_without_a_cleanup_the_copy_keeps_everything(
    rig: Rig, store: Compacting, tmp_path: Path
) -> None:
    pair = Pair(rig, store, tmp_path / "copy", no_cleanup=True)
    for _ in range(4):
        store.compact()
        pair.changed()
    assert tars_size(pair.copy) > 2 * tars_size(store.directory)
    assert pair.status.cleanups == 0
    pair.finish()
    # Asked for later it makes up for it.
    again = Pair(rig, store, tmp_path / "copy")
    again.changed()
    assert tars_size(pair.copy) <= RATIO * tars_size(store.directory)
    again.finish()


@pytest.mark.usefixtures("small_steps")
def test_a_head_that_comes_while_it_is_cleaned_up_does_not_wait(pair: Pair) -> None:
    """And what it needs of what had been judged away is kept."""
    pair.store.compact()
    pair.look()
    pair.rig.until(lambda: bool(list(pair.copy.glob("*.new"))), "a tar is being written anew")
    pair.store.commit([SHARED[0].segment])
    name = "data09999a.tar"
    (pair.store.directory / name).write_bytes(tar_bytes(name, [SHARED[0]]))
    pair.look()
    head = head_in(pair.store.head.segment)
    pair.rig.until(lambda: pair.slave.head == head, "the head is followed")
    assert pair.status.cleanups == 1, "the cleanup is still under way"
    pair.changed()
    assert pair.status.cleanups == 2


@pytest.mark.usefixtures("small_steps")
def test_the_next_compaction_may_come_while_it_is_cleaned_up(pair: Pair) -> None:
    for _ in range(3):
        pair.store.compact()
        pair.look()
        head = head_in(pair.store.head.segment)
        pair.rig.until(lambda head=head: pair.slave.head == head, "the head is followed")
        pair.rig.until(lambda: bool(list(pair.copy.glob("*.new"))), "a tar is being written anew")
    pair.changed()
    assert tars_size(pair.copy) <= RATIO * tars_size(pair.store.directory)
    assert cleaned_in(pair.copy) == "3/3"


@pytest.mark.usefixtures("small_steps")
def test_it_goes_on_while_there_is_no_master(rig: Rig, store: Compacting, tmp_path: Path) -> None:
    pair = Pair(rig, store, tmp_path / "copy", retry_initial=100)
    store.compact()
    pair.look()
    rig.until(lambda: bool(list(pair.copy.glob("*.new"))), "a tar is being written anew")
    rig.link.cut()
    rig.settle()
    assert pair.slave.state == status.STALLED
    assert pair.status.cleanups == 1
    rig.pass_time(6)
    assert pair.status.cleanups == 2
    assert pair.slave.state == status.STALLED
    assert cleaned_in(pair.copy) == "1/1"
    pair.finish()


# what goes wrong


class Room(QuickDisk):
    """A disk whose free space the test says."""

    def __init__(self) -> None:
        self.bytes = 0
        self.stuck = ""

    def free(self, path: Path) -> int:
        del path
        return self.bytes

    def remove(self, path: Path) -> None:
        if self.stuck and path.name == self.stuck:
            raise StoreIOError(f"{path}: cannot remove: made up by the test")
        super().remove(path)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    disk = Room()
    monkeypatch.setattr(cleaning, "RETRY_AFTER", 1.0)
    return disk


def test_without_room_it_is_tried_again_until_it_is_done(
    rig: Rig, store: Compacting, tmp_path: Path, room: Room
) -> None:
    pair = Pair(rig, store, tmp_path / "copy")
    pair.slave.service._keeper.disk = pair.slave.service.copy._disk = room
    pair.slave.service.copy.writer._disk = room
    store.compact()
    pair.changed()
    assert (pair.status.cleanups, pair.status.cleanup_failures) == (1, 1)
    store.commit()
    pair.changed()
    assert pair.status.cleanup_failures == 1, "not before its time"
    rig.pass_time(30)
    assert pair.status.cleanup_failures > 1
    assert pair.status.failures == 0
    room.bytes = 2 * run.SPARE
    rig.pass_time(30)
    assert pair.status.cleanups == 2
    assert tars_size(pair.copy) <= RATIO * tars_size(store.directory)
    pair.finish()


def test_an_old_tar_that_cannot_be_removed_is_no_end(
    rig: Rig, store: Compacting, tmp_path: Path, room: Room
) -> None:
    """The store is opened anew, which knows which of the two files counts."""
    pair = Pair(rig, store, tmp_path / "copy")
    room.bytes, room.stuck = 2 * run.SPARE, "data00000a.tar"
    pair.slave.service._keeper.disk = room
    pair.slave.service.copy._disk = pair.slave.service.copy.writer._disk = room
    store.compact()
    pair.master.refresh()
    assert pair.status.cleanup_failures == 1
    assert pair.status.state == status.FAILED
    room.stuck = ""
    rig.pass_time(30)
    pair.changed()
    assert pair.status.cleanups == 2
    pair.finish()


# the copy alone


FIRST = [*SHARED, leaf(0, [each.segment for each in SHARED])]
SECOND = [leaf(1, [SHARED[0].segment], generation=Generation(1, 1, True))]
THIRD = [bulk(50, 3000), leaf(2, [SHARED[0].segment, bulk(50, 3000).segment],
                              generation=Generation(2, 2, True))]  # fmt: skip


def test_what_was_pulled_for_a_head_to_come_is_not_removed(tmp_path: Path) -> None:
    """A pull that was cut: bulk and compacted segments, and what they need of old ones."""
    copy = opened(tmp_path)
    bring(copy, *FIRST)
    bring(copy, *SECOND)
    cut = [THIRD[0], leaf(3, [SHARED[1].segment], generation=Generation(2, 2, True))]
    copy.receiver.take(Arrival.of(each.segment, each.data) for each in cut)
    clean(copy)
    kept = [SHARED[0], SHARED[1], *SECOND, *cut]
    assert all(copy.writer.contains(each.segment) for each in kept)
    assert not copy.writer.contains(SHARED[2].segment)
    bring(copy, THIRD[1])
    copy.close()


def test_what_waits_for_others_is_not_stored_after_its_need_is_gone(tmp_path: Path) -> None:
    copy = opened(tmp_path)
    bring(copy, *FIRST)
    bring(copy, *SECOND)
    absent = bulk(60, 100)
    waiting = leaf(4, [SHARED[3].segment, absent.segment])
    receipt = copy.receiver.take([Arrival.of(waiting.segment, waiting.data)])
    assert receipt.missing == (absent.segment,)
    clean(copy)
    copy.receiver.take([Arrival.of(absent.segment, absent.data)])
    assert not copy.writer.contains(waiting.segment)
    assert not copy.writer.contains(SHARED[3].segment)
    copy.close()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("parts", range(1, 5))
def test_a_killed_slave_goes_on_with_its_cleanup(tmp_path: Path, parts: int) -> None:
    copy = opened(tmp_path / "copy")
    bring(copy, *FIRST)
    bring(copy, *SECOND)
    for _ in range(parts):
        copy.clean()
    shutil.copytree(tmp_path / "copy", tmp_path / "killed")
    copy.close()
    again = opened(tmp_path / "killed")
    assert again.cleanup_due
    clean(again)
    assert not again.cleanup_due
    again.close()
    with opened(tmp_path / "killed").writer as writer:
        assert writer.head == head_in(SECOND[-1].segment)
        assert not writer.contains(SHARED[1].segment)
    assert not list((tmp_path / "killed").glob("*.new"))


def test_a_new_history_is_cleaned_up_whatever_its_generation(tmp_path: Path) -> None:
    """What the other history left is of a generation that would be kept for long."""
    copy = opened(tmp_path)
    bring(copy, *FIRST)
    bring(copy, leaf(5, [SHARED[1].segment], generation=Generation(9, 9, True)))
    clean(copy)
    bring(copy, leaf(6, generation=Generation(9, 9, True)))
    assert not copy.cleanup_due
    bring(copy, SHARED[0], leaf(7, [SHARED[0].segment], generation=Generation(4, 4, False)),
          known=False)  # fmt: skip
    clean(copy)
    assert not copy.writer.contains(leaf(5).segment)
    assert not copy.writer.contains(SHARED[1].segment)
    copy.close()


def test_a_file_copy_of_a_store_is_cleaned_up(
    fixture_store: Callable[[str], Path], rig: Rig, tmp_path: Path
) -> None:
    """The generation that Oak keeps behind the newest one is not needed in a copy."""
    original = fixture_store("compacted")
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    master = served(rig, original)
    slave = SlaveSide(rig, copy).start()
    assert slave.service.status.cleanups == 1
    slave.stop()
    master.close()
    assert tars_size(copy) < tars_size(original)
    with StoreWriter.open(copy, disk=QuickDisk()) as writer, writer.snapshot() as snapshot:
        assert writer.head is not None
        closure_in(snapshot, writer.head.segment)
