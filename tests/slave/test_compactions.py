"""A slave of a repository that is written, compacted and cleaned up by us, again and again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from copies import closure_of, head_of, sound
from links import Rig
from sides import SlaveSide, served
from stores import QuickDisk

from tarfailover import repository
from tarfailover.ids import SegmentId
from tarfailover.repository.compaction import compact
from tarfailover.slave import status
from tarfailover.store import base, gcfile
from tarfailover.store.cleanup.marks import OAK
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.opentar import Incoming
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

RATIO = 1.5
"""What a copy may take of what its master takes."""
ROUNDS = ("tail", "tail", "full", "tail", "full", "full", "tail", "full")


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.tar"))


def edit(store: Path, number: int) -> None:
    """Some content goes, some comes: about a third of all."""
    chance = random.Random(number)
    with (
        repository.open_for_writing(store, create=True, disk=QuickDisk()) as opened,
        opened.commit() as root,
    ):
        for each in range(0 if number else -12, 6):
            page = root.make(f"content/{number}-{each}")
            page.properties["text"] = chance.randbytes(5_000).hex()
            page.properties["large"] = chance.randbytes(40_000)
        for name in sorted(root.node("content").children)[:6] if number else ():
            del root.node("content").children[name]


def compacted(store: Path, how: str) -> None:
    """As the command does it: compaction, cleanup, a line for the next one."""
    with StoreWriter.open(store, disk=QuickDisk()) as writer:
        keep = None
        if how == "tail" and (store / gcfile.NAME).exists():
            with writer.snapshot() as snapshot:
                keep = base.find(snapshot, store)
        done = compact(writer, random.randbytes, wid="test", now=lambda: 1, keep=keep)
        cleanup = Cleanup(writer, OAK)
        while cleanup.step():
            pass
        cleanup.close()
        number, full, _ = done.generation
        line = gcfile.GcLine(1, 1, 1, number, full, done.nodes, done.head)
        gcfile.append(store, line, writer.disk)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SegmentId]:
    """The segments that the slave stores, as they come."""
    found: list[SegmentId] = []
    store = StoreWriter.store

    def storing(self: StoreWriter, segments: Sequence[Incoming]) -> None:
        if self.directory == tmp_path / "copy":
            found.extend(each.segment for each in segments)
        store(self, segments)

    monkeypatch.setattr(StoreWriter, "store", storing)
    return found


def test_each_compaction_costs_what_is_new_and_the_copy_stays_small(
    tmp_path: Path, stored: list[SegmentId]
) -> None:
    master, copy = tmp_path / "master", tmp_path / "copy"
    edit(master, 0)
    rig = Rig()
    side = served(rig, master)
    slave = SlaveSide(rig, copy).start()
    for number, how in enumerate(ROUNDS, 1):
        for step in ("edit", how):
            known = closure_of(master)
            stored.clear()
            if step == "edit":
                edit(master, number)
            else:
                compacted(master, how)
            side.refresh()
            rig.settle()
            assert slave.state == status.IN_SYNC and slave.head == head_of(master)
            new = closure_of(master).keys() - known.keys()
            assert sorted(stored) == sorted(new), "each new segment came once, and no other"
        assert size(copy) <= RATIO * size(master)
    slave.stop()
    side.close()
    assert closure_of(copy) == closure_of(master)
    sound(copy)
