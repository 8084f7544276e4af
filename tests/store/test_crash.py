"""A crash after every single step of a writer, in every way: nothing acknowledged is lost.

The steps of a workload are recorded. After each of them the machine dies in each way that
`crash.crashes` knows, and the store is opened again, followed, continued and closed. Then the
same for the steps of what opening had to mend, and for the crash of a machine after that of a
process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from crash import Drive, RecordingDisk, all_lost, crashes
from stores import QuickDisk, Sample, bulk, closure_in, data_id, entry, head_in, leaf, make_store

from tarfailover.errors import NotAStoreError
from tarfailover.ids import RecordId
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

LIMIT = 5 * 1024
"""So small that a tar holds about four segments."""


class World:
    """All segments that the workloads know, and their heads in the order in which they come."""

    def __init__(self, commits: int = 8) -> None:
        self.samples: list[list[Sample]] = []
        self.heads: list[RecordId] = []
        for number in range(commits):
            big = bulk(number, 700)
            older = [data_id(10 * (number - 1) + 2)] if number else []
            middle = leaf(10 * number + 1, [big.segment])
            top = leaf(10 * number + 2, [middle.segment, *older])
            self.samples.append([big, middle, top])
            self.heads.append(head_in(top.segment))
        self.data = {each.segment: each.data for batch in self.samples for each in batch}

    def place(self, head: RecordId | None) -> int:
        """The number of `head`; -1 for none."""
        return self.heads.index(head) if head is not None else -1

    def store(self, writer: StoreWriter, number: int) -> None:
        """Store what head `number` needs and lacks."""
        for each in self.samples[number]:
            if not writer.contains(each.segment):
                writer.append(each.segment, each.data)

    def commit(self, writer: StoreWriter, number: int) -> None:
        """Make head `number` the head."""
        self.store(writer, number)
        writer.commit(self.heads[number], 1000 + number)


WORLD = World()


def opened(directory: Path, disk: QuickDisk, *, headless: bool = False) -> StoreWriter:
    return StoreWriter.open(
        directory,
        create=True,
        headless=headless,
        tar_limit=LIMIT,
        disk=disk,
        clock=lambda: 1_700_000_000.0,
    )


def two_lives(directory: Path, disk: RecordingDisk) -> None:
    """Commits, a clean end, and a second life with segments that no head names yet."""
    with opened(directory, disk) as writer:
        for number in (0, 1):
            WORLD.commit(writer, number)
            disk.say(number)
    writer = opened(directory, disk)
    disk.say(WORLD.place(writer.head))
    WORLD.commit(writer, 2)
    disk.say(2)
    WORLD.store(writer, 3)
    writer.flush()
    WORLD.commit(writer, 3)
    disk.say(3)
    writer.close()


def one_more(directory: Path, disk: RecordingDisk) -> None:
    """What is there is mended, then comes one commit and a clean end."""
    with opened(directory, disk, headless=True) as writer:
        place = WORLD.place(writer.head)
        disk.say(place)
        WORLD.commit(writer, place + 1)
        disk.say(place + 1)


def several_letters(directory: Path) -> None:
    """Two letters with an index, two without, and a tar in which nothing is."""
    before = [each for batch in WORLD.samples[:2] for each in batch]
    make_store(
        directory,
        {
            "data00000a.tar": before[:2],
            "data00000b.tar": before[:3],
            "data00001a.tar": b"".join(map(entry, before[3:5])),
            "data00001b.tar": b"".join(map(entry, [before[3], before[5], before[4]])) + b"torn",
            "data00002a.tar": bytes(1024),
            "data00003a.tar": b"",
        },
        [before[2].segment, before[5].segment],
    )


class Moment(NamedTuple):
    """A drive at one moment, and what had been promised by then."""

    drive: Drive
    promised: int
    """The number of the newest head that was acknowledged, -1 for none."""


Work = Callable[[Path, RecordingDisk], None]


def moments(directory: Path, work: Work, drive: Drive, promised: int) -> Iterator[Moment]:
    """`drive` before and after each step that `work` takes on it."""
    disk = RecordingDisk(drive)
    work(drive.write_to(directory), disk)
    yield Moment(drive, promised)
    for step in disk.steps:
        if step.kind == "said":
            promised = max(promised, int(str(step.what)))
        else:
            drive.apply(step)
            yield Moment(drive, promised)


def check(directory: Path, promised: int) -> None:
    """The store in `directory` keeps the promise, and can be followed, continued and closed."""
    shown = followed(directory)
    assert shown >= promised, f"the follower shows {shown}"
    with opened(directory, QuickDisk(), headless=promised < 0) as writer:
        place = WORLD.place(writer.head)
        assert place == shown
        check_closure(writer)
        WORLD.commit(writer, place + 1)
    with opened(directory, QuickDisk()) as writer:
        assert writer.repairs == ()
        assert WORLD.place(writer.head) == place + 1
        check_closure(writer)
    with Follower.open(directory) as follower:
        assert follower.head().record == WORLD.heads[place + 1]
        assert follower.head().skipped == ()


def followed(directory: Path) -> int:
    """The number of the head that a follower shows, -1 if there is none or no store yet."""
    try:
        with Follower.open(directory) as follower:
            head = follower.snapshot.head
            assert (head is None) == (follower.no_head is not None)
            return WORLD.place(head.record) if head else -1
    except NotAStoreError:
        return -1


def check_closure(writer: StoreWriter) -> None:
    if writer.head is not None:
        with writer.snapshot() as snapshot:
            found = closure_in(snapshot, writer.head.segment)
        assert found == {segment: WORLD.data[segment] for segment in found}


def check_crash(directory: Path, name: str, left: Drive, promised: int) -> None:
    left.write_to(directory)
    try:
        check(directory, promised)
    except Exception as error:
        raise AssertionError(f"{name}; promised was head {promised}: {error!r}") from error


@pytest.mark.parametrize("work", [two_lives, one_more])
def test_nothing_acknowledged_is_lost_whenever_the_machine_dies(tmp_path: Path, work: Work) -> None:
    drive, promised = Drive(), -1
    if work is one_more:
        several_letters(tmp_path / "letters")
        drive, promised = Drive.of(tmp_path / "letters"), 1
    tried = 0
    for moment in moments(tmp_path / "recorded", work, drive, promised):
        for name, left in crashes(moment.drive):
            check_crash(tmp_path / "crashed", name, left, moment.promised)
            tried += 1
    assert tried > 150


def test_nothing_is_lost_when_a_crash_follows_a_crash(tmp_path: Path) -> None:
    """Every first crash of a process, and one of the machine; of the second ones some.

    Always the one in which all is lost that was not synced when the next promise was made.
    """
    chance = random.Random(7)
    tried = 0
    for moment in moments(tmp_path / "recorded", two_lives, Drive(), -1):
        name, left = chance.choice(list(crashes(moment.drive)))
        for first, drive in (("killed", moment.drive.copy()), (name, left)):
            promised = -1
            for second in moments(tmp_path / "again", one_more, drive, moment.promised):
                chosen = []
                if second.promised > promised:
                    chosen = [("all unsynced lost", second.drive.crashed(all_lost, 0))]
                elif chance.random() < 0.02:
                    chosen = [chance.choice(list(crashes(second.drive)))]
                promised = max(promised, second.promised)
                for name, left in chosen:
                    check_crash(tmp_path / "crashed", f"{first}, {name}", left, second.promised)
                    tried += 1
    assert tried > 300
