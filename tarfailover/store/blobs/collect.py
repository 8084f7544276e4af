"""Removes the binaries that nothing in a segment store mentions any more: mark and sweep.

*Marked* is every binary that any segment in the tars mentions: all that the heads in the
journal and their checkpoints need, and what a slave has pulled for a head to come. It is
what Oak keeps. *Removed* is what is not marked, and was neither written nor asked for again
within a margin of time before the collection began.

It takes no lock of the segment store, so that its writer goes on: see `guard`. A crash
leaves what was not removed yet. Facts: blob stores, sections 5 and 6.3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np

from tarfailover.errors import ConfigError, ContentError, DamagedStoreError, FormatError
from tarfailover.format.tar import TarName
from tarfailover.ids import text
from tarfailover.store.blobs import guard
from tarfailover.store.blobs.needed import Mention, mentioned, needed
from tarfailover.store.blobs.store import BlobStore, Stored
from tarfailover.store.follower import Follower
from tarfailover.store.table import Array

BATCH = 256
"""Files that are removed before others get their turn."""
LOOKED_FOR = 1000
"""Binaries that are looked for to see whether this is the right store; then every 1000th."""
MERGED_AT = 10_000
"""Binaries that were marked later at which they are sorted among the others."""

REGISTERED = "repository-*"
"""Files in the root by which Oak instances tell that they use a FileDataStore."""


@dataclass
class Collected:
    """What a collection has seen and done."""

    files: int = 0
    bytes: int = 0
    needed: int = 0
    """Files that something mentions."""
    young: int = 0
    """Files that nothing mentions, and that are too new to be removed."""
    removed: int = 0
    """Or would be, if nothing is to be removed; with files that were on their way once."""
    removed_bytes: int = 0


class _Source:
    """A segment store, and how much of it was looked through."""

    def __init__(self, directory: Path) -> None:
        self.follower = Follower.open(directory)
        self.directory = directory
        self._names: tuple[TarName, ...] = ()
        self._count = 0

    def some_needed(self) -> Iterator[bytes]:
        """Ids of binaries that the head needs: the first ones, and then some of many."""
        head = self.follower.head().record.segment
        for number, mention in enumerate(needed(self.follower.snapshot, [head])):
            if number < LOOKED_FOR or not number % LOOKED_FOR:
                yield mention.blob

    def fresh(self) -> Iterator[Mention]:
        """What the segments mention that came since; of all, if a cleanup has moved them.

        Raises what following raises, and NoHeadError or DamagedStoreError for a store
        whose newest head cannot be used: what mends it may mention more.
        """
        snapshot = self.follower.refresh()
        head = self.follower.head()
        if head.skipped:
            raise DamagedStoreError(
                f"{self.directory}: the newest head of the journal cannot be used "
                f"({head.skipped[0]}); what it needs is not known, so nothing may be removed: "
                "restore what is missing first, or take that line out of journal.log"
            )
        names = tuple(reader.name for reader in snapshot.tars.readers)
        begin = self._count if names[: len(self._names)] == self._names else 0
        self._names, self._count = names, snapshot.count
        return mentioned(snapshot, np.arange(begin, snapshot.count))


class Collection:
    """One collection; to be closed, or used with ``with``."""

    def __init__(
        self, store: BlobStore, directories: Sequence[Path], *, began_ns: int, margin_s: float
    ) -> None:
        """Collect in `store` what none of the segment stores in `directories` mentions.

        `began_ns` is now, in nanoseconds since 1970; what changed within `margin_s`
        seconds before, or later, stays. Raises what opening a segment store raises.
        """
        self._store = store
        self._before = began_ns - int(margin_s * 1e9)
        self._sorted: Array = np.empty(0, "u8")
        self._fresh: set[int] = set()
        self.collected = Collected()
        self._sources: list[_Source] = []
        try:
            for directory in directories:
                self._sources.append(_Source(directory))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the segment stores."""
        for source in self._sources:
            source.follower.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def mark(self) -> None:
        """Look up all that is mentioned.

        Raises ContentError for an id that this store cannot have, BlobMissingError or
        DamagedStoreError for a list of blocks that cannot be read, ConfigError if it looks
        as if this were another repository's blob store; and what reading segments raises.
        """
        self._mark_fresh()
        self._refuse_doubt()

    def _refuse_doubt(self) -> None:
        chosen = [raw for source in self._sources for raw in source.some_needed()]
        digests = [each for raw in chosen for each in self._store.digests(self._store.parse(raw))]
        found = sum(map(self._store.holds, digests))
        # Instances of one product share much, but hardly half of everything.
        if 0 < len(digests) <= 2 * found or next(self._store.files(), None) is None:
            return
        told = ", ".join(str(source.directory) for source in self._sources)
        looked = f"of {len(digests):,} that were looked for, {found:,} are there"
        what = looked if digests else "its head mentions none"
        raise ConfigError(
            f"{self._store.path} does not have the binaries that {told} needs ({what}): it looks "
            "like the blob store of another repository, and nothing was removed"
        )

    def _keys(self, source: _Source, mention: Mention) -> list[int]:
        """The files of a binary, each by the first 64 bits of its digest.

        Two that agree in these are both kept.
        """
        try:
            blob = self._store.parse(mention.blob)
        except FormatError as error:
            raise ContentError(
                f"{source.directory}: segment {text(mention.segment)} mentions a binary of which "
                f"one cannot say where it is ({error.what}), so nothing was removed"
            ) from error
        digests = self._store.all_digests(blob)
        return [int(digest[:16], 16) for digest in digests]

    def _mark_fresh(self) -> None:
        """Look up what has come since the last time."""
        found = array("Q", self._fresh)
        for source in self._sources:
            for mention in source.fresh():
                found.extend(self._keys(source, mention))
        if len(found) < MERGED_AT:
            self._fresh = set(found)
        else:
            more = np.frombuffer(found, "u8")
            self._sorted, self._fresh = np.unique(np.concatenate([self._sorted, more])), set()

    def _is_marked(self, digest: str) -> bool:
        key = int(digest[:16], 16)
        place = int(np.searchsorted(self._sorted, np.uint64(key)))
        return key in self._fresh or (place < len(self._sorted) and int(self._sorted[place]) == key)

    def sweep(self, *, dry_run: bool = False) -> Iterator[Stored]:
        """Remove what is not marked; yields each file that was removed, or would be.

        Raises as `mark`, and StoreIOError, StoreLockedError.
        """
        garbage = self._garbage()
        if dry_run:
            yield from map(self._counted, garbage)
            yield from map(self._counted, self._old_partials())
            return
        self._refuse_registered()
        while batch := list(islice(garbage, BATCH)):
            self._mark_fresh()
            with guard.removing(self._store.path):
                self._mark_fresh()
                chosen = (each for each in batch if not self._is_marked(each.digest))
                removed = [each for each in chosen if self._store.remove(each, self._before)]
            yield from map(self._counted, removed)
        for each in self._old_partials():
            if self._store.remove_partial(each):
                yield self._counted(each)

    def _refuse_registered(self) -> None:
        names = registered(self._store)
        if names:
            them = "it" if len(names) == 1 else f"all {len(names)} of them"
            raise ConfigError(
                f"{self._store.path / names[0]} says that an Oak instance uses this blob store; it "
                "collects garbage by itself, and knows what others need. If that file was only "
                f"copied with the store, remove {them} and try again"
            )

    def _old_partials(self) -> Iterator[Stored]:
        return (each for each in self._store.partials() if each.changed_ns <= self._before)

    def _counted(self, each: Stored) -> Stored:
        self.collected.removed += 1
        self.collected.removed_bytes += each.size
        return each

    def _garbage(self) -> Iterator[Stored]:
        for each in self._store.files():
            self.collected.files += 1
            self.collected.bytes += each.size
            if self._is_marked(each.digest):
                self.collected.needed += 1
            elif each.changed_ns > self._before:
                self.collected.young += 1
            else:
                yield each


def registered(store: BlobStore) -> list[str]:
    """The names of files by which Oak instances say that they use the store, and collect in it."""
    return sorted(path.name for path in store.path.glob(REGISTERED) if path.is_file())
