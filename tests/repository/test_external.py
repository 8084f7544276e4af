"""External binaries, read through nodes: what real Oak wrote, and what is missing or wrong."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from blob_samples import OAK_WALKED, with_blobs

from tarfailover import repository
from tarfailover.errors import BlobMissingError, ConfigError, ContentError, DamagedStoreError
from tarfailover.repository import Binary, Repository
from tarfailover.repository.deepcheck import Books, Counts, Damage, DeepCheck
from tarfailover.repository.digest import content_digest
from tarfailover.repository.exporting import export
from tarfailover.repository.usage import usage
from tarfailover.store.blobs import open_blob_store

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
