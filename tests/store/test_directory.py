"""Which directories are stores, and which tars count."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import leaf, make_store, tar_bytes

from tarfailover.errors import (
    DamagedStoreError,
    NotAStoreError,
    StoreIOError,
    UnsupportedStoreError,
)
from tarfailover.format.tar import TarName
from tarfailover.store import directory as directories
from tarfailover.store.directory import check_manifest, choose, release, tar_names


def test_tars_are_listed_by_number_and_letter_and_nothing_else_is(tmp_path: Path) -> None:
    names = ["data00010a.tar", "data00002b.tar", "data00002a.tar", "data00001.tar"]
    others = ["data1a.tar", "data00001a.tar.bak", "bulk00001a.tar", "journal.log", "x.tar"]
    for name in names + others:
        (tmp_path / name).write_bytes(b"")
    assert [str(name) for name in tar_names(tmp_path)] == names[::-1]


def test_what_is_no_directory_holds_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(NotAStoreError, match="is no directory"):
            tar_names(path)


def test_an_empty_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"holds no segment store$"):
        check_manifest(tmp_path)


def test_the_home_of_a_repository_is_told_from_its_store(tmp_path: Path) -> None:
    make_store(tmp_path / "segmentstore", {})
    with pytest.raises(NotAStoreError, match=r"did you mean .*segmentstore"):
        check_manifest(tmp_path)


def test_tars_without_a_manifest_are_a_legacy_store(tmp_path: Path) -> None:
    (tmp_path / "data00000a.tar").write_bytes(b"")
    with pytest.raises(UnsupportedStoreError, match=r"legacy oak-segment.*oak-upgrade"):
        check_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"store.version=1", b"store.version=2", b"other=3"])
def test_manifests_that_pass(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest").write_bytes(content)
    check_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "what"),
    [
        (b"store.version=3", UnsupportedStoreError, "store.version is 3; .* use a newer one"),
        (b"store.version=0", DamagedStoreError, "store.version is 0; 1 and 2 exist"),
        (b"store.version=two", DamagedStoreError, "manifest, offset 0: .*restore it"),
    ],
)
def test_manifests_that_do_not(
    tmp_path: Path, content: bytes, error: type[Exception], what: str
) -> None:
    (tmp_path / "manifest").write_bytes(content)
    with pytest.raises(error, match=what):
        check_manifest(tmp_path)


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest").mkdir()
    with pytest.raises(StoreIOError, match="manifest: cannot read"):
        check_manifest(tmp_path)


def chosen(directory: Path) -> tuple[list[str], list[str]]:
    choice = choose(directory, tar_names(directory))
    found = [str(reader.name) for reader in choice.winners], [str(n) for n in choice.losers]
    release(choice.winners)
    return found


GOOD = [leaf(1)]
HALF = tar_bytes("data00000b.tar", GOOD, closed=False)


def test_the_last_letter_with_an_index_wins(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": GOOD, "data00000b.tar": HALF})
    assert chosen(tmp_path) == (["data00000a.tar"], ["data00000b.tar"])
    make_store(tmp_path, {"data00000c.tar": GOOD})
    assert chosen(tmp_path) == (["data00000c.tar"], ["data00000a.tar", "data00000b.tar"])


def test_without_any_index_all_letters_are_scanned(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000.tar": HALF, "data00000b.tar": HALF})
    choice = choose(tmp_path, tar_names(tmp_path))
    assert [str(reader.name) for reader in choice.winners] == ["data00000.tar", "data00000b.tar"]
    assert [reader.count for reader in choice.winners] == [1, 1]
    assert choice.losers == []
    release(choice.winners)


def test_a_tar_that_vanishes_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000b.tar": HALF})
    with pytest.raises(StoreIOError) as caught:
        choose(tmp_path, [TarName(0, "a"), TarName(0, "b")])
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_directory_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterdir(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(directories.Path, "iterdir", iterdir)
    with pytest.raises(StoreIOError, match="cannot list: Permission denied; give this user"):
        tar_names(tmp_path)
