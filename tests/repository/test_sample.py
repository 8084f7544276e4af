"""The sample repository: what it holds, that a seed decides all of it, what commits share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import MemorySink, Model, model_of, record_types, scan

from tarfailover.errors import ConfigError
from tarfailover.format import segment as layout
from tarfailover.ids import Generation, is_bulk
from tarfailover.repository.digest import content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader, Segment
from tarfailover.repository.sample import SampleResult, write_sample
from tarfailover.repository.sample_content import CHAIN_LENGTH, WIDE, WIDE_CHILDREN
from tarfailover.repository.segment_writer import SegmentSink
from tarfailover.repository.values import PropertyType
from tarfailover.store.follower import Follower
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load


def sample(sink: SegmentSink, **numbers: int) -> SampleResult:
    given_numbers = {"nodes": 60, "binary_kib": 20, "commits": 3, "seed": 1, **numbers}
    return write_sample(sink, **given_numbers)


def made(**numbers: int) -> MemorySink:
    sink = MemorySink()
    sample(sink, **numbers)
    return sink


def at(state: NodeState, *path: str) -> NodeState:
    for name in path:
        child = state.child(name)
        assert child is not None, f"no child {name}"
        state = child
    return state


def run_nodes(sink: MemorySink, run: str) -> list[str]:
    groups = at(sink.node(), "root", "content", "sample", run).children()
    buckets = [bucket for _, group in groups for _, bucket in group.children()]
    return [name for bucket in buckets for name, _ in bucket.children()]


def test_one_seed_makes_one_repository() -> None:
    first, again = made(), made()
    assert list(first.segments.items()) == list(again.segments.items())
    assert first.journal == again.journal
    assert made(seed=2).head != first.head
    for other in ({"seed": 2}, {"nodes": 61}, {"binary_kib": 21}, {"commits": 2}):
        assert not set(made(**other).segments) & set(first.segments)


def test_a_store_with_a_head_is_appended_to_with_ids_of_its_own() -> None:
    sink = made()
    before, head = set(sink.segments), sink.head
    result = sample(sink)
    assert result.head == sink.head != head
    assert before < set(sink.segments)
    runs = [name for name, _ in at(sink.node(), "root", "content", "sample").children()]
    assert sum(name.startswith("run ") for name in runs) == 2
    times = [time for _, time in sink.journal]
    assert times == sorted(set(times)) and len(times) == 6


def test_every_commit_is_a_line_and_its_head_stays_whole() -> None:
    sink = made(commits=4)
    digests = {content_digest(sink.node(head)).sha256 for head, _ in sink.journal}
    assert len(sink.journal) == len(digests) == 4


def test_nodes_are_spread_over_commits_and_some_older_ones_removed() -> None:
    sink = MemorySink()
    done: list[int] = []
    result = write_sample(sink, nodes=2130, binary_kib=0, commits=3, seed=1, progress=done.append)
    names = run_nodes(sink, result.run)
    assert len(set(names)) == len(names)
    assert 2130 - 2 <= len(names) < 2130
    assert done == sorted(done) and done[-1] == 2130 and len(done) >= 43
    groups = dict(at(sink.node(), "root", "content", "sample", result.run).children())
    assert set(groups) == {"group 0", "group 1", "group 2"}


def test_the_second_commit_makes_a_checkpoint_of_the_state_before_it() -> None:
    sink = made(commits=2)
    assert made(commits=1).node().child("checkpoints") is None
    [(_, checkpoint)] = at(sink.node(), "checkpoints").children()
    first, _ = sink.journal[0]
    assert checkpoint.child_id("root") == sink.node(first).child_id("root")
    shape = {name: prop.type for name, prop in checkpoint.properties()}
    assert shape == {"created": PropertyType.LONG, "timestamp": PropertyType.LONG}
    assert dict(at(checkpoint, "properties").properties())["creator"].values == ("sample",)


def test_later_commits_share_what_they_did_not_touch() -> None:
    sink = made(nodes=0, commits=2)
    (first, _), (second, _) = sink.journal
    old, new = (at(sink.node(head), "root", "content", "sample") for head in (first, second))
    changed = {name for name, record in new.child_ids() if old.child_id(name) != record}
    assert WIDE in changed and "binaries" not in changed and "strings" not in changed
    differing = [n for n, r in at(new, WIDE).child_ids() if at(old, WIDE).child_id(n) != r]
    assert len(differing) == 1
    added = list(sink.segments)[list(sink.segments).index(first.segment) + 1 :]
    assert sum(len(sink.segments[segment]) for segment in added) < 4096


def strings_of(model: Model) -> list[str]:
    found: list[str] = []
    pending = [model]
    while pending:
        part = pending.pop()
        found += [v for p in part.properties.values() for v in p.values if isinstance(v, str)]
        pending.extend(part.children.values())
    return found


def test_the_showcase_has_every_form_of_everything() -> None:
    sink = made()
    assert set(record_types(sink)) == set(range(8))
    top = model_of(at(sink.node(), "root", "content", "sample"))
    for folder, array in (("single", False), ("arrays", True), ("empty arrays", True)):
        properties = top.children["types"].children[folder].properties.values()
        assert {prop.type for prop in properties} == set(PropertyType)
        assert {prop.array for prop in properties} == {array}
    sizes = {len(text.encode()) for text in strings_of(top)}
    assert {0, 1, 127, 128, 16511, 16512, 270_000} <= sizes
    assert any(ord(char) > 0xFFFF for text in strings_of(top) for char in text)
    binaries = top.children["binaries"].children
    stored = [len(b.properties["value"].values[0]) for n, b in binaries.items() if n != "several"]
    assert sorted(stored) == [0, 1, 127, 128, 16511, 16512, 262144, 262145, 600_000]
    wide = top.children[WIDE]
    assert len(wide.children) > WIDE_CHILDREN
    chain, depth = top.children["chain"], 0
    while chain.children:
        [chain] = chain.children.values()
        depth += 1
    assert depth == CHAIN_LENGTH


def test_bulk_segments_hold_binaries_of_several_pieces_and_whole_pieces_of_strings() -> None:
    sizes = Counter(len(d) for s, d in made(nodes=0).segments.items() if is_bulk(s))
    # 262144; 262144 + 1; 2 × 262144 + 75712; 16512; 20000; and 262144 of a string
    assert sizes == {262144: 5, 1: 1, 75712: 1, 16512: 1, 20000: 1}


def test_large_binaries_have_the_size_that_was_asked_for() -> None:
    sink = made(nodes=100, binary_kib=300, commits=1)
    runs = at(sink.node(), "root", "content", "sample").children()
    [(_, run)] = [child for child in runs if child[0].startswith("run ")]
    large = {}
    for bucket in model_of(run).children["group 0"].children.values():
        for name, node in bucket.children.items():
            if "data" in node.properties:
                large[name] = len(node.properties["data"].values[0])
    assert large == {f"node{number}": 300 * 1024 for number in (0, 20, 40, 60, 80)}


@pytest.mark.parametrize("wrong", [{"nodes": -1}, {"binary_kib": -1}, {"commits": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    sink = MemorySink()
    with pytest.raises(ConfigError, match="at least 0 nodes, 0 KiB and 1 commit"):
        sample(sink, **wrong)
    assert not sink.segments


@pytest.mark.parametrize("name", ["fresh", "compacted", "killed"])
def test_a_store_of_real_oak_is_appended_to(
    fixture_store: Callable[[str], Path], name: str
) -> None:
    sink = scan(fixture_store(name))
    before, written = model_of(sink.node()), set(sink.segments)
    assert sink.head is not None
    generation = sink.node().reader.generation(sink.head.segment)
    sample(sink)
    new = [segment for segment in sink.segments if segment not in written]
    carried = {
        layout.inspect(segment, sink.segments[segment])[0]
        for segment in new
        if not is_bulk(segment)
    }
    assert carried == {Generation(generation.generation, generation.full, False)}
    after = model_of(sink.node())
    del after.children["root"].children["content"].children["sample"]
    assert after.children["root"] == before.children["root"]
    checkpoints = before.children.get("checkpoints", Model())
    for checkpoint, model in checkpoints.children.items():
        assert after.children["checkpoints"].children[checkpoint] == model


@pytest.mark.parametrize("told", [b'{"wid":"sample","sno":0}', b"not JSON at all", b'["t"]'])
def test_an_info_record_that_tells_no_time_is_no_obstacle(told: bytes) -> None:
    sink = made(nodes=0, commits=1)
    assert sink.head is not None
    raw = bytearray(sink.segments[sink.head.segment])
    info = Segment(sink.head.segment, bytes(raw)).locate(0, layout.VALUE)
    raw[info : info + 1 + len(told)] = bytes([len(told)]) + told
    sink.segments[sink.head.segment] = bytes(raw)
    sample(sink, nodes=0, commits=1)
    assert len(sink.journal) == 2


def test_a_directory_gets_the_same_segments_as_memory_in_the_same_order(tmp_path: Path) -> None:
    sink = made()
    sample(sink)
    for _ in range(2):
        with StoreWriter.open(tmp_path, create=True, tar_limit=1024 * 1024) as writer:
            sample(writer)
    stored = scan(tmp_path)
    assert list(stored.segments.items()) == list(sink.segments.items())
    follower = Follower.open(tmp_path)
    try:
        assert follower.snapshot.head.record == sink.head
        seen = NodeState(RecordReader(follower.snapshot), follower.snapshot.head.record)
        assert content_digest(seen) == content_digest(sink.node())
    finally:
        follower.close()


@settings(max_examples=8)
@given(st.integers(0, 130), st.integers(0, 30), st.integers(1, 4), st.integers(0, 2**64))
def test_any_numbers_give_a_store_that_reads_back(
    nodes: int, binary_kib: int, commits: int, seed: int
) -> None:
    sink = made(nodes=nodes, binary_kib=binary_kib, commits=commits, seed=seed)
    found = content_digest(sink.node())
    assert found.nodes > 900 and found.blob_bytes > 1_000_000
