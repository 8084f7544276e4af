"""Two stores are equal when heads, closures and bytes are; every difference is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import handmade as hm
import pytest

from tarfailover.errors import NoHeadError
from tarfailover.ids import text
from tarfailover.store.compare import (
    BYTES,
    DAMAGED,
    HEAD,
    ONLY_LEFT,
    ONLY_RIGHT,
    Difference,
    StoreComparison,
)
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

NAME = "data00000a.tar"
BULK = hm.bulk(0x81, 700)
LOW = hm.data(0x11, BULK)
TOP = hm.data(0x71, LOW, BULK)
PIECES = (BULK, LOW, TOP)


@contextmanager
def comparison(left: Path, right: Path) -> Iterator[StoreComparison]:
    with Follower.open(left) as one, Follower.open(right) as other:
        yield StoreComparison(one.snapshot, other.snapshot)


def differences(left: Path, right: Path) -> list[Difference]:
    with comparison(left, right) as compared:
        found = list(compared.run())
        assert compared.differences == len(found)
    return found


def store(directory: Path, *pieces: hm.Piece, head: hm.Piece | None = TOP) -> Path:
    journal = hm.line(head) if head is not None else None
    return hm.store(directory, {NAME: hm.closed_tar(NAME, pieces)}, journal)


def test_equal_stores(tmp_path: Path) -> None:
    with comparison(store(tmp_path / "a", *PIECES), store(tmp_path / "b", *PIECES)) as compared:
        seen: list[tuple[int, int]] = []
        assert list(compared.run(lambda done, total: seen.append((done, total)))) == []
        size = sum(len(piece.data) for piece in PIECES)
        assert (compared.segments, compared.bytes) == (3, size)
        assert seen[-1] == (size, size)
        assert seen == sorted(seen)


def test_other_tars_and_garbage_are_no_difference(tmp_path: Path) -> None:
    spare = hm.bulk(0x33)
    left = store(tmp_path / "a", spare, *PIECES)
    right = tmp_path / "b"
    with StoreWriter.open(right, create=True) as writer:
        for piece in PIECES:
            writer.append(*piece)
        writer.commit(hm.RecordId(TOP.segment, 1), 7)
    assert differences(left, right) == []
    assert differences(right, left) == []


@pytest.mark.parametrize("name", ["fresh", "compacted", "killed"])
def test_a_real_store_is_equal_to_itself_and_not_changed(
    fixture_store: Callable[[str], Path], name: str
) -> None:
    directory = fixture_store(name)
    before = hm.contents(directory)
    assert differences(directory, directory) == []
    assert hm.contents(directory) == before


def test_another_head_in_the_same_segment(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", *PIECES)
    (right / "journal.log").write_bytes(hm.line(TOP, 2))
    found = differences(left, right)
    assert [each.kind for each in found] == [HEAD]
    assert f"{text(TOP.segment)}:1 left, {text(TOP.segment)}:2 right" in found[0].what


def test_another_time_of_the_same_head_is_no_difference(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", *PIECES)
    (right / "journal.log").write_bytes(hm.line(TOP, 1, 5))
    assert differences(left, right) == []


def test_segments_that_only_one_side_needs_are_named(tmp_path: Path) -> None:
    extra = hm.bulk(0x33)
    newer = hm.data(0x72, TOP, extra)
    left = store(tmp_path / "a", *PIECES, extra, newer, head=newer)
    # There, but not in the closure of the head.
    right = store(tmp_path / "b", *PIECES, extra)
    found = differences(left, right)
    assert [(each.kind, each.segment) for each in found] == [
        (HEAD, None),
        (ONLY_LEFT, extra.segment),
        (ONLY_LEFT, newer.segment),
    ]
    assert text(extra.segment) in found[1].what
    assert [each.kind for each in differences(right, left)] == [HEAD, ONLY_RIGHT, ONLY_RIGHT]


@pytest.mark.parametrize("at", [0, 5, 699])
def test_bytes_that_differ_are_named_with_their_offset(tmp_path: Path, at: int) -> None:
    changed = bytearray(BULK.data)
    changed[at] ^= 1
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", hm.Piece(BULK.segment, bytes(changed)), LOW, TOP)
    found = differences(left, right)
    assert [(each.kind, each.segment, each.offset) for each in found] == [(BYTES, BULK.segment, at)]


def test_a_segment_that_is_shorter_on_one_side(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", hm.Piece(BULK.segment, BULK.data[:600]), LOW, TOP)
    found = differences(left, right)
    assert [(each.kind, each.offset) for each in found] == [(BYTES, 600)]
    assert "700 bytes left, 600 right" in found[0].what
    assert [each.offset for each in differences(right, left)] == [600]


def test_a_damaged_segment_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", *PIECES)
    hm.flip(right / NAME, 512 + 10)
    hm.flip(left / NAME, hm.index_entries(PIECES)[1].position + 33)
    with comparison(left, right) as compared:
        found = list(compared.run())
        assert compared.segments == 3
    assert [(each.kind, each.segment) for each in found] == [
        (DAMAGED, BULK.segment),
        (DAMAGED, LOW.segment),
    ]
    assert str(right / NAME) in found[0].what
    assert str(left / NAME) in found[1].what


def test_equal_damage_on_both_sides_is_no_equality(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", *PIECES)
    for directory in (left, right):
        hm.flip(directory / NAME, 512 + 10)
    assert [each.kind for each in differences(left, right)] == [DAMAGED]


def test_a_store_without_a_head_cannot_be_compared(tmp_path: Path) -> None:
    left = store(tmp_path / "a", *PIECES)
    right = store(tmp_path / "b", *PIECES, head=None)
    with pytest.raises(NoHeadError):
        differences(left, right)
