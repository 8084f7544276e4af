"""Files on their way: cut anywhere and gone on with, killed at any step, refused, raced for."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from blob_samples import TreeDisk, one_file_id, put, unpacked, write_tree
from crash import FailingDisk
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QuickDisk

from tarfailover.errors import DamagedStoreError, FormatError, StoreIOError, StoreLockedError
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Layout
from tarfailover.store.blobs import incoming as module
from tarfailover.store.durable import Disk

LAYOUTS = pytest.mark.parametrize("layout", [DATA_STORE, BLOCKS], ids=["file", "blocks"])
CONTENT = bytes(range(256)) * 20


def store_at(path: Path, layout: Layout = DATA_STORE, disk: Disk | None = None) -> BlobStore:
    return BlobStore(path, layout, disk or QuickDisk())


@LAYOUTS
def test_an_attempt_that_was_cut_goes_on_where_it_was(tmp_path: Path, layout: Layout) -> None:
    store, blob = store_at(tmp_path, layout), one_file_id(layout, CONTENT)
    for end in (0, 1, 1000, 1000, 5000):
        with store.incoming(blob) as incoming:
            incoming.write(CONTENT[incoming.offset : end])
            assert not store.has(blob)
    (partial,) = store.partials()
    assert partial.size == 5000 and partial.digest == hashlib.sha256(CONTENT).hexdigest()
    assert not list(store.files())
    with store_at(tmp_path, layout).incoming(blob) as incoming:
        assert incoming.offset == 5000
        incoming.write(CONTENT[5000:])
        incoming.finish()
    assert store.has(blob) and store.read_at(blob, 0, 10**6) == CONTENT
    assert not list(store.partials())


@LAYOUTS
@pytest.mark.parametrize("content", [b"", b"x"])
def test_empty_and_small_blobs(tmp_path: Path, layout: Layout, content: bytes) -> None:
    store = store_at(tmp_path, layout)
    blob = put(store, content)
    assert store.has(blob) and store.read_at(blob, 0, 9) == content
    store.verify(blob)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 700), max_size=12), st.sampled_from([DATA_STORE, BLOCKS]), st.data())
def test_any_course_of_attempts_ends_with_the_content(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], layout: Layout, data: st.DataObject
) -> None:
    content = CONTENT[: sum(sizes)]
    store = store_at(tmp_path_factory.mktemp("course"), layout)
    blob = one_file_id(layout, content)
    with ExitStack() as stack:
        incoming = stack.enter_context(store.incoming(blob))
        for size in sizes:
            incoming.write(content[incoming.offset : incoming.offset + size])
            step = data.draw(st.sampled_from(["go on", "reopen", "catch up", "restart"]))
            if step == "reopen":
                incoming.close()
                incoming = stack.enter_context(store.incoming(blob))
            elif step == "catch up":
                incoming.catch_up(data.draw(st.integers(1, 900)))
            elif step == "restart":
                incoming.restart()
        incoming.write(content[incoming.offset :])
        incoming.finish()
    assert store.read_at(blob, 0, 10**6) == content


@LAYOUTS
def test_other_content_is_discarded_and_told(tmp_path: Path, layout: Layout) -> None:
    store, blob = store_at(tmp_path, layout), one_file_id(layout, CONTENT)
    with store.incoming(blob) as incoming:
        incoming.write(bytes(len(CONTENT)))
        with pytest.raises(FormatError, match=r"5120 bytes came for the binary .*were discarded"):
            incoming.finish()
    assert not list(store.files()) and not list(store.partials())
    put(store, CONTENT)
    assert store.has(blob)


def test_bytes_behind_the_end_are_refused_and_the_end_is_waited_for(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, CONTENT)
    with store.incoming(blob) as incoming:
        incoming.write(CONTENT[:-1])
        with pytest.raises(FormatError, match="offset 5119: more bytes than the 5120"):
            incoming.write(b"xx")
        with pytest.raises(FormatError, match="5119 of 5120 bytes of the binary have come"):
            incoming.finish()
        incoming.write(CONTENT[-1:])
        incoming.finish()
    assert store.has(blob)


def test_a_length_that_only_the_other_side_knows(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    blob = store.parse(hashlib.sha256(CONTENT).hexdigest())
    with store.incoming(blob, len(CONTENT)) as incoming:
        incoming.write(CONTENT)
        with pytest.raises(FormatError, match="more bytes"):
            incoming.write(b"x")
        incoming.finish()
    assert store.has(blob)
    with pytest.raises(FormatError, match="is said to have 7 bytes"):
        store.incoming(one_file_id(DATA_STORE, CONTENT), 7)
    other = store.parse(hashlib.sha256(b"other").hexdigest())
    with store.incoming(other) as incoming:
        incoming.write(b"other")
        incoming.finish()
    assert store.has(other)


def test_only_one_file_at_a_time(tmp_path: Path) -> None:
    nested = unpacked("nested", tmp_path)
    index = nested.parse(
        "0101c03e4b2016be9848faed4f7917d790df427fc1a570e8515cbdf9cafd2baba56213b81a8d"
    )
    for blob in (index, nested.parse("000161")):
        with pytest.raises(ValueError, match="is not one file"):
            nested.incoming(blob)


def test_an_old_partial_file_that_is_too_long_is_begun_anew(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, b"abc")
    path = tmp_path / DATA_STORE.partial(hashlib.sha256(b"abc").hexdigest())
    path.write_bytes(b"abcdef")
    with store.incoming(blob) as incoming:
        assert incoming.offset == 0
        incoming.write(b"abc")
        incoming.finish()
    assert store.read_at(blob, 0, 9) == b"abc"


def test_a_partial_file_of_garbage_is_found_out_at_the_end(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, b"abc")
    (tmp_path / DATA_STORE.partial(hashlib.sha256(b"abc").hexdigest())).write_bytes(b"\0\0\0")
    with store.incoming(blob) as incoming:
        assert incoming.offset == 3
        with pytest.raises(FormatError, match="were discarded"):
            incoming.finish()
    with store.incoming(blob) as incoming:
        assert incoming.offset == 0


def test_a_partial_file_that_somebody_cuts_is_told(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, b"abc")
    path = tmp_path / DATA_STORE.partial(hashlib.sha256(b"abc").hexdigest())
    path.write_bytes(b"abc")
    with store.incoming(blob) as incoming:
        os.truncate(path, 1)
        with pytest.raises(DamagedStoreError, match="was cut while"):
            incoming.finish()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, b"abc")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / DATA_STORE.partial(hashlib.sha256(b"abc").hexdigest())).symlink_to(victim)
    with pytest.raises(StoreIOError, match="cannot open for writing"):
        store.incoming(blob)
    assert victim.read_bytes() == b"precious"


def test_two_cannot_take_in_the_same_binary(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), one_file_id(DATA_STORE, CONTENT)
    with store.incoming(blob) as first:
        with pytest.raises(StoreLockedError, match="somebody else is taking in the same binary"):
            store_at(tmp_path).incoming(blob)
        first.write(CONTENT)
        first.finish()
    with store.incoming(blob) as again:
        assert again.offset == 0


def test_who_waited_for_a_finished_file_does_not_write_into_it(tmp_path: Path) -> None:
    blob = one_file_id(DATA_STORE, CONTENT)

    class Late(QuickDisk):
        """Opens the partial file just before somebody else finishes it."""

        def open(self, path: Path, *, create: bool = False, follow: bool = True) -> int:
            fd = super().open(path, create=create, follow=follow)
            if not list(store.files()):
                path.unlink()
                put(store, CONTENT)
            return fd

    store = store_at(tmp_path)
    with store_at(tmp_path, disk=Late()).incoming(blob) as incoming:
        incoming.write(b"garbage")
    assert store.read_at(blob, 0, 10**6) == CONTENT


def test_what_is_verified_is_kept_and_what_is_not_is_replaced(tmp_path: Path) -> None:
    store, blob = store_at(tmp_path), put(store_at(tmp_path), CONTENT)
    (old,) = store.files()
    os.utime(old.path, (1, 1))
    inode = old.path.stat().st_ino
    put(store, CONTENT)
    assert old.path.stat().st_ino == inode
    assert old.path.stat().st_mtime > 1
    old.path.write_bytes(bytes(len(CONTENT)))
    put(store, CONTENT)
    assert old.path.read_bytes() == CONTENT
    assert old.path.stat().st_ino != inode
    assert store.has(blob) and not list(store.partials())


def test_a_collector_that_removes_the_new_folder_is_outrun(tmp_path: Path) -> None:
    class Removing(QuickDisk):
        """Somebody removes the empty folders, some times."""

        left = 3

        def move(self, source: Path, target: Path) -> None:
            if self.left:
                self.left -= 1
                QuickDisk().remove_empty(target.parent, tmp_path)
            super().move(source, target)

    disk = Removing()
    put(store_at(tmp_path, disk=disk), CONTENT)
    assert not disk.left
    disk.left = module.ATTEMPTS
    with pytest.raises(StoreIOError, match="cannot rename"):
        put(store_at(tmp_path, disk=disk), b"something else")


@LAYOUTS
def test_the_machine_dies_at_any_step(tmp_path: Path, layout: Layout) -> None:
    """Nothing wrong is ever visible, nothing that was said to be there is lost, all can go on."""
    blob, seen, number = one_file_id(layout, CONTENT), set(), 0
    live = tmp_path / "live"
    live.mkdir()

    class Dying(TreeDisk):
        said = False

        def watch(self) -> None:
            nonlocal number
            for name, state in self.states():
                number += 1
                left = tmp_path / str(number)
                write_tree(state, live, left)
                store = store_at(left, layout)
                there = store.has(blob)
                seen.add((name, there, bool(list(store.partials()))))
                if there:
                    assert store.read_at(blob, 0, 10**6) == CONTENT, name
                assert there or not self.said, f"{name}: lost"
                for _ in range(2):
                    with store.incoming(blob) as incoming:
                        incoming.write(CONTENT[incoming.offset :])
                        try:
                            incoming.finish()
                            break
                        except FormatError:
                            assert name in ("zeros", "first lost"), name
                assert store.read_at(blob, 0, 10**6) == CONTENT

    disk = Dying(live)
    with store_at(live, layout, disk).incoming(blob) as incoming:
        incoming.write(CONTENT[:1000])
        incoming.write(CONTENT[1000:3000])
    with store_at(live, layout, disk).incoming(blob) as incoming:
        incoming.write(CONTENT[3000:])
        incoming.finish()
    disk.said = True
    disk.watch()
    assert {("all lost", True, False), ("killed", False, True), ("killed", True, False)} <= seen


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_full_disk_leaves_what_has_come(tmp_path: Path, kind: str) -> None:
    blob = one_file_id(DATA_STORE, CONTENT)
    store = store_at(tmp_path, disk=FailingDisk(1, (kind,), errno.ENOSPC))

    def take_in() -> None:
        with store.incoming(blob) as incoming:
            incoming.write(CONTENT)
            incoming.finish()

    with pytest.raises(StoreIOError, match="No space left on device; free space"):
        take_in()
    assert not list(store.files())
    (partial,) = store.partials()
    assert partial.size in (len(CONTENT) // 2, len(CONTENT))
    put(store_at(tmp_path), CONTENT)
    assert store.has(blob)


def test_more_than_4_gib(tmp_path: Path) -> None:
    """A file with a hole: the offsets are right, and nothing is held in memory."""
    size = 2**32 + 10
    digest = "0" * 64
    store, blob = store_at(tmp_path), DATA_STORE.parse(f"{digest}#{size}")
    path = tmp_path / DATA_STORE.partial(digest)
    path.touch()
    os.truncate(path, 2**32 + 3)
    with store.incoming(blob) as incoming:
        assert incoming.offset == 2**32 + 3
        incoming.write(b"1234567")
        assert incoming.offset == size
        with pytest.raises(FormatError, match="more bytes"):
            incoming.write(b"8")
        assert not incoming.catch_up(1000)
    place = tmp_path / DATA_STORE.place(digest)
    place.parent.mkdir(parents=True)
    path.rename(place)
    assert store.has(blob) and store.length(blob) == size
    assert store.read_at(blob, 2**32, 100) == b"\0\0\x001234567"
    with store.open(blob) as stream:
        assert stream.seek(-3, os.SEEK_END) == size - 3
        assert stream.read() == b"567"


def test_many_at_once_and_the_machine_dies_at_any_step(tmp_path: Path) -> None:
    """None is visible that is not whole, and those that were said to be there are."""
    contents = [b"%d " % number * 50 for number in range(module.MANY)]
    blobs = [one_file_id(DATA_STORE, each) for each in contents]
    live = tmp_path / "live"
    live.mkdir()

    class Dying(TreeDisk):
        said = False
        steps = 0

        def watch(self) -> None:
            for name, state in self.states():
                self.steps += 1
                left = store_at(tmp_path / str(self.steps))
                write_tree(state, live, left.path)
                for blob, content in zip(blobs, contents, strict=True):
                    there = left.has(blob)
                    assert there or not self.said, f"{name}: lost"
                    assert not there or left.read_at(blob, 0, 10**6) == content, name

    disk = Dying(live)
    store = store_at(live, disk=disk)
    incomings = [store.incoming(blob) for blob in blobs]
    disk.watch = lambda: None  # type: ignore[method-assign] - what is written matters later
    for incoming, content in zip(incomings, contents, strict=True):
        incoming.write(content)
        incoming.check()
    del disk.watch  # type: ignore[method-assign]
    module.settle(incomings)
    disk.said = True
    disk.watch()
    assert all(map(store.has, blobs)) and disk.steps > 100


def test_many_where_the_kernel_cannot_sync_all(tmp_path: Path) -> None:
    synced: list[str] = []

    class Old(QuickDisk):
        def sync_all(self, fd: int, path: Path) -> bool:
            del fd, path
            return False

        def sync(self, fd: int, path: Path) -> None:
            del fd, path
            synced.append("file")

        def sync_directory(self, path: Path) -> None:
            del path
            synced.append("folder")

    store = store_at(tmp_path, disk=Old())
    incomings = []
    for number in range(module.MANY):
        content = b"%d" % number
        incomings.append(store.incoming(one_file_id(DATA_STORE, content)))
        incomings[-1].write(content)
        incomings[-1].check()
    module.settle(incomings)
    assert synced[: module.MANY] == ["file"] * module.MANY
    assert synced.count("folder") >= module.MANY
