"""Binaries of a blob store, served in slices: what is there, what is not, and what lies."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blob_samples import one_file_id, put
from hypothesis import given, settings
from hypothesis import strategies as st
from links import Rig
from sides import MasterProgram, MasterSide, RawSlave, chain, store_of
from stores import QuickDisk

from tarfailover.master.report import report
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Layout
from tarfailover.wire import messages as m
from tarfailover.wire.compression import Unpacker

SAMPLES = chain(2)
LARGE = random.Random(1).randbytes(2 * m.MAX_SLICE + 5)


class Served:
    """A master with a blob store, and a slave that says what the test says."""

    def __init__(self, tmp_path: Path, *features: str, layout: Layout = DATA_STORE) -> None:
        self.rig = Rig()
        self.store = BlobStore(tmp_path / "blobs", layout, QuickDisk())
        self.store.path.mkdir()
        directory = store_of(tmp_path / "store", SAMPLES)
        self.master = MasterSide(self.rig, directory, blob_store=str(self.store.path))
        self.master.factory.blobs = self.store
        self.slave: RawSlave
        self.slave, self.link = self.master.connect()
        self.slave.ask(m.Hello("slave", features or ("blobs",)))
        self.rig.settle()
        (welcome,) = self.slave.take()
        assert isinstance(welcome, m.Welcome)
        self.features = welcome.features

    def close(self) -> None:
        """Close both sides."""
        self.link.cut()
        self.rig.settle()
        self.master.close()

    def ask(self, blob: str, offset: int = 0, most: int = m.MAX_SLICE) -> list[m.Answer]:
        """What is answered."""
        self.slave.ask(m.Blob(blob, offset, most))
        self.rig.settle()
        return self.slave.take()

    def refused(self, blob: str) -> tuple[int, str]:
        """Why a binary is not given; the connection goes on."""
        (error,) = self.ask(blob)
        assert isinstance(error, m.Error)
        assert self.link.alive
        return error.code, error.text


def content(answers: list[m.Answer]) -> tuple[bytes, int]:
    """The bytes of a slice, checked against its end; and the length of the binary."""
    *parts, end = answers
    unpacker, data = Unpacker(), b""
    for part in parts:
        assert isinstance(part, (m.Part, m.Packed))
        data += part.data if isinstance(part, m.Part) else unpacker.unpack(part)
    assert isinstance(end, m.BlobEnd)
    assert (end.size, end.crc) == (len(data), zlib.crc32(data))
    return data, end.length


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def one(*features: str, layout: Layout = DATA_STORE) -> Served:
        made.append(Served(tmp_path, *features, layout=layout))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def test_slices_make_the_whole(served: Served) -> None:
    blob = put(served.store, LARGE).text
    assert served.features == ("blobs",)
    found = b""
    for offset in range(0, len(LARGE), m.MAX_SLICE):
        data, length = content(served.ask(blob, offset))
        assert length == len(LARGE)
        found += data
    assert found == LARGE


@pytest.mark.parametrize(
    ("offset", "most", "size"), [(0, 1, 1), (7, 3, 3), (17, 9, 3), (20, 9, 0), (99, 9, 0)]
)
def test_any_part(served: Served, offset: int, most: int, size: int) -> None:
    blob = put(served.store, bytes(range(20))).text
    data, length = content(served.ask(blob, offset, most))
    assert (data, length) == (bytes(range(20))[offset : offset + most], 20)
    assert len(data) == size


def test_an_empty_one(served: Served) -> None:
    assert content(served.ask(put(served.store, b"").text)) == (b"", 0)


def test_more_than_4_gib(served: Served) -> None:
    """A file with a hole: nothing of it is on the disk."""
    size, digest = 2**32 + 7, "0" * 64
    path = served.store.path / DATA_STORE.place(digest)
    path.parent.mkdir(parents=True)
    path.touch()
    os.truncate(path, size)
    for offset in (0, 2**32 - 3, 2**32 + 3, size):
        data, length = content(served.ask(f"{digest}#{size}", offset, 5))
        assert (data, length) == (bytes(min(5, size - offset)), size)


def test_an_id_without_a_length_and_one_of_sha_1(served: Served) -> None:
    put(served.store, b"hello")
    old = hashlib.sha1(b"older").hexdigest()
    path = served.store.path / DATA_STORE.place(old)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"older")
    assert content(served.ask(hashlib.sha256(b"hello").hexdigest())) == (b"hello", 5)
    assert content(served.ask(f"{old}#5")) == (b"older", 5)


def test_blocks(serve: Callable[..., Served]) -> None:
    served = serve(layout=BLOCKS)
    blob = put(served.store, b"block " * 1000).text
    assert content(served.ask(blob)) == (b"block " * 1000, 6000)


def test_one_that_is_not_there(served: Served) -> None:
    put(served.store, b"another")
    blob = one_file_id(DATA_STORE, b"gone").text
    code, text = served.refused(blob)
    assert code == m.ErrorCode.BLOB_GONE
    assert blob[:64] in text and text.startswith("on the master, ")


@pytest.mark.parametrize(
    "blob",
    [
        "",
        "../../../../etc/passwd",
        "aa/../../../etc/passwd",
        "A" * 64 + "#1",
        "a" * 64 + "#01",
        "a" * 64 + "#" + "9" * 400,
        "0x" + "61" * 100 + "#3",
        "00112233-4455-6677-8899-aabbccddeeff-1700000000000#5",
        "a" * 1024,
    ],
)
def test_what_is_no_id_never_becomes_a_path(served: Served, blob: str) -> None:
    put(served.store, b"another")
    code, text = served.refused(blob)
    assert code == m.ErrorCode.NO_BLOBS
    assert len(text) < 300


def test_a_disk_that_is_not_mounted_is_no_missing_binary(served: Served) -> None:
    blob = one_file_id(DATA_STORE, b"gone").text
    assert served.refused(blob)[0] == m.ErrorCode.NO_BLOBS
    served.store.path.rmdir()
    code, text = served.refused(blob)
    assert code == m.ErrorCode.NO_BLOBS
    assert "is its disk mounted?" in text


@pytest.mark.parametrize("size", [0, 3, 9])
def test_one_of_another_length_is_damaged(served: Served, size: int) -> None:
    blob = put(served.store, b"hello")
    (served.store.path / DATA_STORE.place(blob.text[:64])).write_bytes(bytes(size))
    code, text = served.refused(blob.text)
    assert code == m.ErrorCode.DAMAGED
    assert f"has {size} bytes, its binary has 5 bytes" in text


def test_a_link_or_a_folder_in_its_place_is_not_followed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345")
    blob = put(served.store, b"hello")
    path = served.store.path / DATA_STORE.place(blob.text[:64])
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert served.refused(blob.text)[0] == m.ErrorCode.DAMAGED
    path.unlink()
    path.mkdir()
    assert served.refused(blob.text)[0] == m.ErrorCode.DAMAGED


def test_a_file_that_goes_in_between(served: Served) -> None:
    blob = put(served.store, LARGE)
    put(served.store, b"another")
    assert content(served.ask(blob.text))[1] == len(LARGE)
    (served.store.path / DATA_STORE.place(blob.text[:64])).unlink()
    assert served.refused(blob.text)[0] == m.ErrorCode.BLOB_GONE


def test_compressed_where_that_was_agreed_on(serve: Callable[..., Served]) -> None:
    served = serve("zstd", "zstd-always", "blobs")
    words, noise = b"words " * 100_000, LARGE[: m.MAX_SLICE]
    packed = served.ask(put(served.store, words).text)
    assert content(packed) == (words, len(words))
    assert any(isinstance(each, m.Packed) for each in packed)
    plain = served.ask(put(served.store, noise).text)
    assert content(plain) == (noise, len(noise))
    assert not any(isinstance(each, m.Packed) for each in plain)


def test_an_old_slave_never_hears_of_it(serve: Callable[..., Served]) -> None:
    assert serve("zstd").features == ("zstd",)


def test_a_master_without_a_blob_store(tmp_path: Path) -> None:
    rig = Rig()
    master = MasterSide(rig, store_of(tmp_path / "store", SAMPLES))
    slave, link = master.connect()
    slave.ask(m.Hello("slave", ("blobs",)))
    slave.ask(m.Blob("a" * 64, 0, 1))
    rig.settle()
    welcome, error = slave.take()
    assert isinstance(welcome, m.Welcome) and welcome.features == ()
    assert isinstance(error, m.Error) and error.code == m.ErrorCode.NO_BLOBS
    assert link.alive
    link.cut()
    rig.settle()
    master.close()


def test_a_slow_reader_costs_no_memory(served: Served) -> None:
    blob = put(served.store, LARGE).text
    served.link.slave.held = True
    for _ in range(50):
        served.slave.ask(m.Blob(blob, 0, m.MAX_SLICE))
    served.link.slave.held = False
    served.link.master.held = True
    served.rig.settle()
    assert served.link.master.most_pending < 3 * m.MAX_SLICE
    served.link.master.held = False
    served.rig.settle()
    assert len([each for each in served.slave.take() if isinstance(each, m.BlobEnd)]) == 50


def test_a_hanging_disk_is_told(served: Served) -> None:
    blob = put(served.store, b"hello").text
    served.master.work.held = True
    served.slave.ask(m.Blob(blob, 0, 5))
    served.rig.settle()
    served.rig.pass_time(61, step=1)
    assert served.slave.error().code == m.ErrorCode.DEADLINE


ANY_IDS = st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100))


@given(ANY_IDS)
@settings(max_examples=20)
def test_any_ids(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    served = Served(tmp_path_factory.mktemp("any"))
    put(served.store, b"another")
    for blob in ids:
        assert served.refused(blob)[0] in (m.ErrorCode.NO_BLOBS, m.ErrorCode.BLOB_GONE)
    served.close()


class TestTheProgram:
    def test_opens_what_it_is_told(self, tmp_path: Path) -> None:
        blobs = BlobStore(tmp_path / "blobs", DATA_STORE)
        blob = put(blobs, b"hello").text
        rig = Rig()
        directory = store_of(tmp_path / "store", SAMPLES)
        master = MasterProgram(rig, directory, blob_store=str(blobs.path)).start()
        assert report(master.service)["blob_store"] == str(blobs.path)
        factory = master.service.factory
        assert factory is not None and factory.blobs is not None
        assert factory.blobs.has(blobs.parse(blob))
        master.stop()

    @pytest.mark.parametrize("kind", ["nothing", "a file", "the other kind"])
    def test_does_not_start_without_it(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "blobs"
        if kind == "a file":
            path.write_bytes(b"")
        if kind == "the other kind":
            put(BlobStore(path, BLOCKS), b"hello")
        directory = store_of(tmp_path / "store", SAMPLES)
        master = MasterProgram(Rig(), directory, blob_store=str(path)).start()
        (error,) = master.fatal
        assert str(path) in str(error)
        master.stop()
