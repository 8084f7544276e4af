"""A slave that pulls, its cleanup, and a collection, step by step in any order.

Whatever the order: all that the head's segments mention is in the blob store, always.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import handmade
from blob_samples import one_file_id, put
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stores import QuickDisk

from tarfailover.store.blobs import DATA_STORE, BlobStore, Stored, adding
from tarfailover.store.blobs import collect as module
from tarfailover.store.blobs.collect import Collection
from tarfailover.store.blobs.needed import needed
from tarfailover.store.follower import Follower

BLOBS = [b"blob%d" % number for number in range(4)]
NOW = 1_600_000_000 * 10**9
LONG_AGO = NOW - 10**15


class Beside(RuleBasedStateMachine):
    """One copy; files are as old as can be unless they were just written."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
        self.store = BlobStore(self.home / "blobs", DATA_STORE, QuickDisk())
        self.number = 0
        self.tar = 0
        self.pulled: list[handmade.Piece] = []
        """Segments in the newest tar that no head needs yet."""
        self.head: handmade.Piece | None = None
        self.collection: Collection | None = None
        self.sweep: Iterator[Stored] = iter(())

    @initialize()
    def begin(self) -> None:
        self.head = handmade.data(0, blob=one_file_id(DATA_STORE, BLOBS[0]).text.encode())
        for content in BLOBS:
            put(self.store, content)
        self.directory = handmade.store(
            self.home / "segments",
            {"data00000a.tar": handmade.open_tar([self.head])},
            handmade.line(self.head),
        )
        for content in BLOBS:
            self.age_of(content)

    @rule(blob=st.sampled_from(BLOBS))
    def pull_a_segment(self, blob: bytes) -> None:
        self.number += 1
        before = [self.pulled[-1]] if self.pulled else []
        text = one_file_id(DATA_STORE, blob).text.encode()
        piece = handmade.data(self.number, *before, blob=text)
        with (self.directory / f"data{self.tar:05}a.tar").open("ab") as tar:
            tar.write(handmade.entry(piece))
        self.pulled.append(piece)

    @precondition(lambda self: self.pulled)
    @rule()
    def bring_what_is_wanted_and_move_the_head(self) -> None:
        wanted = {raw for piece in self.pulled for raw in piece.blobs}
        for content in BLOBS:
            blob = one_file_id(DATA_STORE, content)
            if blob.text.encode() in wanted and self.store.wanted(blob):
                put(self.store, content)
                self.age_of(content)
        self.head = self.pulled[-1]
        with (self.directory / "journal.log").open("ab") as journal:
            journal.write(handmade.line(self.head))
        self.pulled = []

    @rule(blob=st.sampled_from(BLOBS))
    def pull_a_head(self, blob: bytes) -> None:
        self.pull_a_segment(blob)
        self.bring_what_is_wanted_and_move_the_head()

    @precondition(lambda self: not self.pulled)
    @rule()
    def clean_up(self) -> None:
        """What the head does not need is gone, and a new tar has been begun."""
        old = self.directory / f"data{self.tar:05}a.tar"
        with Follower.open(self.directory) as follower:
            snapshot = follower.snapshot
            assert self.head is not None
            kept = [self.head]
            while kept[-1].references:
                (below,) = kept[-1].references
                kept.append(handmade.Piece(below, snapshot.read(below)))
        kept.reverse()
        name = f"data{self.tar:05}b.tar"
        (self.directory / name).write_bytes(handmade.closed_tar(name, kept))
        old.unlink()
        (self.directory / name).rename(self.directory / f"data{self.tar:05}c.tar")
        self.tar += 1
        self.pulled = []
        (self.directory / f"data{self.tar:05}a.tar").write_bytes(handmade.open_tar([]))

    @rule(content=st.sampled_from(BLOBS), young=st.booleans())
    def somebody_writes_a_binary(self, content: bytes, young: bool) -> None:
        source = iter([content, b""])
        adding.add(self.store, lambda _: next(source), os.urandom)
        digest = hashlib.sha256(content).hexdigest()
        changed = NOW + 1 if young else LONG_AGO
        os.utime(self.store.path / DATA_STORE.place(digest), ns=(changed, changed))
        assert self.store.has(one_file_id(DATA_STORE, content))

    def age_of(self, content: bytes) -> None:
        place = self.store.path / DATA_STORE.place(hashlib.sha256(content).hexdigest())
        os.utime(place, ns=(LONG_AGO, LONG_AGO))

    @rule(batch=st.integers(1, 3))
    def collect_some(self, batch: int) -> None:
        if self.collection is None:
            module.BATCH = batch
            self.collection = Collection(self.store, [self.directory], began_ns=NOW, margin_s=0)
            self.collection.mark()
            self.sweep = self.collection.sweep()
        elif next(self.sweep, None) is None:
            self.stop_collecting()

    @precondition(lambda self: self.collection is not None)
    @rule()
    def collect_all(self) -> None:
        list(self.sweep)
        self.stop_collecting()

    @precondition(lambda self: self.collection is not None)
    @rule()
    def kill_the_collection(self) -> None:
        self.stop_collecting()

    def stop_collecting(self) -> None:
        assert self.collection is not None
        self.collection.close()
        self.collection = None

    @invariant()
    def what_the_head_needs_is_there(self) -> None:
        if self.head is None:
            return
        with Follower.open(self.directory) as follower:
            assert follower.head().record.segment == self.head.segment
            for each in needed(follower.snapshot, [self.head.segment]):
                assert self.store.has(self.store.parse(each.blob)), each.blob

    def teardown(self) -> None:
        if self.collection is not None:
            self.stop_collecting()
        module.BATCH = 256
        shutil.rmtree(self.home)


TestBeside = Beside.TestCase
TestBeside.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
