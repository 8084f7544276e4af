"""New binaries: under the very ids that Oak gives them, durable, and stored once."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
from pathlib import Path

import pytest
from blob_samples import TreeDisk, vectors, write_tree
from crash import FailingDisk
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QuickDisk

from tarfailover.errors import StoreIOError
from tarfailover.store.blobs import BLOCKS, DATA_STORE, Adder, BlobStore, Layout, add
from tarfailover.store.blobs import adding as module

LAYOUTS = pytest.mark.parametrize("layout", [DATA_STORE, BLOCKS], ids=["file", "blocks"])
VECTORS = [v for v in vectors() if not v[2].startswith("0x") and not v[2].startswith("9bd7c3d1")]


def stored(store: BlobStore, content: bytes, seed: int = 1) -> str:
    return add(store, io.BytesIO(content).read, random.Random(seed).randbytes).text


@pytest.mark.parametrize(("name", "content", "text"), VECTORS)
def test_the_ids_are_those_of_oak(
    tmp_path: Path, name: str, content: bytes, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path, DATA_STORE if name == "file" else BLOCKS, QuickDisk())
    if name == "nested":
        monkeypatch.setattr(module, "BLOCK", 200)
        monkeypatch.setattr(module, "SMALLEST_BLOCK", 48)
    assert stored(store, content) == text
    assert stored(store, content) == text
    blob = store.parse(text)
    store.verify(blob)
    assert store.read_at(blob, 0, 10**6) == content
    assert store.digests(blob) == {each.digest for each in store.files()}
    assert not list(store.partials())


@pytest.mark.parametrize(
    ("size", "begin"),
    [
        (2097153, "010080808001205647f05e"),
        (230_000_000, "0101808bd66dc121203f6bfb37"),
    ],
)
def test_the_ids_of_large_binaries_are_those_of_oak(tmp_path: Path, size: int, begin: str) -> None:
    """Blob stores, section 9.1: zeros."""
    left = [size]

    def read(wanted: int) -> bytes:
        taken = min(wanted, left[0])
        left[0] -= taken
        return bytes(taken)

    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    blob = add(store, read, random.Random(1).randbytes)
    assert blob.text.startswith(begin) and blob.length == size
    assert store.has(blob)


@settings(max_examples=40)
@given(
    st.integers(0, 4000), st.integers(200, 400), st.integers(64, 99), st.sampled_from([1, 7, 999])
)
def test_whatever_is_added_comes_back(
    tmp_path_factory: pytest.TempPathFactory, size: int, block: int, smallest: int, step: int
) -> None:
    content = random.Random(size).randbytes(size)
    source = io.BytesIO(content)
    store = BlobStore(tmp_path_factory.mktemp("added"), BLOCKS, QuickDisk())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        patch.setattr(module, "SMALLEST_BLOCK", smallest)
        blob = add(store, lambda wanted: source.read(min(wanted, step)), random.Random(1).randbytes)
    assert blob.length == size
    assert b"".join(store.pieces(blob)) == content
    assert store.read_at(blob, size // 2, 100) == content[size // 2 :][:100]
    store.verify(blob)


@LAYOUTS
def test_equal_content_is_stored_once_and_counts_as_new(tmp_path: Path, layout: Layout) -> None:
    store = BlobStore(tmp_path, layout, QuickDisk())
    text = stored(store, bytes(50_000))
    (file,) = store.files()
    os.utime(file.path, (1, 1))
    inode = file.path.stat().st_ino
    assert stored(store, bytes(50_000), 2) == text
    (file,) = store.files()
    assert file.path.stat().st_ino == inode and file.path.stat().st_mtime > 1
    file.path.write_bytes(b"torn")
    assert stored(store, bytes(50_000), 3) == text
    store.verify(store.parse(text))


@LAYOUTS
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, layout: Layout, kind: str) -> None:
    store = BlobStore(tmp_path, layout, FailingDisk(1, (kind,), errno.ENOSPC))
    with pytest.raises(StoreIOError, match="No space left on device"):
        stored(store, bytes(50_000))
    assert not list(store.files()) and not list(store.partials())


@LAYOUTS
def test_the_machine_dies_at_any_step(tmp_path: Path, layout: Layout) -> None:
    content = bytes(range(256)) * 40
    live, number = tmp_path / "live", 0
    live.mkdir()

    class Dying(TreeDisk):
        said = ""

        def watch(self) -> None:
            nonlocal number
            for name, state in self.states():
                number += 1
                left = tmp_path / str(number)
                write_tree(state, live, left)
                store = BlobStore(left, layout, QuickDisk())
                for each in store.files():
                    assert hashlib.sha256(each.path.read_bytes()).hexdigest() == each.digest, name
                assert not self.said or store.has(store.parse(self.said))

    disk = Dying(live)
    disk.said = stored(BlobStore(live, layout, disk), content)
    disk.watch()
    assert number > 40


@LAYOUTS
def test_many_become_visible_together_and_those_that_are_not_settled_go(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 10)
    store = BlobStore(tmp_path, layout, QuickDisk())
    contents = [bytes([number]) * 5000 for number in range(25)]
    with Adder(store, random.Random(1).randbytes) as adder:
        blobs = [adder.add(io.BytesIO(content).read) for content in contents[:24]]
        assert [store.has(blob) for blob in blobs] == [True] * 20 + [False] * 4
        adder.settle()
        assert all(map(store.has, blobs)) and not list(store.partials())
        last = adder.add(io.BytesIO(contents[24]).read)
        again = adder.add(io.BytesIO(contents[0]).read)
        assert len(list(store.partials())) == 2
    assert not store.has(last) and store.has(again)
    assert len(list(store.files())) == 24 and not list(store.partials())


def test_equal_ones_can_wait_together(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, DATA_STORE, QuickDisk())
    with Adder(store, random.Random(1).randbytes) as adder:
        blobs = {adder.add(io.BytesIO(bytes(5000)).read) for _ in range(12)}
        adder.settle()
    (blob,) = blobs
    assert store.has(blob) and not list(store.partials())
