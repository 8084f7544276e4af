"""The history of Oak's bugs, as far as a standby's store can have them.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bare_copies import opened, take, tars_size
from content import Edit, write
from format_samples import data_segment
from links import Rig
from oak_sides import serving
from planted import BOTH, found
from sides import SlaveSide
from stores import (
    Sample,
    bulk,
    closure_in,
    data_id,
    head_in,
    leaf,
    make_store,
    state_of,
)

from tarfailover.errors import UnsupportedStoreError
from tarfailover.format.segment import BLOB_ID, VALUE
from tarfailover.ids import NO_GENERATION, SegmentId, is_data
from tarfailover.repository import checkpoints
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.values import Property
from tarfailover.slave import status
from tarfailover.slave.copy import Copy
from tarfailover.slave.oak.closure import Closure
from tarfailover.store import blobids
from tarfailover.store import writer as writers
from tarfailover.store.follower import Follower
from tarfailover.store.opentar import Incoming
from tarfailover.store.receiver import Receiver
from tarfailover.store.writer import StoreWriter
from tarfailover.wire.messages import HeadIs

pytestmark = pytest.mark.load


# the same records, and no others


def first(top: NodeBuilder, _: RepositoryWriter) -> None:
    """Some content."""
    for number in range(100):
        page = top.child("root").child(f"page{number}")
        page.set("text", Property.of(random.Random(number).randbytes(100).hex()))


def kept(number: int) -> Edit:
    """Checkpoint `number` of it, beside a small change."""

    def edit(top: NodeBuilder, _: RepositoryWriter) -> None:
        checkpoints.create(top, 1, 10**12, {}, random.Random(number).randbytes)
        top.child("root").child("page0").set("text", Property.of(f"changed {number}"))

    return edit


def rebuilt(state: NodeState) -> NodeBuilder:
    """All of a tree, node by node, as if nothing of it were stored."""
    made = NodeBuilder()
    for prop, value in state.properties():
        made.set(prop, value)
    for name, child in state.children():
        made._children[name] = rebuilt(child)
    return made


@BOTH
def test_oak_2430_a_copy_grows_no_more_than_its_master_with_each_checkpoint(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content was written anew, and what checkpoints had shared was shared no more."""
    commit, chance = Copy.commit, random.Random(9)

    def node_by_node(self: Copy, head: Any, cursor: bytes) -> None:
        commit(self, head, cursor)
        own = RepositoryWriter(self.writer, chance.randbytes, wid="test", now=lambda: 1)
        assert own.head is not None
        own.commit(rebuilt(own.head))

    if planted:
        monkeypatch.setattr(Copy, "commit", node_by_node)
    heads = write(tmp_path / "master", first, *map(kept, range(5)), top=True)
    with Follower.open(tmp_path / "master") as follower:
        needed = closure_in(follower.snapshot, heads[-1].segment)
    copy = opened(tmp_path / "copy")
    for head in heads:
        take(copy, *[Sample(segment, data) for segment, data in needed.items()])
        copy.commit(HeadIs(head, 1, NO_GENERATION, True), b"")
    own = copy.head
    copy.close()
    with found(planted):
        assert tars_size(tmp_path / "copy") <= tars_size(tmp_path / "master")
        assert own == heads[-1]


# references first


def out_of_order(writer: StoreWriter) -> list[SegmentId]:
    """The segments that lie in the tars before something that they refer to."""
    with writer.snapshot() as snapshot:
        return [
            segment
            for rank, segment in enumerate(map(snapshot.segment, range(snapshot.count)))
            if any(snapshot.find(each) > rank for each in snapshot.references(segment))
        ]


def gone_with_oak(writer: StoreWriter) -> list[SegmentId]:
    """The bulk segments that Oak's cleanup removes: it goes through the tars once, from the end.

    Facts: storage format, sections 7 and 9.
    """
    needed, gone = set[SegmentId](), list[SegmentId]()
    with writer.snapshot() as snapshot:
        for segment in map(snapshot.segment, reversed(range(snapshot.count))):
            if is_data(segment) or segment in needed:
                needed.update(snapshot.references(segment))
            else:
                gone.append(segment)
    return gone


def as_it_comes(self: Receiver, verified: Sequence[Incoming], batch: Any) -> list[SegmentId]:
    """Plant: what came is stored, whatever it refers to."""
    del self
    batch.ready = {each.segment: each for each in verified}
    return []


@BOTH
def test_oak_2817_a_cleanup_of_oaks_finds_what_is_still_needed(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With parents stored before their children it removed bulk segments of the head."""
    if planted:
        monkeypatch.setattr(Receiver, "_sort", as_it_comes)
    copy = opened(tmp_path)
    large = [bulk(number, 1000) for number in range(3)]
    parent = leaf(1, [each.segment for each in large])
    take(copy, parent)
    take(copy, *large)
    copy.commit(HeadIs(head_in(parent.segment), 1, NO_GENERATION, True), b"")
    with found(planted):
        assert gone_with_oak(copy.writer) == []
    copy.close()


@BOTH
def test_oak_8063_the_order_is_topological_however_references_lead_back(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breadth first and turned round is not: a segment may be found before one that needs it."""
    if planted:
        breadth_first(monkeypatch)
        monkeypatch.setattr(Receiver, "_sort", as_it_comes)
    early = leaf(1)
    late = leaf(2, [early.segment])
    serving(rig, [early, late, leaf(3, [early.segment, late.segment])])
    slave = SlaveSide(rig, tmp_path, dialect="oak").start()
    assert slave.state == status.IN_SYNC
    assert slave.service.copy is not None
    with found(planted):
        assert out_of_order(slave.service.copy.writer) == []
    slave.stop()


def breadth_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant: what was found is fetched in the order in which it was found, turned round."""
    wait, ready = Closure._wait, Closure.ready
    order: list[SegmentId] = []

    def noting(self: Closure, segment: SegmentId, needed: SegmentId) -> None:
        if needed not in self._waiting:
            order.append(needed)
        wait(self, segment, needed)

    def turned_round(self: Closure) -> list[SegmentId]:
        got = ready(self)
        rest = [each for each in got if each not in order]
        if not self.complete:
            return []
        given = order[::-1] + rest
        order.clear()
        return given

    monkeypatch.setattr(Closure, "_wait", noting)
    monkeypatch.setattr(Closure, "ready", turned_round)


@BOTH
def test_oak_8006_a_long_blob_id_may_lie_in_the_segment_that_has_it(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text was read from a segment that was just being stored: "segment not found"."""
    if planted:
        strings = blobids._Strings
        monkeypatch.setattr(strings, "load", lambda self, segment: self._read(segment))
    blob = b"blob" * 1100
    text = struct.pack(">H", 0x8000 | len(blob) - 128) + blob
    records = [(VALUE, text), (BLOB_ID, b"\xf0" + struct.pack(">HI", 0, 0))]
    own = Sample(data_id(1), data_segment(NO_GENERATION, [], records))
    serving(rig, [own])
    slave = SlaveSide(rig, tmp_path, dialect="oak").start()
    with found(planted):
        assert slave.state == status.IN_SYNC
    slave.stop()
    if not planted:
        # It stands in the tar's binary references, from which garbage is told.
        assert blob in (tmp_path / "data00000a.tar").read_bytes().split(b"data00000a.tar.brf")[1]


# stores of another age


@BOTH
def test_oak_3927_an_old_store_is_not_made_a_new_one_by_accident(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever only looked at it, or gave the wrong directory, had it converted."""
    if planted:
        monkeypatch.setattr(writers, "check_manifest", lambda _: None)
    store = make_store(tmp_path, {"data00000a.tar": [leaf(1)]}, [leaf(1).segment])
    (store / "manifest").unlink()
    before = state_of(store)
    refused = []
    for attempt in (opened, StoreWriter.open, Follower.open):
        try:
            attempt(store).close()  # type: ignore[operator]
        except UnsupportedStoreError as error:
            refused.append(str(error))
    with found(planted):
        assert [text for text in refused if "migrate it with oak-upgrade" in text] == refused
        assert len(refused) == 3
        assert state_of(store).keys() == before.keys()
