"""What a cleanup keeps, and how it gets there: beside readers, a writer, and broken disks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from copies import sound
from crash import Drive, FailingDisk
from format_samples import data_segment
from handmade import closed_tar, flip
from handmade import data as blob_data
from handmade import line as journal_line
from handmade import store as store_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import (
    RECORD,
    QuickDisk,
    Sample,
    add_heads,
    bulk,
    closure_in,
    data_id,
    head_in,
    make_store,
)

from tarfailover.errors import (
    DamagedStoreError,
    NoHeadError,
    StoreError,
    StoreIOError,
)
from tarfailover.format.segment import NODE, VALUE
from tarfailover.format.tar import TarName, padded
from tarfailover.ids import NO_GENERATION, Generation, SegmentId, is_bulk
from tarfailover.store.cleanup import run
from tarfailover.store.cleanup.marks import COPY, OAK, Rule
from tarfailover.store.cleanup.run import Cleanup, Report
from tarfailover.store.follower import Follower
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

Tars = Mapping[int, Sequence[Sample]]


def generation(number: int, *, compacted: bool = False) -> Generation:
    """A generation of which each was made by a full compaction."""
    return Generation(number, number, compacted)


def leaf(
    number: int, references: Sequence[bytes] = (), generation: Generation = NO_GENERATION
) -> Sample:
    """A data segment in which a head can lie."""
    records = [*[(VALUE, b"\1x")] * RECORD, (NODE, bytes(12))]
    data = data_segment(generation, references, records)
    return Sample(data_id(number), data, tuple(references), generation)


def opened(directory: Path, disk: QuickDisk | None = None, limit: int = 10**8) -> StoreWriter:
    return StoreWriter.open(
        directory, tar_limit=limit, disk=disk or QuickDisk(), clock=lambda: 1_700_000_000.0
    )


def cleaned(writer: StoreWriter, rule: Rule) -> Report:
    """A whole cleanup."""
    cleanup = Cleanup(writer, rule)
    while cleanup.step():
        pass
    cleanup.close()
    return cleanup.report


def clean(directory: Path, rule: Rule = OAK) -> Report:
    with opened(directory) as writer:
        return cleaned(writer, rule)


def contents(directory: Path) -> dict[str, list[SegmentId]]:
    """The tars in a directory, and the segments of each by position."""
    found = {}
    for path in sorted(directory.glob("*.tar")):
        name = TarName.parse(path.name)
        assert name is not None
        reader = TarReader.open(path, name)
        found[path.name] = [entry.segment for entry in reader.entries()]
        reader.release()
    return found


# the rule, told once more and simply


def _old(sample: Sample, head: Sample, rule: Rule) -> bool:
    g, f, c = sample.generation
    age, full = head.generation.generation - g, head.generation.full - f
    old = full >= rule.retained or (age >= rule.retained and not c)
    return old or (not rule.newer and (age < 0 or full < 0))


def kept_by_oak(samples: Sequence[Sample], head: Sample, rule: Rule) -> set[SegmentId]:
    """Section 7.2, word for word: from the last segment to the first, with a set of bulk ids."""
    wanted: set[SegmentId] = set()
    kept: set[SegmentId] = set()
    ahead = True
    for sample in reversed(samples):
        was = sample.segment in wanted
        wanted.discard(sample.segment)
        if sample is head:
            ahead = False
        if is_bulk(sample.segment):
            reclaimed = not was
        else:
            reclaimed = _old(sample, head, rule) or (
                ahead and sample.generation.compacted and not rule.ahead
            )
        if not reclaimed:
            kept.add(sample.segment)
            wanted.update(filter(is_bulk, sample.references))
    return kept


def needed(samples: Sequence[Sample], roots: Sequence[SegmentId]) -> set[SegmentId]:
    """All that `roots` need."""
    by_id = {each.segment: each for each in samples}
    found: set[SegmentId] = set()
    pending = list(roots)
    while pending:
        segment = pending.pop()
        if segment not in found:
            found.add(segment)
            pending += by_id[segment].references
    return found


def kept_by_us(samples: Sequence[Sample], head: Sample, rule: Rule) -> set[SegmentId]:
    """The same, and what the head needs, and for a copy what lies behind its segment."""
    place = samples.index(head)
    behind = [each.segment for each in samples[place + 1 :]] if rule.ahead else []
    closed = needed(samples, [head.segment, *behind])
    kept = kept_by_oak(samples, head, rule) | closed
    return kept | {r for each in samples if each.segment in kept - closed
                   for r in each.references if is_bulk(r)}  # fmt: skip


def expected(tars: Tars, kept: set[SegmentId]) -> dict[str, list[SegmentId]]:
    """The files that a cleanup leaves."""
    found = {}
    for number, samples in tars.items():
        stay = [each for each in samples if each.segment in kept]
        before, after = (sum(512 + padded(len(s.data)) for s in some) for some in (samples, stay))
        if stay:
            sparse = after < before * 3 // 4
            name = str(TarName(number, "b" if sparse else "a"))
            found[name] = [each.segment for each in (stay if sparse else samples)]
    return found


@st.composite
def stores(draw: st.DrawFn) -> tuple[dict[int, list[Sample]], Sample]:
    """Tars of segments of several generations, each after what it refers to; and a head."""
    made: list[Sample] = []
    for number in range(draw(st.integers(2, 14))):
        if draw(st.booleans()):
            made.append(bulk(number, draw(st.sampled_from([10, 600, 3000]))))
            continue
        g = draw(st.integers(0, 4))
        triple = Generation(g, draw(st.integers(0, g)), draw(st.booleans()))
        references = draw(st.lists(st.sampled_from(made), max_size=4, unique=True)) if made else []
        made.append(leaf(number, [r.segment for r in references], generation=triple))
    if all(is_bulk(each.segment) for each in made):
        made.append(leaf(99, [made[0].segment]))
    head = draw(st.sampled_from([each for each in made if not is_bulk(each.segment)]))
    tars: dict[int, list[Sample]] = {0: []}
    for sample in made:
        if tars[max(tars)] and draw(st.integers(0, 3)) == 0:
            tars[max(tars) + 1] = []
        tars[max(tars)].append(sample)
    return tars, head


@settings(max_examples=40)
@given(stores(), st.sampled_from([OAK, COPY, Rule(1, ahead=False, newer=True)]))
def test_a_cleanup_leaves_exactly_what_the_rule_says(
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[dict[int, list[Sample]], Sample],
    rule: Rule,
) -> None:
    tars, head = made
    samples = [each for some in tars.values() for each in some]
    directory = make_store(
        tmp_path_factory.mktemp("store"),
        {str(TarName(number)): some for number, some in tars.items()},
        [head.segment],
    )
    before = contents(directory)
    report = clean(directory, rule)
    kept = kept_by_us(samples, head, rule)
    if kept == kept_by_oak(samples, head, rule):
        assert contents(directory) == expected(tars, kept_by_oak(samples, head, rule))
    assert contents(directory) == expected(tars, kept)
    left = contents(directory)
    assert report.segments == sum(map(len, before.values())) - sum(map(len, left.values()))
    assert report.tars_removed == len({n[:9] for n in before} - {n[:9] for n in left})
    assert report.tars_rewritten == sum(name.endswith("b.tar") for name in left)
    with Follower.open(directory) as follower:
        assert follower.head().record == head_in(head.segment)
        assert follower.head().skipped == ()
        closure_in(follower.snapshot, head.segment)
    assert not list(directory.glob("*.new"))


# two generations, in tars of one size

BIG = 3000
"""Bytes of a bulk segment."""


class Two:
    """An old head with its tars, and a compacted one that shares a bulk segment with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shared, self.lost = bulk(1, BIG), [bulk(number, BIG) for number in range(2, 6)]
        self.old = leaf(1, [self.shared.segment, *(each.segment for each in self.lost)])
        self.new = leaf(2, [self.shared.segment], generation=generation(1, compacted=True))
        make_store(
            directory,
            {
                "data00000a.tar": [self.shared, *self.lost[:3]],
                "data00001a.tar": [self.lost[3], self.old],
                "data00002a.tar": [self.new],
            },
            [self.old.segment, self.new.segment],
        )

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.directory.glob("*.tar"))


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path / "store")


def test_a_copy_gives_up_what_the_last_compaction_left_behind(two: Two) -> None:
    before = two.size()
    report = clean(two.directory, COPY)
    assert contents(two.directory) == {
        "data00000b.tar": [two.shared.segment],
        "data00002a.tar": [two.new.segment],
    }
    assert (report.tars_removed, report.tars_rewritten, report.segments) == (1, 1, 5)
    assert report.freed == before - two.size()
    assert report.generation == two.new.generation
    sound(two.directory)
    again = clean(two.directory, COPY)
    assert (again.freed, again.segments, again.failures) == (0, 0, [])


def test_oaks_rule_keeps_one_generation_more(two: Two) -> None:
    before = contents(two.directory)
    assert clean(two.directory, OAK).segments == 0
    assert contents(two.directory) == before


def test_a_reader_keeps_what_it_holds_and_sees_what_is_left(two: Two) -> None:
    with Follower.open(two.directory) as follower:
        before = follower.hold()
        clean(two.directory, COPY)
        assert len(closure_in(before, two.old.segment)) == 6
        after = follower.refresh()
        assert not after.contains(two.old.segment)
        assert closure_in(after, two.new.segment).keys() == {two.shared.segment, two.new.segment}
        before.release()


def test_a_writer_goes_on_after_a_cleanup(two: Two) -> None:
    with opened(two.directory) as writer:
        cleaned(writer, COPY)
        assert not writer.contains(two.lost[0].segment)
        assert writer.missing(two.old.segment)
        more = leaf(3, [two.shared.segment, two.new.segment], generation=generation(1))
        writer.append(more.segment, more.data)
        writer.commit(head_in(more.segment), 5)
        with writer.snapshot() as snapshot:
            assert len(closure_in(snapshot, more.segment)) == 3
    sound(two.directory)
    assert list(contents(two.directory)) == [f"data0000{n}.tar" for n in ("0b", "2a", "3a")]


def test_an_old_head_is_no_head_any_more(two: Two) -> None:
    """Nothing that a cleanup broke is taken for whole because it was so before."""
    with opened(two.directory) as writer:
        assert not writer.missing(two.old.segment)
        cleaned(writer, COPY)
        with pytest.raises(StoreError):
            writer.commit(head_in(two.old.segment), 5)


def test_the_tar_that_is_being_written_is_cleaned_up_too(tmp_path: Path) -> None:
    make_store(tmp_path / "s", {})
    old = [bulk(1, BIG), leaf(1, [bulk(1, BIG).segment])]
    new = leaf(2, generation=generation(1, compacted=True))
    with StoreWriter.open(tmp_path / "s", disk=QuickDisk()) as writer:
        for each in [*old, new]:
            writer.append(each.segment, each.data)
        writer.commit(head_in(new.segment), 1)
        assert cleaned(writer, COPY).tars_rewritten == 1
        assert contents(tmp_path / "s") == {"data00000b.tar": [new.segment]}
        assert writer.head == head_in(new.segment)
        writer.append(old[0].segment, old[0].data)
    assert list(contents(tmp_path / "s")) == ["data00000b.tar", "data00001a.tar"]
    sound(tmp_path / "s")


def test_the_last_letter_stays(tmp_path: Path) -> None:
    old, new = leaf(1), leaf(2, generation=generation(2))
    make_store(tmp_path / "s", {"data00000z.tar": [old, new]}, [new.segment])
    clean(tmp_path / "s")
    assert contents(tmp_path / "s") == {"data00000z.tar": [old.segment, new.segment]}


def test_a_store_without_a_head_is_not_touched(tmp_path: Path) -> None:
    make_store(tmp_path / "s", {"data00000a.tar": [leaf(1)]})
    with StoreWriter.open(tmp_path / "s", headless=True, disk=QuickDisk()) as writer:
        with pytest.raises(NoHeadError):
            Cleanup(writer, COPY).step()
        assert writer.contains(leaf(1).segment)


# what goes wrong with one tar


def test_a_damaged_segment_keeps_its_tar_and_no_other(two: Two) -> None:
    """What is kept is verified; what cannot be read is not thrown away either."""
    flip(two.directory / "data00000a.tar", 512 + 100)
    report = clean(two.directory, COPY)
    assert list(contents(two.directory)) == ["data00000a.tar", "data00002a.tar"]
    assert [type(each) for each in report.failures] == [DamagedStoreError]
    assert "data00000a.tar, offset 512" in str(report.failures[0])
    assert not list(two.directory.glob("*.new"))


class Narrow(QuickDisk):
    """A disk with little room."""

    def free(self, path: Path) -> int:
        del path
        return run.SPARE + 1000


def test_without_room_only_what_needs_none_is_done(two: Two) -> None:
    with opened(two.directory, Narrow()) as writer:
        report = cleaned(writer, COPY)
    assert (report.tars_removed, report.tars_rewritten) == (1, 0)
    assert "free space" in str(report.failures[0])
    sound(two.directory)
    assert clean(two.directory, COPY).tars_rewritten == 1


@pytest.mark.parametrize("at", range(1, 12))
def test_a_full_disk_leaves_the_tar_and_a_usable_writer(two: Two, at: int) -> None:
    never = 10**6
    disk = FailingDisk(never)
    disk.names = dict(Drive.of(two.directory).names)
    with opened(two.directory, disk) as writer:
        disk._at = at + sum(each.kind in disk._kinds for each in disk.steps)
        report = cleaned(writer, COPY)
        assert disk.failed is not None
        assert [type(each) for each in report.failures] == [StoreIOError]
        disk._at = never
        assert not writer.failed
        more = leaf(3, [two.new.segment], generation=generation(1))
        writer.append(more.segment, more.data)
        writer.commit(head_in(more.segment), 5)
        assert cleaned(writer, COPY).failures == []
    sound(two.directory)
    assert next(iter(contents(two.directory))) == "data00000b.tar"
    assert not list(two.directory.glob("*.new"))


@pytest.mark.parametrize("kind", ["link", "unlink"])
def test_names_that_cannot_be_changed_end_the_writer(
    two: Two, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of two files counts is not known then; the next open finds out."""

    def refuse(*_: object) -> None:
        raise StoreIOError("the directory cannot be changed")

    writer = opened(two.directory)
    monkeypatch.setattr(writer.disk, "rename" if kind == "link" else "remove", refuse)
    with pytest.raises(StoreIOError):
        cleaned(writer, COPY)
    assert writer.failed
    writer.close()
    sound(two.directory)
    assert clean(two.directory, COPY).failures == []
    assert list(contents(two.directory)) == ["data00000b.tar", "data00002a.tar"]


def test_what_a_cleanup_had_begun_is_removed_by_the_next_open(two: Two) -> None:
    (two.directory / "data00000b.tar.new").write_bytes(b"half")
    with Follower.open(two.directory) as follower:
        assert follower.head().record == head_in(two.new.segment)
    sound(two.directory)
    with opened(two.directory) as writer:
        assert writer.repairs == ("removed data00000b.tar.new, which a cleanup had begun to write",)
    assert not list(two.directory.glob("*.new"))


def test_binary_references_and_all_edges_come_along(tmp_path: Path) -> None:
    """The references to external blobs keep those from Oak's garbage collection."""
    old = blob_data(1, blob=b"old#1")
    middle = blob_data(2, old, blob=b"kept#1", generation=generation(2))
    head = blob_data(3, middle, generation=generation(2))
    odd = blob_data(4, generation=generation(0), blob=b"gone#1")
    big = [blob_data(number, generation=generation(0)) for number in range(5, 12)]
    name = "data00000a.tar"
    pieces = [old, middle, head, odd, *big]
    directory = store_of(tmp_path / "s", {name: closed_tar(name, pieces)}, journal_line(head))
    clean(directory)
    assert list(contents(directory)) == ["data00000b.tar"]
    reader = TarReader.open(directory / "data00000b.tar", TarName(0, "b"))
    blobs = reader.binary_references()
    edges = {s: bytes(row) for s, row in reader.graph().items()}
    reader.release()
    assert blobs == {
        generation(0): {old.segment: [b"old#1"]},
        generation(2): {middle.segment: [b"kept#1"]},
    }
    assert edges == {middle.segment: old.segment, head.segment: middle.segment}
    sound(directory)


# steps, and what comes between them


class Slow:
    """A cleanup whose copying takes many steps."""

    def __init__(self, two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run, "STEP", 512)
        monkeypatch.setattr("tarfailover.store.cleanup.rewrite.READ_AT_ONCE", 512)
        self.two = two
        self.writer = opened(two.directory)
        self.cleanup = Cleanup(self.writer, COPY)

    def until_copying(self) -> None:
        while not list(self.two.directory.glob("*.new")):
            assert self.cleanup.step()

    def finish(self) -> Report:
        while self.cleanup.step():
            pass
        self.cleanup.close()
        self.writer.close()
        sound(self.two.directory)
        return self.cleanup.report


@pytest.fixture
def slow(two: Two, monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(two, monkeypatch)


def test_many_tars_are_not_removed_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "REMOVED_AT_ONCE", 2)
    head = leaf(9, generation=generation(1))
    tars = {str(TarName(number)): [leaf(number)] for number in range(5)}
    make_store(tmp_path / "s", {**tars, "data00009a.tar": [head]}, [head.segment])
    with opened(tmp_path / "s") as writer:
        cleanup = Cleanup(writer, COPY)
        left = []
        while cleanup.step():
            left.append(len(contents(tmp_path / "s")))
        cleanup.close()
    assert left == [4, 2, 1]


@pytest.mark.parametrize("commit", [True, False])
def test_what_a_later_segment_needs_is_kept_though_it_was_judged(slow: Slow, commit: bool) -> None:
    """Also when its head is still to come, and also what lies in the tar that is half written."""
    two, writer = slow.two, slow.writer
    slow.until_copying()
    wanted = two.lost[1]
    more = leaf(3, [wanted.segment, two.new.segment], generation=generation(1))
    writer.append(more.segment, more.data)
    if commit:
        writer.commit(head_in(more.segment), 5)
    slow.finish()
    left = {segment for segments in contents(two.directory).values() for segment in segments}
    assert left == {each.segment for each in (two.shared, wanted, two.new, more)}


def test_a_head_of_the_next_generation_begins_the_cleanup_anew(slow: Slow) -> None:
    two, writer = slow.two, slow.writer
    slow.until_copying()
    newer = leaf(3, [two.lost[2].segment], generation=generation(2, compacted=True))
    writer.append(newer.segment, newer.data)
    writer.commit(head_in(newer.segment), 5)
    report = slow.finish()
    assert report.generation == generation(2, compacted=True)
    left = {segment for segments in contents(two.directory).values() for segment in segments}
    assert left == {two.lost[2].segment, newer.segment}


def test_a_cleanup_that_is_given_up_leaves_nothing(slow: Slow) -> None:
    slow.until_copying()
    slow.cleanup.close()
    slow.cleanup.close()
    assert not list(slow.two.directory.glob("*.new"))
    assert slow.finish().tars_rewritten == 1


def test_a_foreign_head_line_changes_nothing(two: Two) -> None:
    """A line that names what is in no tar is passed over, as before."""
    add_heads(two.directory, leaf(77).segment)
    assert clean(two.directory, COPY).failures == []
    assert sorted(os.listdir(two.directory))[:2] == ["data00000b.tar", "data00002a.tar"]  # noqa: PTH208
