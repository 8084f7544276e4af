"""The graph of a tar: which segments each of its segments refers to."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from format_samples import (
    ABSURD,
    damaged,
    flipped,
    footer,
    ids,
    is_refused,
    numbers,
    value_or_refusal,
    vector,
)
from hypothesis import example, given
from hypothesis import strategies as st

from tarfailover.errors import FormatError
from tarfailover.format import graph, trailer

SOURCE = bytes.fromhex("f8c152357f0742fea4e1a5b96fe78e52")
TARGET = bytes.fromhex("6652abc09bdd42ada2d22bbe90711833")
OTHER = bytes.fromhex("7652abc09bdd42ada2d22bbe90711833")

graphs = st.dictionaries(ids, st.lists(ids, min_size=1, max_size=6), max_size=8)


def read(data: bytes, end: int | None = None) -> dict[bytes, list[bytes]]:
    parsed = graph.parse(data, len(data) if end is None else end)
    return {
        segment: [bytes(edges[at : at + 16]) for at in range(0, len(edges), 16)]
        for segment, edges in parsed.items()
    }


def closed(body: bytes, count: int, size: int | None = None) -> bytes:
    full = len(body) + 16 if size is None else size
    return body + footer(body, count, full, trailer.GRAPH)


def record(segment: bytes, *edges: bytes) -> bytes:
    return segment + struct.pack(">I", len(edges)) + b"".join(edges)


class TestBothWays:
    def test_the_example_of_real_oak(self) -> None:
        data = vector("one-edge.gph")
        assert read(data) == {SOURCE: [TARGET]}
        assert graph.encode({SOURCE: [TARGET]}) == data

    def test_the_empty_graph_of_the_worked_example(self) -> None:
        whole = vector("empty-store.tar")
        assert read(whole, 0xC00) == {}
        assert graph.parse_footer(whole, 0xC00).size == 16
        assert graph.encode({}) == whole[0xA00:0xC00]

    @given(graphs, st.binary(max_size=40), st.binary(max_size=40))
    def test_any_graph_survives_inside_of_any_file(
        self, edges: dict[bytes, list[bytes]], before: bytes, after: bytes
    ) -> None:
        encoded = graph.encode(edges)
        assert len(encoded) % 512 == 0
        assert read(before + encoded + after, len(before) + len(encoded)) == edges

    def test_segments_without_references_are_left_out(self) -> None:
        assert graph.encode({SOURCE: [TARGET], OTHER: []}) == vector("one-edge.gph")
        assert graph.encode({SOURCE: [], OTHER: ()}) == graph.encode({})

    def test_edges_are_views_of_the_bytes(self) -> None:
        data = vector("one-edge.gph")
        assert graph.parse(data, len(data))[SOURCE].obj is data


class TestPlausibility:
    """As Oak's: a size of at least 4 + 34 × count, so that a few empty records pass."""

    def test_a_record_without_edges_beside_others_is_read_as_by_oak(self) -> None:
        body = record(SOURCE) + record(OTHER, TARGET)
        assert len(body) + 16 == 4 + 34 * 2
        assert read(closed(body, 2)) == {SOURCE: [], OTHER: [TARGET]}

    @pytest.mark.parametrize(
        ("count", "size"), [(0, 0), (0, 15), (1, 37), (2, 71), (ABSURD, ABSURD), (ABSURD, 16)]
    )
    def test_a_size_below_it_is_refused(self, count: int, size: int) -> None:
        data = closed(bytes(512), count, size)
        with pytest.raises(FormatError, match=f"{count} records cannot be {size} bytes") as refused:
            graph.parse_footer(data, len(data))
        assert refused.value.offset == 512 + 8
        assert is_refused(lambda: graph.parse(data, len(data)))

    @pytest.mark.parametrize(("count", "size"), [(0, 16), (1, 38), (2, 72)])
    def test_a_size_at_it_passes(self, count: int, size: int) -> None:
        assert graph.parse_footer(closed(bytes(512), count, size), 528).size == size

    def test_a_graph_of_records_without_edges_is_refused_as_by_oak(self) -> None:
        body = record(SOURCE) + record(OTHER)
        with pytest.raises(FormatError, match="a graph of 2 records cannot be 56 bytes"):
            read(closed(body, 2))


class TestRefused:
    def refused(self, data: bytes, what: str, offset: int) -> None:
        with pytest.raises(FormatError, match=what) as refused:
            graph.parse(data, len(data))
        assert refused.value.offset == offset

    def test_another_magic(self) -> None:
        self.refused(footer(b"", 0, 16, trailer.INDEX_V2), "is not that of a graph", 12)

    def test_a_wrong_checksum(self) -> None:
        data = flipped(vector("one-edge.gph"), 8 * 470)
        self.refused(data, "checksum of the graph does not match", 460)

    def test_a_size_that_begins_before_the_file(self) -> None:
        self.refused(closed(b"", 0, 17), "larger than what is there", 0)

    def test_a_record_that_ends_in_its_middle(self) -> None:
        body = record(SOURCE, TARGET, OTHER) + OTHER
        self.refused(bytes(8) + closed(body, 2), "ends in the middle of a record", 8 + 52)

    @pytest.mark.parametrize("edges", [2, 2**28, ABSURD])
    def test_a_record_that_runs_past_the_end(self, edges: int) -> None:
        body = SOURCE + struct.pack(">I", edges) + TARGET
        self.refused(bytes(8) + closed(body, 1), f"record of {edges} edges runs past", 8)

    def test_bytes_behind_the_last_record(self) -> None:
        body = record(SOURCE, TARGET) + b"more"
        self.refused(bytes(8) + closed(body, 1), "4 bytes follow the last record", 8 + 36)


class TestAnyBytes:
    @given(st.binary(max_size=200), numbers, numbers)
    @example(b"", ABSURD, ABSURD)
    @example(bytes(36), 1, 52)
    def test_with_a_right_checksum_give_a_graph_or_our_error(
        self, body: bytes, count: int, size: int
    ) -> None:
        for declared_count, declared in ((count, size), (count % 8, len(body) + 16)):
            data = closed(body, declared_count, declared)
            value_or_refusal(lambda d=data: graph.parse(d, len(d)))  # type: ignore[misc]

    @given(damaged(graph.encode({SOURCE: [TARGET, OTHER], OTHER: [TARGET]})[400:]))
    def test_damage_is_refused_or_changes_nothing(self, data: bytes) -> None:
        parsed = value_or_refusal(lambda: read(data))
        assert parsed in (None, {SOURCE: [TARGET, OTHER], OTHER: [TARGET]})

    def test_no_bit_flips_unseen(self) -> None:
        data = vector("one-edge.gph")
        for bit in range(8 * 460, 8 * 512):
            changed = flipped(data, bit)
            assert is_refused(lambda c=changed: graph.parse(c, len(c))), bit  # type: ignore[misc]

    def test_no_cut_passes(self) -> None:
        data = vector("one-edge.gph")
        for length in range(len(data)):
            cut = data[:length]
            assert is_refused(lambda c=cut: graph.parse(c, len(c))), length  # type: ignore[misc]

    def test_an_absurd_count_costs_no_memory(self) -> None:
        data = bytes(512) + closed(record(SOURCE, TARGET), ABSURD, ABSURD)
        tracemalloc.start()
        try:
            assert is_refused(lambda: graph.parse(data, len(data)))
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
