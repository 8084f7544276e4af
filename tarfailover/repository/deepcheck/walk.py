"""The walk of a deep check: from a head to every record below, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from tarfailover.errors import TarFailoverError
from tarfailover.format import segment as layout
from tarfailover.ids import RecordId, SegmentId
from tarfailover.repository import paths
from tarfailover.repository.deepcheck.books import (
    DAMAGE,
    Books,
    Damage,
    Finder,
    OutOfTimeError,
    wrong,
)
from tarfailover.repository.deepcheck.children import MapCheck, MapItem, NodeItem, Part
from tarfailover.repository.deepcheck.values import ValueCheck
from tarfailover.repository.hashes import property_key
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.records import MANY_CHILDREN, NO_CHILDREN, Template
from tarfailover.store.blobs import BlobStore
from tarfailover.store.finding import many
from tarfailover.store.snapshot import Snapshot

MAX_DEPTH = 100_000
"""Levels of nodes beyond which nothing is checked; Oak itself gives up far before."""

BELOW = "the node with all below it"

Read = Callable[[int], None]
"""Told of bytes of segments, each segment once."""


class Source:
    """A snapshot whose damaged segments are read once only."""

    def __init__(self, snapshot: Snapshot, read: Read) -> None:
        self._snapshot = snapshot
        self._told = read
        self._known: set[SegmentId] = set()
        self._bad: dict[SegmentId, TarFailoverError] = {}

    def read(self, segment: SegmentId) -> bytes:
        """The data of `segment`; raises as Snapshot.read does, the same again for the same."""
        bad = self._bad.get(segment)
        if bad is not None:
            raise bad
        try:
            data = self._snapshot.read(segment)
        except DAMAGE as error:
            self._bad[segment] = error
            raise
        if segment not in self._known:
            self._known.add(segment)
            self._told(len(data))
        return data


class _Frame:
    """A node in work; or, with `part`, a part of its map of children."""

    def __init__(self, items: Iterator[NodeItem | MapItem], record: RecordId) -> None:
        self.items = items
        self.record = record
        self.part: Part | None = None
        self.named = False
        self.properties = 0


class DeepCheck:
    """Checks trees; several heads one after the other cost little more than the first."""

    def __init__(
        self,
        snapshot: Snapshot,
        books: Books,
        *,
        clock: Callable[[], float],
        seconds: float | None = None,
        read: Read = lambda _: None,
        blobs: BlobStore | None = None,
    ) -> None:
        """Check what `snapshot` holds, for at most about `seconds` by `clock` (in seconds).

        At least one record is finished, however short the time. `read` is told of each
        segment's bytes as it is read for the first time, and of those of external binaries,
        which are looked for in `blobs` and read to their last byte.
        """
        self.books = books
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._start = books.advanced
        self._reader = RecordReader(Source(snapshot, read), blobs)
        self._values = ValueCheck(snapshot, self._reader, books, self._tick, read)
        self._maps = MapCheck(self._reader, books)
        self._above: set[RecordId] = set()
        self.finished = False
        """Whether the last run came to its end."""
        books.finder = Finder(snapshot, self._reader)

    def run(self, head: RecordId) -> Iterator[Damage]:
        """Check all below the super root `head`; yields the damages that are told one by one."""
        told = len(self.books.told)
        for _ in self.steps(head):
            if told < len(self.books.told):
                yield from self.books.told[told:]
                told = len(self.books.told)
        yield from self.books.told[told:]

    def steps(self, head: RecordId) -> Iterator[None]:
        """The same, a step at a time; see `finished` and the books."""
        self.finished = False
        self._above.clear()
        frames = [_Frame(iter((NodeItem("", head),)), head)]
        try:
            while frames:
                self._step(frames)
                yield
        except OutOfTimeError:
            self.books.abandon()
            return
        self.finished = True

    def _tick(self) -> None:
        late = self._end is not None and self._clock() >= self._end
        if late and self.books.advanced > self._start:
            raise OutOfTimeError

    def _step(self, frames: list[_Frame]) -> None:
        self._tick()
        item = next(frames[-1].items, None)
        if item is None:
            self._end_of(frames.pop(), top=not frames)
        elif isinstance(item, NodeItem):
            self._enter_node(item, frames)
        else:
            part = self._maps.open(item, frames[-1].part)
            if part is not None:
                frame = _Frame(part.items, item.record)
                frame.part = part
                frames.append(frame)

    def _end_of(self, frame: _Frame, *, top: bool) -> None:
        if frame.part is not None:
            self._maps.close(frame.part)
        elif not top:
            self.books.counts.nodes += 1
            self.books.counts.properties += frame.properties
            self.books.leave()
            self._above.remove(frame.record)
            if frame.named:
                self.books.names.pop()

    def _enter_node(self, item: NodeItem, frames: list[_Frame]) -> None:
        names, record = self.books.names, item.record
        named = len(frames) > 1
        if named:
            names.append(item.name)
        if record in self._above:
            self._wrong_node(record, "the node is its own ancestor", "an endless path")
        elif len(names) > MAX_DEPTH:
            what = f"more than {MAX_DEPTH:,} levels of nodes"
            self._wrong_node(record, what, "what is below is not checked")
        elif self.books.enter("node", record):
            self._above.add(record)
            frame = _Frame(iter(()), record)
            frame.named = named
            frame.items = self._node(frame)
            frames.append(frame)
            return
        if named:
            names.pop()

    def _wrong_node(self, record: RecordId, what: str, lost: str) -> None:
        self.books.fault("the node", record, wrong(self._reader, record, what), lost)

    def _node(self, frame: _Frame) -> Iterator[NodeItem | MapItem]:
        """Check a node alone; what is below it comes back."""
        state = NodeState(self._reader, frame.record)
        try:
            template, child = state.template, state.child_record
        except DAMAGE as error:
            self.books.fault("the node", frame.record, error, BELOW)
            return iter(())
        self._stable_id(state)
        self._template(state.template_id, template)
        self._properties(state, template)
        frame.properties = len(template.properties)
        frame.properties += (template.primary is not None) + (template.mixins is not None)
        if child is None:
            return iter(())
        if template.child is not None:
            return iter((NodeItem(template.child, child),))
        return iter((MapItem(child),))

    def _stable_id(self, state: NodeState) -> None:
        try:
            _ = state.stable_id
        except DAMAGE as error:
            self.books.fault(
                "its stable id", state.id, error, "nothing that is read; compaction fails"
            )

    def _template(self, record: RecordId, template: Template) -> None:
        if not self.books.enter("template", record):
            return
        try:
            segment, at = self._reader.locate(record, layout.TEMPLATE)
            both = NO_CHILDREN | MANY_CHILDREN
            if segment.u32(at) & both == both:
                raise segment.fault("no children and many children at once", at)
            keys = [property_key(name) for name, _ in template.properties]
            if any(one >= other for one, other in pairwise(keys)):
                raise segment.fault("properties are not in order, or there twice", at)
        except DAMAGE as error:
            self.books.fault("its template", record, error, "looking things up by name may fail")
        self.books.leave()

    def _properties(self, state: NodeState, template: Template) -> None:
        if state.values_record is None:
            return
        done, total = 0, len(template.properties)
        try:
            records = self._reader.list(state.values_record, total)
            for (name, tag), record in zip(template.properties, records, strict=True):
                self._values.check(
                    f"property {paths.shortened(paths.escape(name), 80)}", tag, record
                )
                done += 1
        except DAMAGE as error:
            lost = f"{total - done:,} of {many(total, 'value')}"
            self.books.fault("its properties", state.values_record, error, lost)
