"""The list of missing binaries: kept, read back, and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import QuickDisk

from tarfailover.errors import DamagedStoreError
from tarfailover.store.blobs import missing as module
from tarfailover.store.blobs.missing import NAME, Missing, MissingBlobs, told_of

ENTRIES = st.builds(
    Missing,
    st.text(),
    st.lists(st.text(), max_size=3).map(tuple),
    st.booleans(),
    st.floats(0, 1e11),
)


@given(st.text(), st.dictionaries(st.text(), ENTRIES, max_size=4))
def test_what_is_kept_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, store: str, blobs: dict[str, Missing]
) -> None:
    directory = tmp_path_factory.getbasetemp()
    listed = MissingBlobs(store, blobs)
    listed.save(directory, QuickDisk())
    assert MissingBlobs.load(directory) == listed


def test_no_file_is_an_empty_list(tmp_path: Path) -> None:
    assert MissingBlobs.load(tmp_path) == MissingBlobs()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"7", b"[]", b"{}", b'{"format": 2, "blob_store": "", "missing": []}',
        b'{"format": 1, "blob_store": ""}', b'{"format": 1, "blob_store": "", "missing": 7}',
        b'{"format": 1, "blob_store": "", "missing": [{"id": "a"}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_list(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DamagedStoreError, match=r"not the list of missing binaries.*remove the"):
        MissingBlobs.load(tmp_path)


def test_one_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT", 100)
    MissingBlobs("x" * 100).save(tmp_path, QuickDisk())
    with pytest.raises(DamagedStoreError, match="larger than 100 bytes"):
        MissingBlobs.load(tmp_path)


def test_in_words() -> None:
    paths = tuple(f"/page{number}/data" for number in range(5))
    listed = {
        "a#1": Missing("gone", paths),
        "b\n\x1b[2J": Missing("gone", (), unneeded=True),
        "c" * 300: Missing("gone"),
        "d": Missing("gone"),
    }
    told = told_of(listed)
    assert "a#1 (at /page0/data, /page1/data and 3 more: gone)" in told
    assert "'b\\n\\x1b[2J' (no node has it: gone)" in told
    assert "c" * 200 + "… (its paths are not known: gone); and 1 more" in told
    assert told.isprintable() and told_of({}) == ""
