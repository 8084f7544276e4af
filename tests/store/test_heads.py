"""Which line of the journal is the head, and what is said where none can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import add_heads, bulk, data_id, head_in, leaf, make_store

from tarfailover.errors import NoHeadError
from tarfailover.ids import Generation, text
from tarfailover.store import heads
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Head, Position

WHOLE = [leaf(1), leaf(2, [data_id(1)], generation=Generation(4, 3, True))]
LACKING = [leaf(3, [data_id(8), data_id(9)]), leaf(4, [data_id(3)])]


def found(directory: Path) -> Head:
    with Follower.open(directory) as follower:
        return follower.head()


def complaint(directory: Path) -> str:
    with pytest.raises(NoHeadError) as caught:
        found(directory)
    return str(caught.value)


def test_the_newest_line_is_the_head_with_its_time_and_generation(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": WHOLE})
    add_heads(tmp_path, data_id(1), time_ms=5)
    add_heads(tmp_path, data_id(2), time_ms=7)
    assert found(tmp_path) == Head(head_in(data_id(2)), 7, Generation(4, 3, True))
    assert found(tmp_path).line.encode().endswith(b" root 7\n")


def test_heads_that_lack_something_are_passed_over_and_named(tmp_path: Path) -> None:
    make_store(
        tmp_path,
        {"data00000a.tar": [*WHOLE, *LACKING, bulk(7, 9)]},
        [data_id(1), data_id(4), bulk(7, 9).segment, data_id(5)],
    )
    assert found(tmp_path).record == head_in(data_id(1))
    assert found(tmp_path).skipped == (
        f"{head_in(data_id(5))}: its segment is in no tar",
        f"{head_in(bulk(7, 9).segment)}: its segment is in no tar",
        (
            f"{head_in(data_id(4))}: segment {text(data_id(8))}, needed by {text(data_id(3))} "
            "and 1 more are missing"
        ),
    )


def test_one_missing_segment_is_one(tmp_path: Path) -> None:
    lacking = leaf(3, [data_id(9)])
    make_store(tmp_path, {"data00000a.tar": [*WHOLE, lacking]}, [data_id(1), data_id(3)])
    assert (
        found(tmp_path)
        .skipped[0]
        .endswith(f"segment {text(data_id(9))}, needed by {text(data_id(3))} is missing")
    )


def test_a_store_without_segments_has_no_head(tmp_path: Path) -> None:
    make_store(tmp_path, {}, [data_id(1)])
    assert complaint(tmp_path) == f"{tmp_path}: the store has no segments and so no head"


def test_full_tars_without_a_journal_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": WHOLE})
    expected = "but the tars hold 2 segments: restore the journal from a copy, or rebuild it"
    assert expected in complaint(tmp_path)
    assert "journal.log is missing" in complaint(tmp_path)
    (tmp_path / "journal.log").write_bytes(b"")
    assert "journal.log names no head" in complaint(tmp_path)
    (tmp_path / "journal.log").write_bytes(bytes(5000) + b"torn " + b"\n")
    assert expected in complaint(tmp_path)


def test_heads_of_which_none_is_whole_are_counted(tmp_path: Path) -> None:
    make_store(tmp_path, {"data00000a.tar": LACKING}, [data_id(5), data_id(3), data_id(4)])
    told = complaint(tmp_path)
    assert "none of its newest 3 heads is whole; the newest is " + str(head_in(data_id(4))) in told
    assert told.endswith("restore the missing tars from a copy")


def test_only_so_many_closures_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "HEADS_TRIED", 2)
    make_store(tmp_path, {"data00000a.tar": [*WHOLE, *LACKING]})
    add_heads(tmp_path, data_id(1), data_id(4), data_id(3), data_id(4))
    assert "none of its newest 2 heads is whole" in complaint(tmp_path)


def test_a_long_history_of_what_was_cleaned_up_is_told_in_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "REASONS_KEPT", 3)
    make_store(tmp_path, {"data00000a.tar": WHOLE}, [data_id(1), *map(data_id, range(10, 15))])
    skipped = found(tmp_path).skipped
    assert len(skipped) == 4 and skipped[-1] == "and 2 older heads"


# positions in a snapshot


def test_positions_tell_what_lies_behind_them(tmp_path: Path) -> None:
    make_store(
        tmp_path,
        {
            "data00000.tar": [leaf(1), leaf(2)],
            "data00002b.tar": [leaf(3), leaf(4), leaf(5)],
            "data00003a.tar": b"",
        },
        [data_id(5)],
    )
    with Follower.open(tmp_path) as follower:
        shown = follower.snapshot
        end = shown.end()
        assert end == Position(2, "b", shown.entry(data_id(5))[1].position)
        assert shown.rank_behind(end) == 5
        assert shown.rank_behind(None) == 0
        for rank, number in enumerate((1, 2, 3, 4, 5)):
            reader, entry = shown.entry(data_id(number))
            here = Position(reader.name.number, reader.name.letter, entry.position)
            assert shown.rank_behind(here) == rank + 1
            assert shown.rank_behind(here._replace(offset=entry.position - 1)) == rank
        assert shown.rank_behind(Position(2, "a", 10**9)) == 2
        assert shown.rank_behind(Position(1, "a", 0)) == 2
        assert shown.rank_behind(Position(9, "a", 0)) == 5


def test_a_store_without_segments_has_no_end(tmp_path: Path) -> None:
    make_store(tmp_path, {})
    with Follower.open(tmp_path) as follower:
        assert follower.snapshot.end() is None
