"""The engine alone: a master and a store made of dicts, driven in every order.

`Rig` is what `slave.pull` is over sockets and a thread: it tells the engine what happens and
does what the engine says. Its master may be honest, forgetful, out of order or broken; which of
the things that could happen next does happen is drawn.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from stores import data_id

from tarfailover.errors import LinkError, PeerError, ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId
from tarfailover.store.receiver import Receipt
from tarfailover.sync import Progress, Transfer, Window, segments
from tarfailover.sync import window as windows
from tarfailover.wire.messages import MAX_IDS

pytestmark = pytest.mark.load

MIB = 1024 * 1024
STEPS = 20_000
"""Things that may happen in one run before it counts as endless."""


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few segments fill a window, whatever is tuned for real links."""
    monkeypatch.setattr(windows, "REQUEST_BYTES", MIB)
    monkeypatch.setattr(windows, "WINDOW_FLOOR", 4 * MIB)


def item(segment: SegmentId, length: int) -> bytes:
    return segment + struct.pack(">I", length)


@dataclass
class Master:
    """What is served: sizes, references, and what is wrong with it."""

    sizes: dict[SegmentId, int]
    references: dict[SegmentId, list[SegmentId]]
    listing: list[SegmentId]
    """What a list behind the cursor names; the whole list names all of `whole`."""
    whole: list[SegmentId]
    corrupt: dict[SegmentId, int] = field(default_factory=dict)
    """How many times a segment comes damaged."""
    refused: set[SegmentId] = field(default_factory=set)


class Store:
    """The receiver's rules, without bytes: what refers to something absent waits."""

    def __init__(self, master: Master, stored: Iterable[SegmentId] = ()) -> None:
        self.master = master
        self.stored = set(stored)
        self.waiting: dict[SegmentId, None] = {}

    def take(self, batch: Sequence[tuple[SegmentId, bool]]) -> Receipt:
        good = [segment for segment, whole in batch if whole]
        self.waiting |= dict.fromkeys(each for each in good if each not in self.stored)
        stored = []
        while ready := [each for each in self.waiting if not self.lacks(each)]:
            for each in ready:
                del self.waiting[each]
                self.stored.add(each)
                stored.append(each)
        missing = {r: None for each in good if each in self.waiting for r in self.lacks(each)}
        rejected = tuple((each, "its checksum is wrong") for each, whole in batch if not whole)
        return Receipt(
            tuple(stored),
            tuple(each for each in missing if each not in self.waiting),
            rejected,
            sum(self.master.sizes[each] for each in self.waiting),
        )

    def lacks(self, segment: SegmentId) -> list[SegmentId]:
        return [each for each in self.master.references[segment] if each not in self.stored]

    def check(self, head: SegmentId) -> list[SegmentId]:
        """Store what waits in circles; what the head's closure lacks then."""
        needed = {r for each in self.waiting for r in self.lacks(each)} - set(self.waiting)
        if needed:
            return sorted(needed)
        self.stored |= set(self.waiting)
        self.waiting.clear()
        pending, seen, missing = [head], set(), []
        while pending:
            each = pending.pop()
            if each not in seen:
                seen.add(each)
                if each in self.stored:
                    pending += self.master.references[each]
                else:
                    missing.append(each)
        return missing


class Rig:
    """Drives one transfer; `choose(n)` says which of `n` possible things happens next."""

    def __init__(
        self,
        master: Master,
        store: Store,
        choose: Callable[[int], int],
        *,
        window: Window | None = None,
        cursor: bool = False,
    ) -> None:
        self.master = master
        self.store = store
        self.choose = choose
        self.window = window or Window(64 * MIB)
        self.transfer = Transfer(master.whole[-1], self.window, cursor=cursor)
        self.blocks = self._blocks(master.listing if cursor else master.whole)
        self.listing = True
        self.answers: list[list[SegmentId]] = []
        self.batch: list[tuple[SegmentId, bool]] = []
        self.disk: list[list[tuple[SegmentId, bool]]] = []
        self.asked: list[SegmentId] = []
        self.lists = 1
        self.most_asked = 0
        self.most_waiting = 0
        self.done = False

    def _blocks(self, ids: list[SegmentId]) -> list[bytes]:
        items = [item(each, self.master.sizes[each]) for each in ids]
        return [b"".join(items[at : at + 5]) for at in range(0, len(items), 5)]

    def run(self) -> None:
        """To the end; raises what the engine raises."""
        for _ in range(STEPS):
            self.ask()
            possible = [
                *([self.list_more] if self.listing else []),
                *([self.arrive] if self.answers else []),
                *([self.hand_over] if self.batch else []),
                *([self.store_batch] if self.disk else []),
            ]
            if not possible:
                self.settle()
                if self.done:
                    return
                continue
            possible[self.choose(len(possible))]()
        pytest.fail("this goes on without end")

    def ask(self) -> None:
        while ids := self.transfer.next_request():
            under_way = {each for ids in self.answers for each in ids}
            under_way |= {each for batch in [self.batch, *self.disk] for each, _ in batch}
            assert not under_way & set(ids), "asked for although it is under way"
            assert len(set(ids)) == len(ids) <= MAX_IDS
            assert not self.store.stored & set(ids), "asked for although it is stored"
            self.answers.append(ids)
            self.asked += ids
            # No request begins in a full window, and one ends as soon as it is full.
            assert self.transfer._asked_bytes < self.window.size + MAX_SEGMENT
            self.most_asked = max(self.most_asked, self.transfer._asked_bytes)

    def list_more(self) -> None:
        if self.blocks:
            block = self.blocks.pop(0)
            items = [block[at : at + 20] for at in range(0, len(block), 20)]
            known = self.store.stored | set(self.store.waiting)
            self.transfer.listed(b"".join(each for each in items if each[:16] not in known))
        else:
            self.listing = False
            self.transfer.list_ended()

    def arrive(self) -> None:
        segment = self.answers[0].pop(0)
        if not self.answers[0]:
            self.answers.pop(0)
        if segment in self.master.refused or segment not in self.master.sizes:
            self.transfer.refused(segment, 7, "")
            pytest.fail("a refusal ends a transfer")
        bad = self.master.corrupt.get(segment, 0)
        self.master.corrupt[segment] = max(0, bad - 1)
        self.transfer.arrived(segment, self.master.sizes[segment])
        self.batch.append((segment, not bad))

    def hand_over(self) -> None:
        self.disk.append(self.batch)
        self.batch = []

    def store_batch(self) -> None:
        batch = self.disk.pop(0)
        receipt = self.store.take(batch)
        self.most_waiting = max(self.most_waiting, receipt.waiting)
        self.transfer.stored([each for each, _ in batch], receipt)

    def settle(self) -> None:
        """Nothing happens by itself any more."""
        if self.transfer.wants_list:
            self.transfer.list_again()
            self.store.waiting.clear()
            self.blocks, self.listing = self._blocks(self.master.whole), True
            self.lists += 1
            return
        assert self.transfer.idle, "nothing is under way, and yet it waits"
        missing = self.store.check(self.transfer.head)
        if missing:
            self.transfer.lacks(missing)
        else:
            self.done = True


def first(count: int) -> int:
    """What the master does comes first, the store last: as much as possible is under way."""
    del count
    return 0


def last(count: int) -> int:
    """The store is as quick as it can be."""
    return count - 1


def chain(count: int, size: int = 1000) -> Master:
    """Each segment refers to the one before; the last is the head."""
    names = [data_id(number) for number in range(count)]
    references = {name: names[max(0, n - 1) : n] for n, name in enumerate(names)}
    return Master(dict.fromkeys(names, size), references, [], names)


# anything may happen


@st.composite
def masters(draw: st.DrawFn) -> Master:
    count = draw(st.integers(1, 25))
    names = [data_id(number) for number in range(count)]
    circles = draw(st.booleans())
    sizes = {name: draw(st.sampled_from([1, 1000, MAX_SEGMENT])) for name in names}
    references = {
        name: draw(st.lists(st.sampled_from(names if circles else names[:n] or [name]), max_size=3))
        for n, name in enumerate(names)
    }
    for name, found in references.items():
        references[name] = [each for each in dict.fromkeys(found) if each != name]
    order = names if draw(st.booleans()) else draw(st.permutations(names[:-1])) + names[-1:]
    kept = draw(st.sets(st.sampled_from(names)))
    some = st.dictionaries(st.sampled_from(names), st.integers(1, 3), max_size=2)
    return Master(
        sizes,
        references,
        [each for each in order if each in kept],
        [*order] if draw(st.booleans()) else [o for o in order if o in {*kept, names[-1]}],
        draw(st.one_of(st.just({}), some)),
        draw(st.one_of(st.just(set()), st.sets(st.sampled_from(names), max_size=1))),
    )


def closure(master: Master) -> set[SegmentId]:
    found: set[SegmentId] = set()
    pending = [master.whole[-1]]
    while pending:
        each = pending.pop()
        if each not in found:
            found.add(each)
            pending += master.references[each]
    return found


def closed(master: Master, seeds: Iterable[SegmentId]) -> set[SegmentId]:
    """`seeds` and all they need: what an earlier transfer may have left."""
    found: set[SegmentId] = set()
    pending = [*seeds]
    while pending:
        each = pending.pop()
        if each not in found:
            found.add(each)
            pending += master.references[each]
    return found


@settings(max_examples=150)
@given(masters(), st.data(), st.randoms(use_true_random=False), st.booleans())
def test_a_transfer_ends_whole_or_with_a_typed_error(
    master: Master, data: st.DataObject, chance: random.Random, cursor: bool
) -> None:
    names = sorted(master.sizes)
    before = closed(master, data.draw(st.sets(st.sampled_from(names), max_size=2)))
    bad = dict(master.corrupt)
    store = Store(master, before)
    rig = Rig(master, store, chance.randrange, window=Window(MIB), cursor=cursor)
    try:
        rig.run()
    except LinkError as error:
        event(type(error).__name__)
        if isinstance(error, PeerError):
            assert master.refused & set(rig.asked)
        else:
            assert max(bad.values()) == segments.TRIES
        return
    event("whole")
    assert closure(master) <= store.stored
    progress = rig.transfer.progress()
    assert (progress.segments_left, progress.size_left) == (0, 0)
    assert progress.segments == len(rig.asked)
    assert progress.size == sum(master.sizes[each] for each in rig.asked)
    again = len(rig.asked) - len(set(rig.asked))
    if rig.lists == 1 and not cursor:
        assert again <= sum(bad.values())


@settings(max_examples=50)
@given(masters(), st.randoms(use_true_random=False))
def test_nothing_is_brought_twice_that_came_whole(master: Master, chance: random.Random) -> None:
    master.refused, master.corrupt = set(), {}
    rig = Rig(master, Store(master), chance.randrange, window=Window(1))
    rig.run()
    assert len(rig.asked) == len(set(rig.asked))


def test_what_was_needed_before_its_turn_in_the_list_is_not_brought_again() -> None:
    first_one, between, other, late, head = names = [data_id(number) for number in range(5)]
    references: dict[SegmentId, list[SegmentId]] = {name: [] for name in names}
    references[first_one], references[head] = [late], names[:-1]
    master = Master(dict.fromkeys(names, 10), references, [], names)
    rig = Rig(master, Store(master), last, window=Window(1))
    rig.run()
    assert rig.asked == [first_one, between, late, other, head]


# round trips, and the window


def round_trips(master: Master, *, cursor: bool = False) -> tuple[int, Rig]:
    """How many times what had been asked for had to come before the next could be asked for.

    The list comes in one round trip; all that was asked for in one comes in the next.
    """
    rig = Rig(master, Store(master), first, cursor=cursor)
    count = 0
    while not rig.done:
        while rig.listing:
            rig.list_more()
        rig.ask()
        count += bool(rig.answers)
        for _ in range(sum(map(len, rig.answers))):
            rig.arrive()
            rig.hand_over()
            rig.store_batch()
            rig.ask()
        if not rig.answers:
            rig.settle()
    return count, rig


def test_a_long_chain_costs_no_round_trip_for_each_segment() -> None:
    master = chain(1000)
    count, rig = round_trips(master)
    assert count == 1
    assert rig.asked == master.whole


def test_a_large_copy_costs_few_round_trips_since_the_window_grows() -> None:
    master = chain(2000, 200_000)
    count, rig = round_trips(master)
    # 4 MiB, doubled each time up to the limit of 64 MiB: 4 + 8 + … + 64, then 64 each.
    assert count < 14
    assert 32 * MIB < rig.most_asked < 64 * MIB + MAX_SEGMENT


def test_requests_are_of_a_bounded_size() -> None:
    transfer = Transfer(data_id(0), Window(64 * MIB), cursor=False)
    transfer.listed(b"".join(item(data_id(n), 250_000) for n in range(100)))
    ids = transfer.next_request()
    assert windows.REQUEST_BYTES <= 250_000 * len(ids) < windows.REQUEST_BYTES + MAX_SEGMENT
    tiny = Transfer(data_id(0), Window(64 * MIB), cursor=False)
    tiny.listed(b"".join(item(data_id(n), 1) for n in range(MAX_IDS + 1)))
    assert [len(tiny.next_request()) for _ in range(3)] == [MAX_IDS, 1, 0]


def test_the_window_grows_only_where_it_is_what_limits() -> None:
    master = chain(60, 200_000)
    free = Rig(master, Store(master), last, window=Window(64 * MIB))
    free.window.size = 32 * MIB
    free.run()
    assert free.window.size == 32 * MIB
    held = Rig(master, Store(master), first, window=Window(64 * MIB))
    held.run()
    assert held.window.size > windows.WINDOW_FLOOR


def test_the_window_stays_within_its_limit() -> None:
    window = Window(10 * MIB)
    for _ in range(100):
        window.came(MIB)
    assert window.size == 10 * MIB


def test_a_window_smaller_than_a_segment_lets_one_through_at_a_time() -> None:
    master = chain(4)
    rig = Rig(master, Store(master), last, window=Window(1))
    rig.run()
    assert rig.asked == master.whole


# a cursor that is wrong


def test_a_few_segments_that_a_cursor_left_out_are_asked_for_by_name() -> None:
    master = chain(5)
    master.listing = master.whole[3:]
    rig = Rig(master, Store(master), last, cursor=True)
    rig.run()
    assert rig.lists == 1
    assert sorted(rig.asked) == sorted(master.whole)


def test_a_deep_gap_behind_a_cursor_is_filled_from_the_whole_list() -> None:
    master = chain(1000)
    master.listing = master.whole[-1:]
    count, rig = round_trips(master, cursor=True)
    assert rig.lists == 2
    assert count <= segments.UNLISTED_TURNS + 3


def test_a_wide_gap_behind_a_cursor_is_filled_from_the_whole_list() -> None:
    names = [data_id(number) for number in range(segments.UNLISTED_LIMIT + 2)]
    references: dict[SegmentId, list[SegmentId]] = {name: [] for name in names}
    references[names[-1]] = names[:-1]
    master = Master(dict.fromkeys(names, 100), references, names[-1:], names)
    rig = Rig(master, Store(master), last, cursor=True)
    rig.run()
    assert rig.lists == 2


def wide(count: int) -> Master:
    """Large segments that all wait for the first one, which only the whole list names in time."""
    master = chain(count, MAX_SEGMENT)
    master.references = dict.fromkeys(master.whole, master.whole[:1])
    master.references[master.whole[0]] = []
    master.references[master.whole[-1]] = master.whole[:-1]
    return master


def test_too_much_that_waits_is_the_fault_of_the_cursor_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "WAITING_LIMIT", 3 * MAX_SEGMENT)
    master = wide(12)
    master.listing = master.whole[1:]
    rig = Rig(master, Store(master), first, cursor=True)
    rig.run()
    assert rig.most_waiting > segments.WAITING_LIMIT
    assert rig.lists == 2


def test_too_much_that_waits_although_all_was_listed_is_the_master_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "WAITING_LIMIT", 3 * MAX_SEGMENT)
    master = wide(12)
    master.whole = [*master.whole[1:-1], master.whole[0], master.whole[-1]]
    with pytest.raises(ProtocolError, match="before what they refer to"):
        Rig(master, Store(master), last).run()


# what goes wrong


def transfer_of(*lengths: int) -> Transfer:
    transfer = Transfer(data_id(0), Window(64 * MIB), cursor=False)
    transfer.listed(b"".join(item(data_id(n), length) for n, length in enumerate(lengths)))
    return transfer


@pytest.mark.parametrize("length", [0, MAX_SEGMENT + 1, 2**32 - 1])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"listed with {length} bytes"):
        transfer_of(1, length, 1)


@pytest.mark.parametrize("times", range(5))
def test_a_damaged_segment_is_asked_for_again_a_few_times(times: int) -> None:
    master = chain(3)
    master.corrupt = {master.whole[1]: times}
    rig = Rig(master, Store(master), last)
    if times < segments.TRIES:
        rig.run()
    else:
        with pytest.raises(ProtocolError, match="3 times: its checksum is wrong"):
            rig.run()
    assert rig.asked.count(master.whole[1]) == min(times + 1, segments.TRIES)


def test_a_segment_that_the_master_cannot_give_ends_it_by_name() -> None:
    master = chain(3)
    master.refused = {master.whole[1]}
    with pytest.raises(PeerError, match="refused segment") as caught:
        Rig(master, Store(master), last).run()
    assert caught.value.code == 7


def test_what_nobody_asked_for_is_refused() -> None:
    transfer = transfer_of(10)
    with pytest.raises(ProtocolError, match="without being asked for"):
        transfer.arrived(data_id(0), 10)
    transfer.next_request()
    transfer.arrived(data_id(0), 10)
    with pytest.raises(ProtocolError, match="without being asked for"):
        transfer.arrived(data_id(0), 10)


def test_what_comes_with_another_length_than_listed_is_refused() -> None:
    transfer = transfer_of(10)
    transfer.next_request()
    with pytest.raises(ProtocolError, match="came with 11 bytes and was listed with 10"):
        transfer.arrived(data_id(0), 11)


def test_what_is_listed_twice_is_asked_for_once() -> None:
    transfer = transfer_of(10, 20)
    transfer.listed(item(data_id(1), 20) + item(data_id(2), 30))
    assert transfer.next_request() == [data_id(0), data_id(1), data_id(2)]
    transfer.arrived(data_id(0), 10)
    # Not while it is on its way to the disk, either.
    transfer.listed(item(data_id(0), 10))
    assert transfer.next_request() == []


def test_a_closure_that_never_gets_whole_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "ROUNDS", 5)
    transfer = Transfer(data_id(0), Window(MIB), cursor=False)
    transfer.list_ended()
    for _ in range(5):
        transfer.lacks([data_id(0)])
        assert transfer.next_request() == [data_id(0)]
        transfer.arrived(data_id(0), 40)
        transfer.stored([data_id(0)], Receipt())
        assert transfer.idle
    with pytest.raises(ProtocolError, match="5 rounds"):
        transfer.lacks([data_id(0)])


def test_circles_end() -> None:
    names = [data_id(number) for number in range(3)]
    references: Mapping[SegmentId, list[SegmentId]] = {
        names[0]: [names[1]],
        names[1]: [names[0]],
        names[2]: [names[0]],
    }
    master = Master(dict.fromkeys(names, 10), dict(references), [], names)
    store = Store(master)
    rig = Rig(master, store, last)
    rig.run()
    assert (store.stored, sorted(rig.asked)) == (set(names), sorted(names))


def test_a_head_that_nobody_listed_is_asked_for() -> None:
    master = chain(1)
    rig = Rig(master, Store(master), last, cursor=True)
    rig.run()
    assert rig.asked == master.whole


def test_nothing_is_idle_before_the_list_has_ended() -> None:
    transfer = Transfer(data_id(0), Window(MIB), cursor=False)
    assert not transfer.idle
    transfer.listed(b"")
    transfer.list_ended()
    assert transfer.idle
    assert not transfer.wants_list


# how far it is


def test_progress_counts_what_came_and_what_is_known_to_come() -> None:
    transfer = transfer_of(10, 20, 30)
    assert transfer.progress() == Progress(0, 0, 3, 60)
    transfer.listed(item(data_id(3), 40))
    transfer.list_ended()
    assert transfer.progress() == Progress(0, 0, 4, 100)
    assert len(transfer.next_request()) == 4
    assert transfer.progress() == Progress(0, 0, 4, 100)
    transfer.arrived(data_id(0), 10)
    transfer.arrived(data_id(1), 20)
    assert transfer.progress() == Progress(2, 30, 2, 70)
    # Of what a table names nobody knows the size before it comes.
    transfer.stored([data_id(0), data_id(1)], Receipt(missing=(data_id(9),)))
    assert transfer.progress() == Progress(2, 30, 3, 70)
    for number, size in ((2, 30), (3, 40)):
        transfer.arrived(data_id(number), size)
    assert transfer.next_request() == [data_id(9)]
    transfer.arrived(data_id(9), 50)
    assert transfer.progress() == Progress(5, 150, 0, 0)
