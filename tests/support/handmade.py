"""Small stores put together by hand, so that any part of them can be made wrong."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from format_samples import data_segment

from tarfailover.format import binrefs, graph, index, segment, tar
from tarfailover.format.index import IndexEntry
from tarfailover.ids import NO_GENERATION, Generation, RecordId, is_data

MTIME = 1729728000
NODE = (segment.NODE, bytes(12))
VALUE = (segment.VALUE, b"\x02{}")


def data_id(number: int) -> bytes:
    """The id of a data segment; high numbers are negative for Java."""
    return bytes([number]) * 8 + b"\xa0" + bytes([number]) * 7


def bulk_id(number: int) -> bytes:
    """The id of a bulk segment."""
    return bytes([number]) * 8 + b"\xb0" + bytes([number]) * 7


class Piece(NamedTuple):
    """A segment on its way into a tar."""

    segment: bytes
    data: bytes

    @property
    def generation(self) -> Generation:
        return segment.inspect(self.segment, self.data)[0]

    @property
    def references(self) -> tuple[bytes, ...]:
        return segment.inspect(self.segment, self.data)[1]

    @property
    def blobs(self) -> list[bytes]:
        return segment.external_blob_ids(self.data)[0] if is_data(self.segment) else []


def bulk(number: int, size: int = 100) -> Piece:
    """A bulk segment of `size` bytes, none of them zero."""
    return Piece(bulk_id(number), bytes((at * number) % 255 + 1 for at in range(size)))


def data(
    number: int,
    *references: Piece,
    blob: bytes = b"",
    generation: Generation = NO_GENERATION,
) -> Piece:
    """A data segment whose record 1 can be a head; `blob` is an external blob id in it."""
    records = [VALUE, NODE]
    if blob:
        records.append((segment.BLOB_ID, (0xE000 | len(blob)).to_bytes(2, "big") + blob))
    ids = [each.segment for each in references]
    return Piece(data_id(number), data_segment(generation, ids, records))


def entry(piece: Piece, name: bytes | None = None) -> bytes:
    """Header, data and padding of a segment."""
    named = name or tar.segment_entry_name(piece.segment, zlib.crc32(piece.data))
    padding = bytes(tar.padded(len(piece.data)) - len(piece.data))
    return tar.encode_header(named, len(piece.data), MTIME) + piece.data + padding


def index_entries(pieces: Sequence[Piece]) -> list[IndexEntry]:
    """What the index of a tar of `pieces` says."""
    found, at = [], 0
    for piece in pieces:
        found.append(IndexEntry(piece.segment, at + tar.BLOCK, len(piece.data), piece.generation))
        at += tar.BLOCK + tar.padded(len(piece.data))
    return found


def rows(pieces: Sequence[Piece]) -> dict[bytes, Sequence[bytes]]:
    """The graph of `pieces`."""
    return {piece.segment: piece.references for piece in pieces if piece.references}


def mentions(pieces: Sequence[Piece]) -> dict[Generation, dict[bytes, list[bytes]]]:
    """The binary references of `pieces`."""
    found: dict[Generation, dict[bytes, list[bytes]]] = {}
    for piece in pieces:
        if piece.blobs:
            found.setdefault(piece.generation, {})[piece.segment] = piece.blobs
    return found


def open_tar(pieces: Sequence[Piece]) -> bytes:
    """A tar that is being written."""
    return b"".join(map(entry, pieces))


def closed_tar(
    name: str,
    pieces: Sequence[Piece],
    *,
    edges: Mapping[bytes, Sequence[bytes]] | None = None,
    blobs: Mapping[Generation, Mapping[bytes, list[bytes]]] | None = None,
    entries: Sequence[IndexEntry] | None = None,
    idx: bytes | None = None,
) -> bytes:
    """A tar with its trailing entries, each of them as it should be unless given."""
    parts = {
        "brf": binrefs.encode(mentions(pieces) if blobs is None else blobs),
        "gph": graph.encode(rows(pieces) if edges is None else edges),
        "idx": idx or index.encode(index_entries(pieces) if entries is None else entries),
    }
    written = [open_tar(pieces)]
    for suffix, content in parts.items():
        header = tar.encode_header(f"{name}.{suffix}".encode(), len(content), MTIME)
        written += [header, content]
    return b"".join([*written, tar.END_OF_ARCHIVE])


def line(piece: Piece, number: int = 1, time_ms: int = 1729728000000) -> bytes:
    """The line of the journal whose head lies in `piece`."""
    return f"{RecordId(piece.segment, number)} root {time_ms}\n".encode()


def store(directory: Path, tars: Mapping[str, bytes], journal: bytes | None) -> Path:
    """A store of these files; `journal` is all of journal.log."""
    directory.mkdir()
    (directory / "manifest").write_bytes(b"store.version=2\n")
    for name, content in tars.items():
        (directory / name).write_bytes(content)
    if journal is not None:
        (directory / "journal.log").write_bytes(journal)
    return directory


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Turn over one bit of the file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    """All files of `directory`: what is in them, and when they were changed."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}
