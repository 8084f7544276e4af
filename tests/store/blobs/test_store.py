"""Blob stores: what real Oak wrote is read, fetched and verified; damage and nonsense are told."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
from pathlib import Path
from typing import NoReturn

import pytest
from blob_samples import CONTENTS, fetch, one_file_id, put, unpacked, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QuickDisk

from tarfailover.errors import (
    BlobMissingError,
    ConfigError,
    DamagedStoreError,
    NotAStoreError,
    StoreIOError,
)
from tarfailover.format import blobid
from tarfailover.format.blobid import Block
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Layout, open_blob_store
from tarfailover.store.blobs import store as module

LAYOUTS = pytest.mark.parametrize("layout", [DATA_STORE, BLOCKS], ids=["file", "blocks"])


@pytest.mark.parametrize(("name", "content", "text"), vectors())
def test_what_oak_wrote_is_read(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    unpacked(name, tmp_path)
    store = open_blob_store(tmp_path)
    blob = store.parse(text)
    assert store.has(blob) and store.wanted(blob) == []
    assert store.length(blob) == len(content)
    with store.open(blob) as stream:
        assert stream.read() == content
        stream.seek(-5, io.SEEK_END) if content else None
        assert stream.read() == content[-5:]
    for offset in (0, 1, 199, 200, 201, 4094, len(content) - 1, len(content), len(content) + 9):
        assert store.read_at(blob, max(0, offset), 450) == content[max(0, offset) :][:450]
    store.verify(blob)


@pytest.mark.parametrize(("name", "content", "text"), vectors())
def test_what_oak_wrote_is_fetched(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    source = unpacked(name, tmp_path / "source")
    target = BlobStore(tmp_path / "target", source.layout, QuickDisk())
    blob = source.parse(text)
    asked = fetch(source, target, blob)
    assert len(asked) == len(set(asked))
    assert target.has(blob) and target.read_at(blob, 0, 10**6) == content
    target.verify(blob)
    wanted = source.digests(blob)
    assert {each.digest for each in target.files()} == wanted
    for each in target.files():
        assert (
            each.path.read_bytes()
            == (source.path / each.path.relative_to(target.path)).read_bytes()
        )
    assert not list(target.partials())
    if not asked:
        assert not target.path.exists()


def test_a_store_lists_all_files_and_only_those_at_their_place(tmp_path: Path) -> None:
    store = unpacked("file", tmp_path)
    digests = {text.partition("#")[0] for name, _, text in vectors() if name == "file"}
    digests = {each for each in digests if not each.startswith("0x")}
    for stray in (
        "reference.key",
        "repository-x",
        "tmp1.tmp",
        ".x",
        "28/b4/f4/stray.part",
        "28/b4/x",
    ):
        (tmp_path / stray).write_bytes(b"x")
    some = next(iter(digests))
    (tmp_path / "28/b4/f4" / some).write_bytes(b"not its place")
    (tmp_path / "28/b4/f4" / ("28b4f4" + "0" * 58)).symlink_to("/etc/passwd")
    (tmp_path / "28/b4/f4" / ("28b4f4" + "1" * 58)).mkdir()
    if some.startswith("28b4f4"):
        (tmp_path / "28/b4/f4" / some).write_bytes(CONTENTS["zeros20000"])
    found = list(store.files())
    assert {each.digest for each in found} == digests
    assert [each.path for each in found] == sorted(each.path for each in found)
    assert all(each.size == each.path.stat().st_size for each in found)


@LAYOUTS
def test_what_is_missing_torn_or_no_file_is_told(tmp_path: Path, layout: Layout) -> None:
    store = BlobStore(tmp_path, layout, QuickDisk())
    blob = one_file_id(layout, b"content")
    path = tmp_path / layout.place(hashlib.sha256(b"content").hexdigest())
    for read in (lambda: store.read_at(blob, 0, 9), lambda: store.verify(blob)):
        with pytest.raises(BlobMissingError, match=f"{path} is not there.*bring it"):
            read()
    assert not store.has(blob)
    put(store, b"content")
    assert store.has(blob)
    path.write_bytes(b"conten")
    assert not store.has(blob) and store.wanted(blob) == [blob]
    with pytest.raises(DamagedStoreError, match=f"{path} has 6 bytes, its binary has 7 bytes"):
        store.read_at(blob, 0, 9)
    path.write_bytes(b"CONTENT")
    assert store.read_at(blob, 0, 9) == b"CONTENT"
    with pytest.raises(DamagedStoreError, match=f"{path} is not what its name says"):
        store.verify(blob)
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedStoreError, match="is no regular file"):
        store.read_at(blob, 0, 9)
    path.rmdir()
    (tmp_path / "elsewhere").write_bytes(b"content")
    path.symlink_to(tmp_path / "elsewhere")
    assert not store.has(blob)
    with pytest.raises(DamagedStoreError, match="is no regular file"):
        store.read_at(blob, 0, 9)
    put(store, b"content")
    assert store.has(blob) and not path.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"content"


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, DATA_STORE, QuickDisk())
    blob = put(store, bytes(3 * module.PIECE))
    pieces = store.pieces(blob)
    next(pieces)
    (path,) = (each.path for each in store.files())
    os.truncate(path, module.PIECE + 5)
    with pytest.raises(DamagedStoreError, match="ended after"):
        list(pieces)


def test_a_length_that_the_id_does_not_tell_is_that_of_the_file(tmp_path: Path) -> None:
    store = unpacked("file", tmp_path)
    blob = store.parse("81cecb5b4d4931157b0b10160f891cdd74a68d96fcdf26460ccd6cc6b0f251a8")
    assert blob.length is None and store.length(blob) == 8000
    assert store.read_at(blob, 7990, 100) == CONTENTS["counting"][7990:]
    assert store.has(blob)
    with pytest.raises(BlobMissingError, match="unknown size"):
        store.length(store.parse("a" * 64))


def test_blocks_that_oaks_collector_has_moved_are_found(tmp_path: Path) -> None:
    store = unpacked("blocks", tmp_path)
    (tmp_path / "85/2a").rename(tmp_path / "85/2a_old")
    blob = store.parse(next(t for n, c, t in vectors() if n == "blocks" and len(c) == 20000))
    assert store.has(blob) and store.read_at(blob, 0, 30000) == bytes(20000)
    digest = next(iter(store.digests(blob)))
    assert digest in {each.digest for each in store.files()}
    (moved,) = (each for each in store.files() if each.digest == digest)
    assert not store.remove(moved, moved.changed_ns - 1) and store.has(blob)
    assert store.remove(moved, moved.changed_ns) and not store.has(blob)
    assert not (tmp_path / "85").exists()
    assert not store.remove(moved, moved.changed_ns)


def index_store(tmp_path: Path, index: bytes, total: int) -> tuple[BlobStore, str]:
    """A store with one index block, and the id of a binary that is said to be `total` bytes."""
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    put(store, index)
    block = Block(hashlib.sha256(index).hexdigest(), len(index), 1, total)
    return store, blobid.encode_entry(block).hex()


@pytest.mark.parametrize(
    ("index", "total", "message"),
    [
        (b"\x07", 5, "an entry of kind 7"),
        (b"\x00\x05abc", 5, "run past the end"),
        (b"\x00\x03abc", 5, "do not add up to 5"),
        (b"", 5, "do not add up to 5"),
    ],
)
def test_index_blocks_of_nonsense(tmp_path: Path, index: bytes, total: int, message: str) -> None:
    store, text = index_store(tmp_path, index, total)
    blob = store.parse(text)
    assert not store.has(blob)
    for read in (lambda: store.read_at(blob, 0, 9), lambda: store.verify(blob)):
        with pytest.raises(DamagedStoreError, match=f"\\.dat, offset .*{message}"):
            read()


def test_a_bomb_of_index_blocks_costs_no_more_than_its_files(tmp_path: Path) -> None:
    """Each block names the one below it many times: 40 ** 11 binaries of a byte."""
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    entry, total = b"\x00\x01x", 1
    for level in range(1, 12):
        index = entry * 40
        put(store, index)
        total *= 40
        digest = hashlib.sha256(index).hexdigest()
        entry = blobid.encode_entry(Block(digest, len(index), level, total))
    blob = store.parse(entry.hex())
    assert blob.length == 40**11
    assert store.has(blob) and len(store.digests(blob)) == 11
    store.verify(blob)
    assert store.read_at(blob, 40**11 - 5, 9) == b"xxxxx"
    assert store.read_at(blob, 40**10, 3) == b"xxx"
    # One more, and the sum is beyond what any binary can have.
    with pytest.raises(blobid.FormatError, match="no store holds that many"):
        store.parse((entry * 40**2 * 10**3)[: len(entry) * 10**4].hex())


def test_index_blocks_in_a_row_are_bounded(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    entry = b"\x00\x01x"
    for _ in range(blobid.MAX_DEPTH + 2):
        put(store, entry)
        entry = blobid.encode_entry(Block(hashlib.sha256(entry).hexdigest(), len(entry), 1, 1))
    with pytest.raises(DamagedStoreError, match="too many index blocks in a row"):
        store.read_at(store.parse(entry.hex()), 0, 1)


def test_an_index_block_without_content_is_never_opened(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    entry = blobid.encode_entry(Block("0" * 64, 100, 1, 0))
    assert store.read_at(store.parse((entry * 1000).hex() + "000178"), 0, 5) == b"x"


def test_a_huge_index_block_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INDEX", 3)
    store, text = index_store(tmp_path, b"\x00\x02ab", 2)
    with pytest.raises(DamagedStoreError, match="an index block of 4 bytes"):
        store.read_at(store.parse(text), 0, 9)


def test_a_block_that_oak_wrote_whole_is_read_whatever_its_size(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    blob = put(store, bytes(5_000_000))
    assert sum(map(len, store.pieces(blob))) == 5_000_000
    store.verify(blob)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000)), max_size=8),
    st.sampled_from([v for v in vectors() if len(v[1]) == 8000]),
)
def test_a_stream_reads_as_a_file_does(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]], vector: tuple
) -> None:
    name, content, text = vector
    where = tmp_path_factory.getbasetemp() / f"stream-{name}"
    store = open_blob_store(where) if where.exists() else unpacked(name, where)
    plain = io.BytesIO(content)
    with store.open(store.parse(text)) as stream:
        for place, size in reads:
            assert stream.seek(place) == plain.seek(place)
            assert stream.read(size) == plain.read(size)


# opening


def test_a_directory_is_recognised(tmp_path: Path) -> None:
    for name, layout in (("file", DATA_STORE), ("blocks", BLOCKS), ("nested", BLOCKS)):
        unpacked(name, tmp_path / name)
        assert open_blob_store(tmp_path / name).layout is layout
        assert open_blob_store(tmp_path / name, layout.kind).layout is layout
    with pytest.raises(ConfigError, match="is a FileDataStore, and said to be of kind 'blocks'"):
        open_blob_store(tmp_path / "file", "blocks")
    with pytest.raises(
        ConfigError, match="'tape' is no kind of blob store: give auto, file, blocks"
    ):
        open_blob_store(tmp_path / "file", "tape")
    with pytest.raises(NotAStoreError, match="is no directory"):
        open_blob_store(tmp_path / "nowhere")
    (tmp_path / "a-file").write_text("x")
    with pytest.raises(NotAStoreError, match="is no directory"):
        open_blob_store(tmp_path / "a-file", "file", create=True)
    with pytest.raises(ConfigError, match=r"holds no binaries yet.*say 'file'.*or 'blocks'"):
        open_blob_store(tmp_path / "nowhere", create=True)
    assert open_blob_store(tmp_path / "nowhere", "file", create=True).layout is DATA_STORE
    unpacked("blocks", tmp_path / "file")
    with pytest.raises(ConfigError, match="files of two kinds"):
        open_blob_store(tmp_path / "file", "file")


@pytest.mark.parametrize(
    ("name", "layout"),
    [("reference.key", DATA_STORE), ("repository-1", DATA_STORE), ("lost+found", None)],
)
def test_metadata_tells_the_kind(tmp_path: Path, name: str, layout: Layout | None) -> None:
    (tmp_path / name).write_bytes(b"x")
    if layout is None:
        with pytest.raises(ConfigError, match="holds no binaries"):
            open_blob_store(tmp_path)
    else:
        assert open_blob_store(tmp_path).layout is layout


@LAYOUTS
def test_what_was_begun_tells_the_kind(tmp_path: Path, layout: Layout) -> None:
    with BlobStore(tmp_path, layout, QuickDisk()).incoming(one_file_id(layout, b"abc")) as incoming:
        incoming.write(b"a")
    assert open_blob_store(tmp_path).layout is layout


def test_a_folder_that_may_not_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = unpacked("file", tmp_path)

    def refused(path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StoreIOError, match=r"cannot list: .*give this user the right"):
        list(store.files())


def test_what_is_claimed_is_young(tmp_path: Path) -> None:
    store = unpacked("nested", tmp_path)
    blob = store.parse(next(text for name, _, text in vectors() if name == "nested"))
    for each in store.files():
        os.utime(each.path, (1, 1))
    assert store.claim(blob)
    touched = {each.digest for each in store.files() if each.changed_ns > 10**10}
    assert touched == store.digests(blob)
    next(each for each in store.files() if each.digest in touched).path.unlink()
    assert not store.claim(blob)


def test_a_stream_that_is_too_short_is_told(tmp_path: Path) -> None:
    store = unpacked("file", tmp_path)
    blob = store.parse("81cecb5b4d4931157b0b10160f891cdd74a68d96fcdf26460ccd6cc6b0f251a8")
    (path,) = (each.path for each in store.files() if each.size == 8000)
    with store.open(blob) as stream:
        os.truncate(path, 100)
        with pytest.raises(DamagedStoreError, match="a binary of 8000 bytes ended after 100"):
            stream.read()


def test_a_store_that_is_a_file_or_cannot_be_looked_into_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    store = BlobStore(path, DATA_STORE)
    with pytest.raises(StoreIOError, match="cannot look into"):
        store.has(one_file_id(DATA_STORE, b"x"))


@pytest.mark.parametrize("name", ["file", "blocks", "nested"])
def test_any_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    store = unpacked(name, tmp_path)
    blobs = [store.parse(text) for vector, _, text in vectors() if vector == name]
    owners = {digest: blob for blob in blobs for digest in store.digests(blob)}
    chance = random.Random(name)
    files = list(store.files())
    for file in chance.sample(files, min(40, len(files))):
        content = file.path.read_bytes()
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.path.write_bytes(flipped)
        with pytest.raises(DamagedStoreError, match=file.digest):
            store.verify(owners[file.digest])
        file.path.write_bytes(content)
    for blob in blobs:
        store.verify(blob)
