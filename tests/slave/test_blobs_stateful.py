"""Any course of commits, losses, cuts and restarts: no head is set without its binaries."""

from __future__ import annotations

from pathlib import Path

import pytest
from binaries import Both, add_to, holder, id_of
from blob_samples import put
from hypothesis import given, settings
from hypothesis import strategies as st
from sides import TAR
from stores import Sample, head_in, leaf

from tarfailover.slave import status
from tarfailover.slave.blobs import RETRY_AFTER
from tarfailover.store.blobs.missing import MissingBlobs
from tarfailover.store.follower import Follower

pytestmark = pytest.mark.load

CONTENTS = [bytes([65 + number]) * (1 + 3000 * number) for number in range(6)]


class Course:
    """A repository that grows, a master that loses binaries, a slave that has a hard life."""

    def __init__(self, directory: Path, mode: str) -> None:
        self.mode = mode
        self.both = Both(directory, blobs=mode)
        first = leaf(0)
        self.samples: list[Sample] = [first]
        self.mentioned: dict[object, set[int]] = {head_in(first.segment): set()}
        """By head, the contents that it needs."""
        put(self.both.theirs, b"so that it is not empty")
        self.both.serve(first)
        self.both.follow()

    def commit(self, numbers: set[int], present: bool) -> None:
        """A head that mentions some binaries more, which the master has or lacks."""
        before = self.samples[-1]
        for number in numbers if present else ():
            put(self.both.theirs, CONTENTS[number])
        made = holder(len(self.samples), [id_of(CONTENTS[n]) for n in numbers], [before.segment])
        self.samples.append(made)
        known = self.mentioned[head_in(before.segment)]
        self.mentioned[head_in(made.segment)] = known | numbers
        add_to(self.both.store, [made], TAR.replace("00000", f"{len(self.samples):05}"))
        self.both.master.refresh()
        self.both.rig.settle()

    def lose(self, number: int, here: bool) -> None:
        """A file goes: the master's, or, over a restart, the slave's."""
        store = self.both.ours if here else self.both.theirs
        block = store.parse(id_of(CONTENTS[number])).parts[0]
        assert not isinstance(block, bytes)
        if here:
            self.both.slave.stop()
        found = store.find(block)
        if found is not None and sum(1 for _ in store.files()) > 1:
            found.unlink()
        if here:
            self.both.follow()

    def find(self) -> None:
        """The master has all again."""
        for content in CONTENTS:
            put(self.both.theirs, content)

    def cut(self) -> None:
        self.both.rig.link.cut()
        self.both.rig.settle()

    def wait(self, seconds: int) -> None:
        self.both.rig.pass_time(seconds, step=5)

    def check(self, lost: set[int]) -> None:
        """What the head of the copy needs is there, or is listed; `lost` went behind its back."""
        with Follower.open(self.both.tmp_path / "copy") as follower:
            head = follower.head().record
        listed = MissingBlobs.load(self.both.tmp_path / "copy").blobs
        assert self.mode == "warn" or not any(not each.unneeded for each in listed.values())
        for number in self.mentioned[head] - lost:
            there = self.both.has(CONTENTS[number])
            assert there or id_of(CONTENTS[number]) in listed, (number, head)

    def end(self) -> None:
        """Once the master has all, so has the slave, and nothing is missing any more."""
        self.find()
        self.both.slave.stop()
        self.both.follow()
        self.wait(int(2 * RETRY_AFTER))
        assert self.both.slave.state == status.IN_SYNC, self.both.slave.service.status
        head = head_in(self.samples[-1].segment)
        assert self.both.slave.head == head
        assert all(self.both.has(CONTENTS[number]) for number in self.mentioned[head])
        assert not MissingBlobs.load(self.both.tmp_path / "copy").blobs
        self.both.end()


NUMBERS = st.integers(0, len(CONTENTS) - 1)
STEPS = st.one_of(
    st.tuples(st.just("commit"), st.sets(NUMBERS, max_size=3), st.booleans()),
    st.tuples(st.just("lose"), NUMBERS, st.booleans()),
    st.tuples(st.just("find")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("wait"), st.sampled_from([5, 30, 70])),
)


# Drawn and not parametrized: pytest-twisted wraps a property anew for every parameter.
@given(st.sampled_from(["require", "warn"]), st.lists(STEPS, max_size=8))
@settings(max_examples=40)
def test_no_head_without_its_binaries(
    tmp_path_factory: pytest.TempPathFactory, mode: str, course: list[tuple[object, ...]]
) -> None:
    it = Course(tmp_path_factory.mktemp("course"), mode)
    lost: set[int] = set()
    for name, *words in course:
        getattr(it, str(name))(*words)
        if name == "lose" and words[1]:
            lost.add(int(str(words[0])))
        it.check(lost)
    it.end()
