"""Segments that a head needs and that are in no tar: found, and written into a tar of their own.

They must stand before those that refer to them. A tar that is gone leaves a gap among the
numbers: there its segments go again. Where there is no gap, the first tar that refers to them is
written anew with them in front of the segment that does. Facts: storage format, section 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tarfailover.errors import FormatError, SegmentMissingError
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import TarName
from tarfailover.ids import SegmentId, is_bulk, text
from tarfailover.store import blobids, closure
from tarfailover.store.cleanup.rewrite import Rewrite
from tarfailover.store.directory import UNFINISHED
from tarfailover.store.durable import Disk
from tarfailover.store.intake import Arrival, checked, with_blobs
from tarfailover.store.opentar import Incoming, OpenTar
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader

AT_ONCE = 256
"""Segments that are asked for at once: at most 64 MiB."""
STEP = 16 * 1024 * 1024
"""Bytes of a tar that are copied at once."""
MOST = 1_000_000
"""Segments that are restored; who lacks more is copied anew."""

Get = Callable[[Sequence[SegmentId]], dict[SegmentId, Arrival]]
"""Fetches segments; what the other side does not have whole is left out."""
References = dict[SegmentId, tuple[SegmentId, ...]]
"""From segments to those in their reference tables."""


def lacking(snapshot: Snapshot, head: SegmentId, get: Get) -> References:
    """What the closure of `head` lacks in `snapshot`, and its references; these first.

    Data segments that are missing are looked at, because they may refer to more. Raises
    SegmentMissingError if one cannot be had.
    """
    edges: References = {}
    wanted = [each.segment for each in closure.walk(snapshot, [head]).missing]
    while wanted:
        more: dict[SegmentId, None] = {}
        for each in _fetched([one for one in wanted if not is_bulk(one)], get):
            edges[each.segment] = each.references
            more.update(dict.fromkeys(each.references))
        edges.update({one: () for one in wanted if is_bulk(one)})
        if len(edges) > MOST:
            raise SegmentMissingError(
                f"more than {MOST:,} segments are missing: empty the directory, and copy it anew"
            )
        unknown = [one for one in more if one not in edges]
        inside = [each for each in unknown if snapshot.contains(each)]
        wanted = [each for each in unknown if not snapshot.contains(each)]
        found = closure.walk(snapshot, inside).missing
        wanted += [each.segment for each in found if each.segment not in edges]
    return {segment: edges[segment] for segment in _references_first(edges)}


def _references_first(edges: References) -> Iterator[SegmentId]:
    entered: set[SegmentId] = set()
    for root, below in edges.items():
        path = [(root, iter(below))] if root not in entered else []
        entered.add(root)
        while path:
            segment, targets = path[-1]
            target = next((one for one in targets if one in edges and one not in entered), None)
            if target is None:
                path.pop()
                yield segment
            else:
                entered.add(target)
                path.append((target, iter(edges[target])))


def _fetched(ids: Sequence[SegmentId], get: Get) -> Iterator[Incoming]:
    """The segments `ids`, verified; raises SegmentMissingError if one cannot be had."""
    for first in range(0, len(ids), AT_ONCE):
        batch = ids[first : first + AT_ONCE]
        arrived = get(batch)
        for segment in batch:
            if segment not in arrived:
                raise SegmentMissingError(
                    f"segment {text(segment)} is missing here, and the other side does not have "
                    "it whole"
                )
            try:
                yield checked(arrived[segment])
            except FormatError as error:
                raise SegmentMissingError(f"segment {text(segment)}: {error}") from error


class Group(NamedTuple):
    """Missing segments that belong to one place."""

    tar: int | None
    """The first tar in which something refers to them, directly or not; None if nothing does."""
    above: int
    """The highest number of a tar in which something is to which they refer; -1 for none."""
    ids: list[SegmentId]
    """References first."""


def groups(snapshot: Snapshot, lost: References) -> list[Group]:
    """The segments of `lost`, by where they belong in `snapshot`."""
    first = _first_referrers(snapshot, lost)
    for segment in reversed(lost):  # referrers first: what they need belongs as far in front
        if segment in first:
            for each in lost[segment]:
                if each in lost:
                    first[each] = min(first.get(each, first[segment]), first[segment])
    found: dict[int | None, list[SegmentId]] = {}
    for segment in lost:
        found.setdefault(first.get(segment), []).append(segment)
    return [Group(tar, _above(snapshot, lost, ids), ids) for tar, ids in found.items()]


def _first_referrers(snapshot: Snapshot, lost: References) -> dict[SegmentId, int]:
    first: dict[SegmentId, int] = {}
    for tar, reader in enumerate(snapshot.tars.readers):
        for row in reader.graph().values():
            for at in range(0, len(row), 16):
                target = bytes(row[at : at + 16])
                if target in lost:
                    first.setdefault(target, tar)
    return first


def _above(snapshot: Snapshot, lost: References, ids: Sequence[SegmentId]) -> int:
    targets = {target for segment in ids for target in lost[segment] if target not in lost}
    ranks = filter(lambda rank: rank >= 0, map(snapshot.find, targets))
    return max((snapshot.tars.readers[snapshot.tar_of(r)].name.number for r in ranks), default=-1)


def gap(names: Iterable[TarName], above: int, below: int) -> int | None:
    """The highest free number between `above` and `below`; None if there is none."""
    taken = {name.number for name in names}
    return next((one for one in range(below - 1, above, -1) if one not in taken), None)


class Writing(NamedTuple):
    """What missing segments are written with."""

    get: Get
    read: blobids.Read
    """Gives segments of the store, for long blob ids."""
    disk: Disk
    mtime: int


def write(directory: Path, number: int, ids: Sequence[SegmentId], by: Writing) -> TarName:
    """Write a tar of the segments `ids`; it has its name only when it is whole and synced.

    Raises SegmentMissingError, StoreIOError.
    """
    name = TarName(number)
    made = OpenTar.create(directory, name, by.disk, suffix=UNFINISHED)
    try:
        for incoming in _fetched(ids, by.get):
            made.append([with_blobs(incoming, by.read)], by.mtime)
        made.seal(by.mtime)
    except BaseException:
        made.discard()
        raise
    made.close()
    by.disk.rename(made.path, directory / str(name))
    return name


def write_between(
    reader: TarReader, entries: Sequence[IndexEntry], ids: Sequence[SegmentId], by: Writing
) -> TarName:
    """Write the tar of `reader` anew with the segments `ids` before the first that refers to them.

    Raises SegmentMissingError, StoreIOError, and DamagedStoreError if one of its own is damaged.
    """
    cut = _first_referring(reader, entries, set(ids))
    rewrite = Rewrite(reader, entries[:cut], by.disk, by.read)
    rewrite.kept = len(entries)
    try:
        while not rewrite.copy(STEP, by.mtime):
            pass
        for incoming in _fetched(ids, by.get):
            rewrite.put([with_blobs(incoming, by.read)], entries[cut:], by.mtime)
        while not rewrite.copy(STEP, by.mtime):
            pass
        made = rewrite.finish(by.mtime)
    except BaseException:
        rewrite.discard()
        raise
    try:
        by.disk.rename(made.path, rewrite.path)
        by.disk.remove(reader.path)
    finally:
        made.release()
    return rewrite.name


def _first_referring(
    reader: TarReader, entries: Sequence[IndexEntry], wanted: set[SegmentId]
) -> int:
    """The place of the first of `entries` that refers to one of `wanted`; 0 if none does."""
    graph = reader.graph()
    for place, entry in enumerate(entries):
        row = graph.get(entry.segment, b"")
        if not wanted.isdisjoint(bytes(row[at : at + 16]) for at in range(0, len(row), 16)):
            return place
    return 0
