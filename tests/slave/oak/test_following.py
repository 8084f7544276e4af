"""A whole slave of an Oak primary: the same engine, rules and states as with our own master."""

from __future__ import annotations

from pathlib import Path

import pytest
from links import Rig
from oak_sides import RawPrimary, Served, ServingPrimary
from rot import Flip, files_of
from sides import SlaveSide, chain, in_trouble, large, store_of
from sides import served as served_by_us
from stores import Sample, bulk, data_id, head_in, leaf

from tarfailover.format.tar import BLOCK
from tarfailover.slave import report, status
from tarfailover.slave.oak import closure, lesson
from tarfailover.slave.scrubbing import RETRY_AFTER
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import GetReferences, GetSegment, Request

pytestmark = pytest.mark.load

SAMPLES = [*large(20, 30_000), *chain(30)]
TOP = leaf(2_000_000, [SAMPLES[20].segment, SAMPLES[-1].segment])
SAMPLES.append(TOP)


@pytest.fixture
def served(rig: Rig) -> Served:
    served = Served(SAMPLES, head_in(TOP.segment))
    rig.master = served.primary
    return served


@pytest.fixture
def slave(rig: Rig, tmp_path: Path) -> SlaveSide:
    return SlaveSide(rig, tmp_path / "copy", dialect="oak")


def test_it_copies_and_follows(rig: Rig, served: Served, slave: SlaveSide) -> None:
    slave.start()
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    assert sorted(served.taken(GetSegment)) == sorted(each.segment for each in SAMPLES)
    served.taken(GetReferences)
    new = [bulk(77, 100), leaf(78, [bulk(77, 100).segment, TOP.segment])]
    served.add(*new)
    rig.pass_time(5, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    assert served.taken(GetSegment) == [each.segment for each in new]
    known = {TOP.segment, new[-1].segment}
    assert set(served.taken(GetReferences)) <= known, "only what is new costs anything"
    assert served.connections == 1, "one connection that stays open"
    slave.stop()


def test_the_head_is_asked_for_every_interval(rig: Rig, served: Served, slave: SlaveSide) -> None:
    slave.start()
    before = len(served.asked)
    rig.pass_time(50, step=1.0)
    asked = [each.body for each in served.asked[before:]]
    assert asked.count("h") == 10
    slave.stop()


def test_cut_anywhere_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """What came whole is never asked for again, and the head moves last."""
    samples = [*large(6, 40_000), leaf(77, [data_id(1_000_000)])]
    head = head_in(samples[-1].segment)
    for cut in [*range(0, 1200, 60), *range(1200, 235_000, 13_000)]:
        rig, served = Rig(), Served(samples, head)
        rig.master = served.primary
        slave = SlaveSide(rig, tmp_path / f"copy{cut}", dialect="oak")
        slave.service.startService()
        rig.until(lambda rig=rig: bool(rig.links), "a connection")  # type: ignore[misc]
        rig.link.cut_after = cut
        rig.settle()
        copy = slave.service.copy
        assert copy is not None and copy.head is None
        there = {each.segment for each in samples} - set(
            copy.writer.lacking([each.segment for each in samples])
        )
        served.taken(GetSegment)
        rig.pass_time(3, step=1.5)
        assert (slave.state, slave.head) == (status.IN_SYNC, head), cut
        assert there.isdisjoint(served.taken(GetSegment)), "pulled again"
        slave.stop()


@pytest.mark.parametrize("how", ["flipped", "lost"])
def test_a_byte_changed_or_lost_anywhere_costs_a_connection(tmp_path: Path, how: str) -> None:
    """Nothing wrong is ever stored, and the next connection brings what lacks."""
    samples = [bulk(1, 3000), leaf(1), leaf(2, [bulk(1, 3000).segment, leaf(1).segment])]
    head = head_in(samples[-1].segment)
    for at in [*range(78, 120), *range(120, 3800, 67)]:  # the first answer is 78 bytes
        rig, served = Rig(), Served(samples, head)
        rig.master = served.primary
        slave = SlaveSide(rig, tmp_path / f"copy{at}", dialect="oak", deadline_answer=2.0,
                          deadline_idle=2.0, deadline_hello=2.0)  # fmt: skip
        slave.service.startService()
        rig.until(lambda rig=rig: bool(rig.links), "a connection")  # type: ignore[misc]

        def alter(offset: int, data: bytes, at: int = at) -> bytes:
            place = at - offset
            if not 0 <= place < len(data):
                return data
            new = bytes([data[place] ^ 0x10]) if how == "flipped" else b""
            return data[:place] + new + data[place + 1 :]

        rig.link.master.alter = alter
        rig.settle()
        rig.pass_time(6, step=0.5)
        assert (slave.state, slave.head) == (status.IN_SYNC, head), at
        assert len(rig.links) == 2, at
        copy = slave.service.copy
        assert copy is not None
        assert {copy.writer.read(each.segment) for each in samples} == {s.data for s in samples}
        slave.stop()


def test_a_segment_that_is_gone_stalls_until_the_next_head(
    rig: Rig, served: Served, slave: SlaveSide
) -> None:
    del served.samples[SAMPLES[3].segment]
    slave.start()
    assert slave.state == status.STALLED
    assert "has no segment" in slave.service.status.why
    assert slave.service.status.failures == 1, "known at once, not after a deadline"
    served.add(leaf(99, [SAMPLES[-2].segment]))
    rig.pass_time(60, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    slave.stop()


def test_a_primary_without_a_head_is_no_success(rig: Rig, served: Served, slave: SlaveSide) -> None:
    head, served.head = served.head, None
    slave.start()
    rig.pass_time(10.1)
    assert slave.state == status.STALLED
    assert "deadline hello" in slave.service.status.why
    served.head = head
    rig.pass_time(30, step=0.5)
    assert slave.state == status.IN_SYNC
    slave.stop()


def test_another_repository_is_not_followed(rig: Rig, served: Served, slave: SlaveSide) -> None:
    slave.start()
    head = slave.head
    stranger = leaf(123)
    served.samples = {stranger.segment: stranger}
    served.head = head_in(stranger.segment)
    rig.link.cut()
    rig.pass_time(5.1)
    assert slave.state == status.DIVERGED
    assert "--accept-new-history" in slave.service.status.why
    assert slave.head == head
    slave.stop()
    accepting = SlaveSide(
        rig, slave.service.config.store, dialect="oak", accept_new_history=True
    ).start()
    assert (accepting.state, accepting.head) == (status.IN_SYNC, served.head)
    accepting.stop()


def compacted(served: Served, *numbers: int) -> None:
    """Each is a head that shares nothing with the one before, of which nothing is left."""
    for number in numbers:
        served.samples.clear()
        served.add(leaf(number))


def held_back(rig: Rig, served: Served, slave: SlaveSide) -> tuple[Sample, RawPrimary]:
    """A head of which `slave` has asked for the segment, and the primary that did not answer."""
    new = leaf(200, [TOP.segment])
    served.taken(GetSegment)
    served.silent = lambda _: any(isinstance(each, GetSegment) for each in served.asked)
    served.add(new)
    rig.pass_time(6, step=0.5)
    assert (slave.state, served.taken(GetSegment)) == (status.SYNCING, [new.segment])
    served.silent = lambda _: False
    return new, rig.link.master.protocol


def test_a_primary_that_compacts_during_a_long_copy_is_followed(
    rig: Rig, served: Served, slave: SlaveSide
) -> None:
    """When the copy is done the primary has neither of its heads any more."""
    slave.start()
    new, primary = held_back(rig, served, slave)
    compacted(served, 300, 301)
    primary.segment(new)
    primary.head(head_in(leaf(300).segment))
    rig.pass_time(6, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    assert served.connections == 1
    slave.stop()


def test_it_is_known_again_by_what_it_told_during_a_copy(
    rig: Rig, served: Served, slave: SlaveSide
) -> None:
    """Also if the connection broke, as long as it has the newest head of which it told."""
    slave.start()
    new, primary = held_back(rig, served, slave)
    compacted(served, 300)
    primary.segment(new)  # which does not become durable: the connection breaks
    slave.work.held = True
    primary.head(served.head)
    rig.settle()
    served.add(leaf(301))
    rig.link.cut()
    slave.work.held = False
    rig.pass_time(20, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    compacted(served, 302)
    rig.link.cut()
    rig.pass_time(20, step=0.5)
    assert slave.state == status.DIVERGED, "nothing is left of what it told"
    slave.stop()


def test_what_was_learned_of_a_chain_outlives_the_connection(rig: Rig, tmp_path: Path) -> None:
    """Or a line that breaks before all is learned would never get anywhere."""
    samples = chain(300)
    served = Served(samples, head_in(samples[-1].segment))
    rig.master = served.primary
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak")
    slave.service.startService()
    rig.until(lambda: bool(rig.links), "a connection")
    rig.link.cut_after = 20_000
    rig.settle()
    before = served.taken(GetReferences)
    assert 50 < len(before) < 250
    rig.pass_time(3, step=0.5)
    assert slave.head == served.head
    assert len(set(before) & set(served.taken(GetReferences))) <= 1
    slave.stop()


def test_what_is_told_wrong_once_is_not_believed_for_ever(rig: Rig, tmp_path: Path) -> None:
    """Nothing but Snappy's checksum is around it: the next connection asks anew."""
    served = Served(SAMPLES, head_in(TOP.segment))
    lies = [leaf(1, [data_id(77), *TOP.references])]

    class Wrong(ServingPrimary):
        def references(self, sample: Sample) -> None:
            """The first time, of the head's segment, something that there never was, too."""
            wrong = lies.pop() if lies else sample
            super().references(wrong._replace(segment=sample.segment))

    rig.master = lambda: Wrong(served)
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak").start()
    assert slave.state == status.STALLED
    rig.pass_time(20, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    slave.stop()


def test_what_is_kept_of_what_was_learned_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson, "MOST_KEPT", 5)
    tables = lesson.Tables()
    for number in range(10):
        tables.keep(data_id(number), [data_id(number + 1), data_id(number + 2)])
    assert [tables.get(data_id(number)) is not None for number in range(3)] == [True, True, False]
    tables.clear()
    assert tables.get(data_id(0)) is None


class Forger(RawPrimary):
    """Sends segments that are none, under right hashes."""

    def asked(self, request: object) -> None:
        """Answer."""
        if isinstance(request, GetReferences):
            self.references(leaf(1))
        elif isinstance(request, GetSegment):
            self.frame(*answers.segment(request.segment, b"0aK\x0d no segment at all"))
        else:
            self.head(head_in(data_id(1)))


def test_a_segment_that_is_none_is_not_stored(rig: Rig, slave: SlaveSide) -> None:
    rig.master = Forger
    slave.start()
    in_trouble(slave, status.FAILED, "failed its checks 3 times")
    slave.stop()
    assert not list(slave.service.config.store.glob("*.tar"))


def test_a_primary_without_end_is_given_up(
    rig: Rig, slave: SlaveSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closure, "MOST_WAITING", 500)
    number = 1

    class Endless(RawPrimary):
        def asked(self, request: object) -> None:
            nonlocal number
            if isinstance(request, GetReferences):
                number += 1
                self.references(leaf(1, [data_id(number)])._replace(segment=request.segment))
            else:
                self.head(head_in(data_id(1)))

    rig.master = Endless
    slave.start()
    in_trouble(slave, status.FAILED, "is there an end")
    slave.stop()


def test_a_master_of_ours_is_a_primary_too(rig: Rig, tmp_path: Path) -> None:
    """So a file with mode=standby works, whoever is at the other end."""
    samples = [*large(5, 50_000), *chain(20)]
    top = leaf(99, [samples[5].segment, samples[-1].segment])
    master = served_by_us(rig, store_of(tmp_path / "store", [*samples, top]))
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak").start()
    assert (slave.state, slave.head) == (status.IN_SYNC, head_in(top.segment))
    slave.stop()
    master.close()


def test_a_chain_longer_than_any_stack(rig: Rig, tmp_path: Path) -> None:
    samples = chain(3_000)
    served = Served(samples, head_in(samples[-1].segment))
    rig.master = served.primary
    slave = SlaveSide(rig, tmp_path / "copy", dialect="oak").start()
    assert (slave.state, slave.head) == (status.IN_SYNC, served.head)
    assert served.taken(GetSegment) == [each.segment for each in samples], "references first"
    slave.stop()


@pytest.mark.parametrize("theirs", ["lacking", "damaged", "whole"])
def test_rot_that_the_primary_may_not_mend_costs_no_connection(
    rig: Rig, tmp_path: Path, theirs: str
) -> None:
    """What it lacks, or has damaged itself, stays told, and the head is followed meanwhile."""
    samples = [*large(2, 30_000), *chain(3)]
    top = leaf(99, [samples[1].segment, samples[-1].segment])
    served = Served([*samples, top], head_in(top.segment))
    rig.master = served.primary
    copy = tmp_path / "copy"
    SlaveSide(rig, copy, dialect="oak").start().stop()
    right = files_of(copy)["data00000a.tar"]
    slave = SlaveSide(rig, copy, dialect="oak", scrub_rate=64 * 1024, scrub_interval=60.0).start()
    before = served.connections
    victim = served.taken(GetSegment)[0]
    if theirs == "lacking":
        del served.samples[victim]
    elif theirs == "damaged":
        whole = served.samples[victim]
        served.samples[victim] = whole._replace(data=whole.data[:-1] + b"?")
    Flip("data00000a.tar", BLOCK + 20, 1).strike(copy)
    rig.pass_time(3, step=1)
    rig.pass_time(RETRY_AFTER + 60, step=60)
    shown = report.report(slave.service)["scrub"]
    assert (shown["repaired"], shown["damaged"]) == ((1, 0) if theirs == "whole" else (0, 1))
    assert (files_of(copy)["data00000a.tar"] == right) == (theirs == "whole")
    assert served.taken(GetSegment).count(victim) <= 3, "once found, then at each retry"
    new = leaf(100, [top.segment])
    served.add(new)
    rig.pass_time(6, step=0.5)
    assert (slave.state, slave.head) == (status.IN_SYNC, head_in(new.segment))
    assert served.connections == before, "no answer to the scrub costs the connection"
    slave.stop()


def test_rot_behind_what_a_primary_breaks_the_connection_over_is_mended(
    rig: Rig, tmp_path: Path
) -> None:
    """Specification 2.7: it does so over a segment that it has, but cannot read."""
    samples = [*large(3, 30_000), *chain(3)]
    top = leaf(99, [*(each.segment for each in samples[:3]), samples[-1].segment])
    served = Served([*samples, top], head_in(top.segment))
    rig.master = served.primary
    copy = tmp_path / "copy"
    SlaveSide(rig, copy, dialect="oak").start().stop()
    right = files_of(copy)["data00000a.tar"]
    places = sorted((right.index(each.data), each.segment) for each in samples[:3])
    for at, _ in places:
        Flip("data00000a.tar", at + 9, 1).strike(copy)
    first = places[0][1]

    class Breaking(ServingPrimary):
        broken = False

        def asked(self, request: Request) -> None:
            if isinstance(request, GetSegment) and request.segment == first:
                self.broken = True
                self.transport.loseConnection()
            if not self.broken:
                super().asked(request)

    def breaking() -> Breaking:
        served.connections += 1
        return Breaking(served)

    rig.master = breaking
    slave = SlaveSide(rig, copy, dialect="oak", scrub_rate=64 * 1024, scrub_interval=1e6).start()
    rig.pass_time(4 * RETRY_AFTER, step=60)
    shown = report.report(slave.service)["scrub"]
    assert (shown["repaired"], shown["damaged"]) == (2, 1)
    assert slave.state == status.IN_SYNC
    assert served.connections <= 8, "one for each attempt to mend it, five minutes apart"
    slave.stop()
