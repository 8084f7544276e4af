"""What a deep check has seen so far: done, damaged, in work, and found.

A record is *marked* when its check begins; whoever reaches it again goes on. It is
*tainted* when it, or something below it, is damaged; so whatever reaches a tainted record
is tainted too, and in the end it is known of each head whether it is whole. What is in
work when a check stops early loses its mark, and is checked again by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from tarfailover.errors import (
    BlobMissingError,
    DamagedStoreError,
    FormatError,
    SegmentMissingError,
    StoreIOError,
)
from tarfailover.format.segment import RECORD_TYPES
from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.repository import paths
from tarfailover.repository.commit import CHECKPOINTS, ROOT
from tarfailover.repository.deepcheck.marks import Marks
from tarfailover.repository.reader import RecordError, RecordReader
from tarfailover.store.snapshot import Snapshot

Role = Literal["node", "template", "text", "binary", "texts", "binaries", "map", "bulk"]
"""As what a record was checked: a VALUE that is a fine binary may be no text."""
ROLES: tuple[Role, ...] = get_args(Role)

DAMAGE = (FormatError, SegmentMissingError, BlobMissingError, DamagedStoreError, StoreIOError)
"""What reading raises where the store is damaged; the last for a disk that cannot be read."""

TOLD_PER_SEGMENT = 10
"""Damages told one by one for each segment; the rest is counted."""
MAX_TOLD = 10_000
"""Damages told one by one at all."""


class Damage(NamedTuple):
    """Something that cannot be read, or is not what the format says."""

    path: str
    """Of the node, the first that was found to need it."""
    part: str
    """Of the node: itself, a property, its children."""
    record: str
    """The record that is damaged or missing."""
    file: str | None
    """The tar, and in it the `offset` in bytes; of what refers to it if it is missing."""
    offset: int | None
    what: str
    lost: str
    """What cannot be read for that reason."""


@dataclass
class Counts:
    """What has been checked."""

    nodes: int = 0
    """Records of nodes: one that several paths share counts once, as all below."""
    properties: int = 0
    binary_bytes: int = 0
    external: int = 0
    """Binaries that lie in an external blob store."""
    external_bytes: int = 0
    """Bytes of them that were read and verified."""
    damages: int = 0


class OutOfTimeError(Exception):
    """The time that a check may take is over."""


class _Entered:
    """A record in work."""

    __slots__ = ("record", "role", "tainted")

    def __init__(self, role: Role, record: RecordId) -> None:
        self.role = role
        self.record = record
        self.tainted = False


class Books:
    """See the module."""

    def __init__(self) -> None:
        self.marked: dict[Role, Marks] = {role: Marks() for role in ROLES}
        self.tainted: dict[Role, Marks] = {role: Marks() for role in ROLES}
        self.counts = Counts()
        self.told: list[Damage] = []
        """Every damage that is told one by one, those of earlier runs too."""
        self.more: dict[str, int] = {}
        """Damages by segment; beyond the first few they are only counted."""
        self.names: list[str] = []
        """Those that lead to the node in work."""
        self.quiet = False
        """Whether damages only taint, and are neither told nor counted."""
        self.advanced = 0
        """Records finished in this run."""
        self._open: list[_Entered] = []
        self.finder: Finder | None = None
        """Tells damages where they lie."""

    def enter(self, role: Role, record: RecordId) -> bool:
        """Begin with `record` as `role`; False if that was done, or is in work."""
        if record in self.marked[role]:
            if record in self.tainted[role]:
                self.taint()
            return False
        self.marked[role].add(record)
        self._open.append(_Entered(role, record))
        return True

    def leave(self) -> None:
        """End with the record that was entered last."""
        self._open.pop()
        self.advanced += 1

    def is_clean(self, role: Role, record: RecordId) -> bool:
        """Whether `record` was checked, and nothing in it or below it is damaged."""
        return record in self.marked[role] and record not in self.tainted[role]

    def taint(self) -> None:
        """Remember of all that is in work that something below it is damaged."""
        for each in reversed(self._open):
            if each.tainted:
                return
            each.tainted = True
            self.tainted[each.role].add(each.record)

    def abandon(self) -> None:
        """Forget what is in work, so that it is checked again."""
        for each in self._open:
            self.marked[each.role].discard(each.record)
        self._open.clear()
        self.names.clear()

    def fault(self, part: str, record: RecordId, error: Exception, lost: str) -> None:
        """Note that `error` came up with `record`, which is `part` of the node in work."""
        self.taint()
        if self.quiet:
            return
        key = text(record.segment)
        known = self.more.get(key, 0)
        self.more[key] = known + 1
        self.counts.damages += 1
        if known < TOLD_PER_SEGMENT and len(self.told) < MAX_TOLD:
            place = self._where(record, error)
            self.told.append(
                Damage(told_path(self.names), part, str(record), *place, _what(error), lost)
            )

    def _where(self, record: RecordId, error: Exception) -> Place:
        if self.finder is None:
            return NOWHERE
        if isinstance(error, RecordError) and error.segment:
            return self.finder.segment(error.segment, error.offset)
        if not isinstance(error, SegmentMissingError):
            return self.finder.segment(record.segment)
        # Of what is missing, the place that refers to it.
        places = (self.finder.record(each.record) for each in reversed(self._open))
        return next((place for place in places if place.file), NOWHERE)

    def untold(self) -> dict[str, int]:
        """By segment, how many damages were counted and not told one by one."""
        shown: dict[str, int] = {}
        for each in self.told:
            segment = each.record.partition(":")[0]
            shown[segment] = shown.get(segment, 0) + 1
        left = {each: count - shown.get(each, 0) for each, count in self.more.items()}
        return {segment: count for segment, count in left.items() if count}


class Place(NamedTuple):
    """Where something lies: a tar and an offset in it."""

    file: str | None
    offset: int | None


NOWHERE = Place(None, None)


def _what(error: Exception) -> str:
    return error.what if isinstance(error, FormatError) else str(error)


def told_path(names: Sequence[str]) -> str:
    """The path of a node below the super root, as somebody would look it up."""
    if names[:1] == [ROOT]:
        return paths.shortened(paths.join(names[1:]))
    if names[:1] == [CHECKPOINTS] and names[2:3] == [ROOT]:
        return f"checkpoint {paths.escape(names[1])}, {paths.shortened(paths.join(names[3:]))}"
    return f"above /: {paths.shortened(paths.join(names))}"


class Finder:
    """Finds in which tar something lies, and where."""

    def __init__(self, snapshot: Snapshot, reader: RecordReader) -> None:
        self._snapshot = snapshot
        self._reader = reader

    def segment(self, segment: SegmentId, offset: int = 0) -> Place:
        """The place `offset` bytes behind the start of `segment`."""
        try:
            tar, entry = self._snapshot.entry(segment)
        except SegmentMissingError:
            return NOWHERE
        return Place(tar.path.name, entry.position + offset)

    def record(self, record: RecordId) -> Place:
        """The place of `record`; that of its segment if it cannot be found there."""
        try:
            parsed = self._reader.segment(record.segment)
            return self.segment(record.segment, parsed.locate(record.number, *_ANY_TYPE))
        except DAMAGE:
            return self.segment(record.segment)


_ANY_TYPE = range(len(RECORD_TYPES))


def wrong(reader: RecordReader, record: RecordId, what: str) -> Exception:
    """The error that `what` is wrong in `record`, or why that record cannot even be read."""
    try:
        return reader.fault(record, what)
    except DAMAGE as error:
        return error
