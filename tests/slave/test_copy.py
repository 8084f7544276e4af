"""The slave's directory: begun, continued, and never written over somebody else's history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash import Drive, RecordingDisk, crashes
from stores import QuickDisk, Sample, add_heads, data_id, head_in, leaf, make_store

from tarfailover.errors import (
    DamagedStoreError,
    DivergedError,
    NoHeadError,
    NotAStoreError,
    SegmentMissingError,
    StoreLockedError,
)
from tarfailover.ids import NO_GENERATION, RecordId
from tarfailover.slave.copy import Copy
from tarfailover.slave.told import OakPrimary
from tarfailover.store.intake import Arrival
from tarfailover.store.state import NAME, SlaveState
from tarfailover.store.writer import StoreWriter
from tarfailover.wire.messages import HeadIs, Welcome

CHAIN = [leaf(number, [data_id(number - 1)] if number else []) for number in range(8)]
HEADS = [head_in(each.segment) for each in CHAIN]


@contextmanager
def opened(
    directory: Path, *, accept: bool = False, disk: QuickDisk | None = None
) -> Iterator[Copy]:
    copy = Copy.open(directory, accept_new_history=accept, disk=disk or QuickDisk())
    try:
        yield copy
    finally:
        copy.close()


def head_is(head: RecordId, *, known: bool = True) -> HeadIs:
    return HeadIs(head, 1000, NO_GENERATION, known)


def take(copy: Copy, *samples: Sample) -> None:
    receipt = copy.receiver.take(Arrival.of(each.segment, each.data) for each in samples)
    assert not (receipt.missing or receipt.rejected)


def bring(copy: Copy, number: int, cursor: bytes = b"") -> None:
    """One sync, to head `number`."""
    take(copy, *CHAIN[: number + 1])
    copy.commit(head_is(HEADS[number]), cursor)


def copied(directory: Path, *numbers: int) -> Path:
    """A copy that was brought to these heads, one after the other."""
    with opened(directory) as copy:
        for number in numbers:
            bring(copy, number, bytes([number]))
    return directory


def write_elsewhere(directory: Path, number: int) -> None:
    """Somebody else opens the directory and commits."""
    with StoreWriter.open(directory, disk=QuickDisk()) as writer:
        for each in CHAIN[: number + 1]:
            if not writer.contains(each.segment):
                writer.append(each.segment, each.data)
        writer.commit(HEADS[number], 5)


def crash(directory: Path) -> None:
    """What a killed writer leaves: the newest tar without the entries at its end."""
    newest = max(directory.glob("data*.tar"))
    content = newest.read_bytes()
    newest.write_bytes(content[: content.index(newest.name.encode() + b".brf")])


def state_in(directory: Path) -> SlaveState:
    state = SlaveState.load(directory)
    assert state is not None
    return state


# from the first start on


def test_a_copy_begins_in_a_directory_that_need_not_exist(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "store") as copy:
        assert (copy.head, copy.cursor) == (None, b"")
    assert state_in(tmp_path / "deep" / "store") == SlaveState()


def test_a_copy_is_found_again_with_head_and_cursor(tmp_path: Path) -> None:
    copied(tmp_path, 1, 3)
    with opened(tmp_path) as copy:
        assert (copy.head, copy.cursor, copy.writer.repairs) == (HEADS[3], b"\3", ())


def test_a_first_copy_that_was_cut_is_continued(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        take(copy, *CHAIN[:4])
    crash(tmp_path)
    with opened(tmp_path) as copy:
        assert copy.head is None
        assert all(copy.writer.contains(each.segment) for each in CHAIN[:4])
        bring(copy, 5)
    with opened(tmp_path) as copy:
        assert copy.head == HEADS[5]


def test_a_store_of_somebody_else_without_a_head_is_no_cut_copy(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": CHAIN[:3]})
    for _ in range(2):
        with pytest.raises(NoHeadError, match="restore the journal"):
            Copy.open(tmp_path, accept_new_history=False, disk=QuickDisk())
    assert SlaveState.load(tmp_path) is None


def test_the_home_of_a_repository_is_not_taken_for_its_store(tmp_path: Path) -> None:
    (tmp_path / "segmentstore").mkdir()
    with pytest.raises(NotAStoreError, match="did you mean"):
        Copy.open(tmp_path, accept_new_history=False, disk=QuickDisk())
    assert [path.name for path in tmp_path.iterdir()] == ["segmentstore"]


def test_a_directory_has_one_slave(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreLockedError):
        Copy.open(tmp_path, accept_new_history=False, disk=QuickDisk())


def test_a_damaged_state_is_refused_before_anything_is_locked(tmp_path: Path) -> None:
    copied(tmp_path, 1)
    (tmp_path / NAME).write_bytes(b"{")
    with pytest.raises(DamagedStoreError, match=NAME):
        Copy.open(tmp_path, accept_new_history=False, disk=QuickDisk())
    (tmp_path / NAME).unlink()
    # Without the file the copy is still the same, and its master will know its head.
    with opened(tmp_path) as copy:
        assert (copy.head, copy.cursor) == (HEADS[1], b"")


# somebody else's history


def refused(directory: Path) -> str:
    with pytest.raises(DivergedError) as caught:
        Copy.open(directory, accept_new_history=False, disk=QuickDisk())
    return str(caught.value)


def test_a_head_that_somebody_else_wrote_is_not_written_over(tmp_path: Path) -> None:
    write_elsewhere(copied(tmp_path, 1), 2)
    told = refused(tmp_path)
    assert str(HEADS[2]) in told and str(HEADS[1]) in told
    assert "--accept-new-history" in told and f"remove {NAME}" in told
    # Nothing was changed by looking, and the lock was given back.
    assert refused(tmp_path) == told


def test_a_head_of_somebody_else_can_be_thrown_away_once(tmp_path: Path) -> None:
    write_elsewhere(copied(tmp_path, 1), 2)
    with opened(tmp_path, accept=True) as copy:
        copy.check_known(head_is(HEADS[4], known=False), accept_new_history=True)
        bring(copy, 4)
    with opened(tmp_path) as copy:
        assert copy.head == HEADS[4]


def test_a_crash_is_no_divergence(tmp_path: Path) -> None:
    crash(copied(tmp_path, 1, 2))
    with opened(tmp_path) as copy:
        assert any("sealed" in repair for repair in copy.writer.repairs)
        assert copy.head == HEADS[2]


def test_a_crash_of_somebody_else_does_not_hide_what_he_wrote(tmp_path: Path) -> None:
    write_elsewhere(copied(tmp_path, 1), 2)
    crash(tmp_path)
    assert str(HEADS[2]) in refused(tmp_path)


def test_a_step_back_of_somebody_else_does_not_hide_what_he_wrote(tmp_path: Path) -> None:
    write_elsewhere(copied(tmp_path, 1), 2)
    add_heads(tmp_path, data_id(99))
    assert str(HEADS[2]) in refused(tmp_path)


def test_a_step_back_over_own_heads_is_no_divergence(tmp_path: Path) -> None:
    copied(tmp_path, 0)
    copied(tmp_path, 2)
    copied(tmp_path, 4)
    # A disk lost the tars of the two newest heads.
    for lost in ("data00001a.tar", "data00002a.tar"):
        (tmp_path / lost).unlink()
    with opened(tmp_path) as copy:
        assert copy.head == HEADS[0]
        assert any("stepped back" in repair for repair in copy.writer.repairs)
        bring(copy, 5)


def test_two_heads_that_were_not_reached_do_not_hide_the_one_that_was(tmp_path: Path) -> None:
    copied(tmp_path, 1)
    for number in (3, 4):
        with opened(tmp_path) as copy:
            assert copy.head == HEADS[1]
            with pytest.raises(SegmentMissingError):
                copy.commit(head_is(HEADS[number]), b"")
    with opened(tmp_path) as copy:
        assert copy.head == HEADS[1]


# the master


def welcome(repository: str = "", epoch: int = 0) -> Welcome:
    return Welcome(1, (), repository, epoch, "test")


def test_what_a_master_says_of_itself_is_remembered(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        copy.meet(welcome("content", 3))
        # Durable at once: a slave that is killed must not follow the old master afterwards.
        assert state_in(tmp_path) == SlaveState("content", 3)
        copy.meet(welcome("content", 4))
    assert state_in(tmp_path) == SlaveState("content", 4)


def test_a_master_of_a_lower_epoch_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        copy.meet(welcome(epoch=3))
    with opened(tmp_path) as copy:
        for epoch in (0, 2):
            with pytest.raises(DivergedError, match=f"epoch {epoch}, but .* epoch 3"):
                copy.meet(welcome(epoch=epoch))
        copy.meet(welcome(epoch=3))
    assert state_in(tmp_path).epoch == 3


def test_a_master_of_another_repository_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        copy.meet(welcome())
        copy.meet(welcome("content"))
    with opened(tmp_path) as copy:
        for other in ("assets", ""):
            with pytest.raises(DivergedError, match=f"'{other}', but .* of 'content'"):
                copy.meet(welcome(other, 9))
    assert state_in(tmp_path) == SlaveState("content")


def test_an_oak_primary_tells_neither_epoch_nor_repository(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        copy.meet(OakPrimary())
        copy.meet(welcome("content"))
        copy.meet(OakPrimary())
        assert state_in(tmp_path) == SlaveState("content")
        copy.meet(welcome("content", 3))
        with pytest.raises(DivergedError, match="followed epoch 3, and an Oak primary cannot tell"):
            copy.meet(OakPrimary())
        copy.meet(OakPrimary(), accept_new_history=True)
    assert state_in(tmp_path) == SlaveState("content")


def test_a_master_that_never_had_the_head_is_refused(tmp_path: Path) -> None:
    stranger = head_is(HEADS[5], known=False)
    with opened(tmp_path) as copy:
        copy.check_known(stranger, accept_new_history=False)  # nothing to lose yet
        bring(copy, 1)
        copy.check_known(head_is(HEADS[5]), accept_new_history=False)
        copy.check_known(stranger, accept_new_history=True)
        with pytest.raises(DivergedError, match="--accept-new-history") as caught:
            copy.check_known(stranger, accept_new_history=False)
    assert str(HEADS[1]) in str(caught.value)


# the order of a commit


def test_the_cursor_is_kept_with_the_next_head_and_at_the_end(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        bring(copy, 1, b"one")
        assert copy.cursor == b"one"
        assert state_in(tmp_path).cursor == ""
        bring(copy, 2, b"two")
        assert state_in(tmp_path).cursor == b"one".hex()
    assert state_in(tmp_path).cursor == b"two".hex()


def test_a_head_whose_closure_is_not_whole_does_not_move(tmp_path: Path) -> None:
    with opened(tmp_path) as copy:
        bring(copy, 1, b"one")
        with pytest.raises(SegmentMissingError):
            copy.commit(head_is(HEADS[3]), b"three")
        assert (copy.head, copy.cursor) == (HEADS[1], b"one")


def test_a_crash_within_a_commit_leaves_a_copy_that_goes_on(tmp_path: Path) -> None:
    store = copied(tmp_path / "store", 1)
    drive = Drive.of(store)
    disk = RecordingDisk(drive)
    with opened(store, disk=disk) as copy:
        for number in (2, 4):
            bring(copy, number, bytes([number]))
            disk.say(number)
    reached, seen = 1, set()
    for step in disk.steps:
        drive.apply(step)
        if step.kind == "said":
            assert isinstance(step.what, int)
            reached = step.what
        for name, left in crashes(drive):
            with opened(left.write_to(tmp_path / "left")) as copy:
                assert copy.head is not None, name
                head = HEADS.index(copy.head)
                assert head >= reached, f"{name}: the head went back"
                # What a cursor leaves out is there.
                assert (copy.cursor or b"\0")[0] <= head, name
            seen.add(head)
    assert seen == {1, 2, 4}
