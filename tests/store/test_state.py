"""The slave's state file: read back as written, refused when it is anything else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from crash import Drive, RecordingDisk, crashes
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stores import QuickDisk, data_id, head_in

from tarfailover.errors import DamagedStoreError, StoreIOError
from tarfailover.store.state import NAME, SlaveState

OLD = SlaveState("content", 3, "00ff", (str(head_in(data_id(1))), str(head_in(data_id(0)))))
NEW = SlaveState("content", 4, "0123", (str(head_in(data_id(2))), str(head_in(data_id(1)))))
GOOD: dict[str, Any] = {
    "format": 1,
    "repository": "content",
    "epoch": 3,
    "cursor": "00ff",
    "heads": [*OLD.heads],
}


def written(directory: Path, content: bytes) -> Path:
    (directory / NAME).write_bytes(content)
    return directory


def test_without_a_file_there_is_no_state(tmp_path: Path) -> None:
    assert SlaveState.load(tmp_path) is None


heads = st.lists(st.integers(0, 9).map(lambda n: str(head_in(data_id(n)))), max_size=2).map(tuple)


@settings(max_examples=50)
@given(
    st.builds(
        SlaveState,
        st.text(st.characters(codec="utf-8"), max_size=255),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=64).map(bytes.hex),
        heads,
    )
)
def test_what_was_saved_is_loaded(state: SlaveState) -> None:
    with tempfile.TemporaryDirectory() as name:
        state.save(Path(name), QuickDisk())
        assert SlaveState.load(Path(name)) == state


def test_the_file_is_the_one_that_was_always_written(tmp_path: Path) -> None:
    assert SlaveState.load(written(tmp_path, json.dumps(GOOD).encode())) == OLD


WRONG = {
    "another format": {**GOOD, "format": 2},
    "no format": {"epoch": 1},
    "no epoch": {key: value for key, value in GOOD.items() if key != "epoch"},
    "an epoch in words": {**GOOD, "epoch": "three"},
    "an epoch below none": {**GOOD, "epoch": -1},
    "a cursor that is not hex": {**GOOD, "cursor": "zz"},
    "a cursor that is a number": {**GOOD, "cursor": 12},
    "a repository that is a list": {**GOOD, "repository": []},
    "heads that are none": {**GOOD, "heads": ["root"]},
    "heads that are numbers": {**GOOD, "heads": [1]},
    "no heads": {**GOOD, "heads": None},
    "a list": [GOOD],
    "a number": 1,
}


@pytest.mark.parametrize("name", WRONG)
def test_another_document_is_refused_with_file_and_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedStoreError, match="remove the file") as caught:
        SlaveState.load(written(tmp_path, json.dumps(WRONG[name]).encode()))
    assert str(caught.value).startswith(f"{tmp_path / NAME}: ")


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b"[" * 60_000)
@example(b"1" * 5000)
def test_any_bytes_are_a_state_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.raises(DamagedStoreError, match=NAME):
        SlaveState.load(written(Path(name), content))


def test_a_torn_file_is_refused_wherever_it_is_torn(tmp_path: Path) -> None:
    OLD.save(tmp_path, QuickDisk())
    whole = (tmp_path / NAME).read_bytes()
    for cut in range(len(whole.rstrip())):
        with pytest.raises(DamagedStoreError):
            SlaveState.load(written(tmp_path, whole[:cut]))


def test_a_file_that_cannot_be_read_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(StoreIOError, match=NAME):
        SlaveState.load(tmp_path)


def test_the_head_to_come_and_the_one_before_are_kept() -> None:
    first, second, third = (head_in(data_id(number)) for number in range(3))
    state = SlaveState("content", 7, "ab").with_head(first, None)
    assert state == SlaveState("content", 7, "ab", (str(first),))
    assert state.with_head(second, first).heads == (str(second), str(first))
    # Twice on the way to a new head, never there: the head is still the first one.
    assert state.with_head(second, first).with_head(third, first).heads == (str(third), str(first))


def test_a_crash_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    OLD.save(store, QuickDisk())
    drive = Drive.of(store)
    disk = RecordingDisk(drive)
    NEW.save(store, disk)
    found = set()
    for number, step in enumerate(disk.steps):
        drive.apply(step)
        for _, left in crashes(drive):
            state = SlaveState.load(left.write_to(tmp_path / "left"))
            assert state in (OLD, NEW)
            found.add(state)
            if number == len(disk.steps) - 1:
                assert state == NEW, "it was said to be durable"
    assert found == {OLD, NEW}
