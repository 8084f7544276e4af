"""The one writer of a store: what it stores, in which files, and what it refuses."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from crash import FailingDisk, RecordingDisk
from stores import (
    QuickDisk,
    Sample,
    add_heads,
    bulk,
    closure_in,
    data,
    data_id,
    entry,
    head_in,
    leaf,
    make_store,
    state_of,
    tar_bytes,
)

from tarfailover.errors import (
    DamagedStoreError,
    FormatError,
    NoHeadError,
    NotAStoreError,
    SegmentMissingError,
    StoreIOError,
    StoreLockedError,
    TarFailoverError,
    UnsupportedStoreError,
)
from tarfailover.format import journal
from tarfailover.format.tar import TarName
from tarfailover.ids import Generation
from tarfailover.store.durable import Buffer
from tarfailover.store.follower import Follower
from tarfailover.store.intake import Arrival, verify
from tarfailover.store.opentar import Incoming
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

BIG = bulk(1, 700)
ONE = leaf(2, [BIG.segment], generation=Generation(2, 1, True))
TWO = leaf(3, [ONE.segment])


def opened(directory: Path, disk: QuickDisk | None = None, tar_limit: int = 2**20) -> StoreWriter:
    return StoreWriter.open(
        directory,
        create=True,
        tar_limit=tar_limit,
        disk=disk or QuickDisk(),
        clock=lambda: 1_700_000_000.5,
    )


def fill(writer: StoreWriter, *samples: Sample) -> None:
    for sample in samples:
        writer.append(sample.segment, sample.data)


def incoming(sample: Sample) -> Incoming:
    return verify(Arrival.of(sample.segment, sample.data), lambda _: b"")


def tars(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.tar"))


def test_what_is_stored_is_there_and_comes_back(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        assert writer.head is None and writer.repairs == ()
        fill(writer, BIG, ONE)
        assert writer.read(ONE.segment) == ONE.data
        assert writer.contains(BIG.segment) and not writer.contains(TWO.segment)
        assert writer.lacking([TWO.segment, ONE.segment]) == [TWO.segment]
        assert writer.lacking([]) == []
        assert writer.absent(TWO.segment + ONE.segment).tolist() == [True, False]
        assert writer.missing(ONE.segment) == []
        assert writer.missing(TWO.segment) == [TWO.segment]
        with pytest.raises(SegmentMissingError, match="is in no tar"):
            writer.read(TWO.segment)
        writer.commit(head_in(ONE.segment), 17)
        with writer.snapshot() as shown:
            assert shown.head is not None
            assert (shown.head.record, shown.head.time_ms) == (head_in(ONE.segment), 17)
            assert shown.head.generation == ONE.generation
            assert closure_in(shown, ONE.segment) == {s.segment: s.data for s in (BIG, ONE)}
    with opened(tmp_path) as writer, writer.snapshot() as shown:
        assert writer.head == head_in(ONE.segment)
        assert shown.head is not None and shown.head.time_ms == 17


def test_the_bytes_on_disk_are_those_of_the_format(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        fill(writer, BIG, ONE, TWO)
        writer.commit(head_in(TWO.segment), 17)
    whole = tar_bytes("data00000a.tar", [BIG, ONE, TWO])
    found = (tmp_path / "data00000a.tar").read_bytes()
    body = sum(len(entry(s)) for s in (BIG, ONE, TWO))
    assert found[:body] == whole[:body]
    reader = TarReader.open(tmp_path / "data00000a.tar", TarName(0))
    assert reader.binary_references() == {}
    assert len(found) == len(whole)
    reader.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data00000a.tar",
        "journal.log",
        "manifest",
        "repo.lock",
    ]
    assert (tmp_path / "journal.log").read_text() == f"{head_in(TWO.segment)} root 17\n"


def test_a_writer_that_stores_nothing_leaves_no_tar(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "store"):
        pass
    assert tars(tmp_path / "a" / "store") == []
    assert not (tmp_path / "a" / "store" / "journal.log").exists()
    with opened(tmp_path / "a" / "store") as writer:
        assert writer.head is None


def test_each_life_writes_to_new_tars(tmp_path: Path) -> None:
    for number in range(3):
        with opened(tmp_path) as writer:
            fill(writer, leaf(number))
            fill(writer, leaf(number))
            writer.commit(head_in(data_id(number)), number)
    assert tars(tmp_path) == ["data00000a.tar", "data00001a.tar", "data00002a.tar"]
    make_store(tmp_path, {"data00007c.tar": [leaf(7)]})
    with opened(tmp_path) as writer:
        fill(writer, leaf(8))
    assert tars(tmp_path)[-1] == "data00008a.tar"


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_tar_is_closed_when_it_reaches_the_limit_as_oak_does(tmp_path: Path, batch: int) -> None:
    samples = [leaf(n) for n in range(20)]
    size = len(entry(samples[0]))
    limit = 3 * size
    with opened(tmp_path, tar_limit=limit) as writer:
        for first in range(0, 20, batch):
            writer.store([incoming(s) for s in samples[first : first + batch]])
        writer.commit(head_in(data_id(19)), 1)
        # The seventh is not begun by the limit of the sixth, only by its first segment.
        assert tars(tmp_path) == [f"data{n:05}a.tar" for n in range(7)]
    for number, name in enumerate(tars(tmp_path)):
        reader = TarReader.open(tmp_path / name, TarName(number))
        assert [e.segment for e in reader.entries()] == [
            s.segment for s in samples[3 * number : 3 * number + 3]
        ]
        reader.release()


def test_a_limit_met_exactly_by_the_last_segment_leaves_no_empty_tar(tmp_path: Path) -> None:
    size = len(entry(leaf(1)))
    with opened(tmp_path, tar_limit=size) as writer:
        fill(writer, leaf(1), leaf(2))
        writer.commit(head_in(data_id(2)), 1)
    assert tars(tmp_path) == ["data00000a.tar", "data00001a.tar"]


def test_copies_in_one_batch_are_written_once(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.store([incoming(BIG), incoming(ONE), incoming(BIG)])
        writer.store([incoming(ONE)])
        writer.store([])
    reader = TarReader.open(tmp_path / "data00000a.tar", TarName(0))
    assert reader.count == 2
    reader.release()


def test_a_segment_in_pieces_is_written_whole(tmp_path: Path) -> None:
    pieces: list[Buffer] = [memoryview(BIG.data)[:5], b"", bytearray(BIG.data[5:])]
    arrival = Arrival(BIG.segment, Arrival.of(BIG.segment, BIG.data).crc, 700, pieces)
    with opened(tmp_path) as writer:
        writer.store([verify(arrival, writer.read)])
        assert writer.read(BIG.segment) == BIG.data


# refusals


def test_a_reference_that_is_not_stored_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        with pytest.raises(SegmentMissingError, match=r"refers to .*, which is not stored yet"):
            fill(writer, ONE)
        with pytest.raises(FormatError, match="segment magic"):
            writer.append(data_id(5), b"no segment".ljust(32))
        assert tars(tmp_path) == []


def test_a_head_whose_closure_is_not_whole_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        fill(writer, BIG, ONE)
        writer.commit(head_in(ONE.segment), 1)
        writer.store([incoming(leaf(5, [data_id(9)]))])
        for head in (head_in(data_id(5)), head_in(data_id(9))):
            with pytest.raises(SegmentMissingError, match=r"cannot be set: segment .* is missing"):
                writer.commit(head, 2)
        with pytest.raises(FormatError, match="cannot be a head: it lies in no data segment"):
            writer.commit(head_in(BIG.segment), 2)
        assert writer.head == head_in(ONE.segment)
        assert writer.missing(data_id(5)) == [data_id(9)]
        writer.store([incoming(leaf(9))])
        writer.commit(head_in(data_id(5)), 2)
    with opened(tmp_path) as writer:
        assert writer.head == head_in(data_id(5)) and writer.repairs == ()


def test_a_closed_writer_refuses_and_closes_again(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    fill(writer, leaf(1))
    writer.close()
    writer.close()
    for late in (
        writer.flush,
        lambda: writer.store([]),
        lambda: writer.commit(head_in(data_id(1)), 1),
    ):
        with pytest.raises(TarFailoverError, match="this writer is closed"):
            late()


@pytest.mark.parametrize("create", [True, False])
def test_directories_that_hold_something_else_are_refused_and_left_alone(
    tmp_path: Path, *, create: bool
) -> None:
    cases = {
        "legacy": ({"data00000a.tar": b""}, UnsupportedStoreError),
        "newer": ({"manifest": b"store.version=3"}, UnsupportedStoreError),
        "nonsense": ({"manifest": b"store.version=x"}, DamagedStoreError),
    }
    for name, (files, error) in cases.items():
        directory = tmp_path / name
        directory.mkdir()
        for file, content in files.items():
            (directory / file).write_bytes(content)
        before = state_of(directory)
        with pytest.raises(error):
            StoreWriter.open(directory, create=create, disk=QuickDisk())
        assert state_of(directory) == before
    home = tmp_path / "home"
    make_store(home / "segmentstore", {})
    with pytest.raises(NotAStoreError, match="did you mean"):
        StoreWriter.open(home, create=create, disk=QuickDisk())
    assert [path.name for path in home.iterdir()] == ["segmentstore"]


def test_without_leave_to_create_nothing_is_created(tmp_path: Path) -> None:
    for directory in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(NotAStoreError):
            StoreWriter.open(directory, disk=QuickDisk())
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_open_for_writing_is_locked(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreLockedError, match=r"repo\.lock"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_manifest_alone_is_a_store(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_bytes(b"store.version=2\n")
    for create in (True, False):
        with StoreWriter.open(tmp_path, create=create, disk=QuickDisk()) as writer:
            assert writer.head is None


def test_full_tars_without_a_head_are_never_a_fresh_store(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": [BIG, ONE]})
    with pytest.raises(NoHeadError, match=r"journal\.log is missing"):
        opened(tmp_path)
    with StoreWriter.open(tmp_path, headless=True, disk=QuickDisk()) as writer:
        assert writer.head is None
        with writer.snapshot() as shown:
            assert shown.head is None and shown.count == 2
        writer.commit(head_in(ONE.segment), 1)
    with opened(tmp_path) as writer:
        assert writer.head == head_in(ONE.segment)


def test_stepping_back_in_the_journal_is_told(tmp_path: Path) -> None:
    make_store(
        tmp_path, {"data00000a.tar": [BIG, ONE, leaf(5, [data_id(9)])]}, [ONE.segment, data_id(5)]
    )
    with opened(tmp_path) as writer:
        assert writer.head == head_in(ONE.segment)
        assert len(writer.repairs) == 1
        assert writer.repairs[0].startswith("stepped back in the journal over")
        assert "is missing" in writer.repairs[0]


def test_a_torn_journal_does_not_swallow_the_next_head(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": [BIG, ONE]}, [ONE.segment])
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b"torn")
    with opened(tmp_path) as writer:
        fill(writer, TWO)
        writer.commit(head_in(TWO.segment), 5)
    with opened(tmp_path) as writer:
        assert writer.head == head_in(TWO.segment)


# what was promised comes in the right order


def test_everything_a_head_needs_is_synced_before_its_line(tmp_path: Path) -> None:
    disk = RecordingDisk()
    with opened(tmp_path, disk, tar_limit=2048) as writer:
        del disk.steps[:]
        fill(writer, BIG, ONE, TWO)
        writer.commit(head_in(TWO.segment), 5)
        steps = disk.steps
        line = next(n for n, s in enumerate(steps) if s.kind == "write" and b" root " in s.data)
        dirty: set[int] = set()
        for step in steps[:line]:
            if step.kind == "write":
                dirty.add(step.inode)
            elif step.kind == "sync":
                dirty.discard(step.inode)
        assert not dirty
        links = [n for n, s in enumerate(steps[:line]) if s.kind == "link"]
        assert any(s.kind == "sync-names" for s in steps[links[-1] : line])
        assert steps[line + 1].kind == "sync"
        del disk.steps[:]
        writer.flush()
        assert disk.steps == []


# failing disks


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_write_or_sync_loses_nothing(tmp_path: Path, error: int) -> None:
    at = 0
    while True:
        at += 1
        directory = tmp_path / f"{error}-{at}"
        disk = FailingDisk(at, error=error)
        committed, told = _work_until_it_fails(directory, disk)
        if disk.failed is None:
            break
        assert told is not None and str(directory) in told
        assert "free space" in told or "the disk reports an error" in told
        _check_after_failure(directory, committed)
    assert at > 20


def _work_until_it_fails(directory: Path, disk: FailingDisk) -> tuple[int, str | None]:
    """How many heads were committed, and the error."""
    committed = -1
    try:
        with opened(directory, disk, tar_limit=4096) as writer:
            for number in range(3):
                big, top = bulk(number, 700), leaf(number, [bulk(number, 0).segment])
                fill(writer, big, top)
                writer.commit(head_in(top.segment), number)
                committed = number
    except StoreIOError as failure:
        return committed, str(failure)
    return committed, None


def _check_after_failure(directory: Path, committed: int) -> None:
    with StoreWriter.open(
        directory, create=True, headless=committed < 0, disk=QuickDisk()
    ) as writer:
        heads = [head_in(data_id(number)) for number in range(3)]
        assert committed < 0 or writer.head in heads[committed:]
        if writer.head is not None:
            with writer.snapshot() as shown:
                assert len(closure_in(shown, writer.head.segment)) == 2
        fill(writer, leaf(50))
        writer.commit(head_in(data_id(50)), 50)
    with Follower.open(directory) as follower:
        assert follower.head().record == head_in(data_id(50))


def test_a_full_disk_that_has_room_again_is_written_to_again(tmp_path: Path) -> None:
    disk = FailingDisk(2, ["write"])
    disk.say("nothing")
    writer = opened(tmp_path, disk)
    with pytest.raises(StoreIOError, match="free space"):
        fill(writer, BIG)
    assert not writer.contains(BIG.segment)
    fill(writer, BIG, ONE)
    writer.commit(head_in(ONE.segment), 1)
    writer.close()
    with opened(tmp_path) as again:
        assert again.head == head_in(ONE.segment) and again.repairs == ()


def test_a_tar_into_which_nothing_could_be_written_does_not_stay(tmp_path: Path) -> None:
    writer = opened(tmp_path, FailingDisk(2, ["write"]))
    with pytest.raises(StoreIOError, match="free space"):
        fill(writer, BIG)
    assert tars(tmp_path) == ["data00000a.tar"]
    writer.close()
    assert tars(tmp_path) == []
    opened(tmp_path).close()


def test_after_a_failed_sync_nothing_more_is_written(tmp_path: Path) -> None:
    class Broken(QuickDisk):
        broken = False
        written = 0

        def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
            self.written += 1
            return super().write(fd, path, buffers, offset)

        def sync(self, fd: int, path: Path) -> None:
            if self.broken:
                raise StoreIOError(f"{path}: cannot sync")
            super().sync(fd, path)

    disk = Broken()
    writer = opened(tmp_path, disk)
    fill(writer, BIG, ONE)
    disk.broken = True
    with pytest.raises(StoreIOError, match=r"cannot sync$"):
        writer.commit(head_in(ONE.segment), 1)
    disk.broken = False
    before = disk.written
    for more in (
        writer.flush,
        lambda: fill(writer, TWO),
        lambda: writer.commit(head_in(ONE.segment), 1),
    ):
        with pytest.raises(StoreIOError, match="cannot sync; nothing more is written: close"):
            more()
    writer.close()
    assert disk.written == before
    assert writer.head is None
    with StoreWriter.open(tmp_path, headless=True, disk=QuickDisk()) as again:
        assert again.contains(ONE.segment)


def test_an_index_that_reads_back_wrong_is_an_error(tmp_path: Path) -> None:
    class Liar(QuickDisk):
        def write(self, fd: int, path: Path, buffers: Sequence[Buffer], offset: int) -> int:
            end = super().write(fd, path, buffers, offset)
            if any(bytes(buffer).endswith(b"\n1K\n") for buffer in buffers):
                os.pwrite(fd, b"crc?", end - 16)
            return end

    writer = opened(tmp_path, Liar())
    fill(writer, BIG)
    with pytest.raises(StoreIOError, match="reads back as something else; check the disk"):
        writer.close()
    with StoreWriter.open(tmp_path, headless=True, disk=QuickDisk()) as again:
        assert again.contains(BIG.segment)


def test_no_descriptor_stays_open_when_there_are_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    writer = opened(tmp_path)
    monkeypatch.setattr(os, "dup", dup)
    with pytest.raises(StoreIOError, match="raise the limit of open files"):
        fill(writer, BIG)
    monkeypatch.undo()
    writer.close()


def test_an_old_file_in_the_way_is_told(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    (tmp_path / "data00000a.tar").mkdir()
    with pytest.raises(StoreIOError, match=r"data00000a\.tar: cannot create"):
        fill(writer, BIG)
    writer.close()


# a real process, really killed

KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from stores import data_id, head_in, leaf
from tarfailover.store.writer import StoreWriter
writer = StoreWriter.open(Path(sys.argv[1]), create=True, headless=True, tar_limit=20000)
number = 0 if writer.head is None else int(sys.stdin.readline())
while True:
    sample = leaf(number, [data_id(number - 1)] if number else [])
    writer.append(sample.segment, sample.data)
    if number % 3 == 0:
        writer.commit(head_in(sample.segment), number)
        print(number, flush=True)
    number += 1
"""


def test_a_process_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    places = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", KILLED, str(tmp_path), *places]
    last, number = -1, 0
    for life in range(4):
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            for _ in range(5 + 7 * life):
                last = int(process.stdout.readline())
            process.kill()
            said = process.stdout.read().split()
        last = int(said[-1]) if said and said[-1].isdigit() else last
        number = _after_the_kill(tmp_path, last)


def _after_the_kill(directory: Path, last: int) -> int:
    """Checks the store; the number at which to go on."""
    with Follower.open(directory) as follower:
        shown = follower.head().time_ms
        assert shown >= last
    with StoreWriter.open(directory, disk=QuickDisk()) as writer:
        assert writer.head == head_in(data_id(shown))
        with writer.snapshot() as found:
            assert len(closure_in(found, data_id(shown))) == shown + 1
    return shown + 1


def test_lines_of_others_are_kept(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": [BIG, ONE]})
    add_heads(tmp_path, ONE.segment, time_ms=3)
    before = (tmp_path / journal.NAME).read_bytes()
    with opened(tmp_path) as writer:
        fill(writer, Sample(TWO.segment, data(TWO.references)))
        writer.commit(head_in(TWO.segment), 9)
    assert (tmp_path / journal.NAME).read_bytes().startswith(before)


def test_no_store_is_begun_among_the_files_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_bytes(b"Dear")
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(
        NotAStoreError, match=r"'letter.txt' and 1 other names; give a segmentstore"
    ):
        StoreWriter.open(tmp_path, create=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letter.txt", "photo.jpg"]


@pytest.mark.parametrize("left", ["repo.lock", "journal.log", "data00000a.tar.bak", "lost+found"])
def test_what_a_crash_or_a_file_system_left_is_in_nobodys_way(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_bytes(b"")
    StoreWriter.open(tmp_path, create=True).close()
    assert (tmp_path / "manifest").exists()
