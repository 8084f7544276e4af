"""The look at all tars over days: whatever the owner of the store does between two slices."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from rot import Flip, arrival, files_of, small_samples, small_store
from sides import chain
from stores import QuickDisk, Sample, head_in

from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import Generation
from tarfailover.store.cleanup.marks import COPY
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.scrub import NAME, Scrub, ScrubState
from tarfailover.store.writer import StoreWriter

TARS = [f"data{number:05d}a.tar" for number in range(3)]
NOW = 1_700_000_000.0
BY_ID = {each.segment: each.data for tar in small_samples() for each in tar}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


def opened(store: Path, **options: object) -> StoreWriter:
    return StoreWriter.open(store, disk=QuickDisk(), **options)  # type: ignore[arg-type]


def whole_pass(scrub: Scrub, limit: int = 1000) -> list[Damage]:
    """One pass, slice by slice, without mending anything."""
    found: list[Damage] = []
    passes = scrub.state.passes
    for _ in range(1000):
        found += scrub.step(limit, NOW)
        if scrub.state.passes > passes:
            return found
    raise AssertionError("a pass without an end")


def mend(scrub: Scrub, found: list[Damage]) -> int:
    """Mend with what belongs there; how many are left."""
    ids = [each.entry.segment for each in found if each.entry]
    return len(scrub.mend(found, {each: arrival(each, BY_ID[each]) for each in ids}, NOW))


@pytest.mark.parametrize("limit", [1, 700, 10**9])
def test_slices_of_any_size_find_the_same(store: Path, limit: int) -> None:
    right = files_of(store)
    with opened(store) as writer:
        scrub = Scrub(writer)
        assert whole_pass(scrub, limit) == []
        for name in TARS:
            Flip(name, BLOCK + 3, 1).strike(store)
            Flip(name, len(right[name]) - 1300, 2).strike(store)
        found = whole_pass(scrub, limit)
        assert len(found) == 6
        assert mend(scrub, found) == 0
        assert scrub.state.repaired == scrub.state.found == 6
        assert whole_pass(scrub, limit) == []
    assert files_of(store) == right


def test_the_tar_that_is_being_written(tmp_path: Path) -> None:
    samples = chain(3)
    with opened(tmp_path / "store", create=True) as writer:
        for each in samples:
            writer.append(each.segment, each.data)
        writer.commit(head_in(samples[-1].segment), 1)
        scrub = Scrub(writer)
        assert whole_pass(scrub) == []
        Flip(TARS[0], BLOCK + 60, 1).strike(tmp_path / "store")
        (damage,) = whole_pass(scrub)
        came = arrival(samples[0].segment, samples[0].data)
        assert scrub.mend([damage], {samples[0].segment: came}, NOW) == []
        more = chain(2, first=50)
        for each in more:
            writer.append(each.segment, each.data)
        assert whole_pass(scrub) == []
        assert writer.read(samples[0].segment) == samples[0].data


def test_a_cleanup_between_two_slices(tmp_path: Path) -> None:
    """Tars vanish, and come under another letter, under the place where the scrub is."""
    old = [Sample(s.segment, s.data, s.references, Generation(0, 0, False)) for s in chain(6)]
    new = chain(1, first=80)[0]
    newer = new.data[:4] + b"\x80\0\0\x01" + new.data[8:10] + b"\0\0\0\x01" + new.data[14:]
    with opened(tmp_path / "store", create=True, tar_limit=6000) as writer:
        for each in old:
            writer.append(each.segment, each.data)
        writer.commit(head_in(old[-1].segment), 1)
        writer.append(new.segment, newer)
        writer.commit(head_in(new.segment), 2)
        scrub = Scrub(writer)
        for _ in range(3):
            scrub.step(700, NOW)
        cleanup = Cleanup(writer, COPY)
        while cleanup.step():
            scrub.step(700, NOW)
        cleanup.close()
        assert cleanup.report.segments > 0
        while not scrub.state.passes:
            assert scrub.step(700, NOW) == []
        left = Damage(TarName(77), 0, "gone")
        assert scrub.mend([left], {}, NOW) == [], "what is gone is not damaged"


def test_what_is_left_outlives_the_process_and_is_looked_at_again(store: Path) -> None:
    right = files_of(store)
    flips = [Flip(TARS[0], BLOCK + 3, 1), Flip(TARS[1], 2 * BLOCK, 1), Flip(TARS[2], 4, 1)]
    for flip in flips:
        flip.strike(store)
    with opened(store) as writer:
        scrub = Scrub(writer)
        found = whole_pass(scrub)
        left = scrub.mend(found, dict.fromkeys(BY_ID, "I have none"), NOW)
        assert [each.why for each in left] == ["I have none"]
        assert whole_pass(scrub) == [], "what is known is not found again"
        scrub.save()
    with opened(store) as writer:
        scrub = Scrub(writer)
        (kept,) = scrub.state.left
        assert (kept.file, kept.offset, kept.since) == (TARS[0], BLOCK, NOW)
        (damage,) = scrub.again()
        assert mend(scrub, [damage]) == 0
        assert (scrub.state.left, scrub.state.repaired) == ([], 3)
        assert scrub.again() == []
    assert files_of(store) == right


def test_a_graph_that_takes_another_room_is_left_to_repair(store: Path) -> None:
    path = store / TARS[0]
    data = path.read_bytes()
    with opened(store) as writer:
        scrub = Scrub(writer)
        at = data.rindex(b".gph") - len(TARS[0])
        path.write_bytes(data[:at] + os.urandom(BLOCK * 2) + data[at + BLOCK * 2 :])
        found = whole_pass(scrub)
        assert found
        left = scrub.mend(found, {}, NOW)
        assert all("tarfailover repair" in each.why or each.why for each in left)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "nonsense",
        "[]",
        '{"format": 2}',
        '{"format": 1, "left": [[1, 2, 3, 4, 5, 6]]}',
        '{"format": 1, "left": [], "number": "x"}',
        '{"format": 1, "left": [], "offset": -1}',
        '{"format": 1, "left": [], "begun": null}',
        '{"format": 1, "left": [], "more": 1}',
    ],
)
def test_a_state_that_is_none_costs_a_pass(store: Path, kept: str) -> None:
    (store / NAME).write_text(kept)
    assert ScrubState.load(store) == ScrubState()
    with opened(store) as writer:
        scrub = Scrub(writer)
        assert whole_pass(scrub) == []
        scrub.save()
    assert json.loads((store / NAME).read_text())["passes"] == 1


def test_how_far_it_is(store: Path) -> None:
    with opened(store) as writer:
        scrub = Scrub(writer)
        parts = []
        while not scrub.state.passes:
            parts.append(scrub.progress())
            scrub.step(2000, NOW)
        assert parts == sorted(parts)
        assert parts[0] == 0 and 0.9 < parts[-1] <= 1
    shutil.rmtree(store)
