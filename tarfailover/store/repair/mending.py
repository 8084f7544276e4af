"""Puts what is right into its place in a tar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tarfailover.errors import DamagedStoreError, FormatError, StoreError, StoreIOError
from tarfailover.format import segment as segments
from tarfailover.format.binrefs import BinaryReferences
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import BLOCK
from tarfailover.ids import SegmentId, is_bulk
from tarfailover.store import blobids
from tarfailover.store.durable import Disk
from tarfailover.store.intake import Arrival
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.entries import extent, look_at, right_block, verified
from tarfailover.store.repair.look import TarLook
from tarfailover.store.repair.patch import Patch
from tarfailover.store.repair.trailing import Told, Trailing
from tarfailover.store.tarreader import TarReader


def mend_entry(
    reader: TarReader,
    damage: Damage,
    arrival: Arrival | None,
    disk: Disk,
    *,
    mtime: int,
    indexed: bool = True,
) -> None:
    """Mend the entry of `damage`, with what came for it if its data is lost.

    `mtime` is the time of a neighbour; `indexed` tells whether a valid index knows the entry. It
    is looked at once more before: what is whole by now is left alone. Raises FormatError,
    and writes nothing, if what came does not belong there; StoreIOError if the disk refuses.
    """
    entry = damage.entry
    if entry is None:
        raise ValueError("trailing entries are mended by mend_trailing")
    start, size = extent(entry)
    try:
        block = memoryview(reader.read(start, size))
    except StoreIOError:
        block = memoryview(b"")
    now, _ = look_at(reader.name, entry, block)
    if now is None:
        return
    data = bytes(block[BLOCK : BLOCK + entry.length])
    if now.lost:
        if arrival is None:
            raise FormatError("its data must come from another copy", 0)
        data = b"".join(verified(entry, block, arrival, indexed=indexed).chunks)
    right = right_block(entry, block, data, mtime)
    with Patch(reader, disk) as patch:
        patch.write(start, block, right)


def mend_trailing(look: TarLook, disk: Disk, read: blobids.Read) -> None:
    """Mend the trailing entries of a tar whose other entries are whole.

    `read` gives segments of the store, for blob ids that lie in another one. Raises FormatError if
    what should be there takes another room: then the tar has to be written anew.
    """
    reader, begin = look.reader, look.segments_end
    found = reader.read(begin, reader.size() - begin)
    trailing = Trailing(found, reader.name, look.entries)
    told = told_by(reader, look.entries, read) if trailing.needs_segments else Told({}, {})
    right = trailing.right(told)
    with Patch(reader, disk) as patch:
        patch.write(begin, found, right)


def told_by(reader: TarReader, entries: Sequence[IndexEntry], read: blobids.Read) -> Told:
    """What the segments of a tar say of references and blobs; raises DamagedStoreError."""
    rows: dict[SegmentId, bytes] = {}
    blobs: BinaryReferences = {}
    for entry, data in _data_segments(reader, entries):
        try:
            generation, references = segments.inspect(entry.segment, data)
            mentioned = blobids.mentioned(entry.segment, data, references, read)
        except (FormatError, StoreError) as error:
            raise DamagedStoreError(f"{reader.path}, offset {entry.position}: {error}") from error
        if references:
            rows[entry.segment] = b"".join(references)
        if mentioned:
            blobs.setdefault(generation, {})[entry.segment] = list(mentioned)
    return Told(rows, blobs)


def _data_segments(
    reader: TarReader, entries: Sequence[IndexEntry]
) -> Iterator[tuple[IndexEntry, bytes]]:
    for entry in entries:
        if not is_bulk(entry.segment):
            yield entry, reader.segment(entry)
