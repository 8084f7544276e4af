"""A primary that says anything, mostly under right checksums: it costs time, and nothing is kept.

Once it says the truth again the copy is whole, whatever it said before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from binaries import holder, id_of
from links import Rig
from oak_sides import Served, ServingPrimary
from sides import SlaveSide, chain, large
from stores import Sample, data_id, head_in
from twisted.logger import globalLogPublisher

from tarfailover.ids import SegmentId, is_data
from tarfailover.slave import status
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import GetBlob, GetReferences, GetSegment, Request

SEEDS = range(16)
TRUE = 0.75
"""How many of the answers are."""
SOON = {"deadline_answer": 2.0, "deadline_idle": 2.0, "deadline_hello": 2.0}
CONTENTS = [bytes([number]) * 4000 * (number + 1) for number in range(6)]
SAMPLES = [*large(6, 30_000), *chain(8)]
TOP = holder(3_000_000, map(id_of, CONTENTS), [SAMPLES[6].segment, SAMPLES[-1].segment])


def answered(size: int, *, blob: str, data: bytes, first: bool, last: bool) -> tuple[bytes, ...]:
    """A chunk of a binary of `size` bytes."""
    return tuple(map(bytes, answers.blob_chunk(blob, size, data, first=first, last=last)))


class Liar(ServingPrimary):
    """Chance decides what it says."""

    def __init__(self, served: Served, chance: Random) -> None:
        super().__init__(served)
        self._chance = chance

    def asked(self, request: Request) -> None:
        """Answer, or something like it."""
        if self._chance.random() < TRUE:
            super().asked(request)
        else:
            self._chance.choice(list(self._lies(request)))()

    def _lies(self, request: Request) -> Iterator[Callable[[], object]]:
        other = self._chance.choice(SAMPLES)
        yield lambda: None
        yield self.transport.loseConnection
        yield lambda: self.segment(other)
        yield lambda: self.references(other)
        yield lambda: self.head(head_in(other.segment))
        yield lambda: self.transport.write(self._chance.randbytes(50))
        yield lambda: self.frame(answers.text_frame(answers.HEAD, "no record"))
        yield lambda: (ServingPrimary.asked(self, request), ServingPrimary.asked(self, request))
        if isinstance(request, GetReferences):
            yield from self._about_references(request.segment)
        elif isinstance(request, GetSegment):
            yield from self._about_bytes(request.segment)
        elif isinstance(request, GetBlob):
            yield from self._about_binaries(request.blob)

    def _about_references(self, segment: SegmentId) -> Iterator[Callable[[], object]]:
        never = [data_id(self._chance.randrange(10**6)) for _ in range(100)]
        for told in ([], [segment], never, [SAMPLES[0].segment, *never[:3]]):
            yield lambda told=told: self.references(Sample(segment, b"", tuple(told)))  # type: ignore[misc]

    def _about_bytes(self, segment: SegmentId) -> Iterator[Callable[[], object]]:
        """Not other bytes under the right hash: nothing in them tells of which segment they are."""
        lead, data = answers.segment(segment, self._chance.randbytes(300))
        yield lambda: self.frame(lead, bytes([data[0] ^ 1]) + bytes(data[1:]))
        if is_data(segment):
            yield lambda: self.frame(lead, data)
            yield lambda: self.frame(*answers.segment(segment, b"0aK\x0d"))

    def _about_binaries(self, blob: str) -> Iterator[Callable[[], object]]:
        data = self._chance.choice(CONTENTS)
        yield lambda: self.blob(blob, data)
        yield lambda: self.blob(id_of(data), data)
        yield lambda: self.blob(f"../{blob}", data)
        for size, first, last in ((len(data), False, True), (2**62, True, False), (9, True, True)):
            chunk = answered(size, blob=blob, data=data[:9], first=first, last=last)
            yield lambda chunk=chunk: self.frame(*chunk)  # type: ignore[misc]


@pytest.fixture
def faults() -> Iterator[list[object]]:
    """What was logged with a traceback."""
    found: list[object] = []

    def observe(event: dict[str, object]) -> None:
        if event.get("log_failure") is not None:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_it_says(rig: Rig, tmp_path: Path, seed: int, faults: list[object]) -> None:
    chance = Random(seed)
    served = Served([*SAMPLES, TOP], head_in(TOP.segment))
    served.blobs = {id_of(each): each for each in CONTENTS}
    served.chunk = 3000
    own = BlobStore(tmp_path / "own", DATA_STORE)
    rig.master = lambda: Liar(served, chance)
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak", blob_store=str(own.path), **SOON)
    slave.service.startService()
    rig.pass_time(40, step=1)
    assert slave.head is None or slave.head.segment in served.samples, "a head that it told"
    rig.master = served.primary
    rig.link.cut()
    rig.pass_time(200, step=1)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head), slave.service.status.why
    copy = slave.service.copy
    assert copy is not None
    for each in [*SAMPLES, TOP]:
        assert copy.writer.read(each.segment) == each.data
    for blob in map(own.parse, map(id_of, CONTENTS)):
        own.verify(blob)
    slave.stop()
    assert not faults
