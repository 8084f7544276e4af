"""Which external binaries a head needs.

Facts: storage format, section 3.3; blob stores, section 4. They are told by the binary
references of the tars, and where a tar has none yet by its segments. All that the closure
of the head mentions counts, whatever it is for: content, checkpoints, nodes that are only
called so, and what its segments hold beside that. It is what Oak's own collector keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tarfailover.errors import DamagedStoreError, FormatError
from tarfailover.ids import SegmentId
from tarfailover.store import blobids, closure
from tarfailover.store.closure import Ranks
from tarfailover.store.snapshot import Snapshot

_DATA = 0xA
"""The nibble of an id that tells a data segment."""


class Mention(NamedTuple):
    """An external binary, and a segment that mentions it."""

    blob: bytes
    """The id as it is written: nothing about it is checked."""
    segment: SegmentId


def needed(snapshot: Snapshot, heads: Iterable[SegmentId]) -> Iterator[Mention]:
    """The binaries that the closures of the segments `heads` mention.

    Raises as `mentioned`. What is missing of a closure is passed over: see `closure.walk`.
    """
    return mentioned(snapshot, closure.walk(snapshot, heads).ranks)


def mentioned(snapshot: Snapshot, ranks: Ranks) -> Iterator[Mention]:
    """The binaries that the segments at `ranks` mention, tar by tar, in each every id once.

    Raises DamagedStoreError for a segment that cannot be read or looked through,
    SegmentMissingError for a long id of which a part is missing, and StoreIOError.
    """
    wanted = np.zeros(snapshot.count, "?")
    wanted[ranks] = True
    for tar in range(len(snapshot.tars.readers)):
        first, stop = snapshot.tar_ranks(tar)
        if wanted[first:stop].any():
            yield from _once(_in_tar(snapshot, tar, wanted))


def _once(found: Iterable[Mention]) -> Iterator[Mention]:
    seen: set[bytes] = set()
    for each in found:
        if each.blob not in seen:
            seen.add(each.blob)
            yield each


def _in_tar(snapshot: Snapshot, tar: int, wanted: Ranks) -> Iterator[Mention]:
    reader = snapshot.tars.readers[tar]
    try:
        listed = reader.binary_references()
    except FormatError:
        # There is no list yet, or it is damaged: the segments tell as well.
        yield from _in_segments(snapshot, tar, wanted)
        return
    first, stop = snapshot.tar_ranks(tar)
    for by_segment in listed.values():
        for segment, blobs in by_segment.items():
            if first <= snapshot.find(segment) < stop and wanted[snapshot.find(segment)]:
                yield from (Mention(blob, segment) for blob in blobs)


def _in_segments(snapshot: Snapshot, tar: int, wanted: Ranks) -> Iterator[Mention]:
    first, stop = snapshot.tar_ranks(tar)
    kinds = snapshot.table.columns(first, stop).lsb >> np.uint64(60)
    for rank in (first + np.flatnonzero(wanted[first:stop] & (kinds == _DATA))).tolist():
        segment = snapshot.segment(rank)
        data = snapshot.read(segment)
        try:
            found = blobids.mentioned(segment, data, snapshot.references(segment), snapshot.read)
        except FormatError as error:
            reader, entry = snapshot.entry(segment)
            raise DamagedStoreError(
                f"{error.within(str(reader.path), entry.position)}; "
                "restore the file from a copy of the store"
            ) from error
        yield from (Mention(blob, segment) for blob in found)
