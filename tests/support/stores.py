"""Segments and whole stores for the tests of the store layer, made by hand and from numbers."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from format_samples import data_segment

from tarfailover.format import binrefs, graph, index, journal, manifest, tar
from tarfailover.format.index import IndexEntry
from tarfailover.format.journal import JournalLine
from tarfailover.format.tar import BLOCK
from tarfailover.ids import NO_GENERATION, Generation, RecordId, is_bulk
from tarfailover.store.durable import Disk
from tarfailover.store.snapshot import Snapshot

RECORD = 5
"""The record number of every head here; nobody looks it up."""


def data_id(number: int, salt: str = "data") -> bytes:
    """The id of data segment `number`: looks like any other version 4 UUID."""
    raw = bytearray(hashlib.md5(f"{salt}{number}".encode()).digest())
    raw[6] = 0x40 | raw[6] & 15
    raw[8] = 0xA0 | raw[8] & 15
    return bytes(raw)


def bulk_id(number: int) -> bytes:
    """The id of bulk segment `number`."""
    raw = bytearray(data_id(number, "bulk"))
    raw[8] = 0xB0 | raw[8] & 15
    return bytes(raw)


def content(number: int, size: int) -> bytes:
    """`size` bytes that look random and are always the same for `number`."""
    return hashlib.shake_128(f"content{number}".encode()).digest(size)


def data(
    references: Sequence[bytes] = (),
    size: int = 40,
    number: int = 0,
    generation: Generation = NO_GENERATION,
) -> bytes:
    """A data segment with one value of `size` bytes, below 128."""
    return data_segment(generation, references, [(4, bytes([size]) + content(number, size))])


class Sample(NamedTuple):
    """A segment for a store."""

    segment: bytes
    data: bytes
    references: tuple[bytes, ...] = ()
    generation: Generation = NO_GENERATION


def bulk(number: int, size: int) -> Sample:
    """Bulk segment `number`."""
    return Sample(bulk_id(number), content(number, size))


def leaf(
    number: int,
    references: Iterable[bytes] = (),
    size: int = 40,
    generation: Generation = NO_GENERATION,
) -> Sample:
    """Data segment `number` that refers to `references`."""
    refs = tuple(references)
    return Sample(data_id(number), data(refs, size, number, generation), refs, generation)


def head_in(segment: bytes) -> RecordId:
    """A head in `segment`."""
    return RecordId(segment, RECORD)


# files, byte for byte


def entry(sample: Sample, crc: int | None = None) -> bytes:
    """The tar entry of a segment, by default with the right checksum."""
    name = tar.segment_entry_name(sample.segment, zlib.crc32(sample.data) if crc is None else crc)
    header = tar.encode_header(name, len(sample.data), 1_700_000_000)
    return header + sample.data + bytes(-len(sample.data) % BLOCK)


def tar_bytes(name: str, samples: Sequence[Sample], *, closed: bool = True) -> bytes:
    """A whole tar; without trailing entries if it is not `closed`."""
    body = b"".join(map(entry, samples))
    return body + trailing(name, samples) if closed else body


def trailing(
    name: str,
    samples: Sequence[Sample],
    *,
    edges: Mapping[bytes, Sequence[bytes]] | None = None,
    blobs: binrefs.BinaryReferences | None = None,
) -> bytes:
    """The trailing entries of a tar that holds `samples` from its beginning on."""
    if edges is None:
        edges = {sample.segment: sample.references for sample in samples}
    parts = [
        (".brf", binrefs.encode(blobs or {})),
        (".gph", graph.encode(edges)),
        (".idx", index.encode(entries_of(samples))),
    ]
    found = b"".join(
        tar.encode_header((name + suffix).encode(), len(body), 0) + body for suffix, body in parts
    )
    return found + tar.END_OF_ARCHIVE


def entries_of(samples: Sequence[Sample]) -> list[IndexEntry]:
    """Where `samples` lie in a tar that they begin."""
    found = []
    at = 0
    for sample in samples:
        triple = NO_GENERATION if is_bulk(sample.segment) else sample.generation
        found.append(IndexEntry(sample.segment, at + BLOCK, len(sample.data), triple))
        at += len(entry(sample))
    return found


def make_store(
    directory: Path,
    tars: Mapping[str, Sequence[Sample] | bytes],
    heads: Sequence[bytes] = (),
) -> Path:
    """A store of `tars`, all closed (or as given, in bytes), and a journal that names `heads`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / manifest.NAME).write_bytes(manifest.encode())
    for name, samples in tars.items():
        whole = samples if isinstance(samples, bytes) else tar_bytes(name, samples)
        (directory / name).write_bytes(whole)
    add_heads(directory, *heads)
    return directory


def add_heads(directory: Path, *heads: bytes, time_ms: int = 1) -> None:
    """Append lines to the journal, as a foreign writer does."""
    for each in heads:
        with (directory / journal.NAME).open("ab") as file:
            file.write(JournalLine(head_in(each), time_ms).encode())


def state_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file, and of the directory itself."""
    found = {".": (b"", directory.stat().st_mtime_ns)}
    for path in sorted(directory.iterdir()):
        found[path.name] = path.read_bytes(), path.stat().st_mtime_ns
    return found


class QuickDisk(Disk):
    """Writes for real and never waits for the disk: for tests in which nothing crashes."""

    def sync(self, fd: int, path: Path) -> None:
        del fd, path

    def sync_all(self, fd: int, path: Path) -> bool:
        del fd, path
        return True

    def sync_directory(self, path: Path) -> None:
        del path


def closure_in(snapshot: Snapshot, root: bytes) -> dict[bytes, bytes]:
    """All segments that `root` needs, by reading every one; raises if one is not readable."""
    found: dict[bytes, bytes] = {}
    pending = [root]
    while pending:
        segment = pending.pop()
        if segment not in found:
            found[segment] = snapshot.read(segment)
            pending += snapshot.references(segment)
    return found
