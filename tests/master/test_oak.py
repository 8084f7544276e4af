"""What a master answers to Oak's standbys, to those that behave and to those that do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import BUFFER, KERNEL, Rig
from oak_samples import Whole
from sides import HELLO, TAR, MasterSide, chain, large, store_of
from standbys import RawStandby, asking, standby
from stores import add_heads, bulk, content, data_id, entry, head_in, leaf, make_store, tar_bytes

from tarfailover.errors import StoreIOError
from tarfailover.format.blobid import BlobId
from tarfailover.ids import text
from tarfailover.master.oak import AT_ONCE, BEAT, HEAD_WAIT, MAX_READ
from tarfailover.master.oaksources import BLOB_CHUNK
from tarfailover.master.report import _served
from tarfailover.master.visitors import MOST, Visitors
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.wire import messages as m
from tarfailover.wire.oak import answers, requests
from tarfailover.wire.oak.frames import BlobPart, HeadAnswer, ReferencesAnswer
from tarfailover.wire.oak.limits import MAX_LINE
from tarfailover.wire.oak.requests import GetBlob, GetHead, GetReferences, GetSegment
from tarfailover.wire.oak.snappy import IDENTIFIER, PADDING

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)
NONE_SUCH = data_id(999)
GIB = 2**30
LINES = [
    b"\r\n",
    b"Standby-CMD@",
    b"Standby-CMD@x:",
    *(requests.line("x", each) for each in asking([SAMPLES[0].segment, NONE_SUCH])),
]


@pytest.fixture
def master(rig: Rig, tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(rig, store_of(tmp_path / "store", SAMPLES))
    held = side.holders
    yield side
    for link in rig.links:
        link.cut()
    rig.settle()
    assert side.holders == held, "a snapshot is still held"
    side.close()


def settled(rig: Rig, peer: RawStandby) -> list[Any]:
    """What comes to `peer` without any time passing."""
    rig.settle()
    return peer.take()


def everything(samples: list[Any]) -> list[object]:
    """The answers to `asking` for all of `samples`."""
    found: list[object] = []
    for each in samples:
        found += [ReferencesAnswer(each.segment, list(each.references))]
        found += [Whole(each.segment, each.data)]
    return [*found, HeadAnswer(head_in(samples[-1].segment))]


def test_a_first_sync(master: MasterSide, log: list[str]) -> None:
    peer, _ = standby(master, "oak-1")
    assert peer.raw == b"", "no greeting"
    for asked, answer in zip(
        asking(each.segment for each in SAMPLES), everything(SAMPLES), strict=True
    ):
        peer.ask(asked)
        assert settled(master.rig, peer) == [answer]
    assert peer.raw.startswith(IDENTIFIER) and peer.raw.count(IDENTIFIER) == 1
    assert any(line.startswith("info oak-1 at a local client: connected,") for line in log)


def test_all_in_one_breath(master: MasterSide) -> None:
    """Many more than one source takes, pipelined: the answers keep the order."""
    peer, _ = standby(master)
    ids = [each.segment for each in SAMPLES] * (AT_ONCE // 4)
    peer.ask(*asking(ids))
    assert settled(master.rig, peer) == everything(SAMPLES * (AT_ONCE // 4))


def test_byte_by_byte(master: MasterSide) -> None:
    peer, _ = standby(master)
    for asked in asking([SAMPLES[0].segment]):
        for byte in requests.line("x", asked):
            peer.transport.write(bytes([byte]))
            master.rig.settle()
    assert peer.take() == [*everything(SAMPLES)[:2], HeadAnswer(HEAD)]


def test_both_dialects_at_once(master: MasterSide) -> None:
    slave, _ = master.welcome()
    first, second = standby(master, "first")[0], standby(master, "second")[0]
    slave.ask(m.Head(None, 0))
    first.ask(GetHead())
    second.ask(GetHead())
    master.rig.settle()
    (answer,) = slave.take()
    assert isinstance(answer, m.HeadIs)
    assert answer.head == first.head() == second.head() == HEAD
    shown = {client.client: client.dialect for client in master.factory.served}
    assert shown == {"slave": "native", "first": "oak", "second": "oak"}


def test_following(master: MasterSide) -> None:
    peer, _ = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    assert peer.head() == HEAD
    more = chain(7)
    make_more(master, more)
    peer.ask(GetHead())
    master.rig.settle()
    assert peer.head() == head_in(more[-1].segment)
    peer.ask(*asking(each.segment for each in more[5:]))
    assert settled(master.rig, peer) == everything(more)[10:]


def make_more(master: MasterSide, samples: list[Any]) -> None:
    """The store gets a second tar with what of `samples` the first has not, and a new head."""
    directory = master.factory._follower.directory
    (directory / "data00001a.tar").write_bytes(tar_bytes("data00001a.tar", samples[5:]))
    add_heads(directory, samples[-1].segment)
    master.refresh()


@given(st.lists(st.binary(max_size=300) | st.sampled_from(LINES), max_size=12))
def test_any_lines_at_all(tmp_path_factory: pytest.TempPathFactory, said: list[bytes]) -> None:
    """They are answered, or passed over, or it is their end; and nothing is left."""
    rig = Rig()
    store = tmp_path_factory.getbasetemp() / "any-lines"
    if not store.exists():
        store_of(store, SAMPLES)
    side = MasterSide(rig, store)
    peer, link = standby(side)
    peer.parses = False
    peer.transport.write(b"Standby-CMD@x:" + b"".join(said))
    rig.settle()
    if link.alive:
        peer.transport.write(b"\r\nStandby-CMD@x:h\r\n")
        rig.settle()
        assert peer.plain.endswith(answers.head(HEAD))
    rig.pass_time(40, step=5)
    side.close()


# what cannot be had


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (f"s.{text(NONE_SUCH)}", "it is not, or no longer, in the master's store"),
        (f"r.{text(NONE_SUCH)}", "it is not, or no longer, in the master's store"),
        ("b.abc#3", "the master has no blob store (blob_store)"),
        ("s.nonsense", "is not a UUID; ignored"),
        ("x", "asks for nothing that is known; ignored"),
        ("", "asks for nothing that is known; ignored"),
        ("h ", "asks for nothing that is known; ignored"),
        ("S.1-2-3-4-5", "asks for nothing that is known; ignored"),
    ],
)
def test_no_answer_and_on_it_goes(master: MasterSide, log: list[str], body: str, told: str) -> None:
    """Specification 2.7: nothing goes out, and the next request is served."""
    peer, link = standby(master)
    peer.ask(GetHead())
    peer.say(body)
    peer.ask(GetHead())
    assert settled(master.rig, peer) == [HeadAnswer(HEAD)] * 2
    assert link.alive
    assert any(told in line and line.startswith("warn raw at ") for line in log)


def test_references_of_a_bulk_segment(rig: Rig, tmp_path: Path) -> None:
    block = bulk(1, 100)
    side = MasterSide(rig, store_of(tmp_path / "s", [block, leaf(1, [block.segment])]))
    peer, _ = standby(side)
    peer.ask(GetReferences(block.segment), GetSegment(block.segment))
    assert settled(rig, peer) == [
        ReferencesAnswer(block.segment, []),
        Whole(block.segment, block.data),
    ]
    side.close()


def test_damage_is_not_sent(rig: Rig, tmp_path: Path, log: list[str]) -> None:
    store = store_of(tmp_path / "s", SAMPLES)
    side = MasterSide(rig, store)
    spot = len(entry(SAMPLES[0])) + 512 + 45
    tar = store / TAR
    found = bytearray(tar.read_bytes())
    found[spot] ^= 1
    tar.write_bytes(found)
    peer, link = standby(side)
    peer.ask(*(GetSegment(each.segment) for each in SAMPLES[:3]), GetHead())
    first, last, head = settled(rig, peer)
    assert (first, last, head) == (
        Whole(SAMPLES[0].segment, SAMPLES[0].data),
        Whole(SAMPLES[2].segment, SAMPLES[2].data),
        HeadAnswer(HEAD),
    )
    assert link.alive
    assert any(f"no answer for segment {text(SAMPLES[1].segment)}" in line for line in log)
    side.close()


def test_a_uuid_as_java_reads_it(master: MasterSide) -> None:
    """The answer repeats the id as it was written."""
    peer, _ = standby(master)
    peer.parses = False
    written = text(SAMPLES[1].segment).upper()
    peer.say(f"r.{written}")
    master.rig.settle()
    assert peer.plain.endswith(f"\3{written}:{text(SAMPLES[0].segment)}".encode())


# no head


@pytest.fixture
def headless(rig: Rig, tmp_path: Path) -> Iterator[MasterSide]:
    side = MasterSide(rig, make_store(tmp_path / "s", {TAR: SAMPLES}, []))
    yield side
    side.close()


def test_a_head_is_waited_for(headless: MasterSide) -> None:
    peer, _ = standby(headless)
    peer.ask(GetHead(), GetSegment(SAMPLES[0].segment))
    headless.rig.pass_time(HEAD_WAIT - 1)
    assert peer.take() == []
    add_heads(headless.factory._follower.directory, SAMPLES[-1].segment)
    headless.refresh()
    assert peer.take() == [HeadAnswer(HEAD), Whole(SAMPLES[0].segment, SAMPLES[0].data)]


def test_a_head_is_not_waited_for_for_ever(headless: MasterSide, log: list[str]) -> None:
    """Others are served meanwhile; behind it the next requests are answered."""
    peer, link = standby(headless)
    other, _ = standby(headless)
    peer.ask(GetHead(), GetSegment(SAMPLES[0].segment))
    headless.rig.settle()
    other.ask(GetSegment(SAMPLES[1].segment))
    assert settled(headless.rig, other) == [Whole(SAMPLES[1].segment, SAMPLES[1].data)]
    headless.rig.pass_time(HEAD_WAIT + 0.1)
    assert peer.take() == [Whole(SAMPLES[0].segment, SAMPLES[0].data)]
    assert link.alive
    assert any("no answer: " in line for line in log)


def test_a_head_that_was_only_unsure_is_told_in_the_end(master: MasterSide) -> None:
    """The disk did not answer for a while, and nobody was told when it did again."""
    master.factory.blind = "the disk does not answer"
    peer, _ = standby(master)
    peer.ask(GetHead())
    master.rig.pass_time(1)
    assert peer.take() == []
    master.factory.blind = ""
    master.rig.pass_time(HEAD_WAIT)
    assert peer.take() == [HeadAnswer(HEAD)]


# signs of life


def test_a_silent_standby_is_kept_and_shown_life(master: MasterSide) -> None:
    """It is busy with its own tree, and gives up on a line that is silent."""
    peer, link = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    came = len(peer.raw)
    master.rig.pass_time(3600, step=BEAT)
    assert link.alive
    assert peer.raw[came:] == PADDING * int(3600 / BEAT)
    peer.take()
    peer.ask(GetHead())
    master.rig.settle()
    assert peer.head() == HEAD


def test_but_not_for_ever(rig: Rig, tmp_path: Path, log: list[str]) -> None:
    side = MasterSide(rig, store_of(tmp_path / "s", SAMPLES), deadline_idle_standby=100.0)
    peer, link = standby(side)
    peer.ask(GetHead())
    rig.pass_time(99, step=1)
    assert link.alive
    rig.pass_time(2, step=1)
    assert not link.alive
    assert any("idle-standby" in line for line in log)
    side.close()


def test_life_is_not_shown_to_strangers(master: MasterSide) -> None:
    peer, link = standby(master)
    peer.transport.write(b"Standby")
    master.rig.pass_time(9.9)
    assert link.alive and peer.raw == b""
    master.rig.pass_time(1)
    assert not link.alive


# limits


def test_a_slow_reader_costs_a_few_chunks(rig: Rig, tmp_path: Path) -> None:
    samples = large(60)
    side = MasterSide(rig, store_of(tmp_path / "s", samples))
    peer, link = standby(side)
    link.master.held = True
    peer.ask(*(GetSegment(each.segment) for each in samples))
    rig.settle()
    assert len(link.master.wire) == KERNEL and len(link.master.pending) > BUFFER
    assert link.master.most_pending <= 3 * 1024 * 1024
    other, _ = standby(side)
    other.ask(GetHead())
    assert settled(rig, other) == [HeadAnswer(head_in(samples[-1].segment))]
    rig.pass_time(61, step=1)
    assert not link.alive
    side.close()


def test_limits_of_bytes_a_second_count_for_a_standby(rig: Rig, tmp_path: Path) -> None:
    samples = large(10)
    side = MasterSide(rig, store_of(tmp_path / "s", samples), rate_limit_client=200_000)
    peer, _ = standby(side)
    peer.ask(*(GetSegment(each.segment) for each in samples[:5]))
    rig.pass_time(2, step=0.05)
    assert 200_000 <= len(peer.raw) <= 700_000
    rig.pass_time(5, step=0.05)
    assert peer.take() == [Whole(each.segment, each.data) for each in samples[:5]]
    side.close()


def test_few_bytes_are_read_at_a_time(master: MasterSide) -> None:
    """A MiB of the shortest requests would be seventy thousand of them."""
    peer, link = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    assert link.master.bufferSize == MAX_READ


def test_requests_are_held_back(rig: Rig, tmp_path: Path) -> None:
    """As many as fit into `max_requests` are answered, and the others wait in the network."""
    samples = large(4)
    side = MasterSide(rig, store_of(tmp_path / "s", samples), max_requests=2)
    peer, link = standby(side)
    link.master.held = True
    for _ in range(10):
        peer.ask(*(GetSegment(each.segment) for each in samples))
        rig.settle()
    client = link.master.protocol.client
    assert client._holds == {"queue"}
    link.master.held = False
    rig.settle()
    assert len(peer.take()) == 10 * len(samples)
    assert not client._holds
    side.close()


def test_a_line_without_an_end(master: MasterSide, log: list[str]) -> None:
    peer, link = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    assert peer.head() == HEAD
    peer.transport.write(b"S" * (MAX_LINE + 1))
    master.rig.settle()
    assert not link.alive
    assert any("a line of more than 8192 bytes" in line for line in log)


def test_half_a_line_has_a_deadline(master: MasterSide) -> None:
    peer, link = standby(master)
    peer.ask(GetHead())
    peer.transport.write(b"Standby-CMD@")
    master.rig.pass_time(29)
    assert link.alive
    master.rig.pass_time(2)
    assert not link.alive


def test_no_more_clients_than_allowed(rig: Rig, tmp_path: Path, log: list[str]) -> None:
    """Both dialects share the places; who comes too late is disconnected."""
    side = MasterSide(rig, store_of(tmp_path / "s", SAMPLES), max_clients=2)
    first, one = standby(side)
    first.ask(GetHead())
    _, two = side.welcome()
    peer, three = standby(side)
    peer.ask(GetHead())
    assert settled(rig, peer) == []
    assert (one.alive, two.alive, three.alive) == (True, True, False)
    assert any("2 clients are connected, more are not allowed" in line for line in log)
    one.cut()
    again, _ = standby(side)
    again.ask(GetHead())
    assert settled(rig, again) == [HeadAnswer(HEAD)]
    side.close()


def test_the_master_stops(master: MasterSide) -> None:
    peer, link = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    for client in list(master.factory.clients):
        client.end(m.ErrorCode.GOING_AWAY, "the master stops")
    master.rig.settle()
    assert not link.alive


@pytest.mark.parametrize("first", [b"F", b"G", b"\x16", b"\x01"])
def test_any_other_first_byte_is_no_standby(master: MasterSide, first: bytes) -> None:
    """It is told what a slave is told: a frame of this length is none."""
    slave, link = master.connect()
    slave.transport.write(first + b"ailOver-CMD@x:h\r\n")
    master.rig.settle()
    assert not link.alive
    assert isinstance(slave.take()[-1], m.Error)


def test_a_slave_is_served_after_a_zero(master: MasterSide) -> None:
    slave, _ = master.connect()
    said = m.framed(1, HELLO)
    for at in range(len(said)):
        slave.transport.write(said[at : at + 1])
        master.rig.settle()
    (answer,) = slave.take()
    assert isinstance(answer, m.Welcome)


def test_a_slave_of_2014_is_known(master: MasterSide, log: list[str]) -> None:
    slave, link = master.connect()
    slave.transport.write(b"FailOver-CMD@x:h\r\n")
    master.rig.settle()
    assert not link.alive
    assert any("a slave of Oak's first failover (before 1.1.2)" in line for line in log)


# who was here


def test_a_standby_that_comes_back_every_few_seconds(master: MasterSide, log: list[str]) -> None:
    """One line in the log for all of its runs; the status page knows of it between them."""
    for number in range(3):
        peer, link = standby(master, "oak-1")
        peer.ask(GetHead())
        master.rig.pass_time(1)
        link.cut()
        master.rig.settle()
        master.rig.pass_time(4)
        (shown,) = _served(master.factory)["standbys"]
        assert (shown["name"], shown["runs"]) == ("oak-1", number + 1)
        assert shown["head"] == str(HEAD)
        assert shown["bytes_sent"] > 0
        assert shown["first_seen"] < shown["last_seen"]
    assert len([line for line in log if ": connected" in line]) == 1
    assert len([line for line in log if ": disconnected" in line]) == 1
    assert not master.factory.served


def test_the_newest_standbys_are_remembered() -> None:
    visitors = Visitors()
    for number in range(MOST + 5):
        visitors.comes("first", "::1", number)
        visitors.comes(f"{number:03}", "::1", number)
    found = visitors.all()
    assert len(found) == MOST
    assert [each.name for each in found][:2] == ["006", "007"]
    assert found[-1].name == "first" and found[-1].runs == MOST + 5


# what is pinned


def test_what_a_standby_copies_is_held(master: MasterSide) -> None:
    """A cleanup on the master takes nothing away from who asked for the head before it."""
    peer, _ = standby(master)
    peer.ask(GetHead())
    master.rig.settle()
    peer.take()
    directory = master.factory._follower.directory
    new = leaf(77)
    (directory / "data00001a.tar").write_bytes(tar_bytes("data00001a.tar", [new]))
    add_heads(directory, new.segment)
    (directory / TAR).unlink()
    master.refresh()
    assert not master.factory.snapshot.contains(SAMPLES[0].segment)
    # The head behind a batch asks whether all was answered, and is no new beginning.
    peer.ask(GetSegment(SAMPLES[0].segment), GetHead(), GetSegment(SAMPLES[1].segment))
    assert settled(master.rig, peer) == [
        Whole(SAMPLES[0].segment, SAMPLES[0].data),
        HeadAnswer(head_in(new.segment)),
        Whole(SAMPLES[1].segment, SAMPLES[1].data),
    ]
    peer.ask(GetHead(), GetSegment(SAMPLES[0].segment), GetHead())
    assert settled(master.rig, peer) == [HeadAnswer(head_in(new.segment))] * 2


# binaries


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    (tmp_path / "blobs").mkdir()
    return BlobStore(tmp_path / "blobs", DATA_STORE)


def stored(blobs: BlobStore, data: bytes) -> str:
    """Put a binary there; its id."""
    digest = hashlib.sha256(data).hexdigest()
    blob = blobs.parse(f"{digest}#{len(data)}")
    path = blobs.path / blobs.layout.place(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return blob.text


@pytest.mark.parametrize(
    "size", [0, 1, BLOB_CHUNK - 1, BLOB_CHUNK, BLOB_CHUNK + 1, 3 * BLOB_CHUNK + 5]
)
def test_a_binary_in_chunks(master: MasterSide, blobs: BlobStore, size: int) -> None:
    master.factory.blobs = blobs
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    name = stored(blobs, data)
    peer, _ = standby(master)
    peer.ask(GetHead(), GetBlob(name), GetHead())
    head, *chunks, after = settled(master.rig, peer)
    assert head == after == HeadAnswer(HEAD)
    parts = [BlobPart(*each.what, b"", True) for each in chunks]
    assert b"".join(each.data for each in chunks) == data
    assert all((each.blob, each.total) == (name, size) for each in parts)
    assert [each.first for each in parts] == [True] + [False] * (len(parts) - 1)
    assert [each.last for each in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) == max(1, -(-size // BLOB_CHUNK))


class Endless:
    """A blob store with one binary of 5 GiB, whose disk fails after 12 MiB."""

    def __init__(self) -> None:
        self.read = 0

    def parse(self, name: str) -> BlobId:
        return BlobId(name, (), 5 * GIB)

    def length(self, blob: BlobId) -> int:
        assert blob.length is not None
        return blob.length

    def pieces(self, blob: BlobId) -> Iterator[bytes]:
        del blob
        for _ in range(12):
            self.read += 1
            yield content(1, 2**20)
        raise StoreIOError("the disk fails")


def test_a_binary_of_any_size(master: MasterSide) -> None:
    """It goes out as it is read, a few chunks ahead; no number of bytes is too large."""
    endless = Endless()
    master.factory.blobs = endless  # as far as it goes
    peer, link = standby(master)
    link.master.held = True
    peer.ask(GetBlob("long"), GetHead())
    master.rig.settle()
    assert endless.read <= 6
    link.master.held = False
    *chunks, head = settled(master.rig, peer)
    assert head == HeadAnswer(HEAD)
    assert [each.what for each in chunks] == [
        ("long", 5 * GIB, not number, False) for number in range(len(chunks))
    ]
    assert len(chunks) == 11, "the last one that was read may have been the last of all"


def test_a_binary_that_is_damaged_never_ends(
    master: MasterSide, blobs: BlobStore, log: list[str]
) -> None:
    master.factory.blobs = blobs
    name = stored(blobs, bytes(BLOB_CHUNK + 10))
    digest = name.partition("#")[0]
    (blobs.path / blobs.layout.place(digest)).write_bytes(bytes(BLOB_CHUNK) + b"1234567890")
    peer, link = standby(master)
    peer.ask(GetBlob(name), GetHead())
    chunk, head = settled(master.rig, peer)
    assert chunk.what == (name, BLOB_CHUNK + 10, True, False)
    assert head == HeadAnswer(HEAD)
    assert link.alive
    assert any(f"no answer for binary {name}" in line for line in log)


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 64 + "#7", "x", "a:b#3"])
def test_a_binary_that_is_not_there(
    master: MasterSide, blobs: BlobStore, log: list[str], name: str
) -> None:
    master.factory.blobs = blobs
    peer, link = standby(master)
    peer.ask(GetBlob(name), GetHead())
    assert settled(master.rig, peer) == [HeadAnswer(HEAD)]
    assert link.alive
    assert any(f"no answer for binary {name}: " in line for line in log)
