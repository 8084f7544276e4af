"""Commits of several threads: merged in memory, made durable together.

A commit has two steps. First, one thread at a time, its changes are written as records on
top of the newest head, which may not be durable yet. Then the head is made durable, and with
it all that came before: one *turn*. Who comes while another waits for the disk joins the next
turn. So the disk is waited for once a turn, and not once a commit.

The order of the locks: `_writing`, `Shelf.disk`; `_settling` is never held together with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tarfailover.errors import SegmentMissingError, StoreError, StoreIOError
from tarfailover.ids import NO_GENERATION, RecordId, SegmentId, text
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import ROOT, TreeWriter
from tarfailover.repository.copying import Copying
from tarfailover.repository.merging import merge
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import Outside, Readable
from tarfailover.repository.segment_writer import Clock, SegmentWriter
from tarfailover.repository.shelf import Shelf
from tarfailover.repository.streams import Binary
from tarfailover.repository.values import ExternalBlob, StoredBlob
from tarfailover.store.writer import StoreWriter


class _Turn:
    """Commits that become durable together, or not at all."""

    def __init__(self) -> None:
        self.over = False
        self.error: BaseException | None = None


class Committer:
    """The newest head of a store, and the way to the next one; for any number of threads."""

    def __init__(
        self,
        store: StoreWriter,
        random: Callable[[int], bytes],
        *,
        wid: str,
        now: Clock,
        outside: Outside | None = None,
    ) -> None:
        """`random(n)` gives n bytes for ids, `wid` names the writer in the segments.

        Large binaries go `outside`, if that is given.
        `now` gives the time of segments and of commits, milliseconds since 1970. A store
        without a head gets one with an empty root. Raises what `StoreWriter` raises, and
        SegmentMissingError or FormatError if the head cannot be read.
        """
        self._now = now
        self._shelf = Shelf(store)
        self._segments = SegmentWriter(self._shelf, random, wid=wid, now=now)
        self._tree = TreeWriter(self._segments, outside)
        self._outside = outside
        self._writing = threading.RLock()
        self._settling = threading.Condition()
        self._leading = False
        """Whether somebody makes a turn durable."""
        self._turn = _Turn()
        self._generation = NO_GENERATION
        try:
            self._head = self._first(store.head)
        except BaseException:
            self._shelf.close()
            raise

    def _first(self, head: RecordId | None) -> NodeState:
        if head is not None:
            found = self._tree.reader.generation(head.segment)
            self._generation = self._segments.generation = found._replace(compacted=False)
            return NodeState(self._tree.reader, head)
        fresh = NodeBuilder()
        fresh.child(ROOT)
        self._head = self._tree.write(fresh)
        self._settle(self._turn)
        return self._head

    @property
    def durable(self) -> RecordId | None:
        """The head that is durable."""
        return self._shelf.head

    def reader(self, cached: int) -> RecordReader:
        """A reader, for one thread, of all that is written; it holds `cached` bytes."""
        blobs = None if self._outside is None else self._outside.store
        return RecordReader(self, blobs, cached=cached)

    def read(self, segment: SegmentId) -> bytes:
        """The bytes of any segment that was written; raises as `Shelf.read`."""
        if self._segments.is_open(segment):
            with self._writing:
                self._segments.seal()
        return self._shelf.read(segment)

    def newest(self, reader: RecordReader) -> NodeState:
        """The super root to begin with; it may become durable only with the next commit."""
        with self._writing:
            self._segments.seal()
            return NodeState(reader, self._head.id)

    # heads

    def commit(self, base: NodeState, super_root: NodeBuilder) -> RecordId:
        """Merge the changes of `super_root`, which began with `base`, and make them durable.

        Raises ConflictError or ContentError: nothing was committed. Raises StoreIOError or
        StoreLockedError: whether it was shows when the store is opened again.
        """
        with self._writing:
            self._shelf.relieve()
            ours = super_root
            if self._head.id != base.id:
                ours = merge(base, super_root, self._head, self._tree.write)
            written, turn = self._advance(ours)
        self._settle(turn)
        return written

    def change(self, change: Callable[[NodeBuilder], None]) -> RecordId:
        """Let `change` alter the newest super root, between two commits; raises as `commit`."""
        with self._writing:
            self._shelf.relieve()
            super_root = NodeBuilder(self._head)
            change(super_root)
            written, turn = self._advance(super_root)
        self._settle(turn)
        return written

    def _advance(self, super_root: NodeBuilder) -> tuple[RecordId, _Turn]:
        """Write a head, under `_writing`, and join the turn that makes it durable."""
        self._head = self._tree.write(super_root)
        return self._head.id, self._turn

    def _settle(self, turn: _Turn) -> None:
        """Return when `turn` is durable: wait for who leads it, or lead it."""
        with self._settling:
            while self._leading and not turn.over:
                self._settling.wait()
            if turn.error is not None:
                raise _failed(turn.error)
            if turn.over:
                return
            self._leading = True
        try:
            self._lead()
        finally:
            with self._settling:
                self._leading = False
                self._settling.notify_all()

    def _lead(self) -> None:
        turn = self._turn
        try:
            with self._writing:
                turn, self._turn = self._turn, _Turn()
                self._segments.seal()
                taken, head = self._shelf.take(), self._head.id
                self._shelf.disk.acquire()
            try:
                self._shelf.write(taken)
                if head != self._shelf.head:
                    self._shelf.commit(head, self._now())
            finally:
                self._shelf.disk.release()
        except BaseException as error:
            self._lose(turn, error)
            raise
        turn.over = True

    def _lose(self, turn: _Turn, error: BaseException) -> None:
        """End `turn`, and what was built on it; begin again with the durable head."""
        with self._writing:
            for lost in (turn, self._turn):
                lost.error, lost.over = error, True
            self._turn = _Turn()
            if self._shelf.head is not None:
                self._head = NodeState(self._tree.reader, self._shelf.head)

    # parts of a commit, before it

    def write(self, builder: NodeBuilder, reader: RecordReader) -> NodeState:
        """Write what changed in a builder now; nothing refers to it until a commit does."""
        with self._writing:
            self._shelf.relieve()
            written = self._tree.write(builder)
            self._segments.seal()
            return NodeState(reader, written.id)

    def binary(self, source: Readable) -> StoredBlob | ExternalBlob:
        """Store a binary now; other threads go on while `source` is read."""
        return self._tree.records.blob(source, self._writing)

    def adopt(self, node: NodeState, reader: RecordReader) -> NodeState:
        """A node of any repository as one of this: shared if it may be, else copied.

        What an older generation holds is copied, since a cleanup removes it with that.
        Raises SegmentMissingError if not all of it is there.
        """
        if self._may_share(node.id.segment, node.reader):
            return NodeState(reader, node.id)
        with self._writing:
            self._shelf.relieve()
            copy = self._copying(node.reader).tree(node)
            self._segments.seal()
        return NodeState(reader, copy)

    def adopt_binary(
        self, blob: StoredBlob | ExternalBlob, reader: RecordReader
    ) -> StoredBlob | ExternalBlob:
        """A binary of any repository, which `reader` reads, as one of this; as `adopt`."""
        if self._may_share(blob.record.segment, reader):
            return blob
        with self._writing:
            self._shelf.relieve()
            return self._tree.reader.blob(self._copying(reader).blob(blob))

    def _copying(self, old: RecordReader) -> Copying:
        def bring(segment: SegmentId) -> None:
            if not self._shelf.contains(segment):
                self._shelf.append(segment, old.segment(segment).data)

        def take(blob: ExternalBlob) -> RecordId | None:
            if old.blobs is None or self._shelf.contains(blob.record.segment):
                return None
            with Binary(old, blob).open() as source:
                return self._tree.records.blob(source).record

        return Copying(old, self._tree.records, bring=bring, take=take)

    def _may_share(self, segment: SegmentId, reader: RecordReader) -> bool:
        if self._segments.is_open(segment):
            return True
        if not self._shelf.contains(segment):
            return False
        if reader.generation(segment)._replace(compacted=False) != self._generation:
            return False
        missing = self._shelf.missing(segment)
        if missing:
            raise SegmentMissingError(
                f"segment {text(segment)} needs {text(missing[0])}, which is in no tar any more: "
                "what it holds cannot be taken over"
            )
        return True

    def close(self) -> None:
        """Wait for the turn that is under way, and let go of the files."""
        with self._settling:
            while self._leading:
                self._settling.wait()
        with self._shelf.disk:
            self._shelf.close()


def _failed(error: BaseException) -> StoreError:
    """The error for a thread whose commit was lost with that of another one."""
    kind = type(error) if isinstance(error, StoreError) else StoreIOError
    return kind(str(error) or repr(error))
