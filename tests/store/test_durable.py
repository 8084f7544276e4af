"""The one class that writes, syncs, renames and removes."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from crash import Drive, RecordingDisk
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import StoreIOError
from tarfailover.store import durable
from tarfailover.store.durable import Disk, told


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_a_directory_is_made_with_its_parents_and_each_name_is_synced(tmp_path: Path) -> None:
    synced: list[Path] = []

    class Watched(Disk):
        def sync_directory(self, path: Path) -> None:
            synced.append(path)
            super().sync_directory(path)

    Watched().make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    Watched().make_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_file_in_place_of_a_directory_is_told(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreIOError, match="file: cannot create the directory: File exists"):
        disk.make_directory(tmp_path / "file")
    with pytest.raises(StoreIOError, match="something is in the way"):
        disk.make_directory(tmp_path / "file" / "below")


def test_a_file_is_created_once(tmp_path: Path, disk: Disk) -> None:
    os.close(disk.create(tmp_path / "new"))
    with pytest.raises(StoreIOError, match="new: cannot create: File exists"):
        disk.create(tmp_path / "new")
    with pytest.raises(StoreIOError, match="other: cannot open for writing"):
        disk.open(tmp_path / "other")
    os.close(disk.open(tmp_path / "other", create=True))


def test_write_sync_truncate_rename_remove(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file"
    fd = disk.create(path)
    assert disk.write(fd, path, [b"abc", bytearray(b"def"), memoryview(b"ghi")], 2) == 11
    disk.sync(fd, path)
    disk.truncate(fd, path, 4)
    os.close(fd)
    disk.rename(path, tmp_path / "renamed")
    assert (tmp_path / "renamed").read_bytes() == b"\0\0ab"
    disk.remove(tmp_path / "renamed")
    disk.remove(tmp_path / "renamed")
    assert list(tmp_path.iterdir()) == []


@given(
    buffers=st.lists(st.binary(max_size=9), max_size=12),
    steps=st.lists(st.integers(1, 7), min_size=1),
)
def test_a_system_that_writes_little_at_a_time_is_asked_again(
    tmp_path_factory: pytest.TempPathFactory, buffers: list[bytes], steps: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written-in-pieces"
    path.write_bytes(b"")
    sizes = iter(steps * 1000)

    def little(fd: int, parts: Sequence[bytes], offset: int) -> int:
        return os.pwrite(fd, b"".join(parts)[: next(sizes)], offset)

    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "_IOV_MAX", 5)
            patch.setattr(os, "pwritev", little)
            assert Disk().write(fd, path, buffers, 3) == 3 + sum(map(len, buffers))
    finally:
        os.close(fd)
    whole = b"".join(buffers)
    assert path.read_bytes() == (b"\0\0\0" + whole if whole else b"")


def test_errors_name_the_file_and_a_remedy(tmp_path: Path) -> None:
    for number, remedy in ((errno.ENOSPC, "free space"), (errno.ELOOP, "check the file system")):
        with (
            pytest.raises(StoreIOError, match=f"x: cannot dance: .*; {remedy}") as caught,
            told("dance", tmp_path / "x"),
        ):
            raise OSError(number, os.strerror(number))
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ValueError, match="not of the system"), told("dance", tmp_path):
        raise ValueError("not of the system")


def test_closed_descriptors_are_errors_of_every_operation(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "file"
    fd = disk.create(path)
    os.close(fd)
    for wrong in (
        lambda: disk.write(fd, path, [b"x"], 0),
        lambda: disk.sync(fd, path),
        lambda: disk.truncate(fd, path, 0),
        lambda: disk.sync_directory(tmp_path / "nowhere"),
        lambda: disk.rename(tmp_path / "nowhere", path),
        lambda: disk.remove(path / "below"),
    ):
        with pytest.raises(StoreIOError, match="cannot"):
            wrong()


@pytest.mark.parametrize("old", [None, b"old content, longer than the new"])
def test_a_replaced_file_is_old_or_new_whenever_the_machine_dies(
    tmp_path: Path, old: bytes | None
) -> None:
    path = tmp_path / "state"
    if old is not None:
        path.write_bytes(old)
    drive = Drive.of(tmp_path)
    disk = RecordingDisk(drive)
    disk.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    for step in disk.steps:
        drive.apply(step)
        for fate in (lambda file: file.content(), lambda file: file.durable):
            for names in (None, 0):
                left = drive.crashed(fate, names)
                assert left.names.keys() <= {"state", "state.new"}
                found = left.files[left.names["state"]].content() if "state" in left.names else None
                assert found in (old, b"new")
    assert drive.crashed(lambda file: file.durable, 0).names.keys() == {"state"}


def test_what_an_earlier_crash_left_of_a_replacement_does_no_harm(
    tmp_path: Path, disk: Disk
) -> None:
    (tmp_path / "state.new").write_bytes(b"a long rest of something else")
    disk.replace_file(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"


def test_a_whole_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"content")
        assert Disk().sync_all(file.fileno(), tmp_path)
        monkeypatch.setattr(durable, "_LEAST_KERNEL", (10**6, 0))
        assert not Disk().sync_all(file.fileno(), tmp_path)
    monkeypatch.undo()
    with pytest.raises(StoreIOError, match="cannot sync the file system of: Bad file descriptor"):
        Disk().sync_all(-1, tmp_path)
