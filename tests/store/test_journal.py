"""The journal read from its end, and appended to."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from crash import FailingDisk, RecordingDisk
from hypothesis import given
from hypothesis import strategies as st
from stores import QuickDisk, data_id, head_in

from tarfailover.errors import StoreIOError
from tarfailover.format.journal import JournalLine, parse
from tarfailover.ids import text
from tarfailover.store import journal
from tarfailover.store.journalfile import JournalFile

good = st.builds(
    lambda n, t: JournalLine(head_in(data_id(n)), t).encode(),
    st.integers(0, 50),
    st.integers(0, 10**13),
)
pieces = good | st.binary(max_size=40) | good.map(lambda line: line[:-7]) | st.just(b"\n")
journals = st.lists(pieces, max_size=30).map(b"".join)


@pytest.fixture
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_FIRST_BLOCK", 7)
        patch.setattr(journal, "_BLOCK", 64)
        yield


@given(data=journals, sizes=st.tuples(st.integers(1, 80), st.integers(1, 200)))
def test_backwards_gives_what_forwards_gives_wherever_the_blocks_end(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, sizes: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "journal-of-the-property"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_FIRST_BLOCK", sizes[0])
        patch.setattr(journal, "_BLOCK", sizes[1])
        assert list(journal.newest_first(path)) == list(parse(data))[::-1]


@given(data=journals, cut=st.integers(0, 2000))
def test_only_the_bytes_before_the_end_count(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "journal-of-the-property"
    path.write_bytes(data)
    assert list(journal.newest_first(path, cut)) == list(parse(data[:cut]))[::-1]


@pytest.mark.usefixtures("small_blocks")
def test_a_line_longer_than_the_limit_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_LONGEST_LINE", 300)
    first, last = (JournalLine(head_in(data_id(n)), n) for n in (1, 2))
    path = tmp_path / "journal.log"
    path.write_bytes(first.encode() + b"x" * 5000 + b"\n" + last.encode())
    assert [line.head for line in journal.newest_first(path)] == [last.head, first.head]


def test_a_journal_that_is_not_there_names_nothing(tmp_path: Path) -> None:
    assert list(journal.newest_first(tmp_path / "journal.log")) == []
    assert journal.size(tmp_path / "journal.log") == 0
    assert not journal.names(tmp_path / "journal.log", data_id(1))


def test_a_journal_of_nul_bytes_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(bytes(100_000))
    assert list(journal.newest_first(path)) == []


def test_what_the_reader_raises_between_lines_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(JournalLine(head_in(data_id(1)), 1).encode())
    lines = journal.newest_first(path)
    next(lines)
    with pytest.raises(FileNotFoundError), closing(lines):
        lines.throw(FileNotFoundError(errno.ENOENT, "not of the journal"))


def test_a_directory_in_place_of_the_journal_is_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.mkdir()
    with pytest.raises(StoreIOError, match=r"journal\.log: cannot read: Is a directory"):
        list(journal.newest_first(path))


def test_a_segment_is_found_in_a_journal_wherever_blocks_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(b"\n" * (1024 * 1024 - 10) + text(data_id(1)).encode() + b":5 root 1\n")
    assert journal.names(path, data_id(1))
    assert not journal.names(path, data_id(2))


# appending


def appended(path: Path, before: bytes | None) -> bytes:
    if before is not None:
        path.write_bytes(before)
    file = JournalFile(path, QuickDisk())
    file.settle()
    file.append(head_in(data_id(1)), 7)
    file.append(head_in(data_id(2)), 8)
    file.close()
    file.close()
    return path.read_bytes()


@pytest.mark.parametrize("before", [None, b"", b"line\n", b"torn", b"\0\0", b"torn\r"])
def test_a_line_is_never_glued_to_a_torn_one(tmp_path: Path, before: bytes | None) -> None:
    found = appended(tmp_path / "journal.log", before)
    kept = before or b""
    lines = b"".join(JournalLine(head_in(data_id(n)), 6 + n).encode() for n in (1, 2))
    assert found == kept + (b"" if kept.endswith(b"\n") or not kept else b"\n") + lines


def test_a_line_is_written_then_synced_and_the_name_before_both(tmp_path: Path) -> None:
    disk = RecordingDisk()
    file = JournalFile(tmp_path / "journal.log", disk)
    file.append(head_in(data_id(1)), 7)
    file.close()
    assert [step.kind for step in disk.steps] == ["link", "sync-names", "write", "sync"]


def test_no_journal_is_made_before_there_is_a_head(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal.log", QuickDisk())
    file.settle()
    file.close()
    assert not (tmp_path / "journal.log").exists()


def test_a_journal_that_cannot_be_opened_is_told_and_nothing_stays_open(tmp_path: Path) -> None:
    class Broken(QuickDisk):
        def sync_directory(self, path: Path) -> None:
            raise StoreIOError(f"{path}: broken")

    file = JournalFile(tmp_path / "journal.log", Broken())
    with pytest.raises(StoreIOError, match="broken"):
        file.append(head_in(data_id(1)), 7)
    file.close()


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal.log", FailingDisk(1, ["write"]))
    with pytest.raises(StoreIOError, match=r"journal\.log: cannot write: .*; free space"):
        file.append(head_in(data_id(1)), 7)
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]
