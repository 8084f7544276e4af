"""Closures and their order, on random graphs, against a walk that is too simple to be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import Sample, bulk, closure_in, data_id, entry, leaf, tar_bytes, trailing

from tarfailover.errors import DamagedStoreError
from tarfailover.format.tar import TarName
from tarfailover.ids import SegmentId
from tarfailover.store import closure
from tarfailover.store.closure import Closure, references_first, walk
from tarfailover.store.snapshot import Snapshot, snapshot_of
from tarfailover.store.tarreader import TarReader

pytestmark = pytest.mark.load

COUNT = 14


@contextmanager
def snapshot(directory: Path, tars: list[bytes]) -> Iterator[Snapshot]:
    """The segments of `tars`, numbered from 0 on."""
    readers = []
    for number, content in enumerate(tars):
        name = TarName(number)
        path = directory / str(name)
        path.write_bytes(content)
        reader = TarReader.open(path, name)
        if reader.index is None:
            reader.scan()
        readers.append(reader)
    found = snapshot_of(readers)
    for reader in readers:
        reader.release()
    with found:
        yield found


@st.composite
def graphs(draw: st.DrawFn, *, circles: bool) -> list[list[int]]:
    """For each segment the numbers of those it refers to; those beyond COUNT are missing."""
    found = []
    for number in range(COUNT):
        limit = COUNT + 1 if circles else number - 1
        numbers = st.integers(0, limit).filter(lambda n, own=number: n != own)
        found.append(draw(st.lists(numbers, max_size=4)) if limit >= 0 else [])
    return found


@st.composite
def tars_of(draw: st.DrawFn, graph: list[list[int]]) -> list[bytes]:
    """The graph in a few tars, in any order; some closed, some not, some with a broken graph."""
    order = draw(st.permutations(range(COUNT))) if draw(st.booleans()) else range(COUNT)
    samples = [leaf(n, [data_id(r) for r in graph[n]], size=0) for n in order]
    cuts = sorted(draw(st.sets(st.integers(1, COUNT - 1), max_size=3)))
    parts = [samples[a:b] for a, b in zip([0, *cuts], [*cuts, COUNT], strict=True)]
    return [_tar(n, part, draw(st.sampled_from("cccob"))) for n, part in enumerate(parts)]


def _tar(number: int, samples: list[Sample], kind: str) -> bytes:
    name = str(TarName(number))
    if kind == "b":
        found = bytearray(tar_bytes(name, samples))
        at = found.rindex(b"\n0G\n")
        found[at] ^= 1
        return bytes(found)
    return tar_bytes(name, samples, closed=kind == "c")


def reachable(graph: list[list[int]], roots: list[int], stop: set[int]) -> set[int]:
    found: set[int] = set()
    pending = [root for root in roots if root not in stop]
    while pending:
        number = pending.pop()
        if number not in found:
            found.add(number)
            pending += [n for n in (graph[number] if number < COUNT else []) if n not in stop]
    return found


def ids(found: Closure, shown: Snapshot) -> set[SegmentId]:
    return {shown.segment(rank) for rank in found.ranks.tolist()}


@given(st.data())
def test_a_closure_is_what_a_simple_walk_reaches(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    graph = draw.draw(graphs(circles=True))
    roots = draw.draw(st.lists(st.integers(0, COUNT), max_size=3))
    known = draw.draw(st.sets(st.integers(0, COUNT - 1), max_size=3))
    with (
        pytest.MonkeyPatch.context() as patch,
        snapshot(tmp_path_factory.getbasetemp(), draw.draw(tars_of(graph))) as shown,
    ):
        patch.setattr(closure, "_BLOCK", draw.draw(st.sampled_from([1, 2, 4, 1024])))
        marks = bytearray(shown.count)
        for number in known:
            marks[shown.find(data_id(number))] = 1
        while marks and not marks[-1] and draw.draw(st.booleans()):
            marks.pop()
        found = walk(shown, [data_id(root) for root in roots], marks)
        reached = reachable(graph, roots, known)
        assert ids(found, shown) == {data_id(n) for n in reached if n < COUNT}
        assert len(set(found.ranks.tolist())) == len(found.ranks)
        assert {m.segment for m in found.missing} == {data_id(n) for n in reached if n >= COUNT}
        for missing in found.missing:
            if missing.referrer is not None:
                assert missing.segment in shown.references(missing.referrer)
        ranks = {shown.find(data_id(n)): n for n in reached if n < COUNT}
        upward = {r for r, n in ranks.items() for t in graph[n] if shown.find(data_id(t)) > r}
        assert set(found.upward.tolist()) == upward
        assert found.misordered == bool(upward)


@given(st.data())
def test_without_circles_everything_comes_after_what_it_refers_to(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    graph = draw.draw(graphs(circles=False))
    root = draw.draw(st.integers(0, COUNT - 1))
    with snapshot(tmp_path_factory.getbasetemp(), draw.draw(tars_of(graph))) as shown:
        found = walk(shown, [data_id(root)])
        ordered = references_first(shown, found, data_id(root)).tolist()
        place = {shown.segment(rank): at for at, rank in enumerate(ordered)}
        assert sorted(ordered) == found.ranks.tolist()
        assert shown.segment(ordered[-1]) == data_id(root)
        for number in reachable(graph, [root], set()):
            for target in graph[number]:
                assert place[data_id(target)] < place[data_id(number)]


@given(st.data())
def test_with_circles_everything_comes_once_and_the_head_last(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    graph = [[n for n in row if n < COUNT] for row in draw.draw(graphs(circles=True))]
    root = draw.draw(st.integers(0, COUNT - 1))
    with snapshot(tmp_path_factory.getbasetemp(), draw.draw(tars_of(graph))) as shown:
        ordered = references_first(shown, walk(shown, [data_id(root)]), data_id(root)).tolist()
        place = {shown.segment(rank): at for at, rank in enumerate(ordered)}
        assert set(place) == {data_id(n) for n in reachable(graph, [root], set())}
        assert len(ordered) == len(place) and shown.segment(ordered[-1]) == data_id(root)
        for number in range(COUNT):
            for target in graph[number]:
                in_circle = number in reachable(graph, [target], set())
                if data_id(number) in place and not in_circle:
                    assert place[data_id(target)] < place[data_id(number)]


def test_the_order_of_the_tars_is_kept_where_it_is_right(tmp_path: Path) -> None:
    big = bulk(1, 300)
    samples = [big, leaf(1, [big.segment]), leaf(2, []), leaf(3, [data_id(1), data_id(2)])]
    with snapshot(tmp_path, [tar_bytes("data00000a.tar", samples)]) as shown:
        found = walk(shown, [data_id(3)])
        assert not found.misordered
        assert references_first(shown, found, data_id(3)).tolist() == [0, 1, 2, 3]


def test_a_head_that_was_known_is_not_in_the_order(tmp_path: Path) -> None:
    samples = [leaf(1), leaf(2, [data_id(1)])]
    with snapshot(tmp_path, [tar_bytes("data00000a.tar", samples)]) as shown:
        found = walk(shown, [data_id(2)], b"\1\1")
        assert references_first(shown, found, data_id(2)).tolist() == []
        assert walk(shown, [data_id(2)], below=1).ranks.tolist() == [1]
        assert walk(shown, [data_id(2)], below=99).ranks.tolist() == []


def test_a_chain_of_thousands_against_the_order_needs_no_recursion(tmp_path: Path) -> None:
    count = 3000
    samples = [leaf(n, [data_id(n + 1)] if n + 1 < count else [], size=0) for n in range(count)]
    half = count // 2
    tars = [
        tar_bytes("data00000a.tar", samples[:half]),
        tar_bytes("data00001a.tar", samples[half:]),
    ]
    with snapshot(tmp_path, tars) as shown:
        found = walk(shown, [data_id(0)])
        assert len(found.upward) == count - 1
        ordered = references_first(shown, found, data_id(0)).tolist()
        assert ordered == list(range(count - 1, -1, -1))


def test_many_tars_in_the_wrong_order_are_sorted_with_few_graphs_in_memory(tmp_path: Path) -> None:
    count = 12
    tars = [
        tar_bytes(f"data{n:05}a.tar", [leaf(n, [data_id((n + 1) % count)])]) for n in range(count)
    ]
    with snapshot(tmp_path, tars) as shown:
        ordered = references_first(shown, walk(shown, [data_id(0)]), data_id(0)).tolist()
        assert ordered == [*range(count - 1, 0, -1), 0]


def test_a_graph_may_tell_less_than_the_tables_and_is_believed(tmp_path: Path) -> None:
    """Cleanup leaves out edges to what it dropped; what it kept must not count as broken."""
    sample = leaf(2, [data_id(1)])
    name = "data00000a.tar"
    with snapshot(tmp_path, [entry(sample) + trailing(name, [sample], edges={})]) as shown:
        assert walk(shown, [sample.segment]).missing == []


def test_a_graph_may_know_segments_that_the_tar_does_not_have(tmp_path: Path) -> None:
    samples = [leaf(1), leaf(2, [data_id(1)])]
    edges = {data_id(7): [data_id(8)], data_id(2): [data_id(1)]}
    whole = b"".join(map(entry, samples)) + trailing("data00000a.tar", samples, edges=edges)
    with snapshot(tmp_path, [whole]) as shown:
        assert walk(shown, [data_id(2)]).ranks.tolist() == [0, 1]
        assert walk(shown, [data_id(2)]).missing == []


def test_without_a_graph_the_segments_are_read_and_damage_there_is_named(tmp_path: Path) -> None:
    samples = [leaf(1), leaf(2, [data_id(1)])]
    broken = bytearray(tar_bytes("data00000a.tar", samples))
    broken[broken.rindex(b"\n0G\n")] ^= 1
    broken[512 + 60] ^= 1
    with (
        snapshot(tmp_path, [bytes(broken)]) as shown,
        pytest.raises(DamagedStoreError, match=r"data00000a\.tar, offset 512: the checksum is"),
    ):
        walk(shown, [data_id(2)])


def test_a_closure_reads_like_what_reading_every_segment_tells(tmp_path: Path) -> None:
    samples = [leaf(1), leaf(2), leaf(3, [data_id(1)])]
    with snapshot(tmp_path, [tar_bytes("data00000a.tar", samples)]) as shown:
        assert ids(walk(shown, [data_id(3)]), shown) == set(closure_in(shown, data_id(3)))
