"""The engine that brings binaries: against masters of any kind, in any course of events."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import PeerError
from tarfailover.sync import BlobTransfer, Slice, Unit, Window
from tarfailover.sync.blobs import LEAST_COST, TRIES, BlobProgress
from tarfailover.wire.messages import ErrorCode

MIB = 1024 * 1024
GONE = PeerError(ErrorCode.BLOB_GONE, "it is gone")


def transfer(limit: int = 8 * MIB, step: int = MIB) -> BlobTransfer:
    return BlobTransfer(Window(limit), step)


def asked(engine: BlobTransfer) -> list[Slice]:
    """All that may be asked for now."""
    return list(iter(engine.next_request, None))


def test_nothing_wanted_is_idle() -> None:
    engine = transfer()
    assert engine.idle and engine.next_request() is None and engine.complete() == []


def test_slices_of_one_and_then_of_the_next() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 2 * MIB + 5), Unit("b", 3)])
    slices = asked(engine)
    assert slices == [
        Slice("a", 0, MIB), Slice("a", MIB, MIB), Slice("a", 2 * MIB, 5), Slice("b", 0, 3),
    ]  # fmt: skip
    for each in slices[:2]:
        engine.answered(each, 2 * MIB + 5)
    assert engine.complete() == []
    engine.answered(slices[2], 2 * MIB + 5)
    engine.answered(slices[3], 3)
    assert engine.complete() == ["a", "b"]
    assert not engine.idle
    engine.stored("a")
    engine.stored("b")
    assert engine.idle and not engine.missing


def test_the_window_is_in_bytes_and_is_filled_again() -> None:
    engine = transfer(3 * MIB)
    engine.wanted([Unit("a", 100 * MIB)])
    first = asked(engine)
    assert len(first) == 3
    engine.answered(first[0], 100 * MIB)
    assert asked(engine) == [Slice("a", 3 * MIB, MIB)]


def test_tiny_ones_are_not_asked_for_without_end() -> None:
    engine = transfer(MIB)
    engine.wanted(Unit(str(number), 1) for number in range(10_000))
    assert len(asked(engine)) == MIB // LEAST_COST


def test_more_than_the_window_at_once_goes_alone() -> None:
    engine = transfer(MIB, step=0)
    engine.wanted([Unit("a", 5), Unit("b", 2**40), Unit("c", 5)])
    small = asked(engine)
    assert small == [Slice("a", 0, 5)]
    engine.answered(small[0], 5)
    large = asked(engine)
    assert large == [Slice("b", 0, 2**40)]
    engine.answered(large[0], 2**40)
    assert asked(engine) == [Slice("c", 0, 5)]


def test_it_goes_on_where_it_was_cut() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 2 * MIB, MIB + 7), Unit("b", 5, 5), Unit("c", 5, 6)])
    assert asked(engine) == [Slice("a", MIB + 7, MIB - 7), Slice("c", 0, 5)]
    assert engine.complete() == ["b"]


def test_more_than_4_gib() -> None:
    size = 5 * 2**30 + 3
    engine = transfer(4 * MIB)
    engine.wanted([Unit("a", size, 2**32 - MIB)])
    offsets = []
    while (found := asked(engine)) or not engine.complete():
        for each in found:
            offsets.append(each.offset)
            engine.came(each.most)
            engine.answered(each, size)
    assert offsets == list(range(2**32 - MIB, size, MIB))
    assert engine.progress().size == size - 2**32 + MIB


def test_an_empty_one_is_complete_at_once() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 0)])
    assert asked(engine) == [] and engine.complete() == ["a"]


@pytest.mark.parametrize("length", [0, 5, MIB, MIB + 1, 3 * MIB + 1])
@pytest.mark.parametrize("step", [MIB, 0])
def test_a_size_that_the_id_does_not_tell(length: int, step: int) -> None:
    engine = transfer(step=step)
    engine.wanted([Unit("a", None), Unit("b", 1)])
    first, other = asked(engine)
    assert (first, other) == (Slice("a", 0, step), Slice("b", 0, 1))
    engine.answered(first, length)
    rest = asked(engine)
    assert sum(each.most for each in rest) == (max(0, length - MIB) if step else 0)
    for each in rest:
        engine.answered(each, length)
    assert engine.complete() == ["a"]


def test_what_is_gone_is_missing_and_the_others_go_on() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 3 * MIB), Unit("b", 1)])
    one, two, three, other = asked(engine)
    engine.answered(one, 3 * MIB)
    engine.refused(two, GONE)
    assert not engine.missing
    engine.refused(three, GONE)
    engine.answered(other, 1)
    assert engine.missing == {"a": "it is gone"}
    assert engine.complete() == ["b"]
    engine.wanted([Unit("a", 3 * MIB)])
    assert asked(engine) == []


def test_no_more_is_asked_of_what_is_gone() -> None:
    engine = transfer(MIB)
    engine.wanted([Unit("a", 100 * MIB), Unit("b", 1)])
    (only,) = asked(engine)
    engine.refused(only, GONE)
    assert asked(engine) == [Slice("b", 0, 1)]


def test_another_length_than_the_id_tells() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 5)])
    (only,) = asked(engine)
    engine.answered(only, 6)
    assert engine.missing == {"a": "it has 6 bytes on the master, and 5 by its id"}
    assert engine.idle


@pytest.mark.parametrize("code", [ErrorCode.NO_BLOBS, ErrorCode.INTERNAL, 4711])
def test_what_is_not_about_one_binary_ends_it(code: int) -> None:
    engine = transfer()
    engine.wanted([Unit("a", 5)])
    with pytest.raises(PeerError):
        engine.refused(asked(engine)[0], PeerError(code, "no"))


def test_what_is_not_what_its_id_says_is_brought_once_more() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 5, 3)])
    for turn in range(TRIES):
        (only,) = asked(engine)
        assert only == (Slice("a", 0, 5) if turn else Slice("a", 3, 2))
        engine.answered(only, 5)
        assert engine.complete() == ["a"]
        engine.spoiled("a", "wrong digest")
    assert engine.missing == {"a": "what the master has is not what its id says: wrong digest"}
    assert engine.idle


def test_progress() -> None:
    engine = transfer()
    engine.wanted([Unit("a", 10, 4), Unit("b", 20)])
    assert engine.progress() == BlobProgress(0, 0, 2, 26)
    one, _ = asked(engine)
    engine.came(6)
    engine.answered(one, 10)
    engine.complete()
    assert engine.progress() == BlobProgress(0, 6, 2, 20)
    engine.stored("a")
    assert engine.progress() == BlobProgress(1, 6, 1, 20)


@dataclass
class Model:
    """A master, a link that answers in order, and a disk."""

    lengths: dict[str, int]
    gone: set[str]
    engine: BlobTransfer
    link: deque[Slice] = field(default_factory=deque)
    disk: dict[str, int] = field(default_factory=dict)
    complete: deque[str] = field(default_factory=deque)
    stored: set[str] = field(default_factory=set)

    def ask(self) -> None:
        while (found := self.engine.next_request()) is not None:
            self.link.append(found)
        self.complete += self.engine.complete()

    def answer(self) -> None:
        if not self.link:
            return
        each = self.link.popleft()
        if each.blob in self.gone:
            self.engine.refused(each, GONE)
            return
        length = self.lengths[each.blob]
        size = length - each.offset if not each.most else min(each.most, length - each.offset)
        assert self.disk.get(each.blob, 0) == each.offset, "a hole, or twice the same"
        self.disk[each.blob] = each.offset + size
        self.engine.came(size)
        self.engine.answered(each, length)

    def store(self) -> None:
        if self.complete:
            blob = self.complete.popleft()
            assert self.disk.get(blob, 0) == self.lengths[blob]
            assert blob not in self.stored
            self.stored.add(blob)
            self.engine.stored(blob)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans(), st.booleans()),
        max_size=8,
    ),
    st.sampled_from([0, 1, 7, 16]),
    st.integers(1, 30),
    st.lists(st.sampled_from(["ask", "answer", "store"]), max_size=200),
)
def test_any_course_brings_all_and_nothing_twice(
    files: list[tuple[int, int, bool, bool]], step: int, limit: int, course: list[str]
) -> None:
    engine = transfer(limit * LEAST_COST // 4, step)
    names = [f"blob{number}" for number in range(len(files))]
    lengths = {name: row[0] for name, row in zip(names, files, strict=True)}
    gone = {name for name, row in zip(names, files, strict=True) if row[3]}
    model = Model(lengths, gone, engine)
    for name, (length, have, sized, _) in zip(names, files, strict=True):
        offset = min(have, length) if sized else 0
        model.disk[name] = offset
        engine.wanted([Unit(name, length if sized else None, offset)])
    turns = itertools.cycle(["ask", "answer", "store"])
    for what in course:
        getattr(model, what)()
    for what in itertools.islice(turns, 3000):
        if engine.idle:
            break
        getattr(model, what)()
    assert engine.idle
    # What needs no byte any more is not asked for, so nobody hears that it is gone.
    assert model.stored | set(engine.missing) == set(names)
    assert set(engine.missing) <= gone
    assert engine.progress()[2:] == (0, engine.progress().size_left)
