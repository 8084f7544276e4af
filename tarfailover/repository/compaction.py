"""Compaction: a head written anew, in segments of a new generation.

A full one copies every record that the head reaches, checkpoints included; bulk segments
are not copied, new lists name the same ones. A tail compaction copies only what came after
the last compaction, and shares the segments of that. Nodes keep their stable ids.
Afterwards nothing of the head needs other data segments of older generations, so that a
cleanup can drop them. Facts: storage format, sections 5 and 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tarfailover.errors import NoHeadError
from tarfailover.ids import Generation, RecordId
from tarfailover.repository.copying import Copying, Segments
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import RecordWriter
from tarfailover.repository.segment_writer import Clock, SegmentSink, SegmentWriter


class Random(Protocol):
    """Gives bytes for ids."""

    def __call__(self, size: int, /) -> bytes:
        """`size` bytes that nobody has seen before."""


class Compacted(NamedTuple):
    """What a compaction wrote."""

    head: RecordId
    generation: Generation
    nodes: int
    """Nodes that were copied; one that is reached by several paths counts once."""


def compact(
    sink: SegmentSink,
    random: Random,
    *,
    wid: str,
    now: Clock,
    keep: Segments | None = None,
    progress: Callable[[int], None] | None = None,
) -> Compacted:
    """Write the head of `sink` anew in the next full generation, and make it the head.

    With `keep`, the segments that the last compaction left (`store.base`), it is a tail
    compaction: in the next generation of the same full one, and those are shared.

    `wid` names the writer in the segments; `now` gives milliseconds since 1970;
    `progress` is called with the number of nodes copied so far. Memory: some 300 bytes
    for each copied node if there are checkpoints, and for each long binary.

    Raises NoHeadError, and SegmentMissingError or FormatError if something of the head
    cannot be read; then the head stays as it was.
    """
    if sink.head is None:
        raise NoHeadError("a store without a head cannot be compacted")
    old = RecordReader(sink)
    before = old.generation(sink.head.segment)
    full = before.full + (keep is None)
    generation = Generation(before.generation + 1, full, True)
    segments = SegmentWriter(sink, random, wid=wid, now=now, generation=generation)
    copying = Copying(
        old,
        RecordWriter(segments),
        frozenset() if keep is None else keep,
        progress=progress or (lambda _: None),
    )
    head = copying.tree(NodeState(old, sink.head))
    segments.seal()
    if head != sink.head:
        sink.commit(head, now())
    return Compacted(head, old.generation(head.segment), copying.nodes)
