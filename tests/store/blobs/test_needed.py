"""Which binaries a head needs: by the lists of tars, by segments, through closures."""

from __future__ import annotations

import struct
from pathlib import Path

import handmade
import pytest
from blob_samples import with_blobs
from format_samples import data_segment

from tarfailover.errors import DamagedStoreError
from tarfailover.ids import NO_GENERATION
from tarfailover.store.blobs import open_blob_store
from tarfailover.store.blobs.needed import Mention, mentioned, needed
from tarfailover.store.closure import walk
from tarfailover.store.follower import Follower

OLD = handmade.data(1, blob=b"old#1")
BULK = handmade.bulk(2)
SHARED = handmade.data(3, BULK, blob=b"shared#1")
HEAD = handmade.data(4, SHARED, blob=b"head#1")
SAME = handmade.data(5, HEAD, blob=b"shared#1")
PIECES = [OLD, BULK, SHARED, HEAD, SAME]


def tars(*, closed: bool, blobs: dict | None = None) -> dict[str, bytes]:
    name = "data00000a.tar"
    if not closed:
        return {name: handmade.open_tar(PIECES)}
    return {name: handmade.closed_tar(name, PIECES, blobs=blobs)}


@pytest.mark.parametrize("closed", [True, False])
def test_what_the_closure_mentions_is_needed(tmp_path: Path, closed: bool) -> None:
    store = handmade.store(tmp_path / "s", tars(closed=closed), handmade.line(SAME))
    with Follower.open(store) as follower:
        snapshot = follower.snapshot
        assert list(needed(snapshot, [HEAD.segment])) == [
            Mention(b"shared#1", SHARED.segment),
            Mention(b"head#1", HEAD.segment),
        ]
        assert [each.blob for each in needed(snapshot, [SAME.segment, OLD.segment])] == [
            b"old#1",
            b"shared#1",
            b"head#1",
        ]
        # Only what is new since an older head.
        known = bytearray(snapshot.count)
        for rank in walk(snapshot, [SHARED.segment]).ranks:
            known[rank] = 1
        fresh = walk(snapshot, [HEAD.segment], known).ranks
        assert [each.blob for each in mentioned(snapshot, fresh)] == [b"head#1"]
        assert not list(mentioned(snapshot, fresh[:0]))


def test_a_damaged_list_is_no_reason_to_forget_a_binary(tmp_path: Path) -> None:
    files = tars(closed=True)
    at = files["data00000a.tar"].index(b"head#1", len(handmade.open_tar(PIECES)))
    store = handmade.store(tmp_path / "s", files, handmade.line(SAME))
    handmade.flip(store / "data00000a.tar", at)
    with Follower.open(store) as follower:
        found = [each.blob for each in needed(follower.snapshot, [HEAD.segment])]
    assert found == [b"shared#1", b"head#1"]


def test_the_list_of_each_tar_counts_for_its_segments(tmp_path: Path) -> None:
    first, second = "data00000a.tar", "data00001a.tar"
    files = {
        first: handmade.closed_tar(first, [OLD, BULK, SHARED]),
        second: handmade.closed_tar(second, [HEAD, SAME]),
    }
    store = handmade.store(tmp_path / "s", files, handmade.line(SAME))
    with Follower.open(store) as follower:
        found = [each.blob for each in needed(follower.snapshot, [SAME.segment])]
    assert found == [b"shared#1", b"head#1", b"shared#1"]


def test_a_segment_that_cannot_be_looked_through_is_told(tmp_path: Path) -> None:
    broken = handmade.Piece(
        HEAD.segment,
        data_segment(NO_GENERATION, [], [(8, b"\xf0" + struct.pack(">HI", 7, 1))]),
    )
    store = handmade.store(
        tmp_path / "s", {"data00000a.tar": handmade.open_tar([broken])}, handmade.line(broken)
    )
    with (
        Follower.open(store) as follower,
        pytest.raises(DamagedStoreError, match=r"data00000a\.tar, offset \d+: .*restore the file"),
    ):
        list(needed(follower.snapshot, [HEAD.segment]))


@pytest.mark.parametrize("kind", ["file", "blocks"])
def test_real_oaks_store_needs_what_is_in_its_blob_store(tmp_path: Path, kind: str) -> None:
    directory, blobs = with_blobs(kind, tmp_path)
    store = open_blob_store(blobs)
    with Follower.open(directory) as follower:
        head = follower.head().record.segment
        found = [store.parse(each.blob) for each in needed(follower.snapshot, [head])]
    assert len(found) == 4 and all(map(store.has, found))
    for each in found:
        store.verify(each)
    names = set().union(*map(store.digests, found))
    assert names == {each.digest for each in store.files()}
