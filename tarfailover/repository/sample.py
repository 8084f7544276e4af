"""Writes sample repositories: content of every kind, in commits that share structure."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tarfailover.errors import ConfigError
from tarfailover.ids import RecordId
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import CHECKPOINTS, ROOT, RepositoryWriter
from tarfailover.repository.nodes import PRIMARY_TYPE, NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import Outside
from tarfailover.repository.sample_content import (
    SAMPLE_DAY,
    UNSTRUCTURED,
    WIDE,
    fill,
    showcase,
)
from tarfailover.repository.segment_writer import SegmentSink
from tarfailover.repository.values import Property

BUCKET_NODES = 50
BUCKETS_PER_GROUP = 20
DAY_MS = 86_400_000
COMMIT_MS = 5_000
CHECKPOINT_COMMIT = 1
"""Which commit of a run (counted from 0) makes a checkpoint."""
CHECKPOINT_LIFE_MS = 365 * DAY_MS
TOUCHED = 5
"""How many older nodes each commit changes, and how many of them it removes."""
WIDE_ADDED = 20


class SampleResult(NamedTuple):
    """What a run wrote: the new head, and how much beside the showcase."""

    head: RecordId
    run: str
    """The name of the run's folder below /content/sample."""
    nodes: int
    commits: int


def write_sample(
    writer: SegmentSink,
    *,
    nodes: int,
    binary_kib: int,
    commits: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    outside: Outside | None = None,
) -> SampleResult:
    """Add a run of sample content to the store behind `writer`.

    `nodes` nodes, spread evenly over `commits` commits, are added under
    ``/content/sample/<run>``; `binary_kib` is the size in KiB of the large binary that
    every 20th of them carries (0: none). The first run in a store also adds a fixed
    showcase of about a thousand nodes and 3 MiB: all property types, strings and
    binaries of every length class, a wide node, a deep one. Each further commit
    changes and removes a few older nodes; the second makes a checkpoint. A store that
    has a head is appended to, in its head's generation.

    The same seed and numbers into a fresh store give the same bytes and ids; into a
    store with a head, the head is mixed into the seed. Memory stays bounded whatever
    `nodes` and `binary_kib` are, as long as a commit's share of nodes is below millions.
    `progress` is called with the number of nodes done so far, once per 50 or so.

    Large binaries go to the blob store `outside`, if there is one.

    Raises ConfigError for numbers out of range, and what the writer raises.
    """
    if nodes < 0 or binary_kib < 0 or commits < 1:
        raise ConfigError(
            f"a sample needs at least 0 nodes, 0 KiB and 1 commit, not --nodes {nodes} "
            f"--binary-kib {binary_kib} --commits {commits}"
        )
    # The numbers are mixed in too: other content must never get the same segment ids.
    origin = f"{seed} {nodes} {binary_kib} {commits} {writer.head or 'fresh'}"
    if outside is not None:
        origin += f" {outside.store.layout.kind} {outside.smallest}"
    run = _Run(writer, origin, binary_kib * 1024, progress or (lambda _: None), outside)
    borders = [nodes * number // commits for number in range(commits + 1)]
    with run.writer:
        heads = [run.commit(number, *borders[number : number + 2]) for number in range(commits)]
    return SampleResult(heads[-1], run.name, nodes, commits)


class _Run:
    """One call of `write_sample`: a source of chance of known origin, a folder of its own."""

    def __init__(
        self,
        sink: SegmentSink,
        origin: str,
        large: int,
        progress: Callable[[int], None],
        outside: Outside | None,
    ) -> None:
        # Not for secrets: the whole point is that a seed gives the same repository.
        self._rng = random.Random(f"content of {origin}")  # noqa: S311
        ids = random.Random(f"ids of {origin}")  # noqa: S311
        self._large = large
        self._progress = progress
        self._time_ms = self._start_ms(sink)
        self.name = f"run {self._rng.getrandbits(32):08x}"
        self.writer = RepositoryWriter(
            sink, ids.randbytes, wid="sample", now=lambda: self._time_ms, outside=outside
        )

    def _start_ms(self, sink: SegmentSink) -> int:
        start = int(SAMPLE_DAY.timestamp()) * 1000 + self._rng.randrange(DAY_MS)
        if sink.head is None:
            return start
        return max(start, _written_ms(sink, sink.head) + COMMIT_MS)

    def commit(self, number: int, start: int, end: int) -> RecordId:
        """Write nodes `start` to `end` and the other changes of commit `number`."""
        before = self.writer.head
        super_root = self.writer.super_root()
        top = super_root.child(ROOT).child("content").child("sample")
        if not top.has_child(WIDE):
            showcase(top, self._rng, self.writer.blob)
        else:
            self._change_wide(top.child(WIDE), number)
            self._touch(top.child(self.name), start)
        self._add(top.child(self.name), start, end)
        if number == CHECKPOINT_COMMIT and before is not None:
            self._checkpoint(super_root.child(CHECKPOINTS), before)
        head = self.writer.commit(super_root)
        self._time_ms += COMMIT_MS
        return head

    def _add(self, run: NodeBuilder, start: int, end: int) -> None:
        run.set(PRIMARY_TYPE, UNSTRUCTURED)
        for group, buckets in _by_group(start, end):
            parent = run.child(f"group {group}").set(PRIMARY_TYPE, UNSTRUCTURED)
            for bucket, numbers in buckets:
                into = parent.child(f"bucket {bucket}").set(PRIMARY_TYPE, UNSTRUCTURED)
                for each in numbers:
                    fill(into.child(f"node{each}"), self._rng, each, self.writer.blob, self._large)
                # Written now, so that the memory needed does not grow with the commit.
                parent.set_child(f"bucket {bucket}", self.writer.write(into))
                self._progress(numbers[-1] + 1)
            run.set_child(f"group {group}", self.writer.write(parent))

    def _touch(self, run: NodeBuilder, existing: int) -> None:
        """Change some of the run's first `existing` nodes and remove one."""
        for turn in range(TOUCHED if existing else 0):
            number = self._rng.randrange(existing)
            bucket = number // BUCKET_NODES
            parent = run.child(f"group {bucket // BUCKETS_PER_GROUP}").child(f"bucket {bucket}")
            name = f"node{number}"
            if turn == 0:
                parent.remove_child(name)
            elif parent.has_child(name):
                parent.child(name).set("touched", Property.of(self._time_ms))

    def _change_wide(self, wide: NodeBuilder, number: int) -> None:
        """Change one child in every other commit (a diff), else add, change and remove some."""
        names = sorted(wide.child_names())
        changed = self._rng.choice(names)
        wide.child(changed).set("x", Property.of(self._time_ms))
        if number % 2:
            return
        wide.remove_child(names[0] if changed != names[0] else names[1])
        for each in range(WIDE_ADDED):
            wide.child(f"{self.name} {number} {each}").set("x", Property.of(each))

    def _checkpoint(self, checkpoints: NodeBuilder, head: NodeState) -> None:
        name = str(uuid.UUID(bytes=self._rng.randbytes(16), version=4))
        made = checkpoints.child(name)
        made.set("timestamp", Property.of(self._time_ms + CHECKPOINT_LIFE_MS))
        made.set("created", Property.of(self._time_ms))
        made.child("properties").set("creator", Property.of("sample"))
        root = head.child(ROOT)
        if root is not None:
            made.set_child(ROOT, root)


def _written_ms(sink: SegmentSink, head: RecordId) -> int:
    """When the head's segment was made by its info record, 0 if that does not tell."""
    written = RecordReader(sink).string(RecordId(head.segment, 0))
    try:
        info = json.loads(written)
    except json.JSONDecodeError:
        return 0
    time_ms = info.get("t") if isinstance(info, dict) else None
    return time_ms if isinstance(time_ms, int) else 0


def _by_group(start: int, end: int) -> Iterator[tuple[int, Iterator[tuple[int, range]]]]:
    """The nodes `start` to `end` as groups of buckets of ranges."""
    step = BUCKET_NODES * BUCKETS_PER_GROUP
    for group in range(start // step, -(-end // step)):
        first, last = max(start, group * step), min(end, (group + 1) * step)
        yield group, _by_bucket(first, last)


def _by_bucket(start: int, end: int) -> Iterator[tuple[int, range]]:
    for bucket in range(start // BUCKET_NODES, -(-end // BUCKET_NODES)):
        first = max(start, bucket * BUCKET_NODES)
        yield bucket, range(first, min(end, (bucket + 1) * BUCKET_NODES))
