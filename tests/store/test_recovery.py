"""What opening a store for writing mends after a crash, and what it leaves for Oak to read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from crash import Drive, RecordingDisk
from format_samples import data_segment
from hypothesis import given
from hypothesis import strategies as st
from stores import (
    QuickDisk,
    Sample,
    bulk,
    data_id,
    entries_of,
    entry,
    head_in,
    leaf,
    make_store,
    tar_bytes,
)

from tarfailover.errors import UnsupportedStoreError
from tarfailover.format import tar
from tarfailover.format.tar import TarName
from tarfailover.ids import NO_GENERATION, Generation
from tarfailover.store import recovery
from tarfailover.store.recovery import recover, write_manifest
from tarfailover.store.tarreader import TarReader

BIG = bulk(1, 700)
SAMPLES = [BIG, leaf(2, [BIG.segment], generation=Generation(2, 1, True)), leaf(3, [data_id(2)])]
OPEN = tar_bytes("", SAMPLES, closed=False)


def recovered(directory: Path) -> tuple[dict[str, list[bytes]], tuple[str, ...]]:
    """The segments of each tar after recovery, and what was mended."""
    found = recover(directory, QuickDisk(), 0)
    for reader in found.readers:
        assert reader.index is not None
        reader.release()
    tars = {}
    for reader in found.readers:
        fresh = TarReader.open(reader.path, reader.name)
        tars[str(reader.name)] = [each.segment for each in fresh.entries()]
        assert {s: bytes(row) for s, row in fresh.stored_graph().items()} == {
            s.segment: b"".join(s.references)
            for s in [*SAMPLES, *OTHERS]
            if s.segment in tars[str(reader.name)] and s.references
        }
        fresh.binary_references()
        fresh.release()
    return tars, found.repairs


OTHERS = [leaf(4, [data_id(3)]), leaf(5)]
IDS = [each.segment for each in SAMPLES]


def test_a_whole_store_is_left_as_it_is(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": SAMPLES, "data00003b.tar": OTHERS})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tars, repairs = recovered(tmp_path)
    assert repairs == ()
    assert list(tars) == ["data00000a.tar", "data00003b.tar"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_empty_directory_needs_nothing(tmp_path: Path) -> None:
    assert recovered(tmp_path) == ({}, ())


@given(cut=st.integers(0, len(OPEN)), rest=st.binary(max_size=40))
def test_a_torn_tar_keeps_every_whole_segment_and_gets_its_index(
    tmp_path_factory: pytest.TempPathFactory, cut: int, rest: bytes
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    make_store(directory, {"data00000a.tar": OPEN[:cut] + rest})
    # Of the padding only the length matters, and any bytes may make it up.
    whole = sum(
        e.position + e.length <= cut and tar.padded(e.position + e.length) <= cut + len(rest)
        for e in entries_of(SAMPLES)
    )
    tars, repairs = recovered(directory)
    assert tars == ({"data00000a.tar": IDS[:whole]} if whole else {})
    assert len(repairs) >= 1
    assert recovered(directory) == (tars, ())


def test_the_end_that_is_cut_off_is_told_in_bytes(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": OPEN + b"torn"})
    _, repairs = recovered(tmp_path)
    assert repairs == ("sealed data00000a.tar with 3 segments, cut off 4 bytes of a torn end",)
    assert not list(tmp_path.glob("*.bak"))


def test_more_than_a_torn_entry_is_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "TORN", 100)
    behind = b"x" * 512 + entry(OTHERS[1])
    make_store(tmp_path, {"data00000a.tar": OPEN + behind, "data00000a.tar.bak": b"taken"})
    tars, repairs = recovered(tmp_path)
    assert tars == {"data00000a.tar": IDS}
    assert (tmp_path / "data00000a.tar.2.bak").read_bytes() == behind
    assert (tmp_path / "data00000a.tar.bak").read_bytes() == b"taken"
    assert any("header checksum" in r or "octal" in r for r in repairs)
    assert any("as data00000a.tar.2.bak" in r for r in repairs)


def test_a_last_entry_that_is_whole_but_damaged_is_kept_aside(tmp_path: Path) -> None:
    broken = bytearray(OPEN)
    broken[-512] ^= 1
    make_store(tmp_path, {"data00000a.tar": bytes(broken)})
    tars, _ = recovered(tmp_path)
    assert tars == {"data00000a.tar": IDS[:2]}
    assert (tmp_path / "data00000a.tar.bak").read_bytes() == broken[-1024:]


def test_a_damaged_segment_in_the_middle_stays_outside_of_the_index(tmp_path: Path) -> None:
    broken = bytearray(OPEN)
    broken[600] ^= 1
    make_store(tmp_path, {"data00000a.tar": bytes(broken)})
    tars, repairs = recovered(tmp_path)
    assert tars == {"data00000a.tar": IDS[1:]}
    assert "data00000a.tar, offset 512: the checksum" in repairs[0]


def test_a_segment_that_is_there_twice_is_named_once_in_the_index(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": OPEN + entry(SAMPLES[1])})
    tars, repairs = recovered(tmp_path)
    assert tars == {"data00000a.tar": IDS}
    assert "a second time" in repairs[0]


@pytest.mark.parametrize("content", [b"", bytes(512), bytes(5000), b"torn", b"x" * 700])
def test_a_tar_without_any_segment_does_not_stay(tmp_path: Path, content: bytes) -> None:
    make_store(tmp_path, {"data00000a.tar": SAMPLES, "data00001a.tar": content})
    tars, repairs = recovered(tmp_path)
    assert list(tars) == ["data00000a.tar"]
    assert not (tmp_path / "data00001a.tar").exists()
    assert (tmp_path / "data00001a.tar.bak").exists() == bool(content)
    assert "data00001a.tar" in repairs[-1]


def test_of_several_letters_the_last_with_an_index_stays(tmp_path: Path) -> None:
    make_store(
        tmp_path,
        {"data00000a.tar": SAMPLES, "data00000b.tar": SAMPLES[:2], "data00000c.tar": OPEN},
    )
    tars, repairs = recovered(tmp_path)
    assert tars == {"data00000b.tar": IDS[:2]}
    assert repairs == (
        "removed data00000a.tar, which data00000b.tar supersedes",
        "removed data00000c.tar, which data00000b.tar supersedes",
    )


def test_the_letter_that_stays_is_synced_before_the_others_go(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": SAMPLES, "data00000b.tar": SAMPLES})
    disk = RecordingDisk(Drive.of(tmp_path))
    for reader in recover(tmp_path, disk, 0).readers:
        reader.release()
    kinds = [(step.kind, step.name) for step in disk.steps]
    assert kinds[:3] == [("sync", ""), ("sync-names", ""), ("unlink", "data00000a.tar")]


def test_every_tar_is_synced_for_oak_closes_them_without(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": SAMPLES, "data00001a.tar": OTHERS})
    disk = RecordingDisk(Drive.of(tmp_path))
    for reader in recover(tmp_path, disk, 0).readers:
        reader.release()
    assert [step.kind for step in disk.steps] == ["sync", "sync", "sync-names"]
    assert {step.inode for step in disk.steps} == {
        disk.names[n] for n in disk.names if "tar" in n
    } | {0}


def test_of_letters_without_index_the_fullest_takes_what_only_others_have(tmp_path: Path) -> None:
    make_store(
        tmp_path,
        {
            "data00000a.tar": tar_bytes("", [SAMPLES[1], OTHERS[1]], closed=False),
            "data00000b.tar": OPEN,
            "data00000c.tar": b"",
        },
    )
    tars, repairs = recovered(tmp_path)
    assert tars == {"data00000b.tar": [*IDS, OTHERS[1].segment]}
    assert (tmp_path / "data00000a.tar.bak").exists()
    assert not (tmp_path / "data00000c.tar").exists()
    assert len(repairs) == 3


def test_an_error_in_the_middle_leaves_nothing_open(tmp_path: Path) -> None:
    legacy = bytes(4096) + struct.pack(">16sII", bytes(16), 512, 16)
    crc = struct.pack(">I", zlib.crc32(legacy[4096:]))
    tail = legacy[4096:] + crc + struct.pack(">III", 1, 512, 0x0A304B0A)
    whole = bytes(4096) + tail.rjust(512, b"\0") + bytes(1024)
    make_store(tmp_path, {"data00000a.tar": SAMPLES, "data00001a.tar": whole})
    with pytest.raises(UnsupportedStoreError, match="legacy"):
        recover(tmp_path, QuickDisk(), 0)


# external blobs


BLOB = b"deadbeef#20000"
SHORT = (8, struct.pack(">H", 0xE000 | len(BLOB)) + BLOB)
STRING = (4, struct.pack(">H", 0x8000 | 5000 - 128) + b"i" * 5000)


def with_records(
    number: int, records: list[tuple[int, bytes]], references: tuple[bytes, ...] = ()
) -> Sample:
    content = data_segment(NO_GENERATION, references, records)
    return Sample(data_id(number), content, references)


def blobs_after(directory: Path, name: str = "data00001a.tar") -> dict[bytes, list[bytes]]:
    reader = TarReader.open(directory / name, TarName.parse(name) or TarName(0))
    found = reader.binary_references()
    reader.release()
    return {segment: ids for by in found.values() for segment, ids in by.items()}


def test_blob_ids_short_and_long_are_found_again(tmp_path: Path) -> None:
    far = with_records(10, [STRING])
    near = with_records(11, [STRING, SHORT, (8, b"\xf0" + struct.pack(">HI", 0, 0))])
    other = with_records(12, [(8, b"\xf0" + struct.pack(">HI", 1, 0))], (far.segment,))
    more = other._replace(segment=data_id(13))
    make_store(
        tmp_path,
        {
            "data00000a.tar": [far],
            "data00001a.tar": tar_bytes("", [near, other, more], closed=False),
        },
    )
    for reader in recover(tmp_path, QuickDisk(), 0).readers:
        reader.release()
    assert blobs_after(tmp_path) == {
        near.segment: [BLOB, b"i" * 5000],
        other.segment: [b"i" * 5000],
        more.segment: [b"i" * 5000],
    }


def test_a_blob_id_that_cannot_be_told_is_said_and_stops_nothing(tmp_path: Path) -> None:
    wrong = with_records(12, [(8, b"\xf0" + struct.pack(">HI", 1, 0))], (data_id(99),))
    bad = with_records(13, [(8, b"\xff")])
    make_store(tmp_path, {"data00001a.tar": tar_bytes("", [wrong, bad], closed=False)})
    found = recover(tmp_path, QuickDisk(), 0)
    for reader in found.readers:
        reader.release()
    assert [r.count("no garbage collection of the blob store") for r in found.repairs] == [1, 1, 0]


def test_bulk_segments_of_another_letter_are_copied_too(tmp_path: Path) -> None:
    make_store(
        tmp_path,
        {
            "data00000a.tar": tar_bytes("", SAMPLES[1:], closed=False),
            "data00000b.tar": tar_bytes("", [BIG], closed=False),
        },
    )
    tars, _ = recovered(tmp_path)
    assert tars == {"data00000a.tar": [*IDS[1:], BIG.segment]}


# the manifest


@pytest.mark.parametrize(
    "before", [None, b"", b"store.version=1\n", b"other=1\n", b"#Oak\nstore.version=2\n"]
)
def test_the_manifest_says_the_version_afterwards(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "manifest"
    if before is not None:
        path.write_bytes(before)
    write_manifest(tmp_path, QuickDisk())
    kept = before is not None and b"store.version=2" in before
    assert path.read_bytes() == (before if kept else b"#Segment store\nstore.version=2\n")


def test_nothing_is_written_for_a_head(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": OPEN}, [head_in(data_id(3)).segment])
    before = (tmp_path / "journal.log").read_bytes()
    recovered(tmp_path)
    assert (tmp_path / "journal.log").read_bytes() == before
    assert (tmp_path / "data00000a.tar").stat().st_size % tar.BLOCK == 0
