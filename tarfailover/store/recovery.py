"""What is done when a store is opened for writing after a crash.

Facts: storage format, sections 1.1, 1.2, 1.5 and 8. Oak copies a tar without an index
into a new file. Here the tar is sealed where it lies: what stands behind its last whole
entry was never acknowledged; it is put aside in a ``.bak`` file, unless it is only a
torn entry, and the trailing entries are written in its place. A crash in the middle
leaves a tar without an index again, with the same segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tarfailover.format import manifest, tar
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId
from tarfailover.store.directory import Choice, choose, tar_names
from tarfailover.store.durable import Disk, told
from tarfailover.store.intake import Arrival, verify
from tarfailover.store.opentar import Incoming, OpenTar
from tarfailover.store.snapshot import Snapshot, tars_of
from tarfailover.store.table import Columns, SegmentTable
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
    try:
        for _, letters in groupby(tar_names(directory), key=lambda name: name.number):
            choice = choose(directory, list(letters))
            if choice.winners[0].index is None:
                repairs += _mend(choice.winners, readers, disk, mtime)
            else:
                readers += choice.winners
                repairs += _remove_losers(directory, choice, disk)
    except BaseException:
        for reader in readers:
            reader.release()
        raise
    return Recovered(readers, tuple(repairs))


def _remove_losers(directory: Path, choice: Choice, disk: Disk) -> Iterable[str]:
    for name in choice.losers:
        disk.remove(directory / str(name))
        yield f"removed {name}, which {choice.winners[0].name} supersedes"


def _mend(
    winners: list[TarReader], before: list[TarReader], disk: Disk, mtime: int
) -> Iterable[str]:
    """Seal the fullest of the letters without an index, with what only others hold."""
    fullest = max(winners, key=lambda reader: len(reader.scanned))
    others = [reader for reader in winners if reader is not fullest]
    try:
        yield from map(str, fullest.faults)
        if fullest.scanned:
            yield _seal(fullest, others, before, disk, mtime)
            before.append(fullest)
        else:
            others.append(fullest)
        for reader in others:
            yield _put_aside(reader.path, disk)
    finally:
        for reader in winners:
            if reader not in before:
                reader.release()


def _seal(
    reader: TarReader, others: list[TarReader], before: Sequence[TarReader], disk: Disk, mtime: int
) -> str:
    behind = reader.size() - reader.scan_end
    if behind > TORN:
        _keep_tail(reader, disk)
    with _Sources([*before, *others, reader]) as sources:
        extra = _only_in(others, reader, sources)
        own = [sources.incoming(entry.segment) for entry in reader.scanned]
    open_tar = OpenTar.reopen(reader, disk)
    try:
        for segment in own:
            open_tar.mention(segment)
        if extra:
            open_tar.append(extra, mtime)
        open_tar.seal(mtime)
    finally:
        open_tar.close()
    cut = f", cut off {behind} bytes of a torn end" if behind else ""
    return f"sealed {reader.name} with {len(reader.scanned)} segments{cut}"


class _Sources:
    """Reads segments by id out of open tars."""

    def __init__(self, readers: Sequence[TarReader]) -> None:
        columns = [reader.columns() for reader in readers]
        sizes = [len(part.msb) for part in columns]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        self._snapshot = Snapshot(
            SegmentTable(Columns.joined(columns)), tars_of(readers, starts), None
        )

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self._snapshot.release()

    def incoming(self, segment: SegmentId) -> Incoming:
        read = self._snapshot.read
        return verify(Arrival.of(segment, read(segment)), read)


def _only_in(others: list[TarReader], reader: TarReader, sources: _Sources) -> list[Incoming]:
    present = {entry.segment for entry in reader.scanned}
    found = {e.segment: None for other in others for e in other.scanned}
    return [sources.incoming(segment) for segment in found if segment not in present]


def _keep_tail(reader: TarReader, disk: Disk) -> None:
    """Save what is going to be cut off: more than one torn entry can be."""
    data = reader.read(reader.scan_end, reader.size() - reader.scan_end)
    disk.replace_file(_free_name(reader.path), data)


def _put_aside(path: Path, disk: Disk) -> str:
    target = _free_name(path)
    disk.rename(path, target)
    return f"put {path.name} aside as {target.name}: no segment of it is usable alone"


def _free_name(path: Path) -> Path:
    candidates = [path.with_name(path.name + ".bak")]
    candidates += [path.with_name(f"{path.name}.{n}.bak") for n in range(2, 1000)]
    return next(candidate for candidate in candidates if not candidate.exists())
