"""The table of all segments: a dictionary that keeps the order in which it was filled."""

from __future__ import annotations

import numpy as np
import pytest
from format_samples import generations, segment_ids
from hypothesis import given
from hypothesis import strategies as st
from stores import data_id

from tarfailover.format import index
from tarfailover.format.index import IndexEntry
from tarfailover.ids import NO_GENERATION, Generation, is_bulk
from tarfailover.store import table
from tarfailover.store.table import Columns, SegmentTable

few_ids = st.sampled_from([data_id(n) for n in range(12)]) | segment_ids
same_beginning = st.builds(lambda a, b: a[:8] + b[8:], st.just(data_id(1)), segment_ids)
entries = st.builds(
    IndexEntry,
    few_ids | same_beginning,
    st.integers(0, 2**31).map(lambda n: n // 512 * 512),
    st.integers(1, 262144),
    generations,
)


def model_of(rows: list[IndexEntry]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for rank, row in enumerate(rows):
        found.setdefault(row.segment, rank)
    return found


@given(st.lists(entries, max_size=30), st.lists(entries, max_size=30), st.lists(few_ids))
def test_the_table_is_a_dictionary_in_which_the_first_copy_counts(
    base: list[IndexEntry], more: list[IndexEntry], others: list[bytes]
) -> None:
    filled = SegmentTable(Columns.of_entries(base))
    filled.append(more)
    rows = base + more
    model = model_of(rows)
    wanted = [row.segment for row in rows] + others
    expected = [model.get(segment, -1) for segment in wanted]
    assert len(filled) == len(rows)
    assert [filled.find(segment) for segment in wanted] == expected
    assert filled.find_all(b"".join(wanted)).tolist() == expected
    assert filled.lacking(wanted) == [segment for segment in wanted if segment not in model]
    assert [filled.entry(rank) for rank in range(len(rows))] == rows
    assert [filled.segment(rank) for rank in range(len(rows))] == [row.segment for row in rows]


@given(st.lists(entries, max_size=20), st.lists(entries, max_size=20), st.data())
def test_arrays_and_dictionary_tell_the_same(
    base: list[IndexEntry], more: list[IndexEntry], draw: st.DataObject
) -> None:
    rows = base + more
    filled = SegmentTable(Columns.of_entries(base))
    filled.append(more)
    ranks = np.array(draw.draw(st.permutations(range(len(rows)))), "i8")
    ids, lengths = filled.extents(ranks)
    assert ids == b"".join(rows[rank].segment for rank in ranks)
    assert lengths.tolist() == [rows[rank].length for rank in ranks]
    start = draw.draw(st.integers(0, len(rows)))
    stop = draw.draw(st.integers(start, len(rows)))
    part = SegmentTable(filled.columns(start, stop))
    assert [part.entry(rank) for rank in range(len(part))] == rows[start:stop]


@given(st.lists(entries, max_size=12), st.lists(entries, max_size=12))
def test_a_merged_table_has_the_same_ranks(base: list[IndexEntry], more: list[IndexEntry]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "MERGE_AT", 5)
        filled = SegmentTable(Columns.of_entries(base))
        filled.append(more)
        merged = filled.merged()
    assert (merged is filled) == (len(more) < 5)
    rows = base + more
    assert [merged.entry(rank) for rank in range(len(merged))] == rows
    assert [merged.find(row.segment) for row in rows] == [
        model_of(rows)[row.segment] for row in rows
    ]


def test_a_table_is_merged_sooner_where_a_share_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [IndexEntry(data_id(n), 512, 100, NO_GENERATION) for n in range(10)]
    filled = SegmentTable(Columns.of_entries(rows[:6]))
    filled.append(rows[6:])
    assert filled.merged(0.4) is filled
    monkeypatch.setattr(table, "FEW", 4)
    assert filled.merged(0.5) is filled
    merged = filled.merged(0.4)
    assert merged is not filled
    assert [merged.entry(rank) for rank in range(10)] == rows


@given(st.lists(entries, max_size=8), st.lists(entries, max_size=8), st.lists(entries, max_size=8))
def test_an_extended_table_has_the_new_segments_behind_the_old(
    base: list[IndexEntry], more: list[IndexEntry], last: list[IndexEntry]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "FEW", 3)
        filled = SegmentTable(Columns.of_entries(base))
        filled.append(more)
        extended = filled.extended(Columns.of_entries(last))
    rows = base + more + last
    assert [extended.entry(rank) for rank in range(len(extended))] == rows


def test_an_index_becomes_columns_in_the_order_of_the_file() -> None:
    rows = [
        IndexEntry(data_id(n), 512 + 1024 * place, 100 + n, Generation(n, 1, n % 2 == 0))
        for place, n in enumerate([5, 3, 8, 1])
    ]
    body = index.encode(rows)
    data = bytes(4096) + body + bytes(1024)
    parsed = index.parse(data, 8192 + len(body))
    found = SegmentTable(Columns.of_index(parsed.entries))
    assert [found.entry(rank) for rank in range(4)] == rows


def test_an_index_of_version_one_says_that_data_segments_are_compacted() -> None:
    kinds = [("msb", ">i8"), ("lsb", ">i8"), ("position", ">u4"), ("length", ">u4")]
    rows = np.zeros(2, [*kinds, ("generation", ">u4")])
    rows["generation"] = [7, 0]
    for place, nibble in enumerate((0xA, 0xB)):
        rows["lsb"][place] = np.array([nibble << 60], "u8").view("i8")[0]
        rows["position"][place] = 512 * place
    found = SegmentTable(Columns.of_index(rows))
    assert found.entry(0).generation == Generation(7, 7, True)
    assert is_bulk(found.segment(1)) and found.entry(1).generation == NO_GENERATION


def test_parts_are_joined_with_or_without_knowing_how_many() -> None:
    one = Columns.of_entries([IndexEntry(data_id(1), 512, 16, NO_GENERATION)])
    two = Columns.of_entries([IndexEntry(data_id(2), 512, 16, NO_GENERATION)])
    for joined in (Columns.joined(iter([one, two])), Columns.joined(iter([one, two]), 2)):
        found = SegmentTable(joined)
        assert [found.segment(0), found.segment(1)] == [data_id(1), data_id(2)]


def test_a_million_lookups_in_one_bucket_are_not_made_by_chosen_ids() -> None:
    """Ids that share every bit but a few still spread over the buckets."""
    rows = [
        IndexEntry(data_id(1)[:14] + n.to_bytes(2, "big"), 512, 16, NO_GENERATION)
        for n in range(4096)
    ]
    filled = SegmentTable(Columns.of_entries(rows))
    assert np.diff(filled._begins.astype("i8")).max() < 40
