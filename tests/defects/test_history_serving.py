"""Oak's history of bugs in what a primary answers: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from leaks import Leftovers
from links import Rig
from oak_samples import Whole
from planted import BOTH, found
from sides import TAR, MasterSide, chain, store_of
from standbys import standby
from stores import add_heads, bulk, content, data_id, head_in, leaf, make_store

from tarfailover.errors import BlobMissingError, ProtocolError
from tarfailover.format.blobid import BlobId
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.master import oak, oaksources
from tarfailover.master.oak import HEAD_WAIT
from tarfailover.master.oaksources import BLOB_CHUNK, OakSource
from tarfailover.master.segments import SegmentSource
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.wire import messages as m
from tarfailover.wire.oak import answers, frames
from tarfailover.wire.oak.frames import AnswerParser, BlobPart, HeadAnswer
from tarfailover.wire.oak.requests import GetBlob, GetHead, GetSegment

pytestmark = pytest.mark.load

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)
NONE_SUCH = data_id(999)
GIB = 2**30


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(rig, store_of(tmp_path / "store", SAMPLES))
    yield side
    side.close()


# what was answered wrong, or not at all


@BOTH
def test_oak_1915_a_segment_of_full_size_is_served(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 2014 the limit of a frame forgot the hash."""
    if planted:
        monkeypatch.setattr("tarfailover.wire.oak.answers.MAX_SEGMENT", MAX_SEGMENT - 8)
    full = bulk(1, MAX_SEGMENT)
    side = MasterSide(rig, store_of(tmp_path / "s", [full, leaf(1, [full.segment])]))
    peer, _ = standby(side)
    peer.ask(GetSegment(full.segment))
    rig.settle()
    with found(planted):
        assert peer.take() == [Whole(full.segment, full.data)]
    side.close()


@BOTH
def test_oak_3762_a_segment_that_is_not_there_ends_nothing(
    planted: bool, master: MasterSide, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was raised as something that the server did not expect any more."""
    if planted:
        holder = OakSource._holder

        def another(self: OakSource, segment: bytes) -> Any:
            if segment == NONE_SUCH:
                raise LookupError("segment not found")
            return holder(self, segment)

        monkeypatch.setattr(OakSource, "_holder", another)
    peer, link = standby(master)
    peer.ask(GetSegment(NONE_SUCH), GetHead())
    master.rig.settle()
    with found(planted):
        assert peer.take() == [HeadAnswer(HEAD)] and link.alive
        assert any("it is not, or no longer, in the master's store" in line for line in log)


@BOTH
def test_oak_3762_a_slave_is_told_that_a_segment_is_not_there(
    planted: bool, master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        located = SegmentSource._located

        def all_of_them(self: SegmentSource) -> Any:
            places = located(self)
            if None in places:
                raise LookupError("segment not found")
            return places

        monkeypatch.setattr(SegmentSource, "_located", all_of_them)
    slave, link = master.welcome()
    slave.ask(m.Get((NONE_SUCH,)))
    slave.ask(m.Head(None, 0))
    master.rig.settle()
    with found(planted):
        answers = slave.take()
        assert [each for each in answers if isinstance(each, m.Error)] == []
        assert any(isinstance(each, m.HeadIs) for each in answers) and link.alive
        told = b"is not, or no longer, in the master's store"
        assert any(told in each.data for each in answers if isinstance(each, m.Part))


@BOTH
def test_oak_6653_a_head_is_told_once_all_of_it_is_there(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-4917, 5034, 6653: the journal names a head whose segment is in no tar yet."""
    new = leaf(99, [SAMPLES[-1].segment])
    made = make_store(
        tmp_path / "s", {"data00000a.tar": SAMPLES}, [SAMPLES[-1].segment, new.segment]
    )
    side = MasterSide(rig, made)
    if planted:
        monkeypatch.setattr(
            oak.answers, "head", lambda _: oak.answers.text_frame(0, head_in(new.segment).hex)
        )
    peer, _ = standby(side)
    peer.ask(GetHead())
    rig.settle()
    with found(planted):
        assert peer.take() == [HeadAnswer(HEAD)]
    side.close()


@BOTH
def test_oak_6641_a_head_that_is_not_there_yet_is_waited_for(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-6641, 6678, 6829: there was no answer, and the standby took that for the end."""
    if planted:
        monkeypatch.setattr(oak, "HEAD_WAIT", 0.0)
    side = MasterSide(rig, make_store(tmp_path / "s", {TAR: SAMPLES}, []))
    peer, _ = standby(side)
    peer.ask(GetHead())
    rig.pass_time(HEAD_WAIT - 1)
    add_heads(side.factory._follower.directory, SAMPLES[-1].segment)
    side.refresh()
    with found(planted):
        assert peer.take() == [HeadAnswer(HEAD)]
    side.close()


# binaries


class Endless:
    """A blob store with one binary of 5 GiB, whose disk fails after 12 MiB."""

    read = 0

    def parse(self, name: str) -> BlobId:
        """Any id is that of the binary."""
        return BlobId(name, (), 5 * GIB)

    def length(self, blob: BlobId) -> int:
        """As `BlobStore.length`."""
        assert blob.length is not None
        return blob.length

    def pieces(self, blob: BlobId) -> Iterator[bytes]:
        """As `BlobStore.pieces`."""
        del blob
        for _ in range(12):
            self.read += 1
            yield content(1, BLOB_CHUNK)
        raise BlobMissingError("the disk fails")


@BOTH
def test_oak_5902_a_binary_of_more_than_two_gib_goes_out_as_it_is_read(
    planted: bool, master: MasterSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-5902, 6565: it was read into memory, and its length had 32 bits."""
    if planted:
        monkeypatch.setattr(oaksources, "_chunks", lambda store, blob: iter([_all(store, blob)]))
    endless = Endless()
    master.factory.blobs = endless  # type: ignore[assignment]  # as far as it goes
    peer, link = standby(master)
    link.master.held = True
    peer.ask(GetBlob("long"), GetHead())
    master.rig.settle()
    with found(planted):
        assert endless.read <= 6
    link.master.held = False
    master.rig.settle()
    with found(planted):
        first = peer.take()[0]
        assert isinstance(first, Whole)
        assert first.what == ("long", 5 * GIB, True, False)


def _all(store: Any, blob: BlobId) -> bytes:
    return b"".join(store.pieces(blob))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    (tmp_path / "blobs").mkdir()
    return BlobStore(tmp_path / "blobs", DATA_STORE)


def stored(blobs: BlobStore, data: bytes, shorter: int = 0) -> str:
    """Put a binary there, of which the last bytes are lost; its id."""
    digest = hashlib.sha256(data).hexdigest()
    path = blobs.path / blobs.layout.place(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[: len(data) - shorter])
    return f"{digest}#{len(data)}"


@BOTH
def test_oak_6661_a_binary_that_is_too_short_never_ends(
    planted: bool, master: MasterSide, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for the binary, however many bytes came."""
    if planted:

        def unchecked(self: OakSource, name: str) -> Iterator[bytes]:
            data = next(blobs.files()).path.read_bytes()
            total = int(name.partition("#")[2])
            chunk = answers.blob_chunk(name, total, data, first=True, last=True)
            yield self._packer.pack(*chunk)

        monkeypatch.setattr(OakSource, "_blob", unchecked)
    master.factory.blobs = blobs
    name = stored(blobs, content(7, BLOB_CHUNK + 1000), shorter=500)
    peer, link = standby(master)
    peer.ask(GetBlob(name), GetHead())
    master.rig.settle()
    *chunks, head = peer.take()
    assert head == HeadAnswer(HEAD) and link.alive
    with found(planted):
        assert not any(each.what[3] for each in chunks if isinstance(each, Whole))


@BOTH
@pytest.mark.parametrize("size", [100_000, 3 * BLOB_CHUNK])
def test_oak_6626_a_chunk_may_have_any_size(
    planted: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary is told how long its chunks are; whoever follows it is told nothing."""
    if planted:
        monkeypatch.setitem(frames._SIZES, frames.BLOB, (BLOB_CHUNK, BLOB_CHUNK + 100))
    data = content(1, size + 1000)
    sent = [
        answers.blob_chunk("b", len(data), data[:size], first=True, last=False),
        answers.blob_chunk("b", len(data), data[size:], first=False, last=True),
    ]
    with found(planted):
        try:
            assert _blob_in(b"".join(b"".join(chunk) for chunk in sent)) == data
        except ProtocolError as error:
            raise AssertionError from error


def _blob_in(frames: bytes) -> bytes:
    came = AnswerParser().feed(frames)
    return b"".join(bytes(part.data) for part in came if isinstance(part, BlobPart))


@BOTH
@pytest.mark.parametrize("how", ["whole", "cut"])
def test_oak_6678_no_file_of_a_binary_stays_open(
    planted: bool, how: str, master: MasterSide, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the transfer ends."""
    kept: list[int] = []
    if planted:
        pieces = BlobStore.pieces

        def opened(self: BlobStore, blob: BlobId) -> Iterator[bytes]:
            kept.append(os.open(self.path, os.O_RDONLY))
            return pieces(self, blob)

        monkeypatch.setattr(BlobStore, "pieces", opened)
    master.factory.blobs = blobs
    name = stored(blobs, content(7, 20 * BLOB_CHUNK))
    before = Leftovers.now()
    peer, link = standby(master)
    link.master.held = how == "cut"
    peer.ask(GetBlob(name))
    master.rig.settle()
    link.cut()
    master.rig.settle()
    with found(planted):
        assert not Leftovers.now().left_since(before)
    for each in kept:
        os.close(each)
