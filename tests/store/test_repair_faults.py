"""Repairs that are cut short, lied to, or have nothing to go by: never worse, and tried again."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from copies import closure_of, sound
from crash import Drive, RecordingDisk, crashes
from rot import Flip, Whole, files_of, head_segment, repair, small_samples, small_store
from stores import QuickDisk, add_heads, bulk, entry, leaf, make_store, tar_bytes

from tarfailover.errors import StoreIOError, StoreLockedError
from tarfailover.format import journal, manifest
from tarfailover.format.tar import BLOCK, segment_entry_name
from tarfailover.ids import is_bulk
from tarfailover.store.durable import Buffer, told
from tarfailover.store.follower import Follower
from tarfailover.store.intake import Arrival
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.repair.supply import Outcome
from tarfailover.store.tarreader import TarReader

pytestmark = pytest.mark.load

TARS = [f"data{number:05d}a.tar" for number in range(3)]
FIRST, MIDDLE, LAST = TARS
SAMPLES = small_samples()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store, tmp_path / "copy")


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def only(found: list[Outcome]) -> Outcome:
    assert len(found) == 1, found
    return found[0]


# crashes


def rot_everywhere(copy: Path) -> None:
    """In data, a header, padding, both trailing entries and the end of the archive."""
    size = (copy / FIRST).stat().st_size
    for offset in (BLOCK + 8, 2000, 3, size - 2100, size - 1800, size - 5):
        Flip(FIRST, offset, offset % 8).strike(copy)
    overwrite(copy / LAST, BLOCK + 40, bytes(900))


def rot_without_a_trace(copy: Path) -> None:
    """A tar that must be written anew, and one that is gone."""
    size = (copy / FIRST).stat().st_size
    overwrite(copy / FIRST, size - 1024 - 200, os.urandom(180))
    overwrite(copy / FIRST, 0, bytes(BLOCK))
    (copy / MIDDLE).unlink()


def states(copy: Path, source: Whole, directory: Path) -> Iterator[Path]:
    """The store as each crash in the middle of a repair leaves it."""
    drive = Drive.of(copy)
    disk = RecordingDisk(drive)
    repair(copy, source, disk)
    for step in disk.steps:
        drive.apply(step)
        # Behind a write the ways to die differ little.
        for _, left in islice(crashes(drive), 2 if step.kind == "write" else 4):
            yield left.write_to(directory)


def test_no_crash_makes_a_byte_worse(store: Path, copy: Path, tmp_path: Path) -> None:
    right = files_of(store)
    rot_everywhere(copy)
    rotten, source = files_of(copy), Whole(store)
    tried = 0
    for left in states(copy, source, tmp_path / "crashed"):
        for name, data in files_of(left).items():
            whole = zip(data, right[name], rotten[name], strict=True)
            assert all(now in (was, before) for now, was, before in whole)
        repair(left, source)
        assert files_of(left) == right
        tried += 1
    assert tried > 10
    assert files_of(copy) == right


def test_a_crash_while_a_tar_is_written_anew(store: Path, copy: Path, tmp_path: Path) -> None:
    rot_without_a_trace(copy)
    wanted, source = closure_of(store), Whole(store)
    tried = 0
    for left in states(copy, source, tmp_path / "crashed"):
        assert all(each.mended for each in repair(left, source))
        assert closure_of(left) == wanted
        tried += 1
    assert tried > 20
    sound(copy)


# a full disk


class FullDisk(QuickDisk):
    """Has room for nothing more; what is there can be written over."""

    def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
        if offset + sum(map(len, buffers)) > os.fstat(fd).st_size:
            with told("write", path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, path, buffers, offset)


def test_a_full_disk_is_room_enough(store: Path, copy: Path) -> None:
    rot_everywhere(copy)
    assert all(each.mended for each in repair(copy, Whole(store), FullDisk()))
    assert files_of(copy) == files_of(store)


def test_a_full_disk_where_room_is_needed(store: Path, copy: Path) -> None:
    rot_without_a_trace(copy)
    with pytest.raises(StoreIOError, match="No space left"):
        repair(copy, Whole(store), FullDisk())
    assert not list(copy.glob("*.new"))
    assert all(each.mended for each in repair(copy, Whole(store)))
    assert closure_of(copy) == closure_of(store)


# a disk that refuses, or does not keep


def test_a_block_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = bulk(1, 200_000)
    store = make_store(tmp_path / "store", {FIRST: [big, head_segment(9, [big.segment])]})
    add_heads(store, head_segment(9, [big.segment]).segment)
    copy = shutil.copytree(store, tmp_path / "copy")
    read = TarReader.read
    bad = True

    def refusing(reader: TarReader, offset: int, size: int) -> bytes:
        place = BLOCK + 100
        if bad and reader.path == copy / FIRST and offset <= place < offset + size:
            with told("read", reader.path):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(reader, offset, size)

    class Remapping(QuickDisk):
        def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
            nonlocal bad
            bad = bad and path != copy / FIRST
            return super().write(fd, path, buffers, offset)

    monkeypatch.setattr(TarReader, "read", refusing)
    outcome = only(repair(copy, Whole(store), Remapping()))
    assert outcome.mended and "Input/output error" in outcome.what
    assert files_of(copy) == files_of(store)


def test_a_disk_that_does_not_keep_what_is_written(store: Path, copy: Path) -> None:
    class Forgetful(QuickDisk):
        def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
            del fd, path
            return offset + sum(map(len, buffers))

    Flip(FIRST, BLOCK + 5, 1).strike(copy)
    outcome = only(repair(copy, Whole(store), Forgetful()))
    assert not outcome.mended
    assert "read back as something else; replace this disk" in outcome.how


def test_a_store_that_is_open(store: Path, copy: Path) -> None:
    with RepositoryLock.acquire(copy), pytest.raises(StoreLockedError):
        repair(copy, Whole(store))


# a source that lies


def lie(data: bytes) -> Callable[[Arrival], Arrival]:
    def lied(arrival: Arrival) -> Arrival:
        return Arrival(arrival.segment, zlib.crc32(data), len(data), [data])

    return lied


@pytest.mark.parametrize(
    ("alter", "why"),
    [
        (lambda a: a._replace(crc=a.crc ^ 1), "checksum"),
        (lambda a: a._replace(length=a.length + 1), "checksum"),
        (lambda a: lie(b"x" * a.length)(a), "other bytes under this id"),
        (lie(b"x"), "bytes here and 1 there"),
        (lie(b""), "bulk segment cannot be 0"),
        (lambda a: a._replace(segment=SAMPLES[1][0].segment), "was asked for"),
        (lambda _: "I have a cold", "I have a cold"),
    ],
    ids=["crc", "length", "other bytes", "short", "nothing", "another", "refused"],
)
def test_what_does_not_belong_there_is_not_written(
    store: Path, copy: Path, alter: Callable[[Arrival], Arrival | str], why: str
) -> None:
    Flip(FIRST, BLOCK + 5, 1).strike(copy)
    before = files_of(copy)
    outcome = only(repair(copy, Whole(store, alter)))
    assert not outcome.mended
    assert why in outcome.how
    assert files_of(copy) == before
    assert only(repair(copy, Whole(store))).mended


def test_no_data_is_taken_of_whom_only_a_header_needs(store: Path, copy: Path) -> None:
    source = Whole(store)
    Flip(FIRST, 40, 2).strike(copy)
    Flip(MIDDLE, 2 * BLOCK + 3, 5).strike(copy)
    found = repair(copy, source)
    assert all(each.mended for each in found)
    assert {each.how for each in found} <= {"its data is whole", "fetched"}
    assert files_of(copy) == files_of(store)


# what is gone, and what nothing tells


def test_a_tar_that_is_gone_comes_back_under_its_number(store: Path, copy: Path) -> None:
    (copy / MIDDLE).unlink()
    outcome = only(repair(copy, Whole(store)))
    assert (outcome.file, outcome.mended) == (MIDDLE, True)
    assert closure_of(copy) == closure_of(store)
    sound(copy)
    assert repair(copy, Whole(store)) == []


def test_a_tar_that_is_gone_on_both_sides(store: Path, copy: Path) -> None:
    (copy / MIDDLE).unlink()
    (store / MIDDLE).unlink()
    before = files_of(copy)
    outcome = only(repair(copy, Whole(copy)))
    assert not outcome.mended and "does not have it whole" in outcome.how
    assert files_of(copy) == before


@pytest.mark.parametrize("name", [FIRST, LAST])
def test_a_whole_index_is_lost(store: Path, copy: Path, name: str) -> None:
    """Nothing is left of it: the entries tell, and the tar is as it was or is written anew."""
    size = (copy / name).stat().st_size
    overwrite(copy / name, size - 1024 - 512, bytes(512))
    assert all(each.mended for each in repair(copy, Whole(store)))
    assert closure_of(copy) == closure_of(store)
    sound(copy)


def test_the_end_of_a_tar_is_cut_off(store: Path, copy: Path) -> None:
    path = copy / FIRST
    os.truncate(path, path.stat().st_size - 1600)
    assert all(each.mended for each in repair(copy, Whole(store)))
    assert closure_of(copy) == closure_of(store)
    sound(copy)


def test_header_and_index_name_the_segment_wrong(store: Path, copy: Path) -> None:
    """Neither is right; the two together, and the other side, tell which segment it was."""
    right = files_of(store)
    Flip(FIRST, 2, 0).strike(copy)
    row = right[FIRST].rindex(SAMPLES[0][0].segment)
    Flip(FIRST, row + 4, 3).strike(copy)
    found = repair(copy, Whole(store))
    assert all(each.mended for each in found)
    assert files_of(copy) == right


def test_sectors_of_zeros(store: Path, copy: Path) -> None:
    for name in TARS:
        overwrite(copy / name, 0, bytes(BLOCK))
        overwrite(copy / name, 3 * BLOCK, bytes(BLOCK))
    assert all(each.mended for each in repair(copy, Whole(store)))
    for name, data in files_of(copy).items():
        # The time in a header that is gone is told by nothing.
        assert len(data) == len(files_of(store)[name])
    assert closure_of(copy) == closure_of(store)
    sound(copy)


def test_the_tar_of_a_writer_that_was_killed(tmp_path: Path) -> None:
    samples = [leaf(1), leaf(2), SAMPLES[2][0], leaf(3)]
    whole = tar_bytes(FIRST, samples, closed=False)
    store = make_store(tmp_path / "store", {FIRST: whole + entry(leaf(4))[:700]})
    copy = shutil.copytree(store, tmp_path / "copy")
    right = files_of(copy)
    assert repair(copy, Whole(store)) == [], "a torn end is no rot"
    for offset in (4, 140, BLOCK + 3, 3 * BLOCK - 1, len(entry(samples[0])) + 30):
        Flip(FIRST, offset, 1).strike(copy)
        assert all(each.mended for each in repair(copy, HeadlessWhole(store)))
        assert files_of(copy) == right, offset


class HeadlessWhole(Whole):
    """Has no head."""

    def head(self) -> None:
        return None


def test_entries_without_a_checksum(store: Path, tmp_path: Path) -> None:
    """Of Oak before it wrote them: nothing is known of their data, and no name is changed."""
    first, *rest = SAMPLES[0]
    data = entry(first)
    name = segment_entry_name(first.segment, zlib.crc32(first.data))
    bare = remade(data, name, name[:36])
    whole = tar_bytes(FIRST, SAMPLES[0]).replace(data, bare)
    copy = shutil.copytree(store, tmp_path / "copy")
    (copy / FIRST).write_bytes(whole)
    assert repair(copy, Whole(store)) == []
    Flip(FIRST, len(data) - 1, 1).strike(copy)  # its padding
    assert only(repair(copy, Whole(store))).mended
    assert (copy / FIRST).read_bytes() == whole
    assert rest


def remade(data: bytes, name: bytes, other: bytes) -> bytes:
    """The entry `data` under another name, with the checksum of its header."""
    header = bytearray(data[:BLOCK].replace(name, other.ljust(len(name), b"\0")))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[BLOCK:]


# the small files


def test_the_newest_line_of_the_journal(store: Path, copy: Path) -> None:
    """A head that the other side has is recognised; every bit of its name."""
    right = files_of(store)
    size = len(right[journal.NAME])
    for offset in range(0, 38, 5):
        Flip(journal.NAME, offset, offset % 7).strike(copy)
        found = [each for each in repair(copy, Whole(store)) if each.file == journal.NAME]
        assert only(found).mended, offset
        assert files_of(copy)[journal.NAME][:44] == right[journal.NAME][:44]
    assert size > 44


def test_a_line_that_nobody_knows(store: Path, copy: Path) -> None:
    (copy / journal.NAME).write_bytes(b"what was this\n")
    before = files_of(copy)
    outcome = only(repair(copy, Whole(store)))
    assert not outcome.mended and outcome.file == journal.NAME
    assert files_of(copy) == before


def test_older_lines_are_left_alone(store: Path, copy: Path) -> None:
    lines = (store / journal.NAME).read_bytes()
    for each in (store, copy):
        (each / journal.NAME).write_bytes(b"rubbish\n" + lines)
    assert repair(copy, Whole(store)) == []


def test_a_manifest_that_cannot_be_read(store: Path, copy: Path) -> None:
    (copy / manifest.NAME).write_bytes(b"store.version=q\n")
    outcome = only(repair(copy, Whole(store)))
    assert (outcome.file, outcome.mended) == (manifest.NAME, True)
    assert manifest.parse((copy / manifest.NAME).read_bytes()) == manifest.CURRENT


def test_a_reader_goes_on_through_a_repair(store: Path, copy: Path) -> None:
    Flip(FIRST, BLOCK + 5, 1).strike(copy)
    with Follower.open(copy) as follower:
        segment = SAMPLES[0][0].segment
        assert is_bulk(segment)
        repair(copy, Whole(store))
        assert follower.snapshot.read(segment) == SAMPLES[0][0].data


def test_a_letter_whose_index_is_damaged_counts_again(store: Path, copy: Path) -> None:
    """It had superseded the one before it, which a crash had kept."""
    data = files_of(store)[FIRST].replace(FIRST.encode(), b"data00000b.tar")
    for each in (store, copy):
        (each / "data00000b.tar").write_bytes(rename(data))
    Flip("data00000b.tar", len(data) - 1100, 1).strike(copy)
    assert all(each.mended for each in repair(copy, Whole(store)))
    assert files_of(copy) == files_of(store)


def rename(data: bytes) -> bytes:
    """The trailing entries under their new names, with the checksums of their headers."""
    made = bytearray(data)
    at = made.find(b"data00000b.tar.")
    while at >= 0:
        made[at + 148 : at + 156] = b" " * 8
        made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + BLOCK])
        at = made.find(b"data00000b.tar.", at + 1)
    return bytes(made)


def test_an_empty_journal_and_an_empty_store(tmp_path: Path, store: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy")
    (copy / journal.NAME).unlink()
    assert repair(copy, Whole(store)) == []
    add_heads(copy)
