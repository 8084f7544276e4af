"""Stores whose bytes change on the disk, and another copy that has them whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from format_samples import data_segment
from isal.isal_zlib import crc32
from sides import chain
from stores import RECORD, QuickDisk, Sample, bulk, data_id, make_store

from tarfailover.format.segment import NODE, VALUE
from tarfailover.ids import RecordId, SegmentId
from tarfailover.store.durable import Disk
from tarfailover.store.follower import Follower
from tarfailover.store.intake import Arrival
from tarfailover.store.repair.run import StoreRepair
from tarfailover.store.repair.supply import Outcome

MTIME = 1_700_000_000
NOT_STORE = {"repo.lock", "tarfailover.json", "tarfailover-scrub.json"}
"""Files beside a store."""


def head_segment(number: int, references: Sequence[bytes]) -> Sample:
    """A data segment in which a head can be: its record is a node."""
    records = [*[(VALUE, b"\4abc" + bytes([number]))] * RECORD, (NODE, bytes(8))]
    data = data_segment(references=references, records=records)
    return Sample(data_id(number), data, tuple(references))


def small_samples() -> list[list[Sample]]:
    """Segments for three tars, of both kinds and all kinds of lengths; the last has the head."""
    bulks = [bulk(1, 700), bulk(2, 512), bulk(3, 1)]
    first = [bulks[0], *chain(3)]
    second = [bulks[1], *chain(2, first=10), bulks[2]]
    needs = [each.segment for each in (*first, *second)]
    return [first, second, [bulk(4, 1500), head_segment(99, [*needs, bulk(4, 1500).segment])]]


def small_store(directory: Path) -> Path:
    """A store of three tars, about 20 KiB, without any fault."""
    samples = small_samples()
    tars = {f"data{number:05d}a.tar": each for number, each in enumerate(samples)}
    return make_store(directory, tars, [samples[-1][-1].segment])


class Flip(NamedTuple):
    """One bit that is another one."""

    file: str
    offset: int
    bit: int

    def strike(self, directory: Path) -> None:
        """Flip it."""
        path = directory / self.file
        with path.open("r+b") as file:
            file.seek(self.offset)
            (byte,) = file.read(1)
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))


def random_flips(directory: Path, count: int, seed: int) -> list[Flip]:
    """`count` different bits in the tars of `directory`."""
    chance = random.Random(seed)
    sizes = [(path.name, path.stat().st_size) for path in sorted(directory.glob("*.tar"))]
    total = 8 * sum(size for _, size in sizes)
    found = []
    for place in chance.sample(range(total), count):
        byte, bit = divmod(place, 8)
        for name, size in sizes:
            if byte < size:
                found.append(Flip(name, byte, bit))
                break
            byte -= size
    return found


def files_of(directory: Path) -> dict[str, bytes]:
    """The bytes of every file of the store."""
    paths = sorted(directory.iterdir())
    return {path.name: path.read_bytes() for path in paths if path.name not in NOT_STORE}


class Whole:
    """Another copy, in `directory`, as the source of a repair.

    `alter` changes what it gives: it may return another arrival, or why there is none.
    """

    def __init__(
        self,
        directory: Path,
        alter: Callable[[Arrival], Arrival | str] = lambda arrival: arrival,
    ) -> None:
        self._directory = directory
        self._alter = alter
        self.asked: list[SegmentId] = []

    def get(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival | str]:
        """See `Source`."""
        self.asked += ids
        with Follower.open(self._directory) as follower:
            snapshot = follower.snapshot
            found: dict[SegmentId, Arrival | str] = {}
            for segment in ids:
                found[segment] = "it is not there"
                if snapshot.contains(segment):
                    found[segment] = self._alter(arrival(segment, snapshot.read(segment)))
            return found

    def head(self) -> RecordId | None:
        """See `Source`."""
        with Follower.open(self._directory) as follower:
            return follower.head().record


def arrival(segment: SegmentId, data: bytes) -> Arrival:
    """A segment as it comes over a link."""
    return Arrival(segment, crc32(data), len(data), [data])


def repair(directory: Path, source: Whole, disk: Disk | None = None) -> list[Outcome]:
    """Repair `directory`; everything that was found."""
    return list(
        StoreRepair(directory, source, disk=disk or QuickDisk(), clock=lambda: float(MTIME)).run()
    )
