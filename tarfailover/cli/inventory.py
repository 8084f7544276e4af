"""What a store consists of, counted: by tar, by generation, in the closure of the head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tarfailover.cli.output import Column
from tarfailover.cli.wording import Document, generation_document, many, size
from tarfailover.ids import Generation
from tarfailover.store import closure
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.table import Array

_BULK = 0xB


class Count(NamedTuple):
    """Segments and their bytes, without headers and padding."""

    segments: int
    bytes: int

    @classmethod
    def of(cls, lengths: Array, chosen: Array) -> Count:
        """The segments for which `chosen` is true."""
        return cls(int(chosen.sum()), int(lengths[chosen].sum(dtype="i8")))

    def __add__(self, other: object) -> Count:
        if not isinstance(other, Count):
            return NotImplemented
        return Count(self.segments + other.segments, self.bytes + other.bytes)

    def cells(self) -> tuple[str, str]:
        """As two cells of a table."""
        return f"{self.segments:,}", size(self.bytes)


NOTHING = Count(0, 0)


class Kinds(NamedTuple):
    """Segments of a tar, or of the store."""

    data: Count
    bulk: Count
    needed: Count
    """Those of them in the closure of the head."""

    def __add__(self, other: object) -> Kinds:
        if not isinstance(other, Kinds):
            return NotImplemented
        return Kinds(self.data + other.data, self.bulk + other.bulk, self.needed + other.needed)

    def cells(self) -> tuple[str, ...]:
        """As cells of a table."""
        return (*self.data.cells(), *self.bulk.cells(), *self.needed.cells())

    def document(self) -> Document:
        """For JSON."""
        return {name: count._asdict() for name, count in self._asdict().items()}


class TarCount(NamedTuple):
    """One tar."""

    name: str
    closed: bool
    file_bytes: int
    kinds: Kinds


class Share(NamedTuple):
    """The segments of one generation, and those of them that the head needs."""

    all: Count
    needed: Count


class Inventory(NamedTuple):
    """A store, counted."""

    tars: list[TarCount]
    generations: dict[Generation | None, Share]
    """By generation; None for bulk segments, which have none."""
    total: Kinds

    @classmethod
    def of(cls, snapshot: Snapshot) -> Inventory:
        """Count what `snapshot` shows; without a head, nothing is needed."""
        needed = np.zeros(snapshot.count, "?")
        if snapshot.head is not None:
            needed[closure.walk(snapshot, [snapshot.head.record.segment]).ranks] = True
        tars, total = [], Kinds(NOTHING, NOTHING, NOTHING)
        generations: dict[Generation | None, Share] = {}
        for place, reader in enumerate(snapshot.tars.readers):
            first, stop = snapshot.tar_ranks(place)
            columns = snapshot.table.columns(first, stop)
            bulk = columns.lsb >> np.uint64(60) == _BULK
            wanted = needed[first:stop]
            lengths = columns.length
            kinds = Kinds(*(Count.of(lengths, each) for each in (~bulk, bulk, wanted)))
            tars.append(TarCount(reader.path.name, reader.index is not None, reader.size(), kinds))
            total += kinds
            triples = np.stack([columns.generation, columns.full, columns.compacted], axis=1)
            _add(generations, None, lengths, bulk, wanted)
            for triple in np.unique(triples[~bulk], axis=0).tolist():
                same = ~bulk & (triples == triple).all(axis=1)
                generation = Generation(triple[0], triple[1], bool(triple[2]))
                _add(generations, generation, lengths, same, wanted)
        return cls(tars, generations, total)

    def tables(self) -> Iterator[tuple[str, list[Column], list[tuple[str, ...]]]]:
        """Title, columns and rows of what a person reads."""
        numbers = [
            Column(name, right=True)
            for name in ("data", "bytes", "bulk", "bytes", "needed", "bytes")
        ]
        columns = [Column("tar"), Column("state"), Column("file", right=True), *numbers]
        rows = [
            (t.name, "closed" if t.closed else "open", size(t.file_bytes), *t.kinds.cells())
            for t in self.tars
        ]
        files = size(sum(t.file_bytes for t in self.tars))
        yield "by tar", columns, [*rows, ("total", "", files, *self.total.cells())]
        columns = [Column("generation")]
        columns += [Column(n, right=True) for n in ("segments", "bytes", "needed", "bytes")]
        shares = sorted(self.generations.items(), key=_order)
        yield (
            "by generation",
            columns,
            [
                (_name(generation), *share.all.cells(), *share.needed.cells())
                for generation, share in shares
            ],
        )

    def sentence(self) -> str:
        """The whole store in a sentence."""
        every = self.total.data + self.total.bulk
        share = 100 * self.total.needed.bytes // every.bytes if every.bytes else 0
        return (
            f"{many(every.segments, 'segment')} of {size(every.bytes)} in "
            f"{many(len(self.tars), 'tar')}; the head needs {self.total.needed.segments:,} of "
            f"{size(self.total.needed.bytes)} ({share} %)"
        )

    def document(self) -> Document:
        """For JSON."""
        return {
            "tars": [
                {
                    "name": tar.name,
                    "closed": tar.closed,
                    "file_bytes": tar.file_bytes,
                    **tar.kinds.document(),
                }
                for tar in self.tars
            ],
            "generations": [
                {
                    "kind": "bulk" if generation is None else "data",
                    **({} if generation is None else generation_document(generation)),
                    **share.all._asdict(),
                    "needed": share.needed._asdict(),
                }
                for generation, share in sorted(self.generations.items(), key=_order)
            ],
            "total": self.total.document(),
        }


def _add(
    shares: dict[Generation | None, Share],
    generation: Generation | None,
    lengths: Array,
    chosen: Array,
    wanted: Array,
) -> None:
    if not chosen.any():
        return
    before = shares.get(generation, Share(NOTHING, NOTHING))
    shares[generation] = Share(
        before.all + Count.of(lengths, chosen), before.needed + Count.of(lengths, chosen & wanted)
    )


def _order(item: tuple[Generation | None, Share]) -> tuple[int, ...]:
    """Generations from the first to the last, bulk segments behind them."""
    generation = item[0]
    return (1,) if generation is None else (0, *map(int, generation))


def _name(generation: Generation | None) -> str:
    return "bulk (none)" if generation is None else str(generation)
