"""Segments in a dictionary, seen as a snapshot of a store with one tar."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from repository_models import MemorySink

from tarfailover.errors import SegmentMissingError
from tarfailover.ids import SegmentId, text
from tarfailover.repository.deepcheck import Books, Damage, DeepCheck

TAR = Path("data00000a.tar")


class _Tar(NamedTuple):
    path: Path = TAR


class _Entry(NamedTuple):
    position: int
    length: int


class FlatSnapshot:
    """As much of a Snapshot as a deep check needs; segments lie in the order of the sink."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink

    def read(self, segment: SegmentId) -> bytes:
        self.entry(segment)
        return self._sink.read(segment)

    def entry(self, segment: SegmentId) -> Any:
        at = 0
        for each, data in self._sink.segments.items():
            at += 512
            if each == segment:
                return _Tar(), _Entry(at, len(data))
            at += -(-len(data) // 512) * 512
        raise SegmentMissingError(f"segment {text(segment)} is in no tar of the store")


def deep_check(sink: MemorySink, books: Books | None = None, **times: Any) -> DeepCheck:
    """A check of what is in `sink`, with a clock that stands still."""
    times.setdefault("clock", lambda: 0.0)
    snapshot: Any = FlatSnapshot(sink)
    return DeepCheck(snapshot, Books() if books is None else books, **times)


def damages(sink: MemorySink) -> list[Damage]:
    """What a deep check of the sink's head tells."""
    assert sink.head is not None
    return list(deep_check(sink).run(sink.head))
