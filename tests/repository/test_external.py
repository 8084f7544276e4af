"""External binaries, read through nodes: what real Oak wrote, and what is missing or wrong."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from blob_samples import OAK_WALKED, with_blobs
from repository_models import MemorySink
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import (
    BlobMissingError,
    ConfigError,
    ContentError,
    DamagedStoreError,
    FormatError,
)
from tarfailover.ids import RecordId
from tarfailover.repository import Binary, Node, Repository
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.deepcheck import Books, Counts, Damage, DeepCheck
from tarfailover.repository.digest import content_digest
from tarfailover.repository.exporting import export
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import Outside
from tarfailover.repository.usage import usage
from tarfailover.repository.values import ExternalBlob, Property
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Layout, open_blob_store

KINDS = pytest.mark.parametrize("kind", ["file", "blocks"])


def externals(opened: Repository) -> dict[str, Binary]:
    """By path and name of the property."""
    found = {}
    for node in opened.root.walk():
        for name, prop in node.properties.items():
            values = prop.values if prop.type.name == "BINARY" else ()
            for place, value in enumerate(values):
                if isinstance(value, Binary) and value.blob_id is not None:
                    found[f"{node.path} {name} {place}"] = value
    return found


@KINDS
def test_the_digest_is_that_of_oaks_own_walk(tmp_path: Path, kind: str) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    with repository.open(directory, blobs=blobs) as opened:
        found = content_digest(opened.head.super_root.state)
        assert found == (146, 686, 176410, OAK_WALKED[kind])
        assert len(opened.checkpoints()) == 1
    with (
        repository.open(directory) as opened,
        pytest.raises(ContentError, match=r"is kept in an external blob store.*--blob-store"),
    ):
        content_digest(opened.head.super_root.state)


@KINDS
def test_a_binary_is_a_file(tmp_path: Path, kind: str) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    with repository.open(directory, open_blob_store(blobs)) as opened:
        found = externals(opened)
        assert len(found) == 4
        for binary in found.values():
            whole = binary.read()
            assert len(whole) == binary.length
            with binary.open() as stream:
                assert stream.seek(-100, io.SEEK_END) == len(whole) - 100
                assert stream.read() == whole[-100:]
                stream.seek(5000)
                assert stream.read(50) == whole[5000:5050]
            assert b"".join(binary.pieces(7)) == whole[7:]


@KINDS
def test_without_the_blob_store_only_ids_are_known(tmp_path: Path, kind: str) -> None:
    directory, _ = with_blobs(kind, tmp_path)
    with repository.open(directory) as opened:
        for binary in externals(opened).values():
            assert repr(binary).startswith("<Binary external ")
            assert (binary.length is None) == (kind == "blocks")
            for read in (binary.open, binary.read):
                with pytest.raises(ContentError, match="external blob store"):
                    read()


@KINDS
def test_export_has_the_bytes_and_usage_the_lengths(tmp_path: Path, kind: str) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    with repository.open(directory, blobs) as opened:
        lines = list(export(opened.head, opened.root))
        digest = content_digest(opened.root.state)
        assert (lines[-1]["sha256"], lines[-1]["binary_bytes"]) == (
            digest.sha256,
            digest.blob_bytes,
        )
        assert not any("external" in str(line) for line in lines)
        named = list(export(opened.head, opened.root, by_id=True))
        assert named[-1]["sha256"] is None
        assert (usage(opened.root).external, usage(opened.root).external_bytes) == (4, 75296)
    with repository.open(directory) as opened:
        assert list(export(opened.head, opened.root)) == named


def checked(directory: Path, blobs: Path | None) -> tuple[list[Damage], Counts]:
    with repository.open(directory, blobs) as opened:
        check = DeepCheck(opened.snapshot, Books(), clock=lambda: 0.0, blobs=opened.reader.blobs)
        return list(check.run(opened.head.record)), check.books.counts


@KINDS
def test_a_deep_check_reads_external_binaries(tmp_path: Path, kind: str) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    damages, counts = checked(directory, blobs)
    assert not damages
    assert (counts.external, counts.external_bytes) == (4, 75296)
    damages, counts = checked(directory, None)
    assert not damages
    assert (counts.external, counts.external_bytes) == (4, 0)


@KINDS
def test_a_deep_check_tells_what_is_missing_or_wrong_with_path_and_property(
    tmp_path: Path, kind: str
) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    first, second, third, _ = open_blob_store(blobs).files()
    first.path.unlink()
    data = bytearray(second.path.read_bytes())
    data[77] ^= 4
    second.path.write_bytes(data)
    third.path.write_bytes(third.path.read_bytes()[:-1])
    damages, counts = checked(directory, blobs)
    assert len(damages) == counts.damages == 3
    told = {
        next(name for name in ("not there", "not what its", "has ") if name in d.what): d
        for d in damages
    }
    assert str(first.path) in told["not there"].what
    assert str(second.path) in told["not what its"].what
    assert f"{third.path} has {third.size - 1} bytes" in told["has "].what
    for damage in damages:
        assert "/content/run7/" in damage.path
        assert damage.part.startswith("property data")
        assert damage.lost in ("the binary, 18,432 bytes", "the binary, 20,000 bytes")
        assert damage.file == "data00000a.tar" and damage.offset
    with repository.open(directory, blobs) as opened:
        missing = [b for b in externals(opened).values() if first.digest in (b.blob_id or "")]
        with pytest.raises(BlobMissingError, match=str(first.path)):
            missing[0].read()
        torn = [b for b in externals(opened).values() if third.digest in (b.blob_id or "")]
        with pytest.raises(DamagedStoreError, match=str(third.path)), torn[0].open() as stream:
            stream.read()


def test_a_store_of_the_other_kind_is_told(tmp_path: Path) -> None:
    directory, _ = with_blobs("file", tmp_path / "one")
    _, blobs = with_blobs("blocks", tmp_path / "other")
    damages, _ = checked(directory, blobs)
    assert all("is no id of a FileBlobStore" in each.what for each in damages)
    assert {each.lost for each in damages} == {"the binary"}
    with pytest.raises(ConfigError, match="nothing tells what kind"):
        repository.open(directory, blobs=tmp_path)


def test_a_check_stops_within_a_binary_and_each_is_read_once(tmp_path: Path) -> None:
    directory, blobs = with_blobs("file", tmp_path)
    times = iter(range(100_000))
    with repository.open(directory, blobs) as opened:
        books, runs = Books(), 0
        finished = False
        while not finished:
            check = DeepCheck(
                opened.snapshot,
                books,
                clock=lambda: float(next(times)),
                seconds=20,
                blobs=opened.reader.blobs,
            )
            assert not list(check.run(opened.head.record))
            finished, runs = check.finished, runs + 1
        assert runs > 3
        assert (books.counts.external, books.counts.external_bytes) == (4, 75296)


# writing


@pytest.mark.parametrize("layout", [DATA_STORE, BLOCKS], ids=["file", "blocks"])
def test_large_binaries_go_outside_and_small_ones_do_not(tmp_path: Path, layout: Layout) -> None:
    store = BlobStore(tmp_path, layout, QuickDisk())
    sink = MemorySink()
    writer = RepositoryWriter(
        sink,
        random.Random(5).randbytes,
        wid="test",
        now=lambda: 1,
        outside=Outside(store, random.Random(6).randbytes, 20_000),
    )
    contents = [bytes([size & 255]) * size for size in (0, 16_511, 16_512, 19_999, 20_000, 700_000)]
    root = writer.super_root()
    for content in contents:
        # As a stream, and as bytes in a property.
        root.child(f"stream{len(content)}").set("b", Property.of(writer.blob(io.BytesIO(content))))
        root.child(f"bytes{len(content)}").set("b", Property.of(content))
    head = writer.commit(root)
    top = Node(NodeState(RecordReader(sink, store), head))
    for content in contents:
        for how in ("stream", "bytes"):
            binary = top.node(f"{how}{len(content)}").properties["b"].binary
            assert binary.read() == content
            assert (binary.blob_id is not None) == (len(content) >= 20_000)
    assert len({each.digest for each in store.files()}) == 2


def test_long_ids_stand_in_strings_of_their_own(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, BLOCKS, QuickDisk())
    sink = MemorySink()
    outside = Outside(store, random.Random(6).randbytes)
    writer = RepositoryWriter(
        sink, random.Random(5).randbytes, wid="test", now=lambda: 1, outside=outside
    )
    ids = ["00" + varint + "61" * size for size, varint in ((2046, "fe0f"), (2045, "fd0f"))]
    assert [len(each) for each in ids] == [4098, 4096]
    ids += ["00fc0f" + "61" * 2044, "000161"]
    root = writer.super_root()
    for number, blob_id in enumerate(ids):
        root.child(f"n{number}").set("b", Property.of(writer.external(blob_id)))
    top = Node(NodeState(RecordReader(sink, store), writer.commit(root)))
    for number, blob_id in enumerate(ids):
        binary = top.node(f"n{number}").properties["b"].binary
        assert (binary.blob_id, binary.length) == (blob_id, binary.length)
        assert binary.read() == b"a" * (binary.length or 0)


@pytest.mark.parametrize(
    ("blob_id", "error"),
    [("../../x", FormatError), ("a" * 64 + "#5", BlobMissingError)],
)
def test_what_is_no_binary_of_the_store_cannot_be_named(
    tmp_path: Path, blob_id: str, error: type[Exception]
) -> None:
    outside = Outside(BlobStore(tmp_path, DATA_STORE, QuickDisk()), random.Random(6).randbytes)
    writer = RepositoryWriter(
        MemorySink(), random.Random(5).randbytes, wid="test", now=lambda: 1, outside=outside
    )
    with pytest.raises(error):
        writer.external(blob_id)


@pytest.mark.parametrize("smallest", [0, 16_511, 262_145])
def test_the_limit_has_limits(tmp_path: Path, smallest: int) -> None:
    outside = Outside(BlobStore(tmp_path, DATA_STORE), random.Random(6).randbytes, smallest)
    with pytest.raises(ConfigError, match="from 16512 to 262144 bytes on"):
        RepositoryWriter(
            MemorySink(), random.Random(5).randbytes, wid="test", now=lambda: 1, outside=outside
        )


def test_bytes_of_external_binaries_are_told_as_they_are_read(tmp_path: Path) -> None:
    directory, blobs = with_blobs("file", tmp_path)
    totals = []
    with repository.open(directory, blobs) as opened:
        for store in (opened.reader.blobs, None):
            told: list[int] = []
            check = DeepCheck(
                opened.snapshot, Books(), clock=lambda: 0.0, read=told.append, blobs=store
            )
            assert not list(check.run(opened.head.record))
            totals.append(sum(told))
    assert totals[0] - totals[1] == 75296


def test_binaries_are_there_before_the_head_and_go_without_it(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, DATA_STORE, QuickDisk())
    seen = []

    class Sink(MemorySink):
        def commit(self, head: RecordId, time_ms: int) -> None:
            seen.append(sorted(each.size for each in store.files()))
            super().commit(head, time_ms)

    outside = Outside(store, random.Random(6).randbytes)
    with RepositoryWriter(
        Sink(), random.Random(5).randbytes, wid="test", now=lambda: 1, outside=outside
    ) as writer:
        root = writer.super_root()
        root.set("b", Property.of(bytes(20_000))).set("c", Property.of(writer.blob(bytes(30_000))))
        assert not list(store.files())
        head = writer.commit(root)
        assert seen == [[20_000, 30_000]]
        assert Node(NodeState(writer.reader, head)).properties["c"].binary.read() == bytes(30_000)
        named = writer.blob(bytes(40_000))
        assert isinstance(named, ExternalBlob)
        # Whoever names it wants it to be there.
        assert writer.external(named.blob_id).blob_id == named.blob_id
        writer.blob(bytes(50_000))
    assert sorted(each.size for each in store.files()) == [20_000, 30_000, 40_000]
    assert not list(store.partials())
