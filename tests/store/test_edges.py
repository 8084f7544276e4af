"""The references of a tar as ranks: out of its graph, or out of tables by segment."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from format_samples import segment_ids, value_or_refusal
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import graph, trailer
from tarfailover.format.index import IndexEntry
from tarfailover.ids import NO_GENERATION
from tarfailover.store.edges import Edges, StoredGraph, Tables
from tarfailover.store.table import Columns, SegmentTable

rows_by_id = st.dictionaries(
    segment_ids, st.lists(segment_ids, min_size=1, max_size=5), min_size=1, max_size=8
)


def table_of(ids: list[bytes]) -> SegmentTable:
    return SegmentTable(
        Columns.of_entries([IndexEntry(segment, 512, 16, NO_GENERATION) for segment in ids])
    )


def payload_of(edges: dict[bytes, list[bytes]]) -> tuple[int, memoryview]:
    data = graph.encode(edges)
    footer = graph.parse_footer(data, len(data))
    size = footer.size - trailer.FOOTER_SIZE
    return footer.count, trailer.payload(data, len(data), footer, size, "graph")


@given(rows_by_id, st.lists(segment_ids, max_size=3, unique=True), st.data())
def test_graph_and_tables_give_the_same_ranks(
    edges: dict[bytes, list[bytes]], others: list[bytes], draw: st.DataObject
) -> None:
    own = draw.draw(st.permutations(sorted({*edges, *others})))
    foreign = sorted({r for row in edges.values() for r in row if draw.draw(st.booleans())})
    table = table_of([each for each in foreign if each not in own] + own)
    first = len(table) - len(own)
    count, payload = payload_of(edges)
    stored = StoredGraph(payload, count, first, len(own), table.find_all)
    views = {segment: memoryview(b"".join(row)) for segment, row in edges.items()}
    for source in (stored, Tables(views, table.segment)):
        found = Edges(source, table.find_all)
        for rank, segment in enumerate(own, first):
            row = edges.get(segment, [])
            assert found.targets(rank) == [table.find(each) for each in row]
            assert found.absent(rank) == [each for each in row if table.find(each) < 0]
        whole = found.rows(first, len(table))
        flat = [table.find(each) for segment in own for each in edges.get(segment, [])]
        assert whole.targets.tolist() == flat
        assert np.diff(whole.begins).tolist() == [len(edges.get(segment, [])) for segment in own]


def test_a_tar_without_any_reference_has_an_empty_graph() -> None:
    table = table_of([bytes(16)])
    stored = StoredGraph(memoryview(b""), 0, 0, 1, table.find_all)
    assert Edges(stored, table.find_all).targets(0) == []


@pytest.mark.parametrize(
    ("payload", "count", "what"),
    [
        (bytes(16), 1, "runs past"),
        (bytes(16) + struct.pack(">I", 1), 1, "runs past"),
        (bytes(16) + struct.pack(">I", 2**32 - 1), 1, "runs past"),
        (bytes(24), 1, "follow the last record"),
        (b"", 1, "runs past"),
    ],
)
def test_a_graph_that_does_not_add_up_is_refused(payload: bytes, count: int, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        StoredGraph(memoryview(payload), count, 0, 1, table_of([bytes(16)]).find_all)


@given(st.binary(max_size=100), st.integers(0, 4))
def test_any_bytes_are_a_graph_or_are_refused(payload: bytes, count: int) -> None:
    table = table_of([bytes(16)])
    found = value_or_refusal(
        lambda: StoredGraph(memoryview(payload), count, 0, 1, table.find_all).ids(0, 1)
    )
    if found is not None:
        assert len(found[1]) == found[0].sum()
