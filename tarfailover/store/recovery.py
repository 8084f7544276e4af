"""What is done when a store is opened for writing after a crash.

Facts: storage format, sections 1.1, 1.2, 1.5 and 8. Oak copies a tar without an index
into a new file. Here the tar is sealed where it lies: what stands behind its last whole
entry was never acknowledged; it is put aside in a ``.bak`` file, unless it is only a
torn entry, and the trailing entries are written in its place. A crash in the middle
leaves a tar without an index again, with the same segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count, groupby
from pathlib import Path
from typing import NamedTuple

from isal.isal_zlib import crc32

from tarfailover.errors import FormatError, StoreError
from tarfailover.format import manifest, tar
from tarfailover.format import segment as segments
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId, is_bulk, text
from tarfailover.store import blobids
from tarfailover.store.directory import Choice, choose, release, tar_names, unfinished
from tarfailover.store.durable import Disk, told
from tarfailover.store.opentar import Incoming, OpenTar
from tarfailover.store.snapshot import Snapshot, snapshot_of
from tarfailover.store.tarreader import TarReader

TORN = tar.BLOCK + MAX_SEGMENT
"""Bytes that one torn entry can leave at a tar's end."""


class Recovered(NamedTuple):
    """The tars of a store, all with an index, and what was mended."""

    readers: list[TarReader]
    repairs: tuple[str, ...]


def write_manifest(directory: Path, disk: Disk) -> None:
    """State the current version, durably, unless the manifest does already."""
    path = directory / manifest.NAME
    if path.exists():
        with told("read", path):
            data = path.read_bytes()
        if b"store.version" in data and manifest.parse(data) == manifest.CURRENT:
            return
    disk.replace_file(path, manifest.encode())


def recover(directory: Path, disk: Disk, mtime: int) -> Recovered:
    """Give every tar of `directory` an index; `mtime` in seconds since 1970 for new entries.

    The lock must be held. Raises StoreIOError, UnsupportedStoreError.
    """
    readers: list[TarReader] = []
    repairs: list[str] = []
    for path in unfinished(directory):
        disk.remove(path)
        repairs.append(f"removed {path.name}, which a cleanup had begun to write")
    try:
        for _, letters in groupby(tar_names(directory), key=lambda name: name.number):
            choice = choose(directory, list(letters))
            if choice.winners[0].index is None:
                repairs += _mend(choice.winners, readers, disk, mtime)
            else:
                readers += choice.winners
                repairs += _remove_losers(directory, choice, disk)
        _settle(directory, readers, disk)
    except BaseException:
        release(readers)
        raise
    return Recovered(readers, tuple(repairs))


def _settle(directory: Path, readers: Iterable[TarReader], disk: Disk) -> None:
    """Sync what is there: Oak closes tars without, and a writer may have died before its sync.

    From now on heads may be acknowledged whose segments lie in there.
    """
    for reader in readers:
        disk.sync(reader.fileno(), reader.path)
    disk.sync_directory(directory)


def _remove_losers(directory: Path, choice: Choice, disk: Disk) -> list[str]:
    if choice.losers:
        # The winner must outlast a power failure before it is the only one.
        _settle(directory, choice.winners, disk)
    for name in choice.losers:
        disk.remove(directory / str(name))
    return [f"removed {name}, which {choice.winners[0].name} supersedes" for name in choice.losers]


def _mend(winners: list[TarReader], before: list[TarReader], disk: Disk, mtime: int) -> list[str]:
    """Seal the fullest of the letters without an index, with what only others hold.

    Adds it to the tars `before` it.
    """
    fullest = max(winners, key=lambda reader: reader.count)
    others = [reader for reader in winners if reader is not fullest]
    try:
        repairs = [str(fault) for reader in winners for fault in reader.faults]
        if fullest.count:
            repairs += _seal(fullest, others, before, disk, mtime)
            before.append(fullest)
        else:
            others.append(fullest)
        return repairs + [put_aside(reader, disk) for reader in others]
    finally:
        release(reader for reader in winners if reader not in before)


def _seal(
    reader: TarReader, others: list[TarReader], before: Sequence[TarReader], disk: Disk, mtime: int
) -> list[str]:
    notes: list[str] = []
    behind = reader.size() - reader.scan_end
    if behind > TORN or reader.damaged_end:
        notes.append(_keep_tail(reader, disk))
    open_tar = OpenTar.reopen(reader, disk)
    try:
        with _Sources([*others, reader], before) as sources:
            for entry in reader.scanned:
                blobs = sources.blobs(entry.segment, notes)
                open_tar.mention(entry.generation, entry.segment, blobs)
            for segment in _only_in(others, reader):
                open_tar.append([sources.incoming(segment, notes)], mtime)
        sealed = reader.count
        open_tar.seal(mtime)
    finally:
        open_tar.close()
    cut = f", cut off {behind} bytes of a torn end" if behind else ""
    return [*notes, f"sealed {reader.name} with {sealed} segments{cut}"]


class _Sources:
    """Reads segments by id out of a few open tars, and rarely out of all `before` them."""

    def __init__(self, readers: Sequence[TarReader], before: Sequence[TarReader]) -> None:
        self._snapshot = snapshot_of(readers)
        self._before = before
        self._older: Snapshot | None = None

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self._snapshot.release()
        if self._older is not None:
            self._older.release()

    def read(self, segment: SegmentId) -> bytes:
        """The data of `segment`; raises SegmentMissingError, DamagedStoreError."""
        if self._snapshot.contains(segment):
            return self._snapshot.read(segment)
        if self._older is None:
            self._older = snapshot_of(self._before)
        return self._older.read(segment)

    def incoming(self, segment: SegmentId, notes: list[str]) -> Incoming:
        """The segment, to be written once more."""
        data = self.read(segment)
        generation, references = segments.inspect(segment, data)
        blobs = self.blobs(segment, notes)
        crc = crc32(data)
        return Incoming(segment, crc, generation, references, blobs, len(data), [data])

    def blobs(self, segment: SegmentId, notes: list[str]) -> tuple[bytes, ...]:
        """The external blobs that `segment` mentions; a note if that cannot be told."""
        if is_bulk(segment):
            return ()
        data = self.read(segment)
        try:
            return blobids.mentioned(segment, data, segments.references(data), self.read)
        except (FormatError, StoreError) as error:
            notes.append(
                f"segment {text(segment)}: not all its external blobs can be told ({error}); "
                "run no garbage collection of the blob store before that is mended"
            )
            return ()


def _only_in(others: list[TarReader], reader: TarReader) -> list[SegmentId]:
    present = {entry.segment for entry in reader.scanned}
    found = dict.fromkeys(entry.segment for other in others for entry in other.scanned)
    return [segment for segment in found if segment not in present]


def _keep_tail(reader: TarReader, disk: Disk) -> str:
    """Save what is going to be cut off, where it is more than one torn entry."""
    data = reader.read(reader.scan_end, reader.size() - reader.scan_end)
    target = _free_name(reader.path)
    disk.replace_file(target, data)
    return f"kept the end of {reader.name}, which no scan can read, as {target.name}"


def put_aside(reader: TarReader, disk: Disk) -> str:
    """Take a tar of which no segment is needed out of the store; how that is told."""
    if reader.size() == 0:
        disk.remove(reader.path)
        return f"removed {reader.name}, which was empty"
    target = _free_name(reader.path)
    disk.rename(reader.path, target)
    return f"put {reader.name} aside as {target.name}: no segment of it is needed"


def _free_name(path: Path) -> Path:
    names = chain([f"{path.name}.bak"], (f"{path.name}.{n}.bak" for n in count(2)))
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())
