"""What the kernel has in memory is sent without a thread; what it has not, in the same bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import Rig
from sides import MasterSide, RawSlave, large, store_of
from stores import leaf

from tarfailover.master import segments, sender
from tarfailover.master.segments import GetSource
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.wire import messages as m
from tarfailover.wire.stream import StreamParser

SAMPLES = [*large(12), *(leaf(number, [], 200) for number in range(3000, 3200))]
SENT = [(each.segment, each.data) for each in SAMPLES]
IDS = tuple(each.segment for each in SAMPLES)
WHOLE = sum(len(each.data) + 24 for each in SAMPLES)


class Memory:
    """Stands for what the kernel has in memory: all, nothing, or as the dice fall."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.share = 1.0
        self.rng = random.Random(1)
        self.asked = 0
        self.read = 0
        """Times that somebody read who could wait."""
        patient = TarReader.read

        def read_cached(reader: TarReader, offset: int, size: int) -> memoryview | None:
            self.asked += 1
            if self.rng.random() >= self.share:
                return None
            return memoryview(patient(reader, offset, size))

        def read(reader: TarReader, offset: int, size: int) -> bytes:
            self.read += 1
            return patient(reader, offset, size)

        monkeypatch.setattr(TarReader, "read_cached", read_cached)
        monkeypatch.setattr(TarReader, "read", read)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


@pytest.fixture
def master(store: Path) -> Iterator[MasterSide]:
    side = MasterSide(Rig(), store, compression="none")
    yield side
    side.close()


@pytest.fixture
def memory(nothing_in_memory: None, monkeypatch: pytest.MonkeyPatch) -> Memory:
    del nothing_in_memory
    return Memory(monkeypatch)


def took(slave: RawSlave) -> list[m.Answer]:
    """The answers; the segments among them are compared, and left out."""
    parser, found, others = StreamParser(), list[Any](), list[m.Answer]()
    for answer in slave.take():
        if isinstance(answer, m.Part):
            found += parser.feed(answer.data)
        else:
            others.append(answer)
        if isinstance(answer, m.End):
            assert [(one.segment, b"".join(one.chunks)) for one in found] == SENT
            parser, found = StreamParser(), []
    return others


def test_what_is_in_memory_needs_no_thread(master: MasterSide, memory: Memory) -> None:
    slave, _ = master.welcome()
    for _ in range(3):
        slave.ask(m.Get(IDS))
    master.rig.settle()
    assert took(slave) == [m.End(len(IDS), WHOLE)] * 3
    assert memory.asked and not memory.read


def test_what_is_not_is_read_ahead_in_threads_for_a_while(
    master: MasterSide, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "PATIENT", 5)
    memory.share = 0.0
    slave, _ = master.welcome()
    for _ in range(4):
        slave.ask(m.Get(IDS))
        master.rig.settle()
    assert took(slave) == [m.End(len(IDS), WHOLE)] * 4
    assert memory.asked == -(-memory.read // 5), "every fifth chunk is tried"
    memory.share, memory.asked, before = 1.0, 0, memory.read
    for _ in range(3):
        slave.ask(m.Get(IDS))
    master.rig.settle()
    assert took(slave) == [m.End(len(IDS), WHOLE)] * 3
    assert memory.read - before <= 5 < memory.asked


@pytest.mark.parametrize("seed", range(10))
def test_the_bytes_are_the_same_wherever_they_come_from(
    master: MasterSide, memory: Memory, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sender, "PATIENT", 1)
    memory.share, memory.rng = 0.5, random.Random(seed)
    slave, _ = master.welcome()
    for _ in range(4):
        slave.ask(m.Get(IDS))
    master.rig.settle()
    assert took(slave) == [m.End(len(IDS), WHOLE)] * 4
    assert memory.read and memory.asked


def test_what_lies_scattered_is_left_to_a_thread(
    master: MasterSide, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small reads for one chunk would keep all other clients waiting."""
    monkeypatch.setattr(segments, "RUNS", 40)
    slave, _ = master.welcome()
    scattered = IDS[::2]
    slave.ask(m.Get(scattered))
    master.rig.settle()
    answers = slave.take()
    parser = StreamParser()
    came = [item for each in answers if isinstance(each, m.Part) for item in parser.feed(each.data)]
    assert [item.segment for item in came] == list(scattered)
    assert isinstance(answers[-1], m.End)
    assert memory.read > 40


def test_a_segment_that_is_damaged_in_memory_is_refused(
    store: Path, master: MasterSide, memory: Memory
) -> None:
    del memory
    tar = store / "data00000a.tar"
    place = tar.read_bytes().index(SAMPLES[3].data) + 1000
    with tar.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff\x00\xff")
    slave, _ = master.welcome()
    slave.ask(m.Get(IDS))
    master.rig.settle()
    parser = StreamParser()
    found = [
        item
        for answer in slave.take()
        if isinstance(answer, m.Part)
        for item in parser.feed(answer.data)
    ]
    refused = [item for item in found if hasattr(item, "code")]
    assert [item.segment for item in refused] == [SAMPLES[3].segment]
    assert "data00000a.tar, offset" in refused[0].text
    assert len(found) == len(SAMPLES)


def test_an_error_of_our_own_ends_the_connection_as_one_in_a_thread_does(
    master: MasterSide, memory: Memory, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    del memory

    def broken(_: GetSource) -> None:
        raise RuntimeError("a mistake of ours")

    slave, link = master.welcome()
    monkeypatch.setattr(GetSource, "at_once", broken)
    slave.ask(m.Get(IDS))
    master.rig.settle()
    assert not link.alive
    assert any("an answer failed" in line for line in log)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    follower = Follower.open(store_of(tmp_path_factory.mktemp("stores") / "store", SAMPLES))
    yield follower.snapshot
    follower.close()


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_chunk_that_is_not_in_memory_changes_nothing(
    snapshot: Snapshot, in_memory: list[bool]
) -> None:
    """`next` after an `at_once` in vain gives what it would have given without it."""
    tried, plain = (GetSource(7, IDS, [snapshot]) for _ in range(2))
    there = iter(in_memory)

    def read_cached(reader: TarReader, offset: int, size: int) -> memoryview | None:
        return memoryview(reader.read(offset, size)) if next(there, False) else None

    with mock.patch.object(TarReader, "read_cached", read_cached):
        while not plain.ended:
            chunk = tried.at_once()
            chunk = tried.next(None) if chunk is None else chunk
            assert chunk == plain.next(None)
            assert (tried.ended, tried.size) == (plain.ended, plain.size)
    assert tried.ended
    tried.close()
    plain.close()
