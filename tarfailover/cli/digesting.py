"""The comparison of a store with its master's by digests: what `verify` does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from tarfailover.cli.peer import Answer, Peer
from tarfailover.cli.stranger import refuse_stranger
from tarfailover.cli.wording import many
from tarfailover.errors import ConfigError, FormatError, NoHeadError, ProtocolError
from tarfailover.format import journal
from tarfailover.format.blobid import shown
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK, TarName
from tarfailover.ids import SegmentId, text
from tarfailover.store import closure
from tarfailover.store.blobs.needed import needed
from tarfailover.store.blobs.store import BlobStore
from tarfailover.store.durable import Disk
from tarfailover.store.finding import Progress
from tarfailover.store.follower import Follower
from tarfailover.store.repair.blobs import damaged
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.look import TarLook
from tarfailover.store.repair.salvage import salvage
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.wire.digests import digest
from tarfailover.wire.messages import SALT_SIZE, ErrorCode, HeadIs

STEP = 16 * 1024 * 1024
"""Bytes of this side that are compared at a time."""
TOLD = 1000
"""Findings that are kept; the others are counted."""
CLOSING = 4
CLOSING_SECONDS = 0.5
"""How often, and how long, a tar is waited for that has some of its trailing entries."""
MISSING = 1_000_000
"""Segments that may be missing here before this is no comparison any more."""
_ITEM = np.dtype([("segment", "V16"), ("length", ">u4")])

HERE: Final = "here"
MASTER: Final = "master"
BOTH: Final = "both"
UNKNOWN: Final = "unknown"
Side = Literal["here", "master", "both", "unknown"]


class Found(NamedTuple):
    """One thing in which the two differ, or that is damaged."""

    side: Side
    """Where the damage is: unknown if both sides are whole and have other bytes."""
    kind: Literal["damaged", "different", "missing"]
    segment: str | None
    file: str | None
    """Of this side."""
    offset: int | None
    what: str


@dataclass
class State:
    """How far a comparison is; kept in the file of ``--resume``."""

    store: str
    master: str
    number: int = -1
    letter: str = ""
    offset: int = 0
    """All before this place was compared."""
    segments: int = 0
    bytes: int = 0
    """That both have."""
    alone: int = 0
    """Segments that the master does not have."""
    wire: int = 0
    """Bytes that came over the link."""
    blobs: str = ""
    """The last file of the blob store that was looked at."""
    binaries: int = 0
    """Files of the blob store that are whole."""
    findings: int = 0
    told: list[list[Any]] = field(default_factory=list)

    def place(self, name: TarName) -> int:
        """From which offset on the tar `name` is to be compared; -1 for not at all."""
        if name.number != self.number:
            return -1 if name.number < self.number else 0
        return self.offset if name.letter == self.letter else 0


def load(path: Path | None, store: Path, master: str) -> State:
    """The state in `path`, a new one if there is none; raises ConfigError."""
    fresh = State(str(store.absolute()), master)
    if path is None or not path.exists():
        return fresh
    try:
        state = State(**json.loads(path.read_text("utf-8")))
        list(map(Found._make, state.told))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: no state of a verification ({error}); name another file, or remove it"
        ) from error
    if (state.store, state.master) != (fresh.store, fresh.master):
        raise ConfigError(f"{path}: it is of {state.store} and {state.master}; name another file")
    return state


def save(path: Path, state: State) -> None:
    """Keep `state` in `path`, replacing what is there."""
    Disk().replace_file(path, json.dumps(asdict(state)).encode("utf-8"))


class Verification:
    """One comparison of the store in `directory` with that of `peer`; `run` once.

    Gives up after `seconds`; then `finished` is False, and `state` says where to go on.
    """

    def __init__(
        self,
        directory: Path,
        peer: Peer,
        state: State,
        blobs: BlobStore | None,
        *,
        seconds: float | None,
        rate: int,
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._peer = peer
        self.state = state
        self.finished = False
        self.head: HeadIs | None = None
        self.behind = 0
        """Segments of the master's head that are not here yet."""
        self._salt = os.urandom(SALT_SIZE)
        self._end = None if seconds is None else time.monotonic() + seconds
        self._rate = rate

    def run(self, progress: Progress, kept: Callable[[], None]) -> Iterator[Found]:
        """Everything found; `kept` is called when the state says a new place.

        Raises DivergedError if the master serves another repository.
        """
        with Follower.open(self._directory) as follower:
            snapshot = follower.snapshot
            refuse_stranger(self._directory, snapshot, self._peer)
            total = sum(reader.size() for reader in snapshot.tars.readers)
            before = 0
            for tar, reader in enumerate(snapshot.tars.readers):
                start = self.state.place(reader.name)
                if start >= 0:
                    look, lost = self._look(snapshot, tar, start)
                    looked = partial(_further, progress, before, total)
                    yield from map(self._count, self._tar(look, lost, looked))
                    kept()
                    if not look.done:
                        return
                before += reader.size()
            wire = self._peer.received
            yield from map(self._count, self._missing(snapshot, follower.no_head))
            self.state.wire += self._peer.received - wire
            if self._blobs is not None:
                yield from map(self._count, self._binaries(self._blobs, snapshot, kept))
                if self._late():
                    return
            self.finished = True

    def _count(self, found: Found) -> Found:
        self.state.findings += 1
        if len(self.state.told) < TOLD:
            self.state.told.append(list(found))
        return found

    def _look(self, snapshot: Snapshot, tar: int, start: int) -> tuple[TarLook, list[Found]]:
        """A look at a tar, whose index may be damaged."""
        reader = snapshot.tars.readers[tar]
        if reader.index is not None or _is_closed_by_now(reader):
            entries: Sequence[IndexEntry] = list(reader.entries())
            return TarLook(reader, entries, closed=True, at=start), []
        first, stop = snapshot.tar_ranks(tar)
        found = salvage(reader)
        if not found.closed:
            scanned = list(map(snapshot.table.entry, range(first, stop)))
            return TarLook(reader, scanned, closed=False, at=start), []
        fault = reader.index_fault
        what = f"its index cannot be used: {fault.what if fault else 'it is cut off'}"
        at = fault.offset if fault else reader.size()
        look = TarLook(reader, found.entries, closed=False, at=start)
        lost = [Found(HERE, "damaged", None, str(reader.name), at, what)]
        for hole in found.holes:
            what = f"{hole.stop - hole.start} bytes are no entry that can be read"
            lost.append(Found(HERE, "damaged", None, str(reader.name), hole.start, what))
        return look, lost

    # one tar

    def _tar(
        self, look: TarLook, lost: list[Found], looked: Callable[[int], None]
    ) -> Iterator[Found]:
        if not look.at:
            yield from lost
        while not look.done and not self._late():
            began, size = time.monotonic(), look.at
            yield from self._step(look)
            name = look.reader.name
            self.state.number, self.state.letter = name.number, name.letter
            self.state.offset = look.at
            looked(look.at)
            self._pace(look.at - size, began)

    def _late(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def _pace(self, size: int, began: float) -> None:
        """Wait until `size` bytes since `began` are not more than the rate allows."""
        if self._rate:
            time.sleep(max(0.0, began + size / self._rate - time.monotonic()))

    def _step(self, look: TarLook) -> Iterator[Found]:
        wanted = [entry.segment for entry in look.ahead(STEP)]
        wire = self._peer.received
        asked = self._peer.digests(wanted, self._salt) if wanted else dict
        own: dict[SegmentId, tuple[IndexEntry, bytes]] = {}

        def seen(entry: IndexEntry, block: memoryview) -> None:
            data = block[BLOCK : BLOCK + entry.length]
            own[entry.segment] = entry, digest(self._salt, data)

        damages = look.step(STEP, seen)
        theirs = asked()
        self.state.wire += self._peer.received - wire
        for damage in damages:
            yield self._damaged(damage, theirs)
        for segment, (entry, found) in own.items():
            told = theirs.get(segment)
            self.state.alone += told is None or _is_gone(told)
            if told == found:
                self.state.segments += 1
                self.state.bytes += entry.length
            elif told is not None and not _is_gone(told):
                yield self._differs(look, entry, told)

    def _damaged(self, damage: Damage, theirs: dict[SegmentId, Answer]) -> Found:
        segment = damage.entry.segment if damage.entry else None
        told = theirs.get(segment) if segment else None
        side: Side = HERE
        what = damage.what
        if told is not None and not isinstance(told, bytes):
            side = HERE if _is_gone(told) else BOTH
            what += f"; and on the master: {told.text}"
        named = text(segment) if segment else None
        return Found(side, "damaged", named, str(damage.tar), damage.offset, what)

    def _differs(self, look: TarLook, entry: IndexEntry, told: Answer) -> Found:
        name, where = text(entry.segment), (str(look.reader.name), entry.position)
        if isinstance(told, bytes):
            what = (
                f"segment {name} has other bytes here than on the master, and on each side those "
                "that its name says: one of both was written so"
            )
            return Found(UNKNOWN, "different", name, *where, what)
        return Found(MASTER, "damaged", name, *where, f"whole here, on the master: {told.text}")

    # what is not here

    def _missing(self, snapshot: Snapshot, no_head: NoHeadError | None) -> Iterator[Found]:
        head = snapshot.head
        if head is None:
            yield Found(HERE, "missing", None, journal.NAME, None, f"there is no head: {no_head}")
            return
        for why in head.skipped:
            what = f"a newer head cannot be used: {why}"
            yield Found(HERE, "missing", None, journal.NAME, None, what)
        lost = {each.segment for each in closure.walk(snapshot, [head.record.segment]).missing}
        self.head = self._peer.head_is(head.record)
        theirs: list[SegmentId] = []
        self._peer.listing(self.head.head.segment, partial(_absent, snapshot, theirs))
        if self.head.head == head.record:
            lost.update(theirs)
        else:
            self.behind = len(theirs)
        for segment in sorted(lost):
            what = f"segment {text(segment)}, which the head needs, is in no tar"
            yield Found(HERE, "missing", text(segment), None, None, what)

    def _binaries(
        self, blobs: BlobStore, snapshot: Snapshot, kept: Callable[[], None]
    ) -> Iterator[Found]:
        """The external binaries of this side: each is named after its digest."""
        for stored in blobs.files():
            if stored.name <= self.state.blobs:
                continue
            if self._late():
                return
            began = time.monotonic()
            what = damaged(blobs, stored, lambda _: None)
            if what:
                yield Found(HERE, "damaged", None, stored.name, None, what)
            self.state.binaries += not what
            self.state.blobs = stored.name
            kept()
            self._pace(stored.size, began)
        if snapshot.head is None:
            return
        for mention in needed(snapshot, [snapshot.head.record.segment]):
            try:
                there = not blobs.wanted(blobs.parse(mention.blob))
            except FormatError:
                there = False
            if not there:
                name = shown(mention.blob.decode("latin-1"))
                what = f"the binary {name}, which the head needs, is not there"
                yield Found(HERE, "missing", text(mention.segment), None, None, what)

    def verdict(self) -> str:
        """The outcome in a few words."""
        found = self.state.findings
        if found:
            return many(found, "difference")
        return "equal" if self.finished else "no difference until the time was over"


def _is_closed_by_now(reader: TarReader) -> bool:
    """Whether a tar that had no index has one now: its writer may be closing it."""
    for _ in range(CLOSING):
        if reader.load_index():
            return True
        if not salvage(reader).closed:
            return False
        time.sleep(CLOSING_SECONDS)
    return False


def _absent(snapshot: Snapshot, found: list[SegmentId], items: bytes) -> None:
    """Add to `found` what of the listed `items` is in no tar; raises ProtocolError."""
    rows = np.frombuffer(items, _ITEM)
    ids = rows[snapshot.find_all(rows["segment"].tobytes()) < 0]["segment"].tobytes()
    found += [ids[at : at + 16] for at in range(0, len(ids), 16)]
    if len(found) > MISSING:
        raise ProtocolError(
            f"the master lists more than {MISSING:,} segments that are not here: this is no copy "
            "of it, or one that has hardly begun"
        )


def _further(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _is_gone(told: Answer) -> bool:
    return not isinstance(told, bytes) and told.code == ErrorCode.SEGMENT_GONE
