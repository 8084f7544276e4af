"""A repository opened to be read: at its head, at an older head, at a checkpoint, at a time.

It takes no lock and writes nothing, so it works beside whoever writes the store. What it
shows is the moment at which it was opened, and stays readable until it is closed, whatever
the writer and its cleanup do meanwhile.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType

from tarfailover.errors import ContentError, NoHeadError, NotFoundError
from tarfailover.format import journal as lines
from tarfailover.format.journal import JournalLine
from tarfailover.ids import RecordId, text
from tarfailover.repository.commit import CHECKPOINTS, ROOT
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.tree import Node
from tarfailover.store import journal
from tarfailover.store.blobs import BlobStore, open_blob_store
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Head, Snapshot

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_BACK = re.compile(r"head(?:~([0-9]{1,9}))?", re.IGNORECASE)
_RECORD = re.compile(r"[0-9a-f-]{36}[:.][0-9a-f]{1,10}")

FORMS = (
    "head, head~N, a record as `tarfailover log` shows it, the name of a checkpoint, or a time "
    "like 2026-11-22T19:12:16Z"
)
"""What names a state of the repository, in words."""


@dataclass(frozen=True)
class Revision:
    """One state of the repository, which never changes."""

    super_root: Node
    """The node that the journal names, or a checkpoint: above `root`."""
    time_ms: int | None
    """When it was persisted, milliseconds since 1970; None if nothing says."""
    name: str = ""
    """The name of the checkpoint that it is, empty for a head."""
    root: Node = field(init=False)
    """The top of the content, ``/``."""

    def __post_init__(self) -> None:
        root = self.super_root.children.get(ROOT)
        if root is None:
            raise ContentError(
                f"record {self.record} has no child {ROOT!r}: it is no state of a repository"
            )
        object.__setattr__(self, "root", root.fresh())

    @property
    def record(self) -> RecordId:
        """The record of the super root."""
        return self.super_root.record

    @property
    def time(self) -> dt.datetime | None:
        """When it was persisted, in UTC; None if nothing says, or no calendar has it."""
        return moment(self.time_ms)

    def node(self, path: str) -> Node:
        """The node at `path`; raises NotFoundError with similar names, and ConfigError."""
        return self.root.node(path)


@dataclass(frozen=True)
class Checkpoint:
    """A state that somebody asked to be kept for a while."""

    name: str
    created_ms: int | None
    """Milliseconds since 1970, as the two below; None where the store does not say."""
    expires_ms: int | None
    info: dict[str, str]
    """What its creator noted, such as ``creator``."""
    node: Node
    """With the child ``root``."""

    def revision(self) -> Revision:
        """The state that is kept; raises ContentError if there is none."""
        return Revision(self.node, self.created_ms, self.name)


class Repository:
    """See the module; made by `open_repository`, to be closed, or used with ``with``."""

    def __init__(
        self,
        snapshot: Snapshot,
        directory: Path,
        head: Head,
        journal_end: int,
        blobs: BlobStore | None = None,
    ) -> None:
        self._snapshot = snapshot.acquire()
        self._journal_end = journal_end
        self._path = directory / lines.NAME
        self.directory = directory
        self.head_line = head
        self.reader = RecordReader(snapshot, blobs)
        """Reads single records of this repository."""

    @property
    def snapshot(self) -> Snapshot:
        """The tars as they were when the repository was opened."""
        return self._snapshot

    @property
    def head(self) -> Revision:
        """The newest state that is whole."""
        return self.revision(self.head_line.record, self.head_line.time_ms or None)

    @property
    def root(self) -> Node:
        """The top of the content at the head, ``/``."""
        return self.head.root

    def node(self, path: str) -> Node:
        """The node at `path` at the head; raises NotFoundError with similar names."""
        return self.root.node(path)

    def revision(self, record: RecordId, time_ms: int | None = None) -> Revision:
        """The state of the super root `record`, which is believed to be one."""
        return Revision(Node(NodeState(self.reader, record)), time_ms)

    def heads(self) -> Iterator[JournalLine]:
        """The head and the older ones of the journal whose segment is there, newest first.

        A head that lines repeat comes once. Not all that an older one needs may be there.
        """
        below, last = False, None
        for line in self.lines():
            below = below or line.head == self.head_line.record
            if below and line.head != last and self._snapshot.contains(line.head.segment):
                yield line
                last = line.head

    def lines(self) -> Iterator[JournalLine]:
        """The lines of the journal when the repository was opened, newest first."""
        return journal.newest_first(self._path, self._journal_end)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the head keeps, oldest first."""
        return checkpoints_of(self.head.super_root)

    def at(self, when: str | RecordId | dt.datetime | None) -> Revision:
        """The state that `when` names.

        None and ``head`` are the head, ``head~N`` is the Nth older one, a record is a head
        of the journal, else it is a checkpoint of the head, or a time (without a zone: UTC).

        Raises NotFoundError if there is no such state, NoHeadError if it was there and
        cleanup has removed it.
        """
        if when is None:
            return self.head
        if isinstance(when, RecordId):
            return self._at_record(when)
        if isinstance(when, dt.datetime):
            return self._at_time(when)
        back = _BACK.fullmatch(when)
        if back:
            return self._back(int(back[1] or 0))
        if _RECORD.fullmatch(when):
            return self._at_record(RecordId.parse(when))
        return self._at_checkpoint(when) or self._at_time(_time(when))

    def _back(self, count: int) -> Revision:
        if not count:
            return self.head
        line = next(islice(self.heads(), count, None), None)
        if line is None:
            raise NotFoundError(
                f"{self._path} has no {count} older heads that are still there; "
                "`tarfailover log` shows them"
            )
        return self.revision(line.head, line.time_ms)

    def _at_record(self, record: RecordId) -> Revision:
        for line in self.lines():
            if line.head == record:
                return self._present(line)
        raise NotFoundError(f"{self._path} names no head {record}; `tarfailover log` shows them")

    def _at_checkpoint(self, name: str) -> Revision | None:
        above = self.head.super_root.children.get(CHECKPOINTS)
        node = above.children.get(name) if above else None
        return None if node is None else _checkpoint(node).revision()

    def _at_time(self, when: dt.datetime) -> Revision:
        wanted = milliseconds(when)
        for line in self.lines():
            if line.time_ms and line.time_ms <= wanted:
                return self._present(line)
        raise NotFoundError(f"{self._path} names no head that is as old as {when.isoformat()}")

    def _present(self, line: JournalLine) -> Revision:
        if not self._snapshot.contains(line.head.segment):
            raise NoHeadError(
                f"head {line.head} was there, but its segment {text(line.head.segment)} is in no "
                "tar any more: cleanup removed it; `tarfailover log` shows what is still there"
            )
        return self.revision(line.head, line.time_ms)

    def close(self) -> None:
        """Let go of the files; nodes cannot be read any more."""
        self._snapshot.release()

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_repository(
    directory: str | Path, blobs: BlobStore | str | Path | None = None
) -> Repository:
    """Open the segment store in `directory` to read what is in it; see the module.

    `blobs` is where its external binaries are: a directory, or a blob store that is open.

    Raises NotAStoreError, UnsupportedStoreError, DamagedStoreError, StoreIOError,
    NoHeadError for a store without a head that is whole, and ConfigError for a directory
    of binaries of which one cannot see what it is.
    """
    path = Path(directory)
    store = open_blob_store(blobs) if isinstance(blobs, (str, Path)) else blobs
    # Measured first: what a head needs was on disk when its line was written.
    end = journal.size(path / lines.NAME)
    with Follower.open(path) as follower:
        head = follower.head()
        return Repository(follower.snapshot, path, head, end, store)


def checkpoints_of(super_root: Node) -> list[Checkpoint]:
    """The checkpoints that a state keeps, oldest first."""
    above = super_root.children.get(CHECKPOINTS)
    found = [_checkpoint(node) for node in above.children.values()] if above else []
    return sorted(found, key=lambda each: (each.created_ms or 0, each.name))


def _checkpoint(node: Node) -> Checkpoint:
    info = node.children.get("properties")
    noted = info.properties.values() if info is not None else ()
    return Checkpoint(
        node.name,
        _milliseconds_in(node, "created"),
        _milliseconds_in(node, "timestamp"),
        {each.name: each.texts[0] for each in noted if each.kind == "STRING"},
        node,
    )


def _milliseconds_in(node: Node, name: str) -> int | None:
    found = node.properties.get(name)
    value = found.value if found is not None and found.kind == "LONG" else None
    return value if isinstance(value, int) else None


def moment(time_ms: int | None) -> dt.datetime | None:
    """Milliseconds since 1970 as a time in UTC; None for None and for what no calendar has."""
    if time_ms is None:
        return None
    try:
        return _EPOCH + dt.timedelta(milliseconds=time_ms)
    except OverflowError:
        return None


def milliseconds(when: dt.datetime) -> int:
    """`when` (without a zone: UTC) in milliseconds since 1970."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=dt.timezone.utc)
    return (aware - _EPOCH) // dt.timedelta(milliseconds=1)


def _time(written: str) -> dt.datetime:
    try:
        # Before Python 3.11 a final Z was not understood.
        return dt.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", written))
    except ValueError as error:
        raise NotFoundError(
            f"{written!r} names no state of the repository: give {FORMS}"
        ) from error
