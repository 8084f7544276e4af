"""The history of Oak's bugs, as far as the cleanup of a standby can have them.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bare_copies import arrival, bring, clean, opened, take, tars_size
from links import Rig
from oak_sides import Served, serving
from planted import BOTH, found
from sides import SlaveSide
from stores import Sample, bulk, leaf

from tarfailover.ids import Generation
from tarfailover.slave import copy as copies
from tarfailover.slave import status
from tarfailover.slave.cleaning import Cleaning
from tarfailover.slave.copy import Copy
from tarfailover.store.cleanup.marks import COPY
from tarfailover.store.durable import Disk
from tarfailover.store.intake import checked
from tarfailover.store.receiver import Receiver
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load


class Compacted:
    """An Oak primary, and a slave of it: each generation has 40 KB of its own, 40 KB stay."""

    def __init__(self, rig: Rig, copy: Path) -> None:
        self.rig, self.copy, self.number = rig, copy, 0
        self.kept = bulk(99, 40_000)
        first = leaf(0, [self.kept.segment, bulk(0, 40_000).segment])
        self.served: Served = serving(rig, [self.kept, bulk(0, 40_000), first])
        self.slave = SlaveSide(rig, copy, dialect="oak").start()
        self._synced()

    def _synced(self) -> None:
        assert (self.slave.state, self.slave.head) == (status.IN_SYNC, self.served.head)

    def compact(self) -> None:
        """The next generation."""
        self.number += 1
        own = bulk(self.number, 40_000)
        refs = [self.kept.segment, own.segment]
        self.grow(own, leaf(self.number, refs, generation=self.generation))

    @property
    def generation(self) -> Generation:
        return Generation(self.number, self.number, True)

    def grow(self, *samples: Sample) -> None:
        """A new head."""
        self.served.add(*samples)
        self.rig.pass_time(11, step=0.5)
        self._synced()

    @property
    def cleanups(self) -> int:
        """Those after the one that the first sync brings."""
        return self.slave.service.status.cleanups - 1


@pytest.fixture
def compacted(rig: Rig, tmp_path: Path) -> Compacted:
    return Compacted(rig, tmp_path / "copy")


@BOTH
def test_oak_2535_a_copy_shrinks_by_itself(
    planted: bool, compacted: Compacted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no cleanup of a standby, and each compaction made it larger."""
    if planted:
        monkeypatch.setattr(Cleaning, "due", lambda *_: False)
    for _ in range(4):
        compacted.compact()
    with found(planted):
        assert tars_size(compacted.copy) < 1.5 * 80_000
    compacted.slave.stop()


@BOTH
def test_oak_5029_a_generation_makes_a_cleanup_due_and_not_the_size(
    planted: bool, compacted: Compacted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By size, a copy that grew for good was cleaned up, and one that was compacted was not."""
    if planted:
        sizes = [tars_size(compacted.copy)]

        def by_size(self: Copy) -> bool:
            size = tars_size(self.directory)
            grown = size > 1.25 * sizes[-1]
            sizes[-1] = size if grown else sizes[-1]
            return grown

        monkeypatch.setattr(Copy, "cleanup_due", property(by_size))
    small = leaf(50, [compacted.kept.segment], generation=Generation(1, 1, True))
    compacted.grow(bulk(60, 150_000), leaf(61, [bulk(60, 150_000).segment]))
    grown = compacted.cleanups
    compacted.grow(small)
    with found(planted):
        assert (grown, compacted.cleanups) == (0, 1)
        assert tars_size(compacted.copy) < 1.5 * 40_000
    compacted.slave.stop()


@BOTH
def test_oak_7157_no_generation_is_kept_for_nothing(
    planted: bool, compacted: Compacted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody writes to a copy who could still need the one before."""
    if planted:
        monkeypatch.setattr(copies, "COPY", COPY._replace(retained=2))
    compacted.compact()
    copy = compacted.slave.service.copy
    assert copy is not None
    with found(planted):
        assert not copy.writer.contains(bulk(0, 40_000).segment)
    compacted.slave.stop()


@BOTH
def test_oak_4004_what_a_cleanup_has_replaced_is_removed(
    planted: bool, compacted: Compacted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were marked to be deleted, and stayed until the store was closed."""
    with monkeypatch.context() as patch:
        if planted:
            patch.setattr(Disk, "remove", lambda *_: None)
        for _ in range(3):
            compacted.compact()
        copy = compacted.slave.service.copy
        assert copy is not None
        with copy.writer.snapshot() as snapshot:
            shown = sorted(reader.path for reader in snapshot.tars.readers)
        with found(planted):
            assert sorted(compacted.copy.glob("data*")) == shown
    compacted.slave.stop()


# what is known of segments that go


@BOTH
def test_oak_3612_what_waits_does_not_outlive_what_it_refers_to(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches that a cleanup did not clear named segments that it had removed."""
    if planted:
        monkeypatch.setattr(Receiver, "forget", lambda _: None)
    copy = opened(tmp_path)
    old, absent = bulk(1, 5000), bulk(2, 100)
    bring(copy, old, leaf(1, [old.segment]))
    bring(copy, leaf(2, generation=Generation(1, 1, True)))
    waiting = leaf(3, [old.segment, absent.segment])
    assert take(copy, waiting).missing == (absent.segment,)
    clean(copy)
    assert not copy.writer.contains(old.segment)
    take(copy, absent)
    with found(planted):
        assert not copy.writer.contains(waiting.segment)
    copy.close()


@BOTH
def test_oak_3612_what_was_known_to_be_whole_is_asked_for_anew(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what was learned of places in the tars that others have now."""
    install = StoreWriter.install

    def remembering(self: StoreWriter, readers: Any, table: Any, _: bytearray) -> None:
        install(self, readers, table, self.finder.known)

    if planted:
        monkeypatch.setattr(StoreWriter, "install", remembering)
    copy = opened(tmp_path)
    old, later = bulk(1, 5000), Generation(1, 1, False)
    bring(copy, old, *map(leaf, range(5)), leaf(9, [old.segment]))
    bring(copy, leaf(10, generation=later._replace(compacted=True)))
    clean(copy)
    back = leaf(20, [old.segment], generation=later)
    fresh = [*(leaf(number, generation=later) for number in range(11, 17)), back]
    copy.writer.store([checked(arrival(each)) for each in fresh])
    with found(planted):
        assert copy.writer.missing(back.segment) == [old.segment]
    copy.close()
