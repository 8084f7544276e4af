"""A slave whose link or master changes bytes: nothing wrong is stored, and the state says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from links import Rig
from sides import NEXT_TAR, TAR, MasterSide, RawMaster, SlaveSide, chain, raw_masters, served
from stores import (
    QuickDisk,
    Sample,
    add_heads,
    bulk,
    closure_in,
    data_id,
    head_in,
    leaf,
    make_store,
    tar_bytes,
)

from tarfailover.ids import NO_GENERATION
from tarfailover.slave import status
from tarfailover.store.follower import Follower
from tarfailover.wire import messages as m
from tarfailover.wire import stream

pytestmark = pytest.mark.load

CHAIN = chain(4)
BULK = bulk(1, 3000)
SAMPLES = [BULK, *CHAIN, leaf(9, [BULK.segment, CHAIN[-1].segment], 100)]
HEAD = head_in(SAMPLES[-1].segment)
FLIP_EVERY = 41
"""Bytes; prime to the sizes of all frames."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", {TAR: SAMPLES}, [HEAD.segment])


def whole_and_right(copy: Path) -> None:
    """The copy has the head, and every byte of its closure is that of the original."""
    with Follower.open(copy) as follower:
        assert follower.head().record == HEAD
        found = closure_in(follower.snapshot, HEAD.segment)
    assert found == {each.segment: each.data for each in SAMPLES}


def nothing_wrong(copy: Path) -> None:
    """Whatever the copy has of the original is right, and it has nothing else."""
    true = {each.segment: each.data for each in SAMPLES}
    with Follower.open(copy) as follower:
        snapshot = follower.snapshot
        for rank in range(snapshot.count):
            segment = snapshot.segment(rank)
            assert snapshot.read(segment) == true[segment]


def finish(slave: SlaveSide, *masters: MasterSide) -> None:
    slave.stop()
    for master in masters:
        master.close()
    assert not slave.rig.delayed


def flipping(place: int, bit: int, times: int) -> Callable[[int, bytes], bytes]:
    """Flips one bit at offset `place` of what the master says, `times` times."""
    left = [times]

    def alter(offset: int, chunk: bytes) -> bytes:
        at = place - offset
        if not 0 <= at < len(chunk) or not left[0]:
            return chunk
        left[0] -= 1
        changed = bytearray(chunk)
        changed[at] ^= 1 << bit
        return bytes(changed)

    return alter


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_one_bit_flipped_anywhere_on_the_way(store: Path, tmp_path: Path, compression: str) -> None:
    """Told, thrown away and asked for again; only what no check covers may pass, harmlessly."""
    rig = Rig()
    master = served(rig, store, compression=compression)
    slave = SlaveSide(rig, tmp_path / "whole").start()
    said = rig.link.master.delivered
    finish(slave, master)
    for place in range(0, said, FLIP_EVERY):
        copy = tmp_path / f"copy{place}"
        rig = Rig()
        master = served(rig, store, compression=compression)
        slave = SlaveSide(rig, copy, deadline_hello=1.0, deadline_answer=2.0, deadline_idle=2.0)
        slave.service.startService()
        rig.until(lambda rig=rig: bool(rig.links), "a connection")  # type: ignore[misc]
        rig.link.master.alter = flipping(place, place % 8, 1)
        rig.pass_time(40, step=1)
        assert slave.state == status.IN_SYNC, place
        finish(slave, master)
        whole_and_right(copy)


def flipping_in(sample: Sample) -> Callable[[int, bytes], bytes]:
    """Flips a bit of `sample` whenever its beginning passes."""

    def alter(_: int, chunk: bytes) -> bytes:
        beginning = sample.data[:64]
        return chunk.replace(beginning, bytes([beginning[0] ^ 4]) + beginning[1:])

    return alter


def test_a_segment_that_never_comes_right(rig: Rig, store: Path, tmp_path: Path) -> None:
    master = served(rig, store)
    slave = SlaveSide(rig, tmp_path / "copy", compression="none")
    slave.service.startService()
    rig.until(lambda: bool(rig.links), "a connection")
    asked = Counter[bytes]()
    decode = m.Get.parse

    def counting(reader: object) -> m.Get:
        found = decode(reader)  # type: ignore[arg-type]
        asked.update(found.ids)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(m.Get, "parse", counting)
        rig.link.master.alter = flipping_in(BULK)
        rig.settle()
    assert slave.state == status.FAILED
    assert "3 times" in slave.service.status.why
    assert "checksum" in slave.service.status.why
    assert asked[BULK.segment] == 3
    assert set(asked.values()) <= {1, 3}, "nothing else is asked for twice"
    nothing_wrong(tmp_path / "copy")
    rig.pass_time(5)
    assert slave.state == status.IN_SYNC, "the next connection does not lie"
    finish(slave, master)
    whole_and_right(tmp_path / "copy")


class Liar(RawMaster):
    """Serves `samples` under a head, listing and sending what the test says."""

    def __init__(
        self,
        samples: Sequence[Sample],
        head: bytes,
        data: Callable[[bytes, bytes], bytes] = lambda _, data: data,
        listed: Sequence[Sample] | None = None,
    ) -> None:
        super().__init__()
        self.samples = {each.segment: each.data for each in samples}
        self.head = head
        self.data = data
        self.items = samples if listed is None else listed

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        """Answer at once."""
        number, message = m.decode_request(string)
        for answer in self._answers(message):
            self.answer(number, answer)

    def _answers(self, message: m.Request) -> list[m.Answer]:
        if isinstance(message, m.Hello):
            return [m.Welcome(1, (), "", 0, "a liar")]
        if isinstance(message, m.Head):
            if message.have == head_in(self.head):
                return []
            return [m.HeadIs(head_in(self.head), 1, NO_GENERATION, known=True)]
        if isinstance(message, m.List):
            items = b"".join(
                each.segment + len(each.data).to_bytes(4, "big") for each in self.items
            )
            return [m.Listed(len(self.items), 0, items), m.ListEnd(b"")]
        assert isinstance(message, m.Get)
        return self._stream(message)

    def _stream(self, get: m.Get) -> list[m.Answer]:
        whole = b""
        for segment in get.ids:
            if segment in self.samples:
                data = self.data(segment, self.samples[segment])
                made = stream.item(segment, crc_of(data), data)
            else:
                made = stream.refusal(segment, m.ErrorCode.SEGMENT_GONE, "it never was")
            whole += b"".join(map(bytes, made))
        cut = range(0, len(whole), m.MAX_PART)
        parts: list[m.Answer] = [m.Part(whole[at : at + m.MAX_PART]) for at in cut]
        return [*parts, m.End(len(get.ids), len(whole))]


def crc_of(data: bytes) -> int:
    """The right checksum of wrong data: a liar's own."""
    import zlib  # noqa: PLC0415

    return zlib.crc32(data)


def follow(rig: Rig, copy: Path, liar: Callable[[], RawMaster]) -> SlaveSide:
    raw_masters(rig, liar)
    return SlaveSide(rig, copy).start()


def test_an_honest_liar_is_followed(rig: Rig, tmp_path: Path) -> None:
    """Else the tests below would prove nothing."""
    slave = follow(rig, tmp_path / "copy", lambda: Liar(SAMPLES, HEAD.segment))
    assert slave.state == status.IN_SYNC
    slave.stop()
    whole_and_right(tmp_path / "copy")


@pytest.mark.parametrize("order", ["reversed", "head alone", "twice"])
def test_a_list_that_is_wrong_costs_time_and_no_correctness(
    rig: Rig, tmp_path: Path, order: str
) -> None:
    listed = {
        "reversed": SAMPLES[::-1],
        "head alone": SAMPLES[-1:],
        "twice": SAMPLES + SAMPLES,
    }[order]
    slave = follow(rig, tmp_path / "copy", lambda: Liar(SAMPLES, HEAD.segment, listed=listed))
    assert slave.state == status.IN_SYNC
    slave.stop()
    whole_and_right(tmp_path / "copy")


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (lambda data: data[:-16], "listed with"),
        (lambda data: b"xxx" + data[3:], "3 times"),
        (lambda data: data[:20] + b"\xff" + data[21:], "3 times"),
        (lambda data: bytes(len(data)), "3 times"),
    ],
    ids=["cut", "no segment", "more references", "nothing"],
)
def test_segments_that_are_none(
    rig: Rig, tmp_path: Path, lie: Callable[[bytes], bytes], why: str
) -> None:
    def of_the_head(segment: bytes, data: bytes) -> bytes:
        return lie(data) if segment == HEAD.segment else data

    slave = follow(rig, tmp_path / "copy", lambda: Liar(SAMPLES, HEAD.segment, of_the_head))
    assert slave.state == status.FAILED
    assert why in slave.service.status.why
    assert slave.service.copy is None or slave.service.copy.head is None
    slave.stop()
    nothing_wrong(tmp_path / "copy")


def test_a_head_that_needs_what_the_master_has_not(rig: Rig, tmp_path: Path) -> None:
    lost = leaf(30, [data_id(99)])
    slave = follow(rig, tmp_path / "copy", lambda: Liar([*SAMPLES, lost], lost.segment))
    assert slave.state == status.STALLED
    assert "it never was" in slave.service.status.why
    slave.stop()
    with Follower.open(tmp_path / "copy") as follower:
        assert follower.snapshot.head is None
        assert not follower.snapshot.contains(lost.segment)


def test_a_head_in_a_bulk_segment(rig: Rig, tmp_path: Path) -> None:
    slave = follow(rig, tmp_path / "copy", lambda: Liar(SAMPLES, BULK.segment))
    assert slave.state == status.FAILED
    assert "no data segment" in slave.service.status.why
    slave.stop()
    with Follower.open(tmp_path / "copy") as follower:
        assert follower.snapshot.head is None


def test_segments_in_a_circle(rig: Rig, tmp_path: Path) -> None:
    """Oak writes none, but a table may say so; together they are a closure."""
    one, two = leaf(40, [data_id(41)]), leaf(41, [data_id(40)])
    top = leaf(42, [one.segment, two.segment])
    slave = follow(rig, tmp_path / "copy", lambda: Liar([one, two, top], top.segment))
    assert slave.state == status.IN_SYNC
    slave.stop()


class CountingDisk(QuickDisk):
    """Counts what waits for the disk."""

    def __init__(self) -> None:
        self.syncs: Counter[str] = Counter()

    def sync(self, fd: int, path: Path) -> None:
        del fd
        self.syncs[path.suffix] += 1

    def sync_directory(self, path: Path) -> None:
        del path
        self.syncs["directory"] += 1


def test_what_a_new_head_costs(rig: Rig, store: Path, tmp_path: Path) -> None:
    """One sync for the tar, one for the journal, and the slave's own file."""
    master = served(rig, store)
    disk = CountingDisk()
    slave = SlaveSide(rig, tmp_path / "copy")
    slave.service._keeper.disk = disk
    slave.start()
    new = leaf(50, [SAMPLES[0].segment])
    (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, [new]))
    add_heads(store, new.segment)
    disk.syncs.clear()
    master.refresh()
    assert slave.head == head_in(new.segment)
    assert disk.syncs == {".tar": 1, ".log": 1, ".new": 1, "directory": 1}
    finish(slave, master)
