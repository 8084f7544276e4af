"""Whoever else writes a store that is open for writing is noticed before the next head."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import QuickDisk, add_heads, bulk, data_id, head_in, leaf, make_store, tar_bytes

from tarfailover.errors import DamagedStoreError, StoreLockedError
from tarfailover.store import lock
from tarfailover.store.writer import StoreWriter

CHAIN = [leaf(number, [data_id(number - 1)] if number else []) for number in range(4)]
LARGE = [bulk(number, 5000) for number in range(4)]
FOREIGN = leaf(77)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", {"data00000a.tar": CHAIN[:1]}, [CHAIN[0].segment])


@pytest.fixture
def writer(store: Path) -> Iterator[StoreWriter]:
    with StoreWriter.open(store, tar_limit=6000, disk=QuickDisk()) as opened:
        yield opened


def commit(writer: StoreWriter, number: int) -> None:
    writer.append(CHAIN[number].segment, CHAIN[number].data)
    writer.commit(head_in(CHAIN[number].segment), number)


def replaced(path: Path) -> None:
    """The same content in another file."""
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").rename(path)


def test_what_it_writes_itself_is_no_intruder(writer: StoreWriter) -> None:
    assert writer.intruder() == ""
    for number in range(1, 4):
        writer.append(LARGE[number].segment, LARGE[number].data)
        assert writer.intruder() == ""
        commit(writer, number)
        assert writer.intruder() == ""
    assert len(list(writer.directory.glob("data*.tar"))) >= 3


def test_a_store_without_a_journal_is_alone_too(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "new", create=True, disk=QuickDisk()) as writer:
        assert writer.intruder() == ""
        commit(writer, 0)
        assert writer.intruder() == ""


def test_what_recovery_leaves_is_no_intruder(store: Path) -> None:
    torn = tar_bytes("data00001a.tar", [CHAIN[1]], closed=False)
    (store / "data00001a.tar").write_bytes(torn + b"x" * 700)
    (store / "data00000b.tar").write_bytes(tar_bytes("data00000b.tar", CHAIN[:1]))
    with StoreWriter.open(store, disk=QuickDisk()) as writer:
        assert writer.repairs
        assert writer.intruder() == ""
        commit(writer, 2)


INTRUDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a head": (lambda d: add_heads(d, FOREIGN.segment), "somebody else wrote a head into it"),
    "a journal cut": (lambda d: (d / "journal.log").write_bytes(b""), "or cut it"),
    "another journal": (lambda d: replaced(d / "journal.log"), "journal.log was replaced"),
    "a new tar": (
        lambda d: (
            (d / "data00009a.tar").write_bytes(tar_bytes("data00009a.tar", [FOREIGN])) and None
        ),
        "data00009a.tar appeared",
    ),
    "a later letter": (
        lambda d: (
            (d / "data00000b.tar").write_bytes(tar_bytes("data00000b.tar", [FOREIGN])) and None
        ),
        "data00000b.tar appeared",
    ),
    "another tar": (lambda d: replaced(d / "data00000a.tar"), "data00000a.tar was replaced"),
}


@pytest.mark.parametrize("case", INTRUDERS)
def test_before_the_next_head_an_intruder_is_noticed(
    writer: StoreWriter, store: Path, case: str
) -> None:
    intrude, what = INTRUDERS[case]
    intrude(store)
    before = (store / "journal.log").read_bytes()
    assert what in writer.intruder()
    with pytest.raises(StoreLockedError, match="no head is set"):
        commit(writer, 1)
    with pytest.raises(StoreLockedError, match="nothing more is written"):
        writer.flush()
    assert (store / "journal.log").read_bytes() == before


def test_a_journal_that_somebody_else_began(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "new", create=True, disk=QuickDisk()) as writer:
        add_heads(tmp_path / "new", FOREIGN.segment)
        assert "journal.log appeared" in writer.intruder()


@pytest.mark.parametrize("name", ["data00000a.tar", "journal.log"])
def test_what_was_removed_is_no_intruder_but_damage(
    writer: StoreWriter, store: Path, name: str
) -> None:
    (store / name).unlink()
    with pytest.raises(DamagedStoreError, match=f"{name} was removed while it was in use"):
        writer.intruder()
    with pytest.raises(DamagedStoreError):
        commit(writer, 1)


@pytest.mark.parametrize("again", [False, True], ids=["removed", "replaced"])
def test_a_lock_file_that_is_gone_is_a_lock_that_is_lost(
    writer: StoreWriter, store: Path, again: bool
) -> None:
    (store / lock.NAME).unlink()
    if again:
        (store / lock.NAME).touch()
    with pytest.raises(StoreLockedError, match="was removed or replaced"):
        commit(writer, 1)
    assert writer.intruder() == "", "nobody wrote"
