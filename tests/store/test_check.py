"""Every kind of fault is found and named; what is normal is no fault."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import handmade as hm
import pytest
from format_samples import data_segment
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import NotAStoreError, StoreIOError, UnsupportedStoreError
from tarfailover.format import trailer
from tarfailover.format.index import IndexEntry
from tarfailover.format.tar import TarName
from tarfailover.ids import Generation, text
from tarfailover.store import directory as directories
from tarfailover.store.check import StoreCheck, tars
from tarfailover.store.check import store as stores
from tarfailover.store.durable import told
from tarfailover.store.finding import FAULT, NOTE, Finding
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

NAME = "data00000a.tar"
BLOB = b"9bd7c3d157e82753fd2bf3a9df26bea49bc29caf#20000"

BULK = hm.bulk(0x81, 700)
LOW = hm.data(0x11, BULK, blob=BLOB)
HEAD = hm.data(0x71, LOW, BULK)
PIECES = (BULK, LOW, HEAD)


def checked(directory: Path) -> tuple[list[Finding], StoreCheck]:
    check = StoreCheck(directory)
    return list(check.run()), check


def faults(directory: Path) -> list[Finding]:
    return [each for each in checked(directory)[0] if each.severity == FAULT]


def notes(directory: Path) -> list[Finding]:
    found = checked(directory)[0]
    assert [each for each in found if each.severity == FAULT] == []
    return found


def only_fault(directory: Path) -> Finding:
    found = faults(directory)
    assert len(found) == 1, found
    assert found[0].remedy
    return found[0]


def tiny(tmp_path: Path, tar_bytes: bytes | None = None, journal: bytes | None = None) -> Path:
    """A store of one tar; by default a healthy one."""
    closed = hm.closed_tar(NAME, PIECES) if tar_bytes is None else tar_bytes
    return hm.store(tmp_path / "store", {NAME: closed}, journal or hm.line(HEAD))


def positions(pieces: Sequence[hm.Piece]) -> dict[bytes, int]:
    return {each.segment: each.position for each in hm.index_entries(pieces)}


AT = positions(PIECES)
TRAILING = len(hm.open_tar(PIECES))
"""Where the binary references begin; the graph and the index follow in steps of 1024 bytes."""
GRAPH = TRAILING + 1024
INDEX = GRAPH + 1024
END = INDEX + 1024


# what is healthy


def test_a_healthy_store_has_neither_faults_nor_notes(tmp_path: Path) -> None:
    found, check = checked(tiny(tmp_path))
    assert found == []
    assert (check.checked.tars, check.checked.segments) == (1, 3)
    assert check.checked.bytes == END + 1024
    assert check.checked.head is not None
    assert check.checked.head.record.segment == HEAD.segment
    assert (check.checked.closure_segments, check.checked.closure_bytes) == (
        3,
        sum(len(piece.data) for piece in PIECES),
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fresh", []),
        ("compacted", ["2 heads lie in segments that are gone"]),
        ("killed", ["the newest tar has no index yet"]),
    ],
)
def test_stores_of_real_oak_have_no_faults(
    fixture_store: Callable[[str], Path], name: str, said: list[str]
) -> None:
    found = notes(fixture_store(name))
    assert [each.what[: len(what)] for each, what in zip(found, said, strict=True)] == said


@pytest.mark.parametrize("name", ["compacted", "killed"])
def test_the_directory_is_not_changed(fixture_store: Callable[[str], Path], name: str) -> None:
    directory = fixture_store(name)
    before = hm.contents(directory)
    checked(directory)
    assert hm.contents(directory) == before


def test_a_store_that_is_written_to_raises_no_alarm(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "store", create=True) as writer:
        for piece in PIECES:
            writer.append(*piece)
            found = checked(tmp_path / "store")[0]
            told = [each.what for each in found if "no index yet" not in each.what]
            assert len(told) == 1
            assert f"but the tars hold {PIECES.index(piece) + 1} segment" in told[0]
        writer.commit(hm.RecordId(HEAD.segment, 1), 5)
        assert ["no index yet" in each.what for each in notes(tmp_path / "store")] == [True]
    assert notes(tmp_path / "store") == []


def test_progress_reaches_the_whole_and_never_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "CHUNK", 1024)
    seen: list[tuple[int, int]] = []
    directory = tiny(tmp_path)
    check = StoreCheck(directory, lambda done, total: seen.append((done, total)))
    assert list(check.run()) == []
    total = END + 1024
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("cut", [1, 512, 700, 1100])
def test_an_entry_torn_at_the_end_of_the_newest_tar_is_a_note(tmp_path: Path, cut: int) -> None:
    more = hm.entry(hm.data(0x22, BULK) if cut < 700 else hm.bulk(0x23, 900))
    directory = tiny(tmp_path, hm.open_tar(PIECES) + more[:cut])
    found = notes(directory)
    assert [each.offset for each in found if "no whole entry" in each.what] == [TRAILING]


@pytest.mark.parametrize("cut", [GRAPH, GRAPH + 100, INDEX, INDEX + 600, END, END + 512])
def test_a_tar_that_is_being_closed_is_a_note(tmp_path: Path, cut: int) -> None:
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES)[:cut])
    found = notes(directory)
    assert [each.offset for each in found] == [TRAILING]
    assert "not complete" in found[0].what


def test_a_tar_closed_while_the_check_runs_is_checked_as_a_closed_one(tmp_path: Path) -> None:
    newer = "data00001a.tar"
    tars = {NAME: hm.closed_tar(NAME, (BULK,)), newer: hm.open_tar((LOW, HEAD))}
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    closed = hm.closed_tar(newer, (LOW, HEAD))
    check = StoreCheck(directory, lambda *_: (directory / newer).write_bytes(closed) and None)
    assert list(check.run()) == []


# a flipped bit


def flips(content: bytes, seed: int) -> list[tuple[int, int]]:
    """Each byte that is not zero or beside one that is not, and every 13th of the others."""
    chosen = [
        at for at in range(len(content)) if any(content[max(0, at - 1) : at + 2]) or at % 13 == 0
    ]
    return [(at, (at * 5 + at // 8 + seed) % 8) for at in chosen]


def assert_found(directory: Path, tar_bytes: bytes, places: list[tuple[int, int]]) -> None:
    path = directory / NAME
    missed = []
    for at, bit in places:
        changed = bytearray(tar_bytes)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        if not any(each.severity == FAULT for each in StoreCheck(directory).run()):
            missed.append((at, bit))
    assert missed == []


def test_a_flipped_bit_anywhere_in_a_closed_tar_is_a_fault(tmp_path: Path) -> None:
    small = (hm.bulk(0x81, 30), hm.data(0x71, hm.bulk(0x81, 30), blob=b"x#1"))
    content = hm.closed_tar(NAME, small)
    directory = tiny(tmp_path, content, hm.line(small[1]))
    assert notes(directory) == []
    assert_found(directory, content, flips(content, 3))


def test_a_flipped_bit_anywhere_in_an_open_tar_is_a_fault(tmp_path: Path) -> None:
    small = (hm.bulk(0x81, 30), hm.data(0x71, hm.bulk(0x81, 30)))
    content = hm.open_tar(small)
    directory = tiny(tmp_path, content, hm.line(small[1]))
    assert len(notes(directory)) == 1
    assert_found(directory, content, flips(content, 6))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("victim"))


@given(where=st.integers(0, 8 * (END + 1024) - 1))
def test_any_bit_flipped_is_found(victim: Path, where: int) -> None:
    content = hm.closed_tar(NAME, PIECES)
    assert_found(victim, content, [(where // 8, where % 8)])


@given(data=st.data())
def test_any_bytes_give_findings_and_no_other_error(victim: Path, data: st.DataObject) -> None:
    content = hm.closed_tar(NAME, PIECES)
    at = data.draw(st.integers(0, len(content)))
    put_in = data.draw(st.binary(max_size=600))
    stop = data.draw(st.sampled_from([at, min(len(content), at + 512), len(content)]))
    (victim / NAME).write_bytes(content[:at] + put_in + content[stop:])
    found, check = checked(victim)
    assert check.checked.faults + check.checked.notes == len(found)


@pytest.mark.parametrize(
    ("offset", "where", "what"),
    [
        (AT[BULK.segment] + 5, AT[BULK.segment], f"segment {text(BULK.segment)} is damaged"),
        (AT[LOW.segment] + 40, AT[LOW.segment], f"segment {text(LOW.segment)} is damaged"),
        (AT[LOW.segment] - 500, AT[LOW.segment] - 512, "tar header checksum"),
        (AT[LOW.segment] - 358, AT[LOW.segment] - 512, "not as Oak writes it"),
        (AT[HEAD.segment] - 1, AT[HEAD.segment] - 512, "tar header checksum"),
        (AT[BULK.segment] + 703, AT[BULK.segment] + 703, "padding"),
        (TRAILING + 3, TRAILING, "the header of the list of binary references"),
        (TRAILING + 520, TRAILING + 520, "size or padding of the list of binary references"),
        (GRAPH - 30, None, "the checksum of the list of binary references"),
        (GRAPH - 8, GRAPH - 8, "the list of binary references cannot be used"),
        (GRAPH + 100, GRAPH, "the header of the graph"),
        (GRAPH + 512, GRAPH + 512, "size or padding of the graph"),
        (INDEX - 20, None, "the checksum of the graph does not match"),
        (INDEX - 1, INDEX - 4, "the graph cannot be used: magic"),
        (INDEX + 200, INDEX, "the header of the index"),
        (INDEX + 600, INDEX + 600, "size or padding of the index"),
        (END - 7, END - 7, "size or padding of the index"),
        (END - 20, None, "the index of this tar cannot be used: the checksum"),
        (END - 1, END - 4, "the index of this tar cannot be used: magic"),
        (END + 1000, END + 1000, "the end of the archive"),
    ],
)
def test_a_flip_is_named_where_it_is(
    tmp_path: Path, offset: int, where: int | None, what: str
) -> None:
    directory = tiny(tmp_path)
    hm.flip(directory / NAME, offset, 5 if offset == AT[LOW.segment] - 358 else 1)
    found = faults(directory)
    assert found
    assert found[0].file == NAME
    assert what in found[0].what
    assert found[0].remedy
    if where is not None:
        assert found[0].offset == where
    assert len(found) == 1


def test_it_goes_on_after_a_fault_and_tells_what_the_head_needs(tmp_path: Path) -> None:
    garbage = hm.bulk(0x33)
    pieces = (garbage, *PIECES)
    directory = tiny(tmp_path, hm.closed_tar(NAME, pieces))
    places = positions(pieces)
    hm.flip(directory / NAME, places[garbage.segment])
    hm.flip(directory / NAME, places[BULK.segment])
    hm.flip(directory / NAME, places[LOW.segment] + 33)
    found = faults(directory)
    assert [each.offset for each in found] == [
        places[garbage.segment],
        places[BULK.segment],
        places[LOW.segment],
    ]
    assert "the head does not need this segment" in found[0].what
    assert "nothing current is lost" in found[0].remedy
    assert "the head needs this segment" in found[1].what


def test_behind_a_damaged_header_of_an_open_tar_it_goes_on(tmp_path: Path) -> None:
    directory = tiny(tmp_path, hm.open_tar(PIECES))
    hm.flip(directory / NAME, AT[LOW.segment] - 512)
    hm.flip(directory / NAME, AT[HEAD.segment] + 3)
    found = faults(directory)
    assert [each.offset for each in found if each.file == NAME] == [
        AT[LOW.segment] - 512,
        AT[HEAD.segment],
    ]
    assert "readers see nothing" in str(found)


def test_a_damaged_last_entry_is_a_note_only_if_the_head_is_whole_without(tmp_path: Path) -> None:
    unacknowledged = hm.data(0x44, BULK)
    pieces = (*PIECES, unacknowledged)
    directory = tiny(tmp_path, hm.open_tar(pieces))
    hm.flip(directory / NAME, positions(pieces)[unacknowledged.segment] + 3)
    assert any("is damaged" in each.what for each in notes(directory))
    (directory / "journal.log").write_bytes(hm.line(HEAD) + hm.line(unacknowledged))
    found = faults(directory)
    assert any("is damaged" in each.what for each in found)
    assert any("lies in a segment that is in no tar" in each.what for each in found)


@pytest.mark.parametrize("offset", [GRAPH - 30, INDEX - 20, INDEX - 1, END - 20, END + 7])
def test_the_remedy_for_trailing_entries_works(tmp_path: Path, offset: int) -> None:
    directory = tiny(tmp_path)
    hm.flip(directory / NAME, offset)
    assert faults(directory)
    content = (directory / NAME).read_bytes()
    (directory / NAME).write_bytes(content[:-1024])
    StoreWriter.open(directory).close()
    assert faults(directory) == []


# what a tar says that is not so


def test_an_index_that_is_not_sorted(tmp_path: Path) -> None:
    entries = sorted(hm.index_entries(PIECES), key=lambda each: each.segment)
    rows = b"".join(
        each.segment
        + struct.pack(">II", each.position, each.length)
        + struct.pack(">IIB", *each.generation)
        for each in entries
    )
    idx = trailer.encode(rows, len(entries), trailer.INDEX_V2, padded_size=True)
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, idx=idx))
    assert "not sorted" in only_fault(directory).what


def test_an_entry_that_the_index_does_not_name(tmp_path: Path) -> None:
    spare = hm.bulk(0x55)
    pieces = (BULK, spare, LOW, HEAD)
    entries = [each for each in hm.index_entries(pieces) if each.segment != spare.segment]
    directory = tiny(tmp_path, hm.closed_tar(NAME, pieces, entries=entries))
    found = only_fault(directory)
    assert found.offset == positions(pieces)[spare.segment] - 512
    assert "belong to no entry of the index" in found.what


@pytest.mark.parametrize("place", [0, 2])
def test_an_index_that_names_another_place(tmp_path: Path, place: int) -> None:
    entries = hm.index_entries(PIECES)
    entries[place] = entries[place]._replace(position=AT[LOW.segment])
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, entries=entries))
    assert any("the index says segment" in each.what for each in faults(directory))


def test_an_index_with_another_length(tmp_path: Path) -> None:
    entries = hm.index_entries(PIECES)
    entries[1] = entries[1]._replace(length=entries[1].length - 16)
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, entries=entries))
    assert any("bytes long by the index" in each.what for each in faults(directory))


@pytest.mark.parametrize(
    ("piece", "generation"),
    [(1, Generation(1, 0, False)), (1, Generation(0, 0, True)), (0, Generation(0, 1, False))],
)
def test_an_index_with_another_generation(
    tmp_path: Path, piece: int, generation: Generation
) -> None:
    entries = hm.index_entries(PIECES)
    entries[piece] = entries[piece]._replace(generation=generation)
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, entries=entries))
    found = only_fault(directory)
    assert f"the index gives segment {text(PIECES[piece].segment)} generation" in found.what


def test_a_graph_without_an_edge(tmp_path: Path) -> None:
    edges = {**hm.rows(PIECES), HEAD.segment: (LOW.segment,)}
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, edges=edges))
    found = only_fault(directory)
    assert "the graph lacks 1 reference of" in found.what
    assert found.offset == AT[HEAD.segment]


def test_a_graph_with_an_edge_too_many(tmp_path: Path) -> None:
    edges = {**hm.rows(PIECES), LOW.segment: (BULK.segment, HEAD.segment)}
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, edges=edges))
    assert "and has 1 too many" in only_fault(directory).what


def test_a_graph_that_names_a_segment_of_another_tar(tmp_path: Path) -> None:
    edges = {**hm.rows(PIECES), hm.data_id(0x66): (BULK.segment,)}
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, edges=edges))
    assert "which is not here" in only_fault(directory).what


def test_edges_in_another_order_are_as_good(tmp_path: Path) -> None:
    edges = {**hm.rows(PIECES), HEAD.segment: (BULK.segment, LOW.segment)}
    assert notes(tiny(tmp_path, hm.closed_tar(NAME, PIECES, edges=edges))) == []


def test_a_tar_rewritten_by_cleanup_leaves_out_edges_to_dropped_segments(tmp_path: Path) -> None:
    dropped = hm.bulk(0x31)
    old = hm.data(0x32, dropped)
    pieces = (old, *PIECES)
    name = "data00000b.tar"
    content = hm.closed_tar(name, pieces, edges=hm.rows(PIECES))
    assert notes(hm.store(tmp_path / "b", {name: content}, hm.line(HEAD))) == []
    # In a tar that was never rewritten, nothing can have been left out.
    content = hm.closed_tar(NAME, pieces, edges=hm.rows(PIECES))
    assert (
        "the graph lacks 1"
        in only_fault(hm.store(tmp_path / "a", {NAME: content}, hm.line(HEAD))).what
    )


def test_an_edge_that_was_left_out_is_still_needed_by_the_head(tmp_path: Path) -> None:
    dropped = hm.bulk(0x31)
    head = hm.data(0x32, dropped)
    name = "data00000b.tar"
    content = hm.closed_tar(name, (*PIECES, head), edges=hm.rows(PIECES))
    directory = hm.store(tmp_path / "b", {name: content}, hm.line(head))
    assert f"the head needs segment {text(dropped.segment)}" in only_fault(directory).what


@pytest.mark.parametrize(
    ("blobs", "what"),
    [
        ({}, "lacks 1 blob that segment"),
        ({Generation(0, 0, False): {LOW.segment: [b"another#1"]}}, "lacks 1 blob that segment"),
        ({Generation(0, 0, False): {LOW.segment: [BLOB, b"more#1"]}}, "does not say"),
        ({Generation(1, 1, False): {LOW.segment: [BLOB]}}, "does not say"),
        (
            {Generation(0, 0, False): {LOW.segment: [BLOB], hm.data_id(0x66): [BLOB]}},
            "which is not here",
        ),
    ],
)
def test_binary_references_that_do_not_fit(
    tmp_path: Path, blobs: dict[Generation, dict[bytes, list[bytes]]], what: str
) -> None:
    directory = tiny(tmp_path, hm.closed_tar(NAME, PIECES, blobs=blobs))
    assert what in only_fault(directory).what


def test_a_segment_that_was_written_wrong(tmp_path: Path) -> None:
    wrong = hm.Piece(LOW.segment, LOW.data[:32] + bytes(16) + LOW.data[48:])
    pieces = (BULK, wrong, HEAD)
    entries = hm.index_entries(PIECES)
    body = hm.open_tar(pieces)
    whole = body + hm.closed_tar(NAME, PIECES, entries=entries)[len(body) :]
    found = faults(tiny(tmp_path, whole))
    assert "was written wrong" in found[0].what
    assert found[0].offset == AT[LOW.segment] + 32


@pytest.mark.parametrize(
    ("offset", "value"), [(0, 9), (4, 9), (5, 0xFF), (8, 1)], ids=["number", "type", "high", "odd"]
)
def test_a_record_table_that_is_wrong(tmp_path: Path, offset: int, value: int) -> None:
    changed = bytearray(HEAD.data)
    changed[32 + 2 * 16 + 9 + offset] = value
    pieces = (BULK, LOW, hm.Piece(HEAD.segment, bytes(changed)))
    directory = tiny(tmp_path, hm.closed_tar(NAME, pieces), hm.line(LOW))
    found = only_fault(directory)
    assert "was written wrong: record" in found.what
    assert found.offset is not None
    assert AT[HEAD.segment] + 73 <= found.offset <= AT[HEAD.segment] + 82


def test_two_copies_of_a_segment_that_differ(tmp_path: Path) -> None:
    other = hm.Piece(BULK.segment, BULK.data[::-1])
    second = (other, hm.data(0x12, other))
    tars = {NAME: hm.closed_tar(NAME, PIECES)}
    tars["data00001a.tar"] = hm.closed_tar("data00001a.tar", second)
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    assert "has other bytes here than in an older tar" in only_fault(directory).what


def test_equal_copies_of_a_segment_are_a_note(tmp_path: Path) -> None:
    tars = {name: hm.closed_tar(name, PIECES) for name in (NAME, "data00001a.tar")}
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    assert [each.what for each in notes(directory)] == [
        "3 segments lie in a newer tar a second time"
    ]


# order


def test_a_bulk_segment_behind_the_data_that_needs_it(tmp_path: Path) -> None:
    pieces = (LOW, BULK, HEAD)
    found = only_fault(tiny(tmp_path, hm.closed_tar(NAME, pieces)))
    assert f"stands before the bulk segment {text(BULK.segment)}" in found.what
    assert found.offset == positions(pieces)[LOW.segment]


def test_data_before_data_that_it_needs_is_a_note(tmp_path: Path) -> None:
    found = notes(tiny(tmp_path, hm.closed_tar(NAME, (BULK, HEAD, LOW))))
    assert [each.severity for each in found] == [NOTE]
    assert f"{text(HEAD.segment)} stands before {text(LOW.segment)}" in found[0].what


def test_order_counts_in_the_closure_of_the_head_only(tmp_path: Path) -> None:
    late = hm.bulk(0x31)
    pieces = (*PIECES, hm.data(0x32, late), late)
    assert notes(tiny(tmp_path, hm.closed_tar(NAME, pieces))) == []


def test_a_compacted_segment_behind_the_head(tmp_path: Path) -> None:
    compacted = hm.data(0x31, generation=Generation(1, 1, True))
    head = hm.data(0x32, compacted, generation=Generation(1, 1, False))
    directory = tiny(tmp_path, hm.closed_tar(NAME, (head, compacted)), hm.line(head))
    found = only_fault(directory)
    assert "stands behind the segment of the head" in found.what


# tars and letters


def test_an_older_tar_without_an_index_is_a_fault(tmp_path: Path) -> None:
    tars = {NAME: hm.open_tar((BULK, LOW))}
    tars["data00001a.tar"] = hm.closed_tar("data00001a.tar", (HEAD,))
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    assert "ends without an index" in only_fault(directory).what


def test_a_superseded_letter_is_a_note(tmp_path: Path) -> None:
    tars = {name: hm.closed_tar(name, PIECES) for name in (NAME, "data00000b.tar")}
    found = notes(hm.store(tmp_path / "store", tars, hm.line(HEAD)))
    assert [(each.file, each.what) for each in found] == [(NAME, "superseded by data00000b.tar")]


def test_a_letter_half_written_by_cleanup_is_a_note(tmp_path: Path) -> None:
    tars = {NAME: hm.closed_tar(NAME, PIECES), "data00000b.tar": hm.open_tar((BULK,))}
    found = notes(hm.store(tmp_path / "store", tars, hm.line(HEAD)))
    assert [each.file for each in found] == ["data00000b.tar"]
    assert "written in part by a cleanup" in found[0].what


def test_a_letter_whose_index_was_damaged_is_a_fault(tmp_path: Path) -> None:
    tars = {name: hm.closed_tar(name, PIECES) for name in (NAME, "data00000b.tar")}
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    hm.flip(directory / "data00000b.tar", END - 20)
    found = only_fault(directory)
    assert found.file == "data00000b.tar"
    assert "data00000a.tar counts instead" in found.what


@pytest.mark.parametrize("written", [END, END - 300, INDEX + 600])
def test_a_letter_that_is_being_closed_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """A living Oak writes the index of what its cleanup made, right between two looks at it."""
    closed = hm.closed_tar("data00000b.tar", PIECES)
    tars = {NAME: hm.closed_tar(NAME, PIECES), "data00000b.tar": closed[:TRAILING]}
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    look = stores._open

    def meanwhile(path: Path) -> stores._View:
        view = look(path)
        (path / "data00000b.tar").write_bytes(closed[:written])
        return view

    monkeypatch.setattr(stores, "_open", meanwhile)
    found = notes(directory)
    assert [each.file for each in found] == ["data00000b.tar"]
    assert "a cleanup is at work on it" in found[0].what


def test_strange_names_are_notes(tmp_path: Path) -> None:
    directory = tiny(tmp_path)
    for name in ("data00000a.tar.bak", "data00000a.tar.2.ro.bak", "backup.tar", "notes.txt"):
        (directory / name).write_bytes(b"")
    assert [each.file for each in notes(directory)] == [
        "backup.tar",
        "data00000a.tar.2.ro.bak",
        "data00000a.tar.bak",
    ]


# journal and head


def test_a_segment_of_the_closure_that_is_missing(tmp_path: Path) -> None:
    pieces = (BULK, HEAD)
    found = faults(tiny(tmp_path, hm.closed_tar(NAME, pieces)))
    what = f"refers to segment {text(LOW.segment)}, which is in no tar"
    assert what in found[0].what
    assert (found[0].file, found[0].offset) == (NAME, positions(pieces)[HEAD.segment])
    assert "none of its newest 1 heads can be used" in found[1].what


def test_the_newest_line_must_be_usable(tmp_path: Path) -> None:
    gone = hm.data(0x77)
    directory = tiny(tmp_path, None, hm.line(HEAD) + hm.line(gone))
    found, check = checked(directory)
    assert [each.severity for each in found] == [NOTE, FAULT]
    assert "lies in a segment that is in no tar" in found[1].what
    assert found[1].offset == len(hm.line(HEAD))
    assert check.checked.head is not None
    assert check.checked.head.record.segment == HEAD.segment
    assert check.checked.newest == (gone.segment, 1)


def test_older_lines_may_name_what_is_gone(tmp_path: Path) -> None:
    journal = hm.line(hm.data(0x77)) + hm.line(hm.data(0x78)) + hm.line(HEAD)
    found = notes(tiny(tmp_path, None, journal))
    assert [each.what[:41] for each in found] == ["2 heads lie in segments that are gone; no"]


@pytest.mark.parametrize(
    ("number", "what"), [(9, "no record 9"), (0, "record 0 is no node")], ids=["absent", "value"]
)
def test_the_head_must_be_a_node(tmp_path: Path, number: int, what: str) -> None:
    directory = tiny(tmp_path, None, hm.line(LOW) + hm.line(HEAD, number))
    assert what in only_fault(directory).what


def test_the_head_must_lie_in_a_data_segment(tmp_path: Path) -> None:
    directory = tiny(tmp_path, None, hm.line(HEAD) + hm.line(BULK))
    assert "no data segment" in only_fault(directory).what


@pytest.mark.parametrize(
    "end", [b"71717171-71", bytes(40), hm.line(LOW)[:38]], ids=["torn", "zeros", "no blank"]
)
def test_a_torn_last_line_is_a_note(tmp_path: Path, end: bytes) -> None:
    found = notes(tiny(tmp_path, None, hm.line(HEAD) + end))
    assert len(found) == 1
    assert "the last line is torn" in found[0].what
    assert found[0].offset == len(hm.line(HEAD))


def test_a_torn_line_in_the_middle_is_a_note(tmp_path: Path) -> None:
    found = notes(tiny(tmp_path, None, b"garbage\n" + hm.line(LOW) + hm.line(HEAD) + b"\n"))
    assert [each.offset for each in found] == [0]


def test_a_newest_line_that_is_garbage_is_a_fault(tmp_path: Path) -> None:
    found = faults(tiny(tmp_path, None, hm.line(HEAD) + b"garbage\n"))
    assert ["the newest line cannot be read" in each.what for each in found] == [True]


def test_many_torn_lines_are_counted(tmp_path: Path) -> None:
    found = notes(tiny(tmp_path, None, b"garbage\n" * 50 + hm.line(HEAD)))
    assert len(found) == 21
    assert found[-1].what == "30 more lines cannot be read"


def test_an_endless_line_is_bounded(tmp_path: Path) -> None:
    journal = bytes(3_000_000) + b"\n" + hm.line(HEAD)
    found = notes(tiny(tmp_path, None, journal))
    assert len(found) == 1


@pytest.mark.parametrize("journal", [b"", b"nonsense\n", None], ids=["empty", "garbage", "none"])
def test_tars_without_any_head(tmp_path: Path, journal: bytes | None) -> None:
    directory = hm.store(tmp_path / "store", {NAME: hm.closed_tar(NAME, PIECES)}, journal)
    found = faults(directory)
    assert "it names no head, but the tars hold 3 segments" in found[-1].what


def test_an_empty_store_is_a_note(tmp_path: Path) -> None:
    StoreWriter.open(tmp_path / "store", create=True).close()
    assert [each.what for each in notes(tmp_path / "store")] == [
        "the store is empty: no segments, no head"
    ]


# manifest and gc.log


@pytest.mark.parametrize(
    ("content", "severity", "what"),
    [
        (b"store.version=0\n", FAULT, "store.version is 0"),
        (b"store.version=two\n", FAULT, "store.version is 'two'"),
        (b"store.version=1\n", NOTE, "Oak 1.6"),
        (b"", NOTE, "not stated"),
    ],
)
def test_the_manifest(tmp_path: Path, content: bytes, severity: str, what: str) -> None:
    directory = tiny(tmp_path)
    (directory / "manifest").write_bytes(content)
    found = checked(directory)[0]
    assert [each.severity for each in found] == [severity]
    assert what in found[0].what
    assert found[0].file == "manifest"


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError):
        checked(tmp_path)
    with pytest.raises(NotAStoreError):
        checked(tmp_path / "absent")
    (tmp_path / NAME).write_bytes(hm.closed_tar(NAME, PIECES))
    with pytest.raises(UnsupportedStoreError):
        checked(tmp_path)
    (tmp_path / "manifest").write_bytes(b"store.version=3\n")
    with pytest.raises(UnsupportedStoreError):
        checked(tmp_path)


def test_gc_log(tmp_path: Path) -> None:
    directory = tiny(tmp_path)
    good = f"1,2,3,4,5,6,{text(HEAD.segment)}:1\n"
    (directory / "gc.log").write_text(good)
    assert notes(directory) == []
    (directory / "gc.log").write_text(f"1,2,3,4,5,6,{text(hm.data_id(9))}:1\n")
    assert "root of the last compaction" in notes(directory)[0].what
    (directory / "gc.log").write_text(good + "nonsense\n")
    assert [each.offset for each in notes(directory)] == [len(good)]


def test_a_version_1_index_and_format_12_segments_are_healthy(tmp_path: Path) -> None:
    old = hm.Piece(
        hm.data_id(0x21),
        data_segment(Generation(3, 3, True), (), (hm.VALUE, hm.NODE), version=12),
    )
    entries = [IndexEntry(old.segment, 512, len(old.data), Generation(3, 3, True))]
    rows = old.segment + struct.pack(">III", 512, len(old.data), 3)
    idx = trailer.encode(rows, 1, trailer.INDEX_V1, padded_size=True)
    content = hm.closed_tar(NAME, (old,), entries=entries, idx=idx)
    at = content.index(struct.pack(">I", trailer.BINARY_REFERENCES_V2))
    magic = struct.pack(">I", trailer.BINARY_REFERENCES_V1)
    directory = tiny(tmp_path, content[:at] + magic + content[at + 4 :], hm.line(old))
    assert notes(directory) == []
    (directory / NAME).write_bytes(content)
    assert "another version" in only_fault(directory).what


# what hides other things


def test_a_closure_that_cannot_be_followed_is_a_fault_and_the_rest_is_checked(
    tmp_path: Path,
) -> None:
    directory = tiny(tmp_path)
    hm.flip(directory / NAME, INDEX - 20)
    hm.flip(directory / NAME, AT[LOW.segment] + 33)
    told = [each.what for each in faults(directory)]
    assert any("needs cannot be told" in each for each in told)
    assert any("checksum of the graph" in each for each in told)
    assert any(f"segment {text(LOW.segment)} is damaged" in each for each in told)


def test_a_graph_that_is_damaged_alone_does_not_hide_the_closure(tmp_path: Path) -> None:
    directory = tiny(tmp_path)
    hm.flip(directory / NAME, INDEX - 20)
    found, check = checked(directory)
    assert [each.severity for each in found] == [FAULT]
    assert check.checked.closure_segments == 3


def test_heads_older_than_one_that_cannot_be_used_are_told_briefly(tmp_path: Path) -> None:
    broken = hm.data(0x22, hm.bulk(0x33))
    journal = hm.line(HEAD) + hm.line(broken) * 3
    directory = tiny(tmp_path, hm.closed_tar(NAME, (*PIECES, broken)), journal)
    found = checked(directory)[0]
    assert [each.severity for each in found] == [FAULT, NOTE, NOTE]
    assert "lacks 1 segment too" in found[1].what


def test_it_does_not_look_at_heads_for_ever(tmp_path: Path) -> None:
    broken = hm.data(0x22, hm.bulk(0x33))
    journal = hm.line(HEAD) + hm.line(broken) * 70
    directory = tiny(tmp_path, hm.closed_tar(NAME, (*PIECES, broken)), journal)
    assert "none of its newest 64 heads can be used" in faults(directory)[1].what


def test_an_entry_whose_name_carries_no_checksum_is_a_note(tmp_path: Path) -> None:
    named = hm.entry(BULK, text(BULK.segment).encode())
    directory = tiny(tmp_path, named + hm.closed_tar(NAME, PIECES)[len(named) :])
    assert ["carries no checksum" in each.what for each in notes(directory)] == [True]


# a directory that changes meanwhile


def test_a_tar_that_vanishes_while_the_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny(tmp_path)
    choose = directories.choose
    vanished: list[Path] = []

    def vanishing(where: Path, names: list[TarName]) -> directories.Choice:
        if not vanished:
            vanished.append(where)
            with told("open", where / "data00001a.tar"):
                raise FileNotFoundError(2, "No such file or directory")
        return choose(where, names)

    monkeypatch.setattr(directories, "choose", vanishing)
    assert notes(directory) == []
    assert vanished


def test_a_tar_that_keeps_vanishing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanishing(where: Path, _names: list[TarName]) -> directories.Choice:
        with told("open", where / "data00001a.tar"):
            raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(directories, "choose", vanishing)
    with pytest.raises(StoreIOError, match=r"data00001a\.tar"):
        checked(tiny(tmp_path))


def test_a_letter_that_was_removed_meanwhile_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = {NAME: hm.closed_tar(NAME, PIECES), "data00000b.tar": hm.open_tar((BULK,))}
    directory = hm.store(tmp_path / "store", tars, hm.line(HEAD))
    choose = directories.choose

    def removing(where: Path, names: list[TarName]) -> directories.Choice:
        chosen = choose(where, names)
        (where / "data00000b.tar").unlink()
        return chosen

    monkeypatch.setattr(directories, "choose", removing)
    assert ["data00000a.tar counts instead" in each.what for each in notes(directory)] == [True]
