"""Stores that real Oak wrote: all of it decodes, and encodes to the same bytes again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from format_samples import vector

from tarfailover.errors import FormatError
from tarfailover.format import (
    binrefs,
    gclog,
    graph,
    index,
    journal,
    manifest,
    segment,
    tar,
    trailer,
)
from tarfailover.format.tar import BLOCK, END_OF_ARCHIVE, Entry
from tarfailover.ids import NULL_ID, Generation, RecordId, is_bulk, is_data

KINDS = {"fresh": (4, 22), "compacted": None, "killed": (7, 52)}
"""Data and bulk segments, as the fixtures' README tells them."""
SEGMENTS = {"fresh": 26, "compacted": 35, "killed": 59}

StoreOf = Callable[[str], Path]


class Stored(NamedTuple):
    """A segment as the walk over the headers finds it."""

    id: bytes
    position: int
    data: bytes

    @property
    def inspected(self) -> tuple[Generation, tuple[bytes, ...]]:
        return segment.inspect(self.id, self.data)


def entries(data: bytes) -> Iterator[tuple[int, Entry]]:
    """Position of the data and header of each entry, each header checked to encode the same."""
    at = 0
    while at < len(data):
        entry = tar.parse_header(data, at)
        if entry is None:
            break
        assert tar.encode_header(*entry) == data[at : at + BLOCK]
        assert at + entry.extent <= len(data)
        yield at + BLOCK, entry
        at += entry.extent


def stored(data: bytes) -> Iterator[Stored]:
    """The segments of a tar; checksums, names and padding checked."""
    for position, entry in entries(data):
        name = tar.parse_segment_name(entry.name)
        if name is None:
            continue
        content = data[position : position + entry.size]
        assert name.crc == zlib.crc32(content)
        assert entry.name == tar.segment_entry_name(name.segment, zlib.crc32(content))
        padding = data[position + entry.size : position + tar.padded(entry.size)]
        assert not padding.strip(b"\0")
        yield Stored(name.segment, position, content)


def tars(store: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(store.glob("*.tar"))]


@pytest.fixture(params=["example", "fresh", "compacted"])
def closed_tars(request: pytest.FixtureRequest, fixture_store: StoreOf) -> list[tuple[str, bytes]]:
    """The tars with an index of one store, and of the worked example."""
    if request.param == "example":
        return [("data00000a.tar", vector("empty-store.tar"))]
    return tars(fixture_store(request.param))


@pytest.fixture(params=["fresh", "compacted", "killed"])
def store(request: pytest.FixtureRequest, fixture_store: StoreOf) -> Path:
    return fixture_store(request.param)


def test_the_index_says_what_the_headers_say_and_encodes_the_same(
    closed_tars: list[tuple[str, bytes]],
) -> None:
    for name, data in closed_tars:
        parsed = index.parse(data, len(data))
        listed = [
            index.IndexEntry(s.id, s.position, len(s.data), s.inspected[0]) for s in stored(data)
        ]
        assert len(parsed.entries) == len(listed)
        header, start = tar.parse_header(data, parsed.start), parsed.start + BLOCK
        assert header is not None
        assert header.name.decode() == f"{name}.idx"
        assert index.encode(listed) == data[start : start + header.size]
        assert index.tail_size(data[-1040:], len(data)) == len(data) - parsed.start
        tail = data[parsed.start :]
        assert index.parse(tail, len(data)).entries.tobytes() == parsed.entries.tobytes()


def test_the_graph_says_what_the_segments_say_and_encodes_the_same(
    closed_tars: list[tuple[str, bytes]],
) -> None:
    for _, data in closed_tars:
        end = index.parse(data, len(data)).start
        edges = {
            source: [bytes(row[at : at + 16]) for at in range(0, len(row), 16)]
            for source, row in graph.parse(data, end).items()
        }
        # Oak writes both sources and edges in the order of a hash table.
        told = {s.id: sorted(s.inspected[1]) for s in stored(data) if s.inspected[1]}
        assert {source: sorted(row) for source, row in edges.items()} == told
        encoded = graph.encode(edges)
        assert data[end - len(encoded) : end] == encoded


def test_the_binary_references_say_what_the_segments_say_and_encode_the_same(
    closed_tars: list[tuple[str, bytes]],
) -> None:
    for _, data in closed_tars:
        graph_end = index.parse(data, len(data)).start
        footer = graph.parse_footer(data, graph_end)
        end = graph_end - trailer.extent(footer.size - trailer.FOOTER_SIZE)
        parsed = binrefs.parse(data, end)
        mentioned = [s for s in stored(data) if is_data(s.id)]
        assert all(segment.external_blob_ids(s.data) == ([], []) for s in mentioned)
        assert parsed == {}
        encoded = binrefs.encode(parsed)
        assert data[end - len(encoded) : end] == encoded


def test_a_tar_is_its_segments_three_entries_and_two_blocks_of_zeros(
    closed_tars: list[tuple[str, bytes]],
) -> None:
    for name, data in closed_tars:
        walked = list(entries(data))
        trailing = [entry.name.decode() for _, entry in walked[-3:]]
        assert trailing == [f"{name}.brf", f"{name}.gph", f"{name}.idx"]
        assert sum(entry.extent for _, entry in walked) + len(END_OF_ARCHIVE) == len(data)
        assert data.endswith(END_OF_ARCHIVE)
        assert len(walked) == len(list(stored(data))) + 3


def test_no_tar_of_a_closed_store_has_an_index_once_it_is_cut(
    closed_tars: list[tuple[str, bytes]],
) -> None:
    for _, data in closed_tars:
        for length in range(0, len(data), BLOCK):
            with pytest.raises(FormatError):
                index.parse(data[:length], length)


def test_a_killed_writers_tar_ends_with_its_last_segment_and_has_no_index(
    fixture_store: StoreOf,
) -> None:
    [(name, data)] = tars(fixture_store("killed"))
    assert name == "data00000a.tar"
    assert sum(entry.extent for _, entry in entries(data)) == len(data)
    for parse in (index.tail_size, index.parse):
        with pytest.raises(FormatError, match="is not that of a tar index"):
            parse(data, len(data))


def test_every_segment_passes_inspection(store: Path) -> None:
    found = {s.id: s for _, data in tars(store) for s in stored(data)}
    kinds = (sum(map(is_data, found)), sum(map(is_bulk, found)))
    assert sum(kinds) == SEGMENTS[store.name]
    assert KINDS[store.name] in (None, kinds)
    for one in found.values():
        _, references = one.inspected
        assert one.id not in references
        assert len(set(references)) == len(references)
        if is_data(one.id):
            segment.check_records(one.data)
            records = list(segment.records(one.data))
            assert records[0].type == segment.VALUE
            info = segment.string_at(one.data, 0)
            assert isinstance(info, bytes)
            assert {"wid", "sno", "t"} <= set(json.loads(info))


def test_a_segment_is_found_at_its_place_in_the_tar(store: Path) -> None:
    for _, data in tars(store):
        view = memoryview(data)
        for one in stored(data):
            if is_data(one.id):
                header = segment.parse_header(view, one.position, len(one.data))
                assert (header.generation, segment.references(view, one.position)) == one.inspected


def test_the_journal_encodes_the_same(store: Path) -> None:
    written = (store / journal.NAME).read_bytes()
    lines = list(journal.parse(written))
    assert b"".join(line.encode() for line in lines) == written
    held = {s.id: s for _, data in tars(store) for s in stored(data)}
    head = lines[-1].head
    numbers = {r.number: r.type for r in segment.records(held[head.segment].data)}
    assert numbers[head.number] == segment.NODE


def test_the_manifest_is_of_the_current_version(store: Path) -> None:
    assert manifest.parse((store / manifest.NAME).read_bytes()) == manifest.CURRENT


def test_gc_log_tells_both_compactions(fixture_store: StoreOf) -> None:
    lines = list(gclog.parse((fixture_store("compacted") / gclog.NAME).read_bytes()))
    assert [(line.generation, line.full_generation, line.nodes) for line in lines] == [
        (1, 1, 303),
        (2, 2, 323),
    ]
    assert lines[1].root == RecordId.parse("d35f10ad-3e2a-46ee-aee4-87bce226f0f8:578")
    assert all(line.root.segment != NULL_ID for line in lines)


def test_the_worked_example_is_built_again_to_the_byte() -> None:
    whole = vector("empty-store.tar")
    [only] = stored(whole)
    name, mtime = "data00000a.tar", 1795374757
    trailing = [
        ("brf", binrefs.encode({})),
        ("gph", graph.encode({only.id: only.inspected[1]})),
        (
            "idx",
            index.encode([index.IndexEntry(only.id, BLOCK, len(only.data), only.inspected[0])]),
        ),
    ]
    head = tar.segment_entry_name(only.id, zlib.crc32(only.data))
    built = tar.encode_header(head, len(only.data), mtime) + only.data.ljust(BLOCK, b"\0")
    for kind, data in trailing:
        built += tar.encode_header(f"{name}.{kind}".encode(), len(data), mtime) + data
    assert built + END_OF_ARCHIVE == whole
    assert len(whole) == 5120


def test_the_records_of_the_worked_example() -> None:
    [only] = stored(vector("empty-store.tar"))
    listed = [
        (r.number, segment.RECORD_TYPES[r.type], r.address) for r in segment.records(only.data)
    ]
    assert listed == [
        (0, "VALUE", 262100),
        (1, "VALUE", 262092),
        (2, "TEMPLATE", 262080),
        (3, "TEMPLATE", 262076),
        (4, "NODE", 262064),
        (5, "NODE", 262044),
    ]
    assert segment.string_at(only.data, 0) == b'{"wid":"init","sno":0,"t":1795374757345}'
    assert segment.string_at(only.data, 1) == b"root"
