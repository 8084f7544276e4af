"""Stores for the benchmark: valid segments of chosen sizes, of random bytes or of records."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tarfailover.format.segment import (
    BLOCK,
    FORMAT_13,
    HEADER_SIZE,
    MAGIC,
    MAX_SEGMENT,
    parse_header,
)
from tarfailover.ids import RecordId, SegmentId, is_bulk
from tarfailover.repository.sample import write_sample
from tarfailover.repository.segment_writer import segment_id
from tarfailover.store.writer import StoreWriter

KIB = 1024
MIB = 1024 * KIB
REFERENCES = 22
"""References of a data segment, as found in stores of real Oak."""
TIME_MS = 1_700_000_000_000
SAMPLE_NODES = 100

_HEADER = struct.Struct(">3sBIHIII10x")
_RECORD = struct.Struct(">IBI")

Kind = Callable[[random.Random], Iterator[tuple[bool, int]]]
"""Gives, without end, whether the next segment is bulk, and its bytes."""
CONTENT_NODES = 8000
"""Nodes of the sample whose records fill the segments of content: some 8 MB, which is many
times what a compressor looks back to."""


class Made(NamedTuple):
    """A store that was written; all of its segments belong to the head's closure."""

    directory: Path
    head: RecordId
    segments: int
    size: int
    """Bytes of the segments alone."""


def bulk_heavy(_: random.Random) -> Iterator[tuple[bool, int]]:
    """Large binaries: 63 bulk segments of 256 KiB, then the data segment that names them."""
    while True:
        yield from [(True, 256 * KIB)] * 63
        yield False, 32 * KIB


def mixed(rng: random.Random) -> Iterator[tuple[bool, int]]:
    """Content: one bulk segment in eight, data segments of 4 to 256 KiB, 94 KiB on average."""
    while True:
        bulk = rng.random() < 1 / 8
        yield bulk, 256 * KIB if bulk else rng.choice((4, 16, 32, 48, 64, 96, 256)) * KIB


def content(rng: random.Random) -> Iterator[tuple[bool, int]]:
    """Data segments alone, as in `mixed`; filled with real records, which get smaller."""
    return ((bulk, length) for bulk, length in mixed(rng) if not bulk)


def segments_of(size: int) -> Kind:
    """Nothing but data segments of `size` bytes."""

    def kind(_: random.Random) -> Iterator[tuple[bool, int]]:
        while True:
            yield False, size

    return kind


KINDS: dict[str, Kind] = {
    "bulk": bulk_heavy,
    "mixed": mixed,
    "content": content,
    "32k": segments_of(32 * KIB),
    "4k": segments_of(4 * KIB),
}


def make(directory: Path, kind: str, size: int) -> Made:
    """Write a store of at least `size` bytes of segments of `kind`, a key of `KINDS`.

    The same arguments give the same segments. Raises what StoreWriter raises.
    """
    rng = random.Random(f"{kind} {size}")  # noqa: S311 -- not for secrets
    filler = _Records(directory.with_suffix(".sample")).take if kind == "content" else rng.randbytes
    with StoreWriter.open(directory, create=True) as writer:
        filling = _Filling(writer, rng, filler)
        for bulk, length in KINDS[kind](rng):
            if filling.size + length >= size:
                break
            filling.add(bulk, length)
        head = RecordId(filling.add(False, 4 * KIB), 0)
        writer.commit(head, TIME_MS)
    return Made(directory, head, filling.segments, filling.size)


class _Filling:
    """Appends segments so that the last data segment needs all the others."""

    def __init__(
        self, writer: StoreWriter, rng: random.Random, filler: Callable[[int], bytes]
    ) -> None:
        self._writer = writer
        self._rng = rng
        self._filler = filler
        self._unnamed: list[SegmentId] = []
        self._recent: list[SegmentId] = []
        self.segments = 0
        self.size = 0

    def add(self, bulk: bool, length: int) -> SegmentId:
        """Append one segment; a data segment names all bulk segments since the last one."""
        made = segment_id(self._rng.randbytes(16), bulk)
        data = self._rng.randbytes(length) if bulk else self._data(length)
        self._writer.append(made, data)
        self._unnamed = [*([] if not bulk else self._unnamed), made]
        self._recent = [*self._recent, made][-4 * REFERENCES :]
        self.segments += 1
        self.size += length
        return made

    def _data(self, length: int) -> bytes:
        others = [each for each in self._recent if each not in self._unnamed]
        some = self._rng.sample(others, min(len(others), max(0, REFERENCES - len(self._unnamed))))
        return data_segment([*self._unnamed, *some], length, self._filler)


class _Records:
    """What the data segments of a sample repository hold behind their tables, again and again.

    The sample is written into `directory` for a moment.
    """

    def __init__(self, directory: Path) -> None:
        try:
            with StoreWriter.open(directory, create=True) as writer:
                write_sample(writer, nodes=CONTENT_NODES, binary_kib=0, commits=1, seed=1)
                with writer.snapshot() as snapshot:
                    ids = [snapshot.segment(rank) for rank in range(snapshot.count)]
                    held = [snapshot.read(each) for each in ids if not is_bulk(each)]
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self._bytes = b"".join(data[parse_header(data).tables_end :] for data in held)
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        found = self._bytes[self._at : self._at + size]
        self._at += len(found)
        while len(found) < size:
            self._at = size - len(found)
            found += self._bytes[: self._at]
        return found


def data_segment(references: list[SegmentId], length: int, filler: Callable[[int], bytes]) -> bytes:
    """A data segment of `length` bytes: its tables, and one record that is all the rest."""
    tables = HEADER_SIZE + 16 * len(references) + _RECORD.size
    start = -(-tables // 4) * 4
    header = _HEADER.pack(MAGIC, FORMAT_13, 0, 0, 0, len(references), 1)
    record = _RECORD.pack(0, BLOCK, MAX_SEGMENT - length + start)
    gap = bytes(start - tables)
    return b"".join((header, *references, record, gap, filler(length - start)))


def begin_sample(directory: Path) -> StoreWriter:
    """A small repository of real content, and the writer that commits more to it."""
    writer = StoreWriter.open(directory, create=True)
    write_sample(writer, nodes=SAMPLE_NODES, binary_kib=64, commits=2, seed=1)
    return writer


def small_commit(writer: StoreWriter, number: int) -> RecordId:
    """One commit of a few nodes on top of `begin_sample`; durable when this returns."""
    return write_sample(writer, nodes=5, binary_kib=0, commits=1, seed=number).head
