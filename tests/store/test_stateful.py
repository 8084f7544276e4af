"""A store equals its model over any course of storing, committing, crashing and opening."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from crash import Drive, RecordingDisk, crashes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from stores import Sample, bulk, closure_in, head_in, leaf

from tarfailover.ids import RecordId
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter


class StoreMachine(RuleBasedStateMachine):
    """`samples` is all that was ever stored; `heads` all heads ever tried, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.drive = Drive()
        self.samples: dict[bytes, Sample] = {}
        self.heads: list[RecordId] = []
        self.promised = -1
        self.number = 0
        self.writer: StoreWriter | None = None
        self.follower: Follower | None = None

    def teardown(self) -> None:
        if self.follower is not None:
            self.follower.close()
        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.directory)

    @initialize()
    def create(self) -> None:
        self.open(3000)

    @precondition(lambda self: self.writer is None)
    @rule(limit=st.sampled_from([1024, 3000, 10**6]))
    def open(self, limit: int) -> None:
        self.disk = RecordingDisk(self.drive)
        self.writer = StoreWriter.open(
            self.directory,
            create=True,
            headless=self.promised < 0,
            tar_limit=limit,
            disk=self.disk,
            clock=lambda: 1.0,
        )
        place = self.heads.index(self.writer.head) if self.writer.head else -1
        assert place >= self.promised
        self.promised = place

    def stored(self) -> list[Sample]:
        assert self.writer is not None
        return [s for s in self.samples.values() if self.writer.contains(s.segment)]

    def add(self, sample: Sample) -> None:
        assert self.writer is not None
        self.samples[sample.segment] = sample
        self.writer.append(sample.segment, sample.data)

    @precondition(lambda self: self.writer is not None)
    @rule(size=st.sampled_from([1, 511, 512, 1500]))
    def store_bulk(self, size: int) -> None:
        self.number += 1
        self.add(bulk(self.number, size))

    @precondition(lambda self: self.writer is not None)
    @rule(draw=st.data())
    def store_data(self, draw: st.DataObject) -> None:
        self.number += 1
        known = sorted(s.segment for s in self.stored())
        some = st.lists(st.sampled_from(known), max_size=3, unique=True) if known else st.just([])
        self.add(leaf(self.number, draw.draw(some)))

    @precondition(lambda self: self.writer is not None)
    @rule()
    def flush(self) -> None:
        assert self.writer is not None
        self.writer.flush()

    @precondition(lambda self: self.writer is not None)
    @rule(draw=st.data())
    def commit(self, draw: st.DataObject) -> None:
        assert self.writer is not None
        fresh = {head_in(s.segment) for s in self.stored() if s.segment[8] >> 4 == 0xA}
        fresh -= set(self.heads)
        if fresh:
            head = draw.draw(st.sampled_from(sorted(fresh)))
            self.heads.append(head)
            self.writer.commit(head, len(self.heads))
            self.promised = len(self.heads) - 1

    def settle(self) -> None:
        for step in self.disk.steps:
            self.drive.apply(step)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None
        self.settle()

    @precondition(lambda self: self.writer is not None)
    @rule(draw=st.data())
    def crash(self, draw: st.DataObject) -> None:
        assert self.writer is not None
        self.settle()
        self.writer._abandon()
        self.writer = None
        _, self.drive = draw.draw(st.sampled_from(list(crashes(self.drive))))
        if self.follower is not None:
            self.follower.close()
            self.follower = None
        self.drive.write_to(self.directory)

    @invariant()
    def readers_see_what_was_promised(self) -> None:
        if self.promised < 0:
            return
        if self.follower is None:
            self.follower = Follower.open(self.directory)
        shown = self.follower.refresh()
        head = self.follower.head().record
        assert self.heads.index(head) >= self.promised
        for segment, data in closure_in(shown, head.segment).items():
            assert self.samples[segment].data == data


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase
