"""A crash after every single step of a cleanup, in every way: no head and nothing it needs is lost.

Commits of three generations, with a cleanup between them that copies in many steps, and
commits between these steps that need what had been judged away. After each step the machine
dies in each way that `crash.crashes` knows; the store is opened again, and cleaned up to the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest
from crash import Drive, RecordingDisk, crashes
from stores import QuickDisk, Sample, bulk, closure_in, data_id, head_in, leaf

from tarfailover.ids import Generation, RecordId
from tarfailover.store.cleanup import run
from tarfailover.store.cleanup.marks import COPY
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

LIMIT = 9 * 1024
"""So small that a tar holds about six segments."""
FEW = 4
"""Ways to die after a write: killed, and all, bytes or names lost that were not synced."""
FIRST = 2
"""The head after which is cleaned up."""
STEPS = 3
"""Of the first cleanup, before the next head comes: then a tar is half written."""


def _samples() -> list[list[Sample]]:
    """What each head needs and those before it did not bring.

    Head 1 is of the first generation, 2 and 3 of the second, 4 of the third. Head 3 needs
    a bulk segment that only head 0 had needed.
    """
    bulks = [bulk(number, 900) for number in range(8)]

    def head(number: int, needs: list[bytes], triple: Generation) -> Sample:
        return leaf(number, needs, generation=triple)

    ids = [each.segment for each in bulks]
    first = Generation(0, 0, False)
    return [
        [*bulks[:6], head(0, ids[:6], first)],
        [bulks[6], head(1, [ids[6], data_id(0)], first)],
        [bulks[7], head(2, [ids[0], ids[2], ids[7]], Generation(1, 1, True))],
        [head(3, [data_id(2), ids[1]], Generation(1, 1, False))],
        [head(4, [ids[0]], Generation(2, 2, True))],
    ]


SAMPLES = _samples()
HEADS = [head_in(batch[-1].segment) for batch in SAMPLES]
BY_ID = {each.segment: each for batch in SAMPLES for each in batch}


def opened(directory: Path, disk: QuickDisk) -> StoreWriter:
    return StoreWriter.open(
        directory,
        create=True,
        headless=True,
        tar_limit=LIMIT,
        disk=disk,
        clock=lambda: 1_700_000_000.0,
    )


def commit(writer: StoreWriter, number: int) -> None:
    bring(writer, HEADS[number].segment)
    writer.commit(HEADS[number], 1000 + number)


def bring(writer: StoreWriter, segment: bytes) -> None:
    """Store what `segment` needs, and it, as far as it is missing; references first."""
    if not writer.contains(segment):
        for reference in BY_ID[segment].references:
            bring(writer, reference)
        writer.append(segment, BY_ID[segment].data)


def clean(writer: StoreWriter) -> None:
    cleanup = Cleanup(writer, COPY)
    while cleanup.step():
        pass
    assert not cleanup.report.failures
    cleanup.close()


def life(directory: Path, disk: RecordingDisk) -> None:
    with opened(directory, disk) as writer:
        for number in range(FIRST + 1):
            commit(writer, number)
            disk.say(number)
        cleanup = Cleanup(writer, COPY)
        for _ in range(STEPS):
            cleanup.step()
        assert list(directory.glob("*.new")), "no tar is half written"
        commit(writer, 3)
        disk.say(3)
        while cleanup.step():
            pass
        cleanup.close()
        commit(writer, 4)
        disk.say(4)
        clean(writer)


class Moment(NamedTuple):
    """A drive at one moment, and the newest head that had been promised by then."""

    drive: Drive
    promised: int
    written: bool
    """Whether the last step was a write, behind which the ways to die differ little."""


def moments(directory: Path) -> Iterator[Moment]:
    disk, drive, promised = RecordingDisk(), Drive(), -1
    directory.mkdir()
    life(directory, disk)
    for step in disk.steps:
        if step.kind == "said":
            promised = int(str(step.what))
        else:
            drive.apply(step)
            # Crashes without a cleanup are another test's.
            if promised >= FIRST:
                yield Moment(drive, promised, step.kind == "write")


def place(head: RecordId | None) -> int:
    return HEADS.index(head) if head is not None else -1


def whole(writer: StoreWriter) -> None:
    if writer.head is not None:
        with writer.snapshot() as snapshot:
            found = closure_in(snapshot, writer.head.segment)
        assert found == {segment: BY_ID[segment].data for segment in found}


def check(directory: Path, promised: int) -> None:
    with opened(directory, QuickDisk()) as writer:
        shown = place(writer.head)
        assert shown >= promised, f"the head is {shown}"
        whole(writer)
        if shown >= 0:
            clean(writer)
            whole(writer)
        for number in range(shown + 1, len(HEADS)):
            commit(writer, number)
        whole(writer)
    with Follower.open(directory) as follower:
        assert follower.head().record == HEADS[-1]
        closure_in(follower.snapshot, HEADS[-1].segment)
    assert not list(directory.glob("*.new"))


def test_nothing_is_lost_whenever_the_machine_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STEP", 512)
    monkeypatch.setattr("tarfailover.store.cleanup.rewrite.READ_AT_ONCE", 512)
    tried = 0
    letters = set()
    for moment in moments(tmp_path / "recorded"):
        letters |= {name[9] for name in moment.drive.names if name.endswith(".tar")}
        for name, left in islice(crashes(moment.drive), FEW if moment.written else None):
            left.write_to(tmp_path / "crashed")
            try:
                check(tmp_path / "crashed", moment.promised)
            except Exception as error:
                raise AssertionError(
                    f"{name}, promised was {moment.promised}: {error!r}"
                ) from error
            tried += 1
    assert "b" in letters, "no tar was written anew"
    assert tried > 150
