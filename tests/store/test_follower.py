"""A follower beside a writer: it keeps up, holds what it showed, and touches nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from leaks import Leftovers
from stores import (
    QuickDisk,
    add_heads,
    bulk,
    closure_in,
    data_id,
    entry,
    head_in,
    leaf,
    make_store,
    state_of,
    tar_bytes,
    trailing,
)

from tarfailover.errors import (
    DamagedStoreError,
    NoHeadError,
    NotAStoreError,
    StoreIOError,
    TarFailoverError,
    UnsupportedStoreError,
)
from tarfailover.ids import SegmentId
from tarfailover.store import directory as directories
from tarfailover.store import follower as followers
from tarfailover.store.closure import walk
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

NAME = "data00000a.tar"
CHAIN = [leaf(n, [data_id(n - 1)] if n else []) for n in range(40)]
"""Each segment refers to the one before it."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One closed tar with CHAIN[:3], and a head."""
    return make_store(tmp_path / "store", {NAME: CHAIN[:3]}, [CHAIN[2].segment])


@pytest.fixture
def follower(store: Path) -> Iterator[Follower]:
    with Follower.open(store) as opened:
        yield opened


def number_of(snapshot: Snapshot) -> int:
    """The place in CHAIN of the head, whose closure is read whole."""
    assert snapshot.head is not None
    number = [s.segment for s in CHAIN].index(snapshot.head.record.segment)
    found = closure_in(snapshot, snapshot.head.record.segment)
    assert found == {s.segment: s.data for s in CHAIN[: number + 1]}
    return number


def write(path: Path, content: bytes, *, append: bool = False) -> None:
    with path.open("ab" if append else "wb") as file:
        file.write(content)


def open_tar(first: int, stop: int) -> bytes:
    return b"".join(map(entry, CHAIN[first:stop]))


# what it sees


def test_nothing_new_is_the_same_snapshot(follower: Follower) -> None:
    first = follower.snapshot
    assert number_of(first) == 2
    assert follower.refresh() is first
    assert follower.refresh() is first
    assert follower.head() == first.head


def test_a_journal_that_says_nothing_new_is_the_same_snapshot(
    follower: Follower, store: Path
) -> None:
    first = follower.snapshot
    write(store / "journal.log", b"\n", append=True)
    assert follower.refresh() is first
    write(store / "unknown", b"")
    assert follower.refresh() is first


def test_new_entries_new_tars_a_closed_tar_and_new_heads(follower: Follower, store: Path) -> None:
    newest = store / "data00001a.tar"
    write(newest, open_tar(3, 4))
    shown = follower.refresh()
    assert number_of(shown) == 2 and shown.contains(CHAIN[3].segment)
    write(newest, open_tar(4, 6), append=True)
    add_heads(store, CHAIN[5].segment)
    assert number_of(follower.refresh()) == 5
    assert not shown.contains(CHAIN[5].segment)
    end = trailing(newest.name, CHAIN[3:6])
    write(newest, end, append=True)
    closed = follower.refresh()
    assert closed.tars.readers[-1].index is not None and number_of(closed) == 5
    write(store / "data00002a.tar", tar_bytes("data00002a.tar", CHAIN[6:8]))
    write(store / "data00003a.tar", open_tar(8, 9))
    add_heads(store, CHAIN[8].segment)
    assert number_of(follower.refresh()) == 8
    assert closed is not follower.snapshot
    assert follower.refresh() is follower.refresh()


def test_torn_entries_are_taken_up_when_they_are_whole(follower: Follower, store: Path) -> None:
    newest = store / "data00001a.tar"
    whole = open_tar(3, 5)
    add_heads(store, CHAIN[3].segment)
    write(newest, b"")
    for at in range(0, len(whole), 111):
        write(newest, whole[at : at + 111], append=True)
        found = number_of(follower.refresh())
        assert found == (3 if at + 111 >= len(entry(CHAIN[3])) else 2)
    add_heads(store, CHAIN[4].segment)
    assert number_of(follower.refresh()) == 4
    assert follower.head().skipped == ()


def test_a_torn_line_of_the_journal_waits(follower: Follower, store: Path) -> None:
    write(store / "data00001a.tar", open_tar(3, 4))
    line = str(head_in(CHAIN[3].segment)).encode() + b" root 9\n"
    write(store / "journal.log", line[:38], append=True)
    assert number_of(follower.refresh()) == 2
    write(store / "journal.log", line[38:], append=True)
    assert number_of(follower.refresh()) == 3
    assert follower.head().time_ms == 9


@pytest.mark.parametrize("content", [None, b"", bytes(300), b"torn"])
def test_a_journal_that_is_gone_leaves_no_head_and_says_so(
    follower: Follower, store: Path, content: bytes | None
) -> None:
    (store / "journal.log").unlink()
    if content is not None:
        write(store / "journal.log", content)
    assert follower.refresh().head is None
    with pytest.raises(NoHeadError, match="but the tars hold 3 segments"):
        follower.head()
    add_heads(store, CHAIN[1].segment)
    write(store / "journal.log", b"\n", append=True)
    add_heads(store, CHAIN[1].segment)
    assert number_of(follower.refresh()) == 1
    assert follower.no_head is None


def test_a_head_that_lacks_something_is_stepped_over_until_it_is_whole(
    follower: Follower, store: Path
) -> None:
    write(store / "data00001a.tar", b"".join(map(entry, [CHAIN[3], CHAIN[5]])))
    add_heads(store, CHAIN[3].segment, CHAIN[5].segment)
    assert number_of(follower.refresh()) == 3
    assert "is missing" in follower.head().skipped[0]
    write(store / "data00001a.tar", entry(CHAIN[4]), append=True)
    assert number_of(follower.refresh()) == 5
    assert follower.head().skipped == ()


def test_a_fresh_store_has_no_head_and_gets_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", {})
    with Follower.open(store) as follower:
        with pytest.raises(NoHeadError, match="no segments and so no head"):
            follower.head()
        write(store / NAME, open_tar(0, 1))
        add_heads(store, CHAIN[0].segment)
        assert number_of(follower.refresh()) == 0


def test_an_empty_tar_without_index_beside_others(follower: Follower, store: Path) -> None:
    write(store / "data00001a.tar", b"")
    assert follower.refresh().count == 3
    write(store / "data00002a.tar", open_tar(3, 4))
    add_heads(store, CHAIN[3].segment)
    shown = follower.refresh()
    assert number_of(shown) == 3
    assert shown.entry(CHAIN[3].segment)[0].name.number == 2


def test_a_tar_between_others_takes_its_place(tmp_path: Path) -> None:
    tars = {NAME: CHAIN[:2], "data00002a.tar": CHAIN[3:5]}
    store = make_store(tmp_path / "store", tars, [CHAIN[1].segment])
    with Follower.open(store) as follower:
        write(store / "data00001a.tar", tar_bytes("data00001a.tar", CHAIN[2:3]))
        add_heads(store, CHAIN[4].segment)
        assert number_of(follower.refresh()) == 4
        assert [r.name.number for r in follower.snapshot.tars.readers] == [0, 1, 2]


def test_what_was_taken_up_is_not_looked_at_again(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store / "data00001a.tar", open_tar(3, 4))
    add_heads(store, CHAIN[3].segment)
    shown = follower.refresh()

    def tar_names(_: Path) -> list[directories.TarName]:
        raise AssertionError("nothing has changed")

    monkeypatch.setattr(directories, "tar_names", tar_names)
    assert follower.refresh() is shown


def test_the_rows_of_indexes_are_given_back(follower: Follower) -> None:
    for reader in follower.snapshot.tars.readers:
        assert reader.index is not None and len(reader.index.entries) == 0


# cleanup and recovery beside it


def rewrite(store: Path, number: int, letter: str, first: int, stop: int) -> None:
    """What cleanup does: the next letter is written, then the old one goes."""
    new = f"data{number:05}{letter}.tar"
    write(store / new, tar_bytes(new, CHAIN[first:stop]))
    for path in store.glob(f"data{number:05}*.tar"):
        if path.name != new:
            path.unlink()


def test_cleanup_beside_a_held_snapshot(tmp_path: Path) -> None:
    more = leaf(50)
    tars = {NAME: [bulk(9, 600), *CHAIN[:2], more], "data00001a.tar": CHAIN[2:5]}
    store = make_store(tmp_path / "store", tars, [more.segment, CHAIN[4].segment])
    with Follower.open(store) as follower:
        held = follower.hold()
        rewrite(store, 0, "b", 0, 2)
        assert number_of(follower.refresh()) == 4
        assert not follower.snapshot.contains(more.segment)
        assert [str(r.name) for r in follower.snapshot.tars.readers] == [
            "data00000b.tar",
            "data00001a.tar",
        ]
        assert held.read(more.segment) == more.data and number_of(held) == 4
        with held:
            assert held.rank_behind(held.end()) == held.count
        write(store / "data00002a.tar", tar_bytes("data00002a.tar", CHAIN[:6]))
        add_heads(store, CHAIN[5].segment)
        (store / "data00001a.tar").unlink()
        (store / "data00000b.tar").unlink()
        assert number_of(follower.refresh()) == 5
        assert len(follower.snapshot.tars.readers) == 1


def test_files_of_unchanged_tars_stay_open_over_a_cleanup(tmp_path: Path) -> None:
    tars = {NAME: CHAIN[:2], "data00001a.tar": CHAIN[2:4], "data00002a.tar": open_tar(4, 5)}
    store = make_store(tmp_path / "store", tars, [CHAIN[4].segment])
    with Follower.open(store) as follower:
        before = follower.snapshot.tars.readers
        rewrite(store, 0, "b", 0, 2)
        write(store / "data00002a.tar", trailing("data00002a.tar", CHAIN[4:5]), append=True)
        after = follower.refresh().tars.readers
        assert after[1:] == before[1:] and after[0] is not before[0]
        assert after[2].index is not None
        assert number_of(follower.snapshot) == 4


def test_an_unclosed_tar_that_grows_during_a_cleanup_is_read_on(tmp_path: Path) -> None:
    tars = {NAME: CHAIN[:2], "data00001a.tar": open_tar(2, 3)}
    store = make_store(tmp_path / "store", tars, [CHAIN[2].segment])
    with Follower.open(store) as follower:
        rewrite(store, 0, "b", 0, 2)
        write(store / "data00001a.tar", open_tar(3, 4), append=True)
        add_heads(store, CHAIN[3].segment)
        assert number_of(follower.refresh()) == 3


def test_letters_are_chosen_as_when_oak_opens_for_writing(tmp_path: Path) -> None:
    half = {NAME: CHAIN[:3], "data00000b.tar": open_tar(0, 1)}
    store = make_store(tmp_path / "store", half, [CHAIN[2].segment])
    with Follower.open(store) as follower:
        assert [str(r.name) for r in follower.snapshot.tars.readers] == [NAME]
        rewrite(store, 0, "c", 0, 3)
        assert number_of(follower.refresh()) == 2
        assert [str(r.name) for r in follower.snapshot.tars.readers] == ["data00000c.tar"]


def test_a_tar_without_index_that_is_not_the_newest(tmp_path: Path) -> None:
    tars = {NAME: open_tar(0, 2), "data00001b.tar": CHAIN[2:4], "data00002a.tar": open_tar(4, 6)}
    store = make_store(tmp_path / "store", tars, [CHAIN[5].segment])
    with Follower.open(store) as follower:
        assert number_of(follower.snapshot) == 5


def test_recovery_by_oak_beside_it(tmp_path: Path) -> None:
    """Oak renames what it scanned and writes the lowest letter anew."""
    tars = {NAME: open_tar(0, 2) + b"torn", "data00000b.tar": open_tar(2, 3)}
    store = make_store(tmp_path / "store", tars, [CHAIN[2].segment])
    with Follower.open(store) as follower:
        held = follower.hold()
        assert number_of(held) == 2
        for path in (store / NAME, store / "data00000b.tar"):
            path.rename(path.with_name(path.name + ".bak"))
        assert follower.refresh().count == 0
        write(store / NAME, tar_bytes(NAME, CHAIN[:3]))
        write(store / "data00001a.tar", open_tar(3, 4))
        add_heads(store, CHAIN[3].segment)
        assert number_of(follower.refresh()) == 3
        assert number_of(held) == 2
        held.release()


def test_recovery_by_our_writer_beside_it(tmp_path: Path) -> None:
    torn = open_tar(0, 3) + b"torn"
    store = make_store(tmp_path / "store", {NAME: torn}, [CHAIN[2].segment])
    with Follower.open(store) as follower:
        with StoreWriter.open(store, disk=QuickDisk()) as writer:
            writer.append(CHAIN[3].segment, CHAIN[3].data)
            writer.commit(head_in(CHAIN[3].segment), 4)
            assert number_of(follower.refresh()) == 3
        assert number_of(follower.refresh()) == 3
        assert all(reader.index is not None for reader in follower.snapshot.tars.readers)


def test_an_index_that_tells_other_segments_than_the_scan_begins_anew(tmp_path: Path) -> None:
    broken = bytearray(open_tar(0, 2))
    at = len(entry(CHAIN[0]))
    broken[at + 560] ^= 1
    store = make_store(tmp_path / "store", {NAME: bytes(broken) + entry(CHAIN[2])})
    with Follower.open(store) as follower:
        assert follower.snapshot.count == 2
        write(store / NAME, tar_bytes(NAME, CHAIN[:3]))
        add_heads(store, CHAIN[2].segment)
        assert number_of(follower.refresh()) == 2


def test_the_same_file_under_another_name_is_another_tar(follower: Follower, store: Path) -> None:
    (store / NAME).rename(store / "data00004a.tar")
    assert number_of(follower.refresh()) == 2
    assert follower.snapshot.tars.readers[0].name.number == 4


# what happens between looking and reading


def vanishing(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Has `happens` happen once, after the directory was listed and before tars are opened."""
    real = TarReader.open.__func__  # type: ignore[attr-defined]
    waiting = [happens]

    def opening(cls: type[TarReader], path: Path, name: directories.TarName) -> TarReader:
        if waiting:
            waiting.pop()()
        found: TarReader = real(cls, path, name)
        return found

    monkeypatch.setattr(TarReader, "open", classmethod(opening))


def test_a_file_that_vanishes_in_the_middle_is_looked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = {NAME: CHAIN[:2], "data00001a.tar": CHAIN[2:4]}
    store = make_store(tmp_path / "store", tars, [CHAIN[3].segment])
    vanishing(monkeypatch, lambda: rewrite(store, 0, "b", 0, 2))
    with Follower.open(store) as follower:
        assert number_of(follower.snapshot) == 3


def test_a_file_that_vanishes_while_growing_is_looked_for_anew(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(
            store / f"data{number:05}a.tar",
            tar_bytes(f"data{number:05}a.tar", CHAIN[2 + number : 3 + number]),
        )
    add_heads(store, CHAIN[4].segment)
    vanishing(monkeypatch, lambda: rewrite(store, 2, "b", 4, 5))
    assert number_of(follower.refresh()) == 4


def test_a_directory_that_changes_for_ever_is_an_error_after_some_attempts(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def gone(_: Path, name: directories.TarName) -> TarReader:
        opened.append(name)
        raise StoreIOError(f"{name} is gone") from FileNotFoundError()

    write(store / "data00001a.tar", open_tar(3, 4))
    before = follower.snapshot
    monkeypatch.setattr(TarReader, "open", gone)
    with pytest.raises(StoreIOError, match=r"data00001a\.tar is gone"):
        follower.refresh()
    assert len(opened) == followers.ATTEMPTS
    assert follower.snapshot is before and number_of(before) == 2
    monkeypatch.undo()
    add_heads(store, CHAIN[3].segment)
    assert number_of(follower.refresh()) == 3


def test_another_error_is_no_reason_to_try_again(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store / "data00001a.tar", open_tar(3, 4))

    def broken(*_: object) -> TarReader:
        raise StoreIOError("the disk is broken") from PermissionError()

    monkeypatch.setattr(TarReader, "open", broken)
    with pytest.raises(StoreIOError, match="broken"):
        follower.refresh()
    monkeypatch.undo()
    assert follower.refresh().contains(CHAIN[3].segment)


def test_an_error_between_two_new_tars_takes_up_none_of_them_twice(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write(
            store / f"data{number:05}a.tar",
            tar_bytes(f"data{number:05}a.tar", CHAIN[2 + number : 3 + number]),
        )
    add_heads(store, CHAIN[4].segment)
    real = TarReader.open

    def broken(path: Path, name: directories.TarName) -> TarReader:
        if name.number == 2:
            raise StoreIOError("the disk is broken")
        return real(path, name)

    monkeypatch.setattr(TarReader, "open", broken)
    with pytest.raises(StoreIOError, match="broken"):
        follower.refresh()
    monkeypatch.undo()
    assert number_of(follower.refresh()) == 4
    assert follower.snapshot.count == 5 and len(follower.snapshot.tars.readers) == 3


def test_a_head_that_came_after_the_first_look_waits_for_the_next_one(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store / "data00001a.tar", open_tar(3, 4))
    vanishing(monkeypatch, lambda: add_heads(store, CHAIN[9].segment))
    assert number_of(follower.refresh()) == 2
    assert follower.head().skipped == ()


def test_a_listing_from_two_moments_is_made_anew_when_the_head_is_not_whole(
    follower: Follower, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory may be listed so that neither the old letter nor the new one is seen."""
    real = directories.tar_names
    listed = []

    def names(directory: Path) -> list[directories.TarName]:
        listed.append(1)
        if len(listed) > 1:
            return real(directory)
        seen = [name for name in real(directory) if name.number]
        write(directory / "another", b"")
        return seen

    write(store / "data00001a.tar", open_tar(3, 4))
    add_heads(store, CHAIN[3].segment)
    monkeypatch.setattr(directories, "tar_names", names)
    assert number_of(follower.refresh()) == 3
    assert len(listed) == 2


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", {NAME: CHAIN[:1]}, [CHAIN[0].segment])
    with Follower.open(store) as follower:
        store.rename(tmp_path / "moved")
        with pytest.raises(StoreIOError, match="store: cannot look at"):
            follower.refresh()
        assert number_of(follower.snapshot) == 0
        (tmp_path / "moved").rename(store)
        assert number_of(follower.refresh()) == 0


# what it refuses


def test_what_cannot_be_followed_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="holds no segment store"):
        Follower.open(tmp_path)
    with pytest.raises(NotAStoreError, match="is no directory"):
        Follower.open(tmp_path / "nowhere")
    make_store(tmp_path / "segmentstore", {})
    with pytest.raises(NotAStoreError, match="did you mean"):
        Follower.open(tmp_path)
    write(tmp_path / NAME, b"")
    with pytest.raises(UnsupportedStoreError, match="legacy"):
        Follower.open(tmp_path)
    write(tmp_path / "manifest", b"store.version=9")
    with pytest.raises(UnsupportedStoreError, match="newer one"):
        Follower.open(tmp_path)


def test_a_store_that_cannot_be_read_leaves_nothing_open(tmp_path: Path) -> None:
    broken = bytearray(tar_bytes("data00001a.tar", CHAIN[1:3]))
    broken[broken.rindex(b"\n0G\n")] ^= 1
    broken[600] ^= 1
    tars = {NAME: CHAIN[:1], "data00001a.tar": bytes(broken)}
    store = make_store(tmp_path / "store", tars, [CHAIN[2].segment])
    before = Leftovers.now()
    with pytest.raises(DamagedStoreError, match=r"data00001a\.tar, offset 512"):
        Follower.open(store)
    assert Leftovers.now().left_since(before) == []


# what it leaves behind: nothing


def test_it_writes_nothing_and_takes_no_lock(tmp_path: Path) -> None:
    tars = {NAME: CHAIN[:2], "data00001a.tar": open_tar(2, 4) + b"torn"}
    store = make_store(tmp_path / "store", tars, [CHAIN[3].segment, CHAIN[9].segment])
    os.utime(store, ns=(1, 1))
    before = state_of(store)
    open_before = Leftovers.now()
    with Follower.open(store) as follower:
        assert number_of(follower.snapshot) == 3
        follower.refresh()
        assert state_of(store) == before
        StoreWriter.open(store, disk=QuickDisk()).close()
    assert Leftovers.now().left_since(open_before) == []


def test_closing_twice_takes_nothing_from_others(store: Path) -> None:
    follower = Follower.open(store)
    held = follower.hold()
    follower.close()
    follower.close()
    assert number_of(held) == 2
    held.release()
    for late in (follower.hold, held.acquire):
        with pytest.raises(TarFailoverError, match="closed already"):
            late()


def test_descriptors_do_not_grow_with_refreshes(follower: Follower, store: Path) -> None:
    def count() -> int:
        return len(Leftovers.now().files)

    write(store / "data00001a.tar", b"")
    follower.refresh()
    before = count()
    for number in range(3, 30):
        write(store / "data00001a.tar", entry(CHAIN[number]), append=True)
        add_heads(store, CHAIN[number].segment)
        follower.refresh()
        write(store / "data00000b.tar", tar_bytes("data00000b.tar", CHAIN[:3]))
        assert number_of(follower.refresh()) == number
        (store / "data00000b.tar").unlink()
        follower.refresh()
    assert count() == before


def test_threads_read_what_they_hold_while_another_refreshes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    # The cleanup here is done behind the back of the writer.
    monkeypatch.setattr(StoreWriter, "intruder", lambda _: "")
    done = threading.Event()

    def read(follower: Follower) -> int:
        seen = -1
        while not done.is_set():
            with follower.hold() as shown:
                number = number_of(shown)
                found = walk(shown, [CHAIN[number].segment])
                assert len(found.ranks) == number + 1 and not found.missing
            assert number >= seen
            seen = number
        return seen

    with (
        StoreWriter.open(store, create=True, tar_limit=6000, disk=QuickDisk()) as writer,
        ThreadPoolExecutor(3) as pool,
    ):
        _commit(writer, 0)
        with Follower.open(store) as follower:
            readers = [pool.submit(read, follower) for _ in range(3)]
            try:
                for number in range(1, len(CHAIN)):
                    _commit(writer, number)
                    follower.refresh()
                    if number % 5 == 0:
                        _clean_up(store)
                        follower.refresh()
            finally:
                done.set()
            assert all(0 <= reader.result() < len(CHAIN) for reader in readers)
            assert number_of(follower.snapshot) == len(CHAIN) - 1


def _commit(writer: StoreWriter, number: int) -> None:
    writer.append(CHAIN[number].segment, CHAIN[number].data)
    writer.commit(head_in(CHAIN[number].segment), number)


def _clean_up(store: Path) -> None:
    """Rewrites the first closed tar under its next letter."""
    path = min(store.glob("data*.tar"))
    name = directories.TarName.parse(path.name)
    assert name is not None
    reader = TarReader.open(path, name)
    by_id = {s.segment: s for s in CHAIN}
    samples = [by_id[e.segment] for e in reader.entries()] if reader.index else []
    reader.release()
    if samples:
        target = path.with_name(str(name._replace(letter=chr(ord(name.letter) + 1))))
        write(target, tar_bytes(target.name, samples))
        path.unlink()


# stores of real Oak


@pytest.mark.parametrize(
    ("name", "head", "segments", "tars"),
    [
        ("fresh", "134ab5c4-9620-4f83-a475-c546d7194527.00000016", 26, 2),
        ("compacted", "7e1f37df-72e0-4fac-adc1-75b95bc38cd2.00000016", 35, 8),
        ("killed", "9d7bde02-c49d-4975-a8b0-a8b4ebb003db.000001d5", 59, 1),
    ],
)
def test_stores_of_real_oak(
    fixture_store: Callable[[str], Path], name: str, head: str, segments: int, tars: int
) -> None:
    store = fixture_store(name)
    before = state_of(store)
    with Follower.open(store) as follower:
        shown = follower.snapshot
        assert follower.head().record.hex == head and follower.head().skipped == ()
        assert (shown.count, len(shown.tars.readers)) == (segments, tars)
        content = closure_in(shown, follower.head().record.segment)
        assert state_of(store) == before
        with StoreWriter.open(store, disk=QuickDisk()) as writer:
            assert writer.head is not None and writer.head.hex == head
            sample = leaf(1, [writer.head.segment])
            writer.append(sample.segment, sample.data)
            writer.commit(head_in(sample.segment), 1)
        assert follower.refresh().head is not None
        expected: dict[SegmentId, bytes] = {**content, sample.segment: sample.data}
        assert closure_in(follower.snapshot, sample.segment) == expected
        assert follower.snapshot.count == segments + 1
