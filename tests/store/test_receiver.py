"""The way into a slave's store: whatever comes, in whatever order, only whole things are stored."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from format_samples import data_segment
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QuickDisk, Sample, bulk, bulk_id, data_id, head_in, leaf

from tarfailover.errors import SegmentMissingError
from tarfailover.format.segment import BLOB_ID, VALUE
from tarfailover.ids import NO_GENERATION, SegmentId
from tarfailover.store import receiver as receivers
from tarfailover.store.follower import Follower
from tarfailover.store.intake import Arrival
from tarfailover.store.receiver import Receipt, Receiver
from tarfailover.store.writer import StoreWriter


class SyncingDisk(QuickDisk):
    """Counts the syncs of files, and skips them."""

    syncs = 0

    def sync(self, fd: int, path: Path) -> None:
        super().sync(fd, path)
        self.syncs += 1


@contextmanager
def receiver_in(directory: Path, disk: QuickDisk | None = None) -> Iterator[Receiver]:
    with StoreWriter.open(directory, create=True, disk=disk or QuickDisk()) as writer:
        yield Receiver(writer)


def arrival(sample: Sample) -> Arrival:
    return Arrival.of(sample.segment, sample.data)


def take(receiver: Receiver, *samples: Sample) -> Receipt:
    return receiver.take(map(arrival, samples))


def ids(*samples: Sample) -> tuple[SegmentId, ...]:
    return tuple(each.segment for each in samples)


def order_on_disk(directory: Path) -> list[SegmentId]:
    """All segments of the store, as they lie in its tars."""
    writer = StoreWriter.open(directory, headless=True, disk=QuickDisk())
    with writer, writer.snapshot() as snapshot:
        return [snapshot.segment(rank) for rank in range(snapshot.count)]


A = leaf(1)
B = leaf(2, [A.segment])
C = leaf(3, [A.segment, B.segment])
WEST = leaf(11, [data_id(12)])
EAST = leaf(12, [data_id(11)])


# order


def test_what_came_in_order_is_stored_at_once(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        assert take(receiver, A, B, C) == Receipt(ids(A, B, C))
        assert receiver.missing(C.segment) == []
        assert receiver.writer.read(B.segment) == B.data
    assert order_on_disk(tmp_path) == [*ids(A, B, C)]


def test_what_came_before_its_references_waits_and_is_released_behind_them(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        first = take(receiver, C)
        assert (first.stored, set(first.missing)) == ((), {A.segment, B.segment})
        assert first.waiting == len(C.data)
        # What waits itself is not missing, although something needs it.
        assert take(receiver, B) == Receipt((), (A.segment,), (), len(B.data) + len(C.data))
        assert take(receiver, A) == Receipt(ids(A, B, C))
    assert order_on_disk(tmp_path) == [*ids(A, B, C)]


def test_within_a_batch_the_order_does_not_matter(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        assert take(receiver, C, B, A) == Receipt(ids(A, B, C))


def test_what_is_stored_may_be_referred_to_after_a_restart(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        take(receiver, A)
    with StoreWriter.open(tmp_path, headless=True, disk=QuickDisk()) as writer:
        assert take(Receiver(writer), B) == Receipt(ids(B))


# circles


def test_a_circle_is_stored_together_once_it_is_closed(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        assert take(receiver, WEST).missing == ids(EAST)
        assert receiver.close_circles() == Receipt((), ids(EAST), (), len(WEST.data))
        assert not receiver.writer.contains(WEST.segment)
        both = len(WEST.data) + len(EAST.data)
        assert take(receiver, EAST) == Receipt((), (), (), both)
        closed = receiver.close_circles()
        assert (set(closed.stored), closed[1:]) == ({*ids(WEST, EAST)}, ((), (), 0))
        assert receiver.missing(WEST.segment) == []
        assert receiver.close_circles() == Receipt()


def test_what_waits_for_a_circle_is_stored_behind_it(tmp_path: Path) -> None:
    top = leaf(21, [WEST.segment])
    above = leaf(22, [top.segment])
    with receiver_in(tmp_path) as receiver:
        take(receiver, above, top, WEST, EAST)
        stored = receiver.close_circles().stored
    assert stored[2:] == ids(top, above)
    assert order_on_disk(tmp_path) == [*stored]


def test_a_circle_whose_part_is_elsewhere_missing_says_so(tmp_path: Path) -> None:
    lame = leaf(12, [WEST.segment, A.segment])
    with receiver_in(tmp_path) as receiver:
        take(receiver, WEST, lame)
        assert receiver.close_circles().missing == ids(A)
        assert take(receiver, A).stored == ids(A)
        assert set(receiver.close_circles().stored) == {*ids(WEST, lame)}


# what is no segment


def damaged(sample: Sample) -> Arrival:
    flipped = bytes([sample.data[0], sample.data[1] ^ 1]) + sample.data[2:]
    return Arrival(sample.segment, zlib.crc32(sample.data), len(flipped), [flipped])


BIG = bulk(1, 700)
BAD = {
    "a flipped bit": damaged(A),
    "a flipped bit in a bulk segment": damaged(BIG),
    "a bad header with a right checksum": Arrival.of(A.segment, b"\1" + A.data[1:]),
    "an id of no kind": Arrival.of(A.segment[:8] + b"\x20" + A.segment[9:], A.data),
    "too long for a data segment": Arrival.of(A.segment, A.data + bytes(262144)),
    "too long for a bulk segment": Arrival.of(bulk_id(1), bytes(262145)),
    "empty": Arrival.of(bulk_id(1), b""),
    "shorter than said": Arrival(BIG.segment, zlib.crc32(BIG.data), 701, [BIG.data]),
    "referring to itself": Arrival.of(*leaf(7, [data_id(7)])[:2]),
    "referring to what is no segment": Arrival.of(*leaf(8, [bytes(16)])[:2]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_fails_its_checks_is_named_and_never_stored(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    with receiver_in(tmp_path) as receiver:
        receipt = receiver.take([bad, *map(arrival, [leaf(90), leaf(91)])])
        ((segment, why),) = receipt.rejected
        assert segment == bad.segment
        assert "segment" in why
        assert receipt.stored == ids(leaf(90), leaf(91))
        assert (receipt.missing, receipt.waiting) == ((), 0)
        assert not receiver.writer.contains(bad.segment)


def test_a_rejected_segment_is_missing_for_what_needs_it_until_it_comes_whole(
    tmp_path: Path,
) -> None:
    with receiver_in(tmp_path) as receiver:
        receipt = receiver.take([damaged(A), arrival(B)])
        assert ([each for each, _ in receipt.rejected], receipt.missing) == ([A.segment], ids(A))
        assert take(receiver, A).stored == ids(A, B)


# blob ids too long for a record: their text lies in another segment

BLOB = b"blob" * 1100


def text_holder(number: int) -> Sample:
    value = struct.pack(">H", 0x8000 | len(BLOB) - 128) + BLOB
    data = data_segment(NO_GENERATION, [], [(VALUE, value)])
    return Sample(data_id(number), data)


def mentioning(number: int, holder: SegmentId, record: int = 0) -> Sample:
    record_id = b"\xf0" + struct.pack(">HI", 1, record)
    data = data_segment(NO_GENERATION, [holder], [(BLOB_ID, record_id)])
    return Sample(data_id(number), data, (holder,))


HOLDER = text_holder(31)
MENTIONING = mentioning(32, HOLDER.segment)


@pytest.mark.parametrize("batches", [[[0], [1]], [[0, 1]], [[1], [0]], [[1, 0]]])
def test_a_long_blob_id_is_read_wherever_its_text_is(
    tmp_path: Path, batches: Sequence[Sequence[int]]
) -> None:
    samples = [HOLDER, MENTIONING]
    with receiver_in(tmp_path) as receiver:
        receipts = [take(receiver, *(samples[n] for n in batch)) for batch in batches]
    assert [each for receipt in receipts for each in receipt.stored] == [*ids(*samples)]
    assert not any(receipt.rejected for receipt in receipts)
    # It stands in the tar's binary references, from which garbage is told.
    assert BLOB in (tmp_path / "data00000a.tar").read_bytes().split(b"data00000a.tar.brf")[1]


def test_a_blob_id_without_text_is_rejected_once_its_references_are_there(tmp_path: Path) -> None:
    bad = mentioning(33, HOLDER.segment, record=9)
    top = leaf(34, [bad.segment])
    with receiver_in(tmp_path) as receiver:
        assert take(receiver, top, bad).rejected == ()
        receipt = take(receiver, HOLDER)
        assert receipt.stored == ids(HOLDER)
        assert [each for each, _ in receipt.rejected] == [bad.segment]
        # What needs it goes on waiting.
        assert receipt.waiting == len(top.data)
        assert receiver.close_circles().missing == ids(bad)


# duplicates


def test_duplicates_are_stored_once(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        take(receiver, A, A)
        take(receiver, A)
        take(receiver, C, C)
        assert take(receiver, C).waiting == len(C.data)
        take(receiver, B, B)
    assert order_on_disk(tmp_path) == [*ids(A, B, C)]


# the list, the limit, the end


def item(sample: Sample) -> bytes:
    return sample.segment + struct.pack(">I", len(sample.data))


def test_of_a_list_what_is_not_there_is_lacking(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        take(receiver, A, BIG)
        items = b"".join(map(item, [A, B, BIG, C]))
        assert receiver.lacking(items) == item(B) + item(C)
        assert receiver.lacking(b"") == b""
        # What waits came already, and need not come again.
        take(receiver, C)
        assert receiver.lacking(items) == item(B)


def test_what_was_given_up_does_not_come_back(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        take(receiver, B)
        receiver.forget()
        assert take(receiver, A) == Receipt(ids(A))
        assert receiver.lacking(item(B)) == item(B)
        assert receiver.missing(B.segment) == [B.segment]


def test_what_is_stored_is_synced_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "SYNC_EVERY", 1000)
    disk = SyncingDisk()
    with receiver_in(tmp_path, disk) as receiver:
        counts = []
        for number in range(6):
            before = disk.syncs
            take(receiver, bulk(number, 400))
            counts.append(disk.syncs - before)
        assert counts == [0, 0, 1, 0, 0, 1]


def test_the_head_moves_when_its_closure_is_there_and_not_before(tmp_path: Path) -> None:
    with receiver_in(tmp_path) as receiver:
        take(receiver, A, C)
        with pytest.raises(SegmentMissingError):
            receiver.commit(head_in(C.segment), 5)
        take(receiver, B)
        receiver.commit(head_in(C.segment), 5)
    follower = Follower.open(tmp_path)
    try:
        head = follower.snapshot.head
        assert head is not None
        assert (head.record, head.time_ms) == (head_in(C.segment), 5)
    finally:
        follower.close()


# any order

COUNT = 10


@st.composite
def graphs(draw: st.DrawFn, *, circles: bool) -> list[Sample]:
    made = []
    for number in range(COUNT):
        others = range(COUNT) if circles else range(number)
        numbers = [n for n in others if n != number]
        chosen = (
            draw(st.lists(st.sampled_from(numbers), max_size=3, unique=True)) if numbers else []
        )
        made.append(leaf(number, [data_id(n) for n in chosen], size=4))
    return made


def batches_of(data: st.DataObject, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The samples in any order, in batches of any size, some of them twice."""
    again = data.draw(st.lists(st.sampled_from(samples), max_size=3))
    order = data.draw(st.permutations([*samples, *again]))
    while order:
        size = data.draw(st.integers(1, len(order)))
        yield order[:size]
        order = order[size:]


def after(samples: Iterable[Sample]) -> dict[SegmentId, set[SegmentId]]:
    """For each segment all that it needs, directly or not."""
    direct = {each.segment: set(each.references) for each in samples}
    found = {segment: set(refs) for segment, refs in direct.items()}
    for _ in direct:
        for needs in found.values():
            needs |= {far for near in needs for far in direct[near]}
    return found


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_any_order_of_arrival_ends_with_all_stored_and_references_first(
    data: st.DataObject, circles: bool
) -> None:
    samples = data.draw(graphs(circles=circles))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with receiver_in(directory) as receiver:
            for batch in batches_of(data, samples):
                receipt = take(receiver, *batch)
                assert not receipt.rejected
            if not circles:
                assert (receipt.missing, receipt.waiting) == ((), 0)
            assert receiver.close_circles().waiting == 0
        order = order_on_disk(directory)
    assert sorted(order) == sorted(each.segment for each in samples)
    needs = after(samples)
    references = {each.segment: each.references for each in samples}
    for place, segment in enumerate(order):
        late = set(references[segment]) & set(order[place:])
        # Only within a circle may something stand before what it refers to.
        assert all(segment in needs[each] for each in late)
