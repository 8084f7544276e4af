"""What a primary is known by."""

from __future__ import annotations

from stores import data_id, head_in

from tarfailover.slave.oak.lineage import MOST, Lineage

FIRST, SECOND, THIRD, OTHER = (head_in(data_id(number)) for number in range(4))


def test_nothing_but_the_copys_head_if_nothing_was_told() -> None:
    assert Lineage().witnesses(FIRST.segment) == [FIRST.segment]


def test_the_newest_that_was_told_beside_it() -> None:
    lineage = Lineage()
    lineage.told(FIRST, FIRST)
    assert lineage.witnesses(FIRST.segment) == [FIRST.segment], "each is asked for once"
    lineage.told(FIRST, SECOND)
    lineage.mentioned(THIRD)
    # The copy has the one or the other, as its head moved or did not.
    assert lineage.witnesses(FIRST.segment) == [FIRST.segment, THIRD.segment]
    assert lineage.witnesses(SECOND.segment) == [SECOND.segment, THIRD.segment]


def test_another_copy_is_not_known_by_it() -> None:
    lineage = Lineage()
    lineage.told(FIRST, SECOND)
    assert lineage.witnesses(OTHER.segment) == [OTHER.segment]
    lineage.told(OTHER, OTHER)
    assert lineage.witnesses(FIRST.segment) == [FIRST.segment], "it is of another primary now"


def test_who_has_nothing_begins_anew() -> None:
    lineage = Lineage()
    lineage.told(FIRST, SECOND)
    lineage.told(None, THIRD)
    assert lineage.witnesses(FIRST.segment) == [FIRST.segment]
    assert lineage.witnesses(THIRD.segment) == [THIRD.segment]


def test_it_has_a_limit() -> None:
    lineage = Lineage()
    for number in range(MOST + 10):
        lineage.told(OTHER, head_in(data_id(100 + number)))
    assert len(lineage._heads) == MOST
    assert len(lineage.witnesses(OTHER.segment)) == 2, "the copy's own head is never forgotten"
