"""A look at all tars of a store that is open for writing, over days, a slice at a time.

Where it is, and what it found and could not mend, is kept in a small file beside the store,
so that a restart neither begins anew nor forgets. What it names is looked at again before
anything is written: between two slices the owner may clean up and store as it likes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tarfailover.errors import DamagedStoreError, FormatError, StoreError
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import TarName
from tarfailover.ids import SegmentId, text
from tarfailover.store.durable import told
from tarfailover.store.intake import Arrival
from tarfailover.store.repair.damage import Damage
from tarfailover.store.repair.look import TarLook
from tarfailover.store.repair.mending import mend_entry, mend_trailing
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.tarreader import TarReader
from tarfailover.store.writer import StoreWriter

NAME = "tarfailover-scrub.json"
FORMAT = 1
KEPT = 1000
"""Damages that are kept while they cannot be mended; further ones wait for the next pass."""
_LIMIT = 4 * 1024 * 1024
_END = 2**62
"""Behind the end of any tar."""


class Left(NamedTuple):
    """A damage that could not be mended."""

    file: str
    offset: int
    segment: str | None
    what: str
    why: str
    since: float
    """When it was found, in seconds since 1970."""


@dataclass
class ScrubState:
    """What outlives the process."""

    number: int = 0
    letter: str = ""
    offset: int = 0
    """Of the tar ``number, letter`` all before it was looked at; tars before that one, whole."""
    begun: float = 0.0
    """When this pass began, in seconds since 1970; 0 if none did."""
    ended: float = 0.0
    """When the last complete pass ended; 0 if none did."""
    passes: int = 0
    """That were complete."""
    found: int = 0
    repaired: int = 0
    left: list[Left] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> ScrubState:
        """The state kept in `directory`; a new one if there is none or it cannot be read.

        It only saves work: without it, the next pass finds the same again.
        """
        path = directory / NAME
        if not path.exists():
            return cls()
        with told("read", path), path.open("rb") as file:
            data = file.read(_LIMIT)
        try:
            return cls._of(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls()

    @classmethod
    def _of(cls, found: Any) -> ScrubState:
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        left = [Left(*each) for each in found.pop("left")]
        state = cls(**found, left=left)
        whole = [state.number, state.offset, state.passes, state.found, state.repaired]
        whole += [each.offset for each in left]
        times = [state.begun, state.ended, *(each.since for each in left)]
        words = [state.letter, *(part for each in left for part in (each.file, *each[3:5]))]
        words += [each.segment for each in left if each.segment is not None]
        sound = all(type(each) is int and each >= 0 for each in whole)
        sound &= all(type(each) in (int, float) for each in times)
        if not sound or not all(type(each) is str for each in words):
            raise TypeError("values of other kinds")
        return state


class Scrub:
    """The scrub of the store of `writer`; used in the thread that uses that."""

    def __init__(self, writer: StoreWriter) -> None:
        self.state = ScrubState.load(writer.directory)
        self._writer = writer
        self._look: TarLook | None = None
        self.looked = 0
        """Bytes at which the last step looked."""

    def save(self) -> None:
        """Keep the state; raises StoreIOError."""
        state = self.state
        document = {"format": FORMAT, **vars(state), "left": [list(each) for each in state.left]}
        data = json.dumps(document, indent=1).encode("ascii") + b"\n"
        self._writer.disk.replace_file(self._writer.directory / NAME, data)

    # looking

    def step(self, limit: int, now: float) -> list[Damage]:
        """Look at about `limit` bytes more; what is damaged there and was not known.

        At the end of the last tar the pass is complete: then `state.begun` is 0. Raises
        StoreError.
        """
        state = self.state
        state.begun = state.begun or now
        with self._writer.snapshot() as snapshot:
            look = self._at(snapshot)
            self.looked = 0
            if look is None:
                state.number, state.letter, state.offset = 0, "", 0
                state.begun, state.ended, state.passes = 0.0, now, state.passes + 1
                return []
            before = look.at
            found = look.step(limit)
            self.looked = look.at - before
            name = look.reader.name
        state.number, state.letter = name.number, name.letter
        state.offset = _END if look.done else look.at
        known = {(each.file, each.offset) for each in state.left}
        fresh = [each for each in found if (str(each.tar), each.offset) not in known]
        state.found += len(fresh)
        return fresh

    def _at(self, snapshot: Snapshot) -> TarLook | None:
        """The look at the tar of the state's place, or at the next one."""
        state = self.state
        for tar, reader in enumerate(snapshot.tars.readers):
            name = reader.name
            if (name.number, name.letter) < (state.number, state.letter):
                continue
            here = (name.number, name.letter) == (state.number, state.letter)
            if here and state.offset == _END:
                continue
            at = state.offset if here else 0
            if self._look is None or self._look.reader is not reader or self._look.at != at:
                self._look = _look(snapshot, tar, at)
            return self._look
        self._look = None
        return None

    def progress(self) -> float:
        """Which part of all bytes this pass has looked at, 0 to 1."""
        state = self.state
        with self._writer.snapshot() as snapshot:
            sizes = [(reader.name, reader.size()) for reader in snapshot.tars.readers]
        done = 0
        for name, size in sizes:
            place = (name.number, name.letter)
            if place == (state.number, state.letter):
                done += min(size, state.offset)
            elif place < (state.number, state.letter):
                done += size
        return done / max(1, sum(size for _, size in sizes))

    # mending

    def mend(
        self, damages: Sequence[Damage], came: Mapping[SegmentId, Arrival | str], now: float
    ) -> list[Left]:
        """Mend `damages` with what came for them; those that are left, which the state keeps too.

        What is whole by now, or gone, counts as mended.
        """
        left = []
        with self._writer.snapshot() as snapshot:
            for damage in damages:
                why = self._mended(snapshot, damage, came)
                if why:
                    left.append(self._keep(damage, why, now))
                else:
                    self._forget(damage)
        return left

    def _mended(
        self, snapshot: Snapshot, damage: Damage, came: Mapping[SegmentId, Arrival | str]
    ) -> str:
        """Mend `damage`; why it could not be, '' if it was."""
        reader = next((r for r in snapshot.tars.readers if r.name == damage.tar), None)
        if reader is None:
            return ""
        try:
            if damage.entry is None:
                self._mend_trailing(snapshot, reader)
            else:
                arrival = came.get(damage.entry.segment) if damage.lost else None
                self._mend_entry(reader, damage, arrival)
        except (FormatError, StoreError) as error:
            return error.what if isinstance(error, FormatError) else str(error)
        return ""

    def _mend_entry(self, reader: TarReader, damage: Damage, arrival: Arrival | str | None) -> None:
        if isinstance(arrival, str):
            raise FormatError(arrival, damage.offset)
        mtime = self._look.mtime if self._look and self._look.reader is reader else 0
        mtime = mtime or self._writer.now()
        mend_entry(reader, damage, arrival, self._writer.disk, mtime=mtime)

    def _mend_trailing(self, snapshot: Snapshot, reader: TarReader) -> None:
        tar = snapshot.tars.readers.index(reader)
        if reader.index is None:
            return
        look = _look(snapshot, tar, reader.segments_end)
        if not look.step(1):
            return
        try:
            mend_trailing(look, self._writer.disk, snapshot.read)
        except FormatError as error:
            raise DamagedStoreError(
                f"{reader.path}: {error.what}; stop the slave and use `tarfailover repair`, which "
                "writes the tar anew"
            ) from error

    def _keep(self, damage: Damage, why: str, now: float) -> Left:
        key = str(damage.tar), damage.offset
        before = next((each for each in self.state.left if each[:2] == key), None)
        segment = text(damage.entry.segment) if damage.entry else None
        left = Left(*key, segment, damage.what, why, before.since if before else now)
        rest = [each for each in self.state.left if each[:2] != key]
        self.state.left = [*rest, left][-KEPT:]
        return left

    def _forget(self, damage: Damage) -> None:
        key = str(damage.tar), damage.offset
        self.state.left = [each for each in self.state.left if each[:2] != key]
        self.state.repaired += 1

    def again(self) -> list[Damage]:
        """What of the damages that are left is still there; each time another one is the first.

        A primary may break the connection over one, and those behind it shall have their turn.
        """
        found: list[Damage] = []
        kept: list[Left] = []
        with self._writer.snapshot() as snapshot:
            for left in self.state.left:
                damage = _still(snapshot, left)
                if damage is not None:
                    found.append(damage)
                    kept.append(left._replace(offset=damage.offset))
        self.state.repaired += len(self.state.left) - len(kept)
        self.state.left = [*kept[1:], *kept[:1]]
        return [*found[1:], *found[:1]]


def _look(snapshot: Snapshot, tar: int, at: int) -> TarLook:
    reader = snapshot.tars.readers[tar]
    first, stop = snapshot.tar_ranks(tar)
    entries: list[IndexEntry] = list(map(snapshot.table.entry, range(first, stop)))
    return TarLook(reader, entries, closed=reader.index is not None, at=at)


def _still(snapshot: Snapshot, left: Left) -> Damage | None:
    """The damage `left` as it is now; None if it is gone."""
    name = TarName.parse(left.file)
    for tar, reader in enumerate(snapshot.tars.readers):
        if reader.name != name:
            continue
        look = _look(snapshot, tar, 0)
        for entry in look.entries:
            if left.segment == text(entry.segment):
                found = TarLook(reader, [entry], closed=False).step(1)
                return found[0] if found else None
        if left.segment is None and reader.index is not None:
            return next(iter(_look(snapshot, tar, reader.segments_end).step(1)), None)
    return None
