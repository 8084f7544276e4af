"""The external binaries of a copy: blocking, used from the slave's one thread.

What a head needs is what the binary references of its segments say. That is looked up once
for each segment, so that an increment costs what is new; all of it again after a start, and
after a cleanup, which renumbers the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tarfailover.config import SlaveConfig
from tarfailover.errors import DamagedStoreError, FormatError, StoreError, StoreIOError
from tarfailover.format import blobid
from tarfailover.ids import RecordId, SegmentId
from tarfailover.repository.holders import Holders, holders
from tarfailover.store import closure
from tarfailover.store.blobs import BlobStore, Incoming, open_blob_store
from tarfailover.store.blobs.incoming import settle
from tarfailover.store.blobs.missing import MAX_MISSING, NAME, Missing, MissingBlobs
from tarfailover.store.blobs.needed import mentioned
from tarfailover.store.durable import Disk
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter
from tarfailover.sync import Unit

LOOKED_UP = 2000
"""Binaries that are looked for in one call: some tenths of a second on a cold disk."""
STEP = 32 * 1024 * 1024
"""Bytes of earlier attempts that are read in one call."""
OPEN_FILES = 256
"""Files on their way that are kept open."""
SPARE = 64 * 1024 * 1024
"""Bytes of the file system that are left to others, as by a cleanup."""
MAX_REFUSED = 16 * 1024 * 1024
"""Characters of ids of unknown form, all together."""
LONGEST = 10_000
"""Characters of an id that is listed; those of a FileBlobStore can have 8192."""
ABANDONED = 24 * 3600.0
"""Seconds for which what has come of a binary is kept once nothing lacks it any more: another
copy with the same blob store may want it."""
SEARCH = 10.0
"""Seconds for finding the paths that need what is missing."""


class Look(Enum):
    """What is looked up."""

    NEW = "new"
    """What segments mention that were not looked at before."""
    AGAIN = "again"
    """That, and what is listed as missing."""
    ALL = "all"
    """All that the head mentions."""


class Chunk(NamedTuple):
    """Bytes of a file as they came."""

    blob: str
    offset: int
    data: bytes | bytearray


class Taken(NamedTuple):
    """What became of what was handed over."""

    stored: Sequence[str]
    spoiled: Mapping[str, str]
    """Files that were not what their ids say, and why."""
    more: Sequence[Unit]
    """What index blocks turned out to need."""
    unfinished: Sequence[str]
    """Files that want another call, so that none takes too long."""


class BlobCopy:
    """A blob store beside a copy; made by `open`."""

    def __init__(
        self, store: BlobStore, writer: StoreWriter, listed: MissingBlobs, *, shared: bool
    ) -> None:
        self.store = store
        self.shared = shared
        self.missing: Mapping[str, Missing] = listed.blobs
        """What the head lacks, by id; replaced, never changed."""
        self.checked_head: RecordId | None = None
        """The head of which all was found, or is listed as missing."""
        self._writer = writer
        self._disk = writer.disk
        self._listed = listed
        self._snapshot: Snapshot | None = None
        self._readers: tuple[TarReader, ...] = ()
        """The tars whose segments have the ranks of `_checked`."""
        self._checked = bytearray()
        """One byte a rank: 1 if what the segment mentions was looked up."""
        self._ranks = np.empty(0, "i8")
        self._count = 0
        self._again = self._whole = True
        """Whether what is listed is looked for again, and whether all of the head is."""
        self._ids: Iterator[str | bytes] = iter(())
        self._refused: dict[str, str] = {}
        self._refused_size = 0
        self._partials: dict[str, int] = {}
        self._open: dict[str, Incoming] = {}
        self._parts: dict[str, list[str]] = {}
        """By block, the binaries that it is a part of; where one is more than one file."""
        self._left: dict[str, int] = {}
        """Blocks that such a binary waits for."""
        self._depth: dict[str, int] = {}
        """How often such a binary turned out to need more, below its index blocks."""
        self._brought: set[str] = set()
        """Blocks of such binaries that came."""
        self._searched: tuple[object, Holders] = None, Holders()

    @classmethod
    def open(cls, config: SlaveConfig, writer: StoreWriter, disk: Disk) -> BlobCopy | None:
        """The blob store of `config`, None if it names none.

        Raises NotAStoreError, ConfigError, DamagedStoreError, StoreIOError.
        """
        if not config.blob_store:
            return None
        shared = config.blob_store_shared
        path = Path(config.blob_store)
        listed = MissingBlobs.load(writer.directory)
        _refuse_vanished(listed, path, writer.directory)
        kind = config.blob_store_kind
        store = open_blob_store(path, kind, create=not shared, disk=disk)
        return cls(store, writer, listed, shared=shared)

    # looking up

    def begin(self, head: SegmentId, look: Look) -> None:
        """Look up what the closure of `head` mentions, and what is listed, as `look` says."""
        self.end()
        _refuse_vanished(self._listed, self.store.path, self._writer.directory)
        self._snapshot = snapshot = self._writer.snapshot()
        readers = snapshot.tars.readers
        if look is Look.ALL or readers[: len(self._readers)] != self._readers:
            self._checked = bytearray()
        self._count, self._readers = snapshot.count, readers
        self._whole, self._again = not self._checked, look is not Look.NEW
        self._ranks = closure.walk(snapshot, [head], self._checked).ranks
        self._partials = {each.digest: each.size for each in self.store.partials()}
        again: Iterable[str] = list(self.missing) if self._again and not self._whole else ()
        self._ids = chain(again, self._mentions(snapshot))
        self._refused, self._refused_size = {}, 0
        self._parts, self._left, self._depth, self._brought = {}, {}, {}, set()

    def _mentions(self, snapshot: Snapshot) -> Iterator[bytes]:
        for mention in mentioned(snapshot, self._ranks):
            yield mention.blob

    def look(self) -> list[Unit] | None:
        """What is lacking of the next ids; None if all were looked up."""
        ids = list(islice(self._ids, LOOKED_UP))
        return [unit for raw in ids for unit in self._lacking(raw)] if ids else None

    def _lacking(self, raw: str | bytes) -> list[Unit]:
        try:
            blob = self.store.parse(raw)
        except FormatError as error:
            self._refuse(raw if isinstance(raw, str) else raw.decode("utf-8", "replace"), error)
            return []
        if blob.text in self._left:
            return []
        units = self.store.wanted(blob)
        again = not self._brought.isdisjoint(unit.text for unit in units)
        if again or (units and self._depth.get(blob.text, 0) > blobid.MAX_DEPTH):
            # It came, and is what its digest says, and still there is no reading it.
            self._refused[blob.text] = "its index blocks are not what its id says"
            return []
        if units and units != [blob]:
            self._left[blob.text] = len(units)
            for unit in units:
                self._parts.setdefault(unit.text, []).append(blob.text)
        return [Unit(unit.text, unit.length, self._come(unit.text, unit.length)) for unit in units]

    def _refuse(self, blob: str, error: FormatError) -> None:
        """Remember an id of unknown form; raises DamagedStoreError for too many of them."""
        self._refused[blob] = error.what
        self._refused_size += len(blob)
        if len(self._refused) > MAX_MISSING or self._refused_size > MAX_REFUSED:
            layout = self.store.layout
            raise DamagedStoreError(
                f"{len(self._refused)} ids of binaries are none of a {layout.what}, such as "
                f"{blobid.shown(blob)}; is blob_store_kind {layout.kind!r} right?"
            )

    def _come(self, blob: str, size: int | None) -> int:
        """Bytes of it that are here; of a file whose size nobody knows none are believed."""
        (block,) = self.store.parse(blob).parts
        return 0 if isinstance(block, bytes) or not size else self._partials.get(block.digest, 0)

    # taking in

    def take(self, chunks: Sequence[Chunk], complete: Sequence[str]) -> Taken:
        """Write what came, then verify and store what is complete; raises StoreError."""
        spoiled: dict[str, str] = {}
        if chunks:
            self._check_room(sum(len(chunk.data) for chunk in chunks))
        for chunk in chunks:
            self._write(chunk)
        checked: dict[str, Incoming] = {}
        unfinished: Sequence[str] = ()
        for place, blob in enumerate(complete):
            incoming = self._incoming(blob)
            if not incoming.catch_up(STEP):
                unfinished = complete[place:]
                break
            try:
                incoming.check()
            except FormatError as error:
                spoiled[blob] = error.what
                self._open.pop(blob).discard()
            else:
                checked[blob] = incoming
        settle(list(checked.values()))
        for blob in checked:
            del self._open[blob]
        more = [unit for blob in checked for unit in self._below(blob)]
        return Taken(list(checked), spoiled, more, unfinished)

    def _check_room(self, size: int) -> None:
        """Leave some space to others, above all to the segments; raises StoreIOError."""
        path = self.store.path
        free = self._disk.free(next(each for each in (path, *path.parents) if each.exists()))
        if free < size + SPARE:
            raise StoreIOError(
                f"{path}: {free} bytes are free here, of which {SPARE} are left to others; free "
                "some: binaries are to come, and go on where they are"
            )

    def _write(self, chunk: Chunk) -> None:
        incoming = self._incoming(chunk.blob)
        if incoming.offset != chunk.offset:
            # Only a file whose earlier part is not wanted is written from another place on.
            incoming.restart()
        # Where a master has more than the id says, the end of its answer says so too.
        incoming.write(memoryview(chunk.data)[: incoming.limit - incoming.offset])

    def _incoming(self, blob: str) -> Incoming:
        known = self._open.pop(blob, None)
        while known is None and len(self._open) >= OPEN_FILES:
            self._open.pop(next(iter(self._open))).close()
        self._open[blob] = known or self.store.incoming(self.store.parse(blob))
        return self._open[blob]

    def _below(self, block: str) -> list[Unit]:
        """What the binaries need for which `block` was the last one that was known."""
        found: list[Unit] = []
        for blob in self._parts.pop(block, ()):
            self._brought.add(block)
            self._left[blob] -= 1
            if not self._left[blob]:
                del self._left[blob]
                self._depth[blob] = self._depth.get(blob, 0) + 1
                found += self._lacking(blob)
        return found

    def end(self) -> None:
        """Let go of all; what has come of a file stays for the next attempt."""
        self._ids = iter(())
        for incoming in self._open.values():
            incoming.close()
        self._open = {}
        if self._snapshot is not None:
            self._snapshot.release()
            self._snapshot = None

    # what is missing

    def settle(
        self, head: RecordId, lacking: Mapping[str, str], seconds: Callable[[], float]
    ) -> Mapping[str, Missing]:
        """What `head` lacks, with the paths that need it, once nothing more can be brought.

        `lacking` are files and why they cannot be had. Nothing is kept yet: see `keep`.
        Raises DamagedStoreError if it is not some binaries that are missing, but all.
        """
        why = dict(self._refused)
        for unit, reason in lacking.items():
            why.update(dict.fromkeys(self._parts.get(unit, [unit]), reason))
        self._doubt(len(why))
        # Of what is only looked for again it is known who needs it.
        known = {} if self._whole else self.missing
        found = self._search(head, why.keys() - known.keys(), seconds)
        missing = {} if self._whole or self._again else dict(self.missing)
        for blob, reason in why.items():
            before = self.missing.get(blob)
            since = before.since if before else seconds()
            listed = tuple(found.paths.get(blob, ()))
            unneeded = found.complete and not listed
            if blob in known:
                listed, unneeded = known[blob].paths, known[blob].unneeded
            missing[_cut(blob)] = Missing(reason, listed, unneeded, since)
        return missing

    def _doubt(self, count: int) -> None:
        path = self.store.path
        if count and self.shared and not _holds_anything(path):
            raise DamagedStoreError(f"{path}: this blob store is empty; is its disk mounted?")
        if count > MAX_MISSING:
            raise DamagedStoreError(
                f"{count} binaries are missing, and {MAX_MISSING} can be listed: is the master's "
                "blob_store the one of its repository?"
            )

    def _search(
        self, head: RecordId, blobs: Collection[str], seconds: Callable[[], float]
    ) -> Holders:
        """The paths of `blobs` in `head`; of the same question the same answer."""
        key = head, frozenset(blobs)
        if not blobs or self._searched[0] == key:
            return self._searched[1] if blobs else Holders()
        until = seconds() + SEARCH
        try:
            with self._writer.snapshot() as snapshot:
                found = holders(snapshot, head, blobs, lambda: seconds() < until)
        except (FormatError, StoreError):
            # What is damaged is for `check --deep` to tell; here it hides some paths.
            found = Holders()
        self._searched = key, found
        return found

    def keep(self, head: RecordId, missing: Mapping[str, Missing]) -> None:
        """All that `head` needs is here, or is in `missing`: remember it, durably."""
        self.end()
        own = not self.shared and _holds_anything(self.store.path)
        listed = MissingBlobs(str(self.store.path) if own else "", dict(missing))
        if listed != self._listed:
            listed.save(self._writer.directory, self._disk)
            self._listed = listed
        marks = np.zeros(self._count, "u1")
        marks[: len(self._checked)] = np.frombuffer(self._checked, "u1")
        marks[self._ranks] = 1
        self._checked = bytearray(marks.tobytes())
        self.missing, self.checked_head = listed.blobs, head

    def drop_abandoned(self, now: float) -> int:
        """Remove what came long ago of binaries that the head does not lack; how many.

        A head that needed one is gone. Raises StoreIOError.
        """
        if self.shared or self.missing or not self._partials:
            return 0
        before = (now - ABANDONED) * 1e9
        old = [each for each in self.store.partials() if each.changed_ns <= before]
        return sum(map(self.store.remove_partial, old))


def _cut(blob: str) -> str:
    """An id as it is listed: one that is no id may be of any length."""
    return blob if len(blob) <= LONGEST else blob[:LONGEST] + "…"


def _refuse_vanished(listed: MissingBlobs, path: Path, directory: Path) -> None:
    """Raise DamagedStoreError if the binaries of a copy were in `path`, which is empty now."""
    if listed.blob_store == str(path) and not _holds_anything(path):
        # An empty directory is where a disk is not mounted any more, on another disk.
        raise DamagedStoreError(
            f"{path}: the binaries of this copy were here and are gone; is their disk mounted? "
            f"To bring all of them anew, remove {directory / NAME}"
        )


def _holds_anything(path: Path) -> bool:
    try:
        return any(True for _ in path.iterdir())
    except OSError:
        return False
