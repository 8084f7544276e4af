"""Checkpoints as the API makes, lists and releases them."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import ContentError, NotFoundError
from tarfailover.repository import PropertyType, WritableRepository
from tarfailover.store.writer import StoreWriter

HOUR = dt.timedelta(hours=1)


class Hand:
    """A clock that is set by hand, in milliseconds."""

    ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def store(tmp_path: Path, clock: Hand) -> WritableRepository:
    chance = random.Random(1).randbytes
    writer = StoreWriter.open(tmp_path, create=True, disk=QuickDisk())
    return WritableRepository(writer, random=chance, now=clock)


def test_a_checkpoint_keeps_the_content_of_its_moment(
    store: WritableRepository, tmp_path: Path
) -> None:
    with store:
        assert store.checkpoints() == []
        with store.commit() as root:
            root.make("page").properties["x"] = 1
        name = store.checkpoint(HOUR, {"creator": "me", "why": "tést"})
        with store.commit() as root:
            root.node("page").properties["x"] = 2
        [found] = store.checkpoints()
        assert (found.name, found.created_ms, found.expires_ms) == (name, 10**6, 4_600_000)
        assert found.info == {"creator": "me", "why": "tést"}
        assert found.revision().node("page").properties["x"].value == 1
    with repository.open(tmp_path) as seen:
        assert seen.at(name).node("page").properties["x"].value == 1
        assert seen.node("page").properties["x"].value == 2
        node = seen.head.super_root.node(f"checkpoints/{name}")
        assert {each.name: each.kind for each in node.properties.values()} == {
            "timestamp": "LONG",
            "created": "LONG",
        }
        assert set(node.children) == {"properties", "root"}


def test_who_makes_one_removes_those_that_have_expired(
    store: WritableRepository, clock: Hand
) -> None:
    with store:
        short = store.checkpoint(HOUR)
        long = store.checkpoint(2 * HOUR)
        clock.ms += 3_600_000
        at_its_end = store.checkpoint(HOUR)
        assert {each.name for each in store.checkpoints()} == {short, long, at_its_end}
        clock.ms += 1
        last = store.checkpoint(HOUR)
        assert [each.name for each in store.checkpoints()] == [long, at_its_end, last]


def test_one_that_does_not_say_when_it_expires_has_expired(store: WritableRepository) -> None:
    def odd(super_root: object) -> None:
        above = super_root.child("checkpoints")  # type: ignore[attr-defined]
        above.child("without").child("root")
        above.child("text").set("timestamp", repository.values.Property.of("9" * 15))

    with store:
        store._committer.change(odd)
        assert len(store.checkpoints()) == 2
        name = store.checkpoint(dt.timedelta.max)
        [left] = store.checkpoints()
        assert left.name == name and left.expires_ms is not None
        assert PropertyType.LONG


def test_releasing(store: WritableRepository) -> None:
    with store:
        with pytest.raises(NotFoundError, match="there is no checkpoint x: there are none"):
            store.release("x")
        one, two = store.checkpoint(HOUR), store.checkpoint(HOUR)
        with pytest.raises(NotFoundError, match=f"no checkpoint {one[:-1]}; there is {one}"):
            store.release(one[:-1])
        store.release(one)
        assert [each.name for each in store.checkpoints()] == [two]
        head = store.head
        with pytest.raises(NotFoundError):
            store.release(one)
        assert store.head == head


@pytest.mark.parametrize(
    ("lifetime", "info"),
    [(dt.timedelta(), {}), (HOUR, {"": "x"}), (HOUR, {"a/b": "x"}), (HOUR, {"a": 1})],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(
    store: WritableRepository, lifetime: dt.timedelta, info: dict[str, str]
) -> None:
    with store:
        head = store.head
        with pytest.raises(ContentError):
            store.checkpoint(lifetime, info)
        assert store.head == head and not store.checkpoints()


def test_a_commit_that_began_before_a_checkpoint_merges_with_it(store: WritableRepository) -> None:
    with store:
        with store.commit() as root:
            root.make("x")
            name = store.checkpoint(HOUR)
        [found] = store.checkpoints()
        assert found.name == name and not found.revision().root.children
