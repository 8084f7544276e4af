"""The history of Oak's bugs, as far as a standby can have them of external binaries.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from binaries import Both, holder, id_of
from blob_samples import put
from content import external, write
from links import Rig
from oak_sides import Served, ServingPrimary
from planted import BOTH, found
from sides import SlaveSide, served
from stores import QuickDisk, content, head_in, leaf

from tarfailover.format import blobid
from tarfailover.ids import RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.values import Property
from tarfailover.slave import status
from tarfailover.slave.blobcopy import ABANDONED, BlobCopy
from tarfailover.store import journal
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.store.durable import Disk

pytestmark = pytest.mark.load

ONE, TWO, LARGE = b"one " * 300, b"two " * 700, content(1, 3_000_000)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    made = Both(tmp_path)
    yield made
    made.end()


@BOTH
def test_oak_2347_binaries_of_a_data_store_are_copied(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby had no word to ask for them, and a head without them."""
    if planted:
        monkeypatch.setattr(BlobCopy, "_lacking", lambda *_: [])
    both.serve(holder(1, [put(both.theirs, ONE).text, put(both.theirs, TWO).text]))
    slave = both.follow()
    assert slave.state == status.IN_SYNC
    with found(planted):
        assert both.has(ONE, TWO)


@BOTH
def test_oak_3963_what_was_looked_at_is_not_looked_at_again(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint was walked, all of it, for binaries that were there long since."""
    keep, lacking = BlobCopy.keep, BlobCopy._lacking
    looked_at: list[bytes] = []

    def forgetting(self: BlobCopy, *args: Any) -> None:
        keep(self, *args)
        self._checked = bytearray()

    def noting(self: BlobCopy, raw: Any) -> Any:
        looked_at.append(raw)
        return lacking(self, raw)

    monkeypatch.setattr(BlobCopy, "_lacking", noting)
    if planted:
        monkeypatch.setattr(BlobCopy, "keep", forgetting)
    first = holder(1, [put(both.theirs, bytes([number])).text for number in range(20)])
    both.serve(first)
    both.follow()
    looked_at.clear()
    new = put(both.theirs, ONE).text
    both.commit(holder(2, [new], [first.segment]))
    assert both.slave.state == status.IN_SYNC
    with found(planted):
        assert looked_at == [new.encode()]


@BOTH
def test_oak_3963_without_a_blob_store_nothing_is_looked_at(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not planted:
        both.settings = {}
    begun: list[object] = []
    begin = BlobCopy.begin
    monkeypatch.setattr(
        BlobCopy, "begin", lambda self, *args: [begun.append(args), begin(self, *args)]
    )
    both.serve(holder(1, [put(both.theirs, ONE).text]))
    assert both.follow().state == status.IN_SYNC
    with found(planted):
        assert not begun


@BOTH
def test_oak_4969_a_binary_that_changed_is_brought_before_it_is_read(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A property had another binary, and comparing both read the new one, which was not there."""
    rig, theirs = Rig(), BlobStore(tmp_path / "theirs", DATA_STORE, QuickDisk())
    own = BlobStore(tmp_path / "own", DATA_STORE)
    theirs.path.mkdir()

    def commit(data: bytes) -> RecordId:
        blob = put(theirs, data).text

        def edit(top: NodeBuilder, writer: RepositoryWriter) -> None:
            top.child("page").set("data", Property.of(external(writer, blob)))

        return write(tmp_path / "store", edit, seed=len(data))[-1]

    lacking = BlobCopy._lacking

    def comparing(self: BlobCopy, raw: Any) -> Any:
        self.store.verify(self.store.parse(raw))
        return lacking(self, raw)

    commit(ONE)
    master = served(rig, tmp_path / "store", blob_store=str(theirs.path))
    master.factory.blobs = theirs
    slave = SlaveSide(rig, tmp_path / "copy", blob_store=str(own.path)).start()
    assert slave.state == status.IN_SYNC
    if planted:
        monkeypatch.setattr(BlobCopy, "_lacking", comparing)
    head = commit(TWO)
    master.refresh()
    with found(planted):
        assert (slave.state, slave.head) == (status.IN_SYNC, head)
        own.verify(own.parse(id_of(TWO)))
    slave.stop()
    master.close()


class Half(ServingPrimary):
    """Sends the first chunk of a binary, and never the others."""

    def blob(self, name: str, data: bytes) -> None:
        """Answer a question for a blob."""
        frame, first = self.frame, True

        def once(*pieces: Any) -> None:
            nonlocal first
            if first:
                frame(*pieces)
            first = False

        self.frame = once  # type: ignore[method-assign]
        super().blob(name, data)
        self.frame = frame  # type: ignore[method-assign]


@BOTH
def test_oak_6659_a_large_binary_that_failed_is_told(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure was swallowed, and the head set without the binary."""
    if planted:
        settle = BlobCopy.settle
        monkeypatch.setattr(
            BlobCopy, "settle", lambda self, head, _, now: settle(self, head, {}, now)
        )
    rig, first = Rig(), leaf(1)
    second = holder(2, [id_of(LARGE)], [first.segment])
    primary = Served([first], head_in(first.segment))
    primary.blobs[id_of(LARGE)] = LARGE
    rig.master = lambda: Half(primary)
    own = str(tmp_path / "own")
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak", blob_store=own).start()
    primary.add(second)
    rig.pass_time(10, step=0.5)
    with found(planted):
        assert slave.state == status.FAILED
        assert id_of(LARGE) in slave.service.status.trouble
        assert re.search(r"ended after 1048576 of 3000000 bytes", slave.service.status.trouble)
        assert head_of(tmp_path / "copy") == head_in(first.segment)
    slave.stop()


def head_of(copy: Path) -> RecordId | None:
    """The head in the journal of a copy."""
    return next((line.head for line in journal.newest_first(copy / "journal.log")), None)


@BOTH
def test_oak_6749_a_binary_in_its_id_is_no_file(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-6667 too: it was looked for, and asked for, for ever."""
    if planted:
        monkeypatch.setattr(blobid, "_INLINE", re.compile("(?!)"))
    sample = holder(1, ["0x6869#2", "0x#0", "0x" + "61" * 500 + "#500"])
    both.serve(sample)
    slave = both.follow()
    with found(planted):
        assert (slave.state, slave.head) == (status.IN_SYNC, head_in(sample.segment))
        assert not list(both.ours.files())


def cut_in_the_middle(both: Both) -> SlaveSide:
    """A slave whose connection broke when a part of `LARGE` had come."""
    both.slave = slave = SlaveSide(both.rig, both.tmp_path / "copy", **both.settings)
    slave.service.startService()
    both.rig.until(lambda: bool(both.rig.links), "a connection")
    both.rig.link.cut_after = 1_500_000
    both.rig.settle()
    come = {each.digest: each.size for each in both.ours.partials()}
    assert come[id_of(LARGE)[:64]] > 1_000_000, "it goes on from there"
    return slave


@BOTH
def test_oak_7030_nothing_is_left_of_binaries_on_their_way(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of those that came in one go, nor of those that were cut."""
    if planted:
        monkeypatch.setattr(Disk, "move", lambda _, source, target: shutil.copyfile(source, target))
    both.serve(holder(1, [put(both.theirs, each).text for each in (ONE, TWO, LARGE)]))
    slave = cut_in_the_middle(both)
    both.rig.pass_time(5, step=0.5)
    assert slave.state == status.IN_SYNC and both.has(ONE, TWO, LARGE)
    with found(planted):
        assert not list(both.ours.partials())


@BOTH
def test_oak_7030_what_nothing_needs_any_more_goes_after_a_day(
    planted: bool, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(BlobCopy, "drop_abandoned", lambda *_: 0)
    both.rig.clock.advance(2 * ABANDONED)
    both.serve(holder(1, [put(both.theirs, LARGE).text]))
    slave = cut_in_the_middle(both)
    both.commit(leaf(2))
    both.rig.pass_time(5, step=0.5)
    assert slave.state == status.IN_SYNC
    (part,) = both.ours.partials()
    os.utime(part.path, (1, 1))
    both.commit(leaf(3), "data00002a.tar")
    assert slave.state == status.IN_SYNC
    with found(planted):
        assert not list(both.ours.partials())
