"""Segments that a head needs and that are in no tar: found, and written into a tar of their own.

A tar that is gone leaves a gap among the numbers: there its segments go again, so that they stand
before those that refer to them, as they did. Facts: storage format, section 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tarfailover.errors import FormatError, SegmentMissingError
from tarfailover.format.tar import TarName
from tarfailover.ids import SegmentId, is_bulk, text
from tarfailover.store import blobids, closure
from tarfailover.store.directory import UNFINISHED
from tarfailover.store.durable import Disk
from tarfailover.store.intake import Arrival, checked, with_blobs
from tarfailover.store.opentar import Incoming, OpenTar
from tarfailover.store.snapshot import Snapshot

AT_ONCE = 256
"""Segments that are asked for at once: at most 64 MiB."""
MOST = 1_000_000
"""Segments that are restored; who lacks more is copied anew."""

Get = Callable[[Sequence[SegmentId]], dict[SegmentId, Arrival]]
"""Fetches segments; what the other side does not have whole is left out."""


def lacking(snapshot: Snapshot, head: SegmentId, get: Get) -> list[SegmentId]:
    """What the closure of `head` lacks in `snapshot`, references first.

    Data segments that are missing are looked at, because they may refer to more. Raises
    SegmentMissingError if one cannot be had.
    """
    edges: dict[SegmentId, tuple[SegmentId, ...]] = {}
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
    return list(_references_first(edges))


def _references_first(edges: dict[SegmentId, tuple[SegmentId, ...]]) -> Iterator[SegmentId]:
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


def gap(names: Iterable[TarName], referrer: TarName | None) -> int:
    """The number of the tar for what is missing.

    The highest free one below that of a tar which refers to it, if there is one; else behind all.
    """
    taken = {name.number for name in names}
    below = range(referrer.number - 1, -1, -1) if referrer else ()
    return next((one for one in below if one not in taken), max(taken, default=-1) + 1)


def write(
    directory: Path,
    number: int,
    ids: Sequence[SegmentId],
    get: Get,
    read: blobids.Read,
    disk: Disk,
    mtime: int,
) -> TarName:
    """Write a tar of the segments `ids`; it has its name only when it is whole and synced.

    `read` gives segments of the store, for long blob ids. Raises SegmentMissingError, StoreIOError.
    """
    name = TarName(number)
    made = OpenTar.create(directory, name, disk, suffix=UNFINISHED)
    try:
        for incoming in _fetched(ids, get):
            made.append([with_blobs(incoming, read)], mtime)
        made.seal(mtime)
    except BaseException:
        made.discard()
        raise
    made.close()
    disk.rename(made.path, directory / str(name))
    return name
