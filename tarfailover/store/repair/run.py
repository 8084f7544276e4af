"""Repairs a store that nobody has open for writing; readers may go on.

The lock is held, but the store is not opened by `StoreWriter`: that would cut off, behind a
damaged header, what can still be mended. Each tar is read once, from front to back; what is
found in a step is mended before the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tarfailover.errors import DamagedStoreError, SegmentMissingError
from tarfailover.format import journal as lines
from tarfailover.format import manifest
from tarfailover.format.tar import LAST_LETTER, TarName
from tarfailover.ids import RecordId, SegmentId, text
from tarfailover.store import closure
from tarfailover.store import directory as directories
from tarfailover.store.directory import release, tar_names
from tarfailover.store.durable import Disk, told
from tarfailover.store.finding import Progress, unseen
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.opentar import Clock
from tarfailover.store.repair import heads, missing
from tarfailover.store.repair.salvage import covers, salvage
from tarfailover.store.repair.supply import Outcome, Source, Supply
from tarfailover.store.repair.tars import TarRepair, Tools
from tarfailover.store.snapshot import Snapshot, snapshot_of
from tarfailover.store.tarreader import TarReader


class StoreRepair:
    """One repair of the store in `directory` with what `source` has; `run` once."""

    def __init__(
        self,
        directory: Path,
        source: Source,
        *,
        disk: Disk,
        clock: Clock,
        progress: Progress = unseen,
    ) -> None:
        self.directory = directory
        self.supply = Supply(source)
        self.tars = 0
        self.bytes = 0
        """That were looked at."""
        self.found = 0
        self.mended = 0
        self._disk = disk
        self._clock = clock
        self._progress = progress
        self._total = 0

    def run(self) -> Iterator[Outcome]:
        """Everything that was damaged, each when it was mended or given up.

        Raises StoreLockedError, StoreIOError, NotAStoreError, UnsupportedStoreError, and the
        LinkErrors of the source. It can be given up at any moment and run again.
        """
        names = tar_names(self.directory)
        if not names or not (self.directory / manifest.NAME).exists():
            directories.check_manifest(self.directory)
        with RepositoryLock.acquire(self.directory):
            for outcome in self._run():
                self.found += 1
                self.mended += outcome.mended
                yield outcome

    def _run(self) -> Iterator[Outcome]:
        fault = heads.manifest_fault(self.directory)
        if fault:
            self._disk.replace_file(self.directory / manifest.NAME, manifest.encode())
            yield Outcome(manifest.NAME, 0, fault, True, "written anew")
        directories.check_manifest(self.directory)
        for path in directories.unfinished(self.directory):
            self._disk.remove(path)  # of a cleanup or a repair that was cut short
        names = tar_names(self.directory)
        self._total = sum(map(self._size, names))
        newest = max((name.number for name in names), default=0)
        for number, letters in groupby(names, key=lambda name: name.number):
            yield from self._number(list(letters), newest=number == newest)
        yield from self._newest_line()

    def _size(self, name: TarName) -> int:
        path = self.directory / str(name)
        with told("look at", path):
            return path.stat().st_size

    # the tars

    def _number(self, letters: list[TarName], *, newest: bool) -> Iterator[Outcome]:
        """The tars of one number that count, and what counts once it is mended."""
        choice = directories.choose(self.directory, letters)
        try:
            for name in choice.losers:
                if name > choice.winners[0].name:
                    yield from self._superseding(name, newest=newest)
            for reader in choice.winners:
                yield from self._tar(reader, newest=newest)
        finally:
            release(choice.winners)

    def _superseding(self, name: TarName, *, newest: bool) -> Iterator[Outcome]:
        """A tar of a higher letter than the one that counts, because its index is damaged.

        One that a cleanup had only begun to write is left alone.
        """
        reader = TarReader.open(self.directory / str(name), name)
        try:
            found = salvage(reader)
            if found.closed and covers(found.entries):
                yield from self._tar(reader, newest=newest)
        finally:
            reader.release()

    def _tar(self, reader: TarReader, *, newest: bool) -> Iterator[Outcome]:
        before = self.bytes

        def looked(size: int) -> None:
            self.bytes = before + size
            self._progress(min(self.bytes, self._total), self._total)

        tools = Tools(self.supply, self._disk, self._now, self._read, looked)
        yield from TarRepair(reader, tools, newest=newest).run()
        self.tars += 1

    # the head

    def _newest_line(self) -> Iterator[Outcome]:
        """The newest line of the journal, and what its head needs."""
        path = self.directory / lines.NAME
        line = heads.newest(path)
        if line is None:
            return
        with self.snapshot() as snapshot:
            fault = heads.fault(snapshot, line)
            right = heads.mended(line, self._heads()) if fault else None
            if right is not None and right != line.data:
                heads.write(path, line, right, self._disk)
                yield Outcome(lines.NAME, line.offset, fault, True, "written as it was")
                fault = ""
            parsed = lines.parse_line(right or line.data)
            if parsed is None or (fault and snapshot.contains(parsed.head.segment)):
                how = "no head is known that it may have named; an older one is used"
                yield Outcome(lines.NAME, line.offset, fault, False, how)
            else:
                yield from self._missing(snapshot, parsed.head)

    def _heads(self) -> list[RecordId]:
        theirs = self.supply.source.head()
        return [*heads.known(self.directory), *([theirs] if theirs else [])]

    def _missing(self, snapshot: Snapshot, head: RecordId) -> Iterator[Outcome]:
        what = f"what the head {head} needs"
        try:
            lost = closure.walk(snapshot, [head.segment]).missing
            if not lost:
                return
            what += f" is not all there: {text(lost[0].segment)} is in no tar"
            absent = missing.lacking(snapshot, head.segment, self.supply.whole)
            groups = missing.groups(snapshot, absent)
            made = [self._written(snapshot, each) for each in groups]
        except (SegmentMissingError, DamagedStoreError) as error:
            yield Outcome(lines.NAME, None, what, False, str(error))
        else:
            for name, group in zip(made, groups, strict=True):
                how = f"{len(group.ids)} segments fetched into it"
                yield Outcome(str(name), None, what, True, how)
            yield from self._unclosed(max(name.number for name in made))

    def _written(self, snapshot: Snapshot, group: missing.Group) -> TarName:
        """Write the segments of `group` where they belong; the name of their tar."""
        by = missing.Writing(self.supply.whole, snapshot.read, self._disk, self._now())
        names = tar_names(self.directory)
        behind = max((name.number for name in names), default=-1) + 1
        if group.tar is None:
            return missing.write(self.directory, behind, group.ids, by)
        reader = snapshot.tars.readers[group.tar]
        number = missing.gap(names, group.above, reader.name.number)
        if number is None and reader.name.letter < LAST_LETTER:
            entries = list(map(snapshot.table.entry, range(*snapshot.tar_ranks(group.tar))))
            return missing.write_between(reader, entries, group.ids, by)
        return missing.write(self.directory, behind if number is None else number, group.ids, by)

    def _unclosed(self, newest: int) -> Iterator[Outcome]:
        """A tar without an index was the newest, and is not any more: it is closed."""
        names = [name for name in tar_names(self.directory) if name.number < newest]
        for _, letters in groupby(names, key=lambda name: name.number):
            choice = directories.choose(self.directory, list(letters))
            try:
                for reader in choice.winners:
                    if reader.index is None:
                        yield from self._tar(reader, newest=False)
            finally:
                release(choice.winners)

    def snapshot(self) -> Snapshot:
        """All segments of the tars that count, as far as they are known now; to be released."""
        readers: list[TarReader] = []
        try:
            for _, letters in groupby(tar_names(self.directory), key=lambda name: name.number):
                readers += directories.choose(self.directory, list(letters)).winners
            return snapshot_of(readers)
        finally:
            release(readers)

    def _read(self, segment: SegmentId) -> bytes:
        with self.snapshot() as snapshot:
            return snapshot.read(segment)

    def _now(self) -> int:
        return int(self._clock())
