"""Binaries beside the segments: a head moves once they are there, and not before."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from binaries import Both, add_to, holder, id_of
from blob_samples import OAK_WALKED, put, unpacked, vectors, with_blobs
from content import external, write
from links import Link
from sides import SlaveSide, served
from stores import QuickDisk, bulk, head_in, leaf

from tarfailover import repository
from tarfailover.config import SlaveConfig
from tarfailover.errors import StoreIOError
from tarfailover.format.blobid import Block, encode_entry
from tarfailover.ids import Generation, RecordId
from tarfailover.reload import SLAVE_LIVE, Reload
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.digest import content_digest
from tarfailover.repository.values import Property
from tarfailover.slave import blobcopy, status
from tarfailover.slave.blobcopy import BlobCopy, Chunk, Taken
from tarfailover.slave.blobs import RETRY_AFTER
from tarfailover.slave.report import report
from tarfailover.store import journal
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, Incoming, Layout
from tarfailover.store.blobs.missing import NAME, MissingBlobs
from tarfailover.store.writer import StoreWriter
from tarfailover.wire import messages as m

pytestmark = pytest.mark.load

ONE, TWO = b"one " * 300, b"two " * 700
LARGE = random.Random(7).randbytes(3 * m.MAX_SLICE + 11)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Callable[..., Both]]:
    made: list[Both] = []

    def one(layout: Layout = DATA_STORE, **settings: Any) -> Both:
        made.append(Both(tmp_path, layout, **settings))
        return made[-1]

    yield one
    for each in made:
        each.end()


def head_of(sides: Both) -> RecordId | None:
    """The head in the slave's journal, whether its store is open or not."""
    path = sides.tmp_path / "copy" / "journal.log"
    return next((line.head for line in journal.newest_first(path)), None)


def lose(store: BlobStore, digest: str) -> None:
    """Remove a file, and the folders that are empty then."""
    (path,) = [each.path for each in store.files() if each.digest == digest]
    path.unlink()
    for folder in path.parents:
        if folder == store.path or any(folder.iterdir()):
            break
        folder.rmdir()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[m.Blob]:
    """The slices that masters were asked for."""
    found: list[m.Blob] = []
    decode = m.decode_request

    def listening(frame: bytes) -> tuple[int, m.Request]:
        number, message = decode(frame)
        if isinstance(message, m.Blob):
            found.append(message)
        return number, message

    monkeypatch.setattr(m, "decode_request", listening)
    return found


KINDS = pytest.mark.parametrize("kind", ["file", "blocks"])


def oaks(both: Callable[..., Both], kind: str, **settings: Any) -> Both:
    """A master of a store that real Oak wrote, with its binaries."""
    sides = both(DATA_STORE if kind == "file" else BLOCKS, **settings)
    store, blobs = with_blobs(kind, sides.tmp_path / "oak")
    sides.theirs = BlobStore(blobs, sides.theirs.layout)
    sides.master = served(sides.rig, store, blob_store=str(blobs))
    sides.master.factory.blobs = sides.theirs
    return sides


class TestPrivate:
    def test_a_first_copy_and_then_only_what_is_new(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, ONE).text, put(sides.theirs, LARGE).text, "0x6869#2"])
        sides.serve(first)
        slave = sides.follow()
        assert slave.state == status.IN_SYNC and slave.head == head_in(first.segment)
        assert sides.has(ONE, LARGE)
        assert [each.offset for each in asked] == [0, 0, *(m.MAX_SLICE * n for n in (1, 2, 3))]
        asked.clear()
        second = holder(2, [put(sides.theirs, TWO).text, id_of(ONE)], [first.segment])
        sides.commit(second)
        assert slave.head == head_in(second.segment)
        assert [each.blob for each in asked] == [id_of(TWO)]
        assert sides.has(TWO)
        assert slave.service.transfer is not None
        assert slave.service.transfer.progress().blobs == 1

    def test_the_head_waits_for_them(self, both: Callable[..., Both]) -> None:
        sides = both()
        first = leaf(1)
        sides.serve(first)
        slave = sides.follow()
        second = holder(2, [put(sides.theirs, LARGE).text], [first.segment])
        sides.rig.link.master.held = True
        sides.commit(second)
        sides.rig.link.master.held = False
        copy = slave.service.copy
        assert copy is not None
        sides.rig.until(lambda: copy.writer.contains(second.segment), "the segment")
        while slave.head != head_in(second.segment):
            assert slave.head == head_in(first.segment)
            whole = sides.has(LARGE)
            assert sides.rig.turn()
        assert whole, "a turn before the head moved all was there"

    def test_an_empty_one_and_the_same_one_many_times(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        empty, one = put(sides.theirs, b"").text, put(sides.theirs, ONE).text
        samples = [holder(1, [empty, one]), holder(2, [one, one], [])]
        sides.serve(*samples, holder(3, [one], [each.segment for each in samples]))
        assert sides.follow().state == status.IN_SYNC
        assert sides.has(b"", ONE)
        assert [each.blob for each in asked] == [one]

    def test_blocks_of_a_file_blob_store(self, both: Callable[..., Both]) -> None:
        sides = both(BLOCKS)
        sides.serve(holder(1, [put(sides.theirs, ONE).text]))
        assert sides.follow().state == status.IN_SYNC
        assert sides.has(ONE)

    @pytest.mark.parametrize("store", ["blocks", "nested"])
    def test_index_blocks_tell_what_is_below_them(
        self, both: Callable[..., Both], store: str, asked: list[m.Blob]
    ) -> None:
        """Also where the same block is part of several binaries, or of one many times."""
        sides = both(BLOCKS)
        sides.theirs.path.rmdir()
        sides.theirs = unpacked(store, sides.theirs.path)
        rows = [(content, blob) for kind, content, blob in vectors() if kind == store]
        ids = [blob for _, blob in rows]
        two = [holder(1, ids), holder(2, ids[::-1])]
        sides.serve(*two, holder(3, ids, [each.segment for each in two]))
        assert sides.follow().state == status.IN_SYNC
        for content, blob in rows:
            parsed = sides.ours.parse(blob)
            sides.ours.verify(parsed)
            assert sides.ours.read_at(parsed, 0, len(content) + 1) == content
        assert len(asked) == len(set(asked)), "no block comes twice"

    @KINDS
    def test_a_store_of_real_oak(self, both: Callable[..., Both], kind: str) -> None:
        sides = oaks(both, kind)
        assert sides.follow().state == status.IN_SYNC
        theirs = {each.digest for each in sides.theirs.files()}
        ours = {each.digest for each in sides.ours.files()}
        assert ours and ours <= theirs
        with repository.open(sides.tmp_path / "copy", sides.ours.path) as opened:
            assert content_digest(opened.head.super_root.state).sha256 == OAK_WALKED[kind]

    def test_turned_on_for_a_copy_that_is_there(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, ONE).text])
        sides.serve(first)
        settings, sides.settings = sides.settings, {}
        sides.follow().stop()
        assert not asked and not sides.ours.path.exists()
        sides.settings = settings
        slave = sides.follow()
        assert "syncing" in slave.history
        assert slave.state == status.IN_SYNC and sides.has(ONE)

    def test_after_a_restart_what_was_lost_is_found(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, ONE).text, put(sides.theirs, TWO).text]))
        sides.follow().stop()
        asked.clear()
        lose(sides.ours, id_of(ONE)[:64])
        assert sides.follow().state == status.IN_SYNC
        assert [each.blob for each in asked] == [id_of(ONE)]
        assert sides.has(ONE, TWO)

    def test_a_torn_file_is_brought_again(self, both: Callable[..., Both]) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, ONE).text]))
        sides.follow().stop()
        path = sides.ours.path / DATA_STORE.place(id_of(ONE)[:64])
        path.write_bytes(ONE[:7])
        assert sides.follow().state == status.IN_SYNC
        assert sides.has(ONE)

    def test_a_master_without_them_is_refused_only_if_one_is_needed(
        self, both: Callable[..., Both]
    ) -> None:
        sides = both()
        first = leaf(1)
        sides.serve(first, blobs=False)
        slave = sides.follow()
        assert slave.state == status.IN_SYNC
        sides.commit(holder(2, [id_of(ONE)], [first.segment]))
        assert slave.state == status.REFUSED
        assert "name its blob_store there" in slave.service.status.why
        assert slave.head == head_in(first.segment)

    def test_cut_anywhere_it_goes_on_from_there(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, LARGE).text]))
        rig = sides.rig
        master = rig.master
        cuts = iter([400_000, 700_000, 900_000])

        def cutting() -> Any:
            made = master()  # type: ignore[misc]
            cut = next(cuts, None)
            if cut is not None:
                rig.callLater(0, lambda: setattr(rig.link, "cut_after", cut))
            return made

        rig.master = cutting
        slave = sides.follow()
        rig.pass_time(30, step=1)
        assert slave.state == status.IN_SYNC and sides.has(LARGE)
        offsets = [each.offset for each in asked]
        firsts = [one for one, before in zip(offsets[1:], offsets, strict=False) if one <= before]
        assert len(firsts) >= 3
        assert all(one > 0 for one in firsts), "nothing that came is asked for again"

    def test_more_than_4_gib(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch, asked: list[m.Blob]
    ) -> None:
        """Files with holes, of which nobody computes the digest: only the end comes."""
        size, digest = 2**32 + 7, "0" * 64

        def holed(path: Path, length: int) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, length)

        monkeypatch.setattr(Incoming, "catch_up", lambda *_: True)
        monkeypatch.setattr(Incoming, "check", lambda *_: None)
        sides = both()
        holed(sides.theirs.path / DATA_STORE.place(digest), size)
        holed(sides.ours.path / DATA_STORE.partial(digest), 2**32 - 5)
        sides.serve(holder(1, [f"{digest}#{size}"]))
        assert sides.follow().state == status.IN_SYNC
        assert [(each.offset, each.most) for each in asked] == [(2**32 - 5, 12)]
        assert (sides.ours.path / DATA_STORE.place(digest)).stat().st_size == size
        (sides.ours.path / DATA_STORE.place(digest)).unlink()

    def test_no_space_left_is_a_state_and_nothing_is_lost(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, ONE).text])
        sides.serve(first)
        slave = sides.follow()
        disk = type(slave.service._keeper.disk)
        write = disk.write
        second = holder(2, [put(sides.theirs, LARGE).text], [first.segment])

        def full(self: Any, fd: int, path: Path, *rest: Any) -> int:
            if ".part" in path.name:
                raise StoreIOError(f"{path}: no space") from OSError(errno.ENOSPC, "no space")
            return write(self, fd, path, *rest)

        monkeypatch.setattr(disk, "write", full)
        sides.commit(second)
        sides.rig.pass_time(5, step=1)
        assert slave.state == status.FAILED
        assert "no space" in slave.service.status.why
        assert head_of(sides) == head_in(first.segment)
        monkeypatch.undo()
        sides.rig.pass_time(120, step=5)
        assert slave.state == status.IN_SYNC
        assert slave.head == head_in(second.segment) and sides.has(ONE, LARGE)

    def test_a_disk_that_goes_while_it_follows(self, both: Callable[..., Both]) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, ONE).text])
        sides.serve(first)
        slave = sides.follow()
        away = sides.tmp_path / "away"
        sides.ours.path.rename(away)
        sides.ours.path.mkdir()
        second = holder(2, [put(sides.theirs, TWO).text], [first.segment])
        sides.commit(second)
        assert slave.state == status.FAILED and "disk mounted?" in slave.service.status.why
        sides.rig.pass_time(30, step=5)
        assert not any(sides.ours.path.iterdir()) and head_of(sides) == head_in(first.segment)
        sides.ours.path.rmdir()
        away.rename(sides.ours.path)
        sides.rig.pass_time(60, step=5)
        assert slave.state == status.IN_SYNC and sides.has(ONE, TWO)

    def test_a_disk_that_hangs_is_told_and_it_goes_on_with_it(
        self, both: Callable[..., Both]
    ) -> None:
        sides = both()
        first = leaf(1)
        sides.serve(first)
        slave = sides.follow()
        second = holder(2, [put(sides.theirs, LARGE).text], [first.segment])
        add_to(sides.store, [second])
        sides.master.factory.refresh()
        copy = slave.service.copy
        assert copy is not None and copy.blobs is not None
        begun = copy.blobs
        sides.rig.until(lambda: bool(begun._open), "binaries on their way to the disk")
        slave.work.held = True
        sides.rig.pass_time(130, step=5)
        assert slave.state == status.STALLED and "the store's thread" in slave.service.status.why
        slave.work.held = False
        sides.rig.pass_time(60, step=5)
        assert slave.state == status.IN_SYNC and slave.head == head_in(second.segment)
        assert sides.has(LARGE)

    def test_some_space_is_left_to_others(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, LARGE).text]))
        with monkeypatch.context() as patched:
            patched.setattr(QuickDisk, "free", lambda *_: blobcopy.SPARE + 1_000_000)
            slave = sides.follow()
            assert slave.state == status.FAILED
            assert "are left to others" in slave.service.status.why
        sides.rig.pass_time(60, step=5)
        assert slave.state == status.IN_SYNC and sides.has(LARGE)

    def test_stopped_in_the_middle_it_keeps_what_came(
        self, both: Callable[..., Both], asked: list[m.Blob]
    ) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, LARGE).text]))
        sides.slave = SlaveSide(sides.rig, sides.tmp_path / "copy", **sides.settings)
        sides.slave.service.startService()
        sides.rig.until(lambda: sides.ours.path.exists() and any(sides.ours.partials()), "a part")
        sides.slave.stop()
        (part,) = sides.ours.partials()
        assert head_of(sides) is None
        asked.clear()
        assert sides.follow().state == status.IN_SYNC and sides.has(LARGE)
        assert asked[0].offset >= part.size > 0

    def test_what_it_brought_can_be_served(self, both: Callable[..., Both]) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, LARGE).text, put(sides.theirs, b"").text])
        sides.serve(first)
        sides.follow().stop()
        sides.master.close()
        middle = sides.tmp_path / "copy"
        sides.master = served(sides.rig, middle, blob_store=str(sides.ours.path))
        sides.master.factory.blobs = sides.ours
        last = BlobStore(sides.tmp_path / "last", DATA_STORE)
        settings = {"blob_store": str(last.path)}
        sides.slave = SlaveSide(sides.rig, sides.tmp_path / "copy2", **settings).start()
        assert sides.slave.head == head_in(first.segment)
        assert {each.digest for each in last.files()} == {
            each.digest for each in sides.theirs.files()
        }

    def test_a_disk_that_is_not_mounted_gets_no_second_copy(
        self, both: Callable[..., Both]
    ) -> None:
        sides = both()
        sides.serve(holder(1, [put(sides.theirs, ONE).text]))
        sides.follow().stop()
        lose(sides.ours, id_of(ONE)[:64])
        slave = sides.follow()
        (error,) = slave.fatal
        assert "is their disk mounted?" in str(error)
        slave.stop()
        assert not sides.ours.path.exists() or not any(sides.ours.path.iterdir())
        (sides.tmp_path / "copy" / NAME).unlink()
        assert sides.follow().state == status.IN_SYNC


class TestMissing:
    def test_the_head_stays_and_the_paths_are_told(self, both: Callable[..., Both]) -> None:
        sides = both()
        put(sides.theirs, TWO)
        first = leaf(1)
        sides.serve(first)
        slave = sides.follow()
        large = bulk(1, 200_000)
        second = holder(2, [id_of(ONE), id_of(TWO)], [first.segment, large.segment])
        add_to(sides.store, [large, second])
        sides.master.refresh()
        sides.rig.settle()
        assert slave.state == status.FAILED
        why = slave.service.status.why
        assert f"head {head_in(second.segment)} needs 1 binaries" in why
        assert id_of(ONE) in why and "--blobs=warn" in why
        assert slave.head == head_in(first.segment)
        assert sides.has(TWO), "the others came all the same"
        assert len(sides.rig.links) == 1, "a missing binary is no fault of the connection"
        sides.rig.pass_time(10, step=1)
        before = sides.rig.link.master.delivered
        sides.rig.pass_time(20, step=1)
        assert sides.rig.link.master.delivered - before < 5000, "its segments do not come again"
        put(sides.theirs, ONE)
        sides.rig.pass_time(20, step=1)
        assert slave.state == status.IN_SYNC
        assert slave.head == head_in(second.segment) and sides.has(ONE)

    def test_with_warn_it_goes_on_and_the_list_lasts(self, both: Callable[..., Both]) -> None:
        sides = both(blobs="warn")
        put(sides.theirs, TWO)
        first = holder(1, [id_of(ONE), id_of(TWO)])
        sides.serve(first)
        slave = sides.follow()
        assert slave.state == status.IN_SYNC
        assert slave.head == head_in(first.segment)
        found = report(slave.service)
        assert found["blobs_missing"] == 1
        assert found["missing_blobs"][0]["id"] == id_of(ONE)
        slave.stop()
        listed = MissingBlobs.load(sides.tmp_path / "copy")
        assert list(listed.blobs) == [id_of(ONE)]
        slave = sides.follow()
        assert list(MissingBlobs.load(sides.tmp_path / "copy").blobs) == [id_of(ONE)]
        put(sides.theirs, ONE)
        sides.rig.pass_time(RETRY_AFTER + 25, step=5)
        assert sides.has(ONE)
        assert report(slave.service)["blobs_missing"] == 0
        assert MissingBlobs.load(sides.tmp_path / "copy").blobs == {}
        assert set(slave.history[2:]) <= {"in sync"}

    def test_told_to_warn_while_it_waits(self, both: Callable[..., Both]) -> None:
        sides = both()
        put(sides.theirs, TWO)
        first = holder(1, [id_of(ONE)])
        sides.serve(first)
        slave = sides.follow()
        assert slave.state == status.FAILED
        config = slave.service.config
        Reload(slave.service, lambda: replace(config, blobs="warn"), SLAVE_LIVE)()
        sides.rig.pass_time(10, step=1)
        assert slave.state == status.IN_SYNC and slave.head == head_in(first.segment)

    def test_from_warn_back_to_require(self, both: Callable[..., Both]) -> None:
        sides = both(blobs="warn")
        put(sides.theirs, TWO)
        first = holder(1, [id_of(ONE)])
        sides.serve(first)
        sides.follow().stop()
        sides.settings["blobs"] = "require"
        slave = sides.follow()
        assert slave.state == status.FAILED and id_of(ONE) in slave.service.status.why
        second = holder(2, [id_of(TWO)], [first.segment])
        sides.commit(second)
        sides.rig.pass_time(30, step=5)
        assert slave.head == head_in(first.segment)
        put(sides.theirs, ONE)
        sides.rig.pass_time(30, step=1)
        assert slave.head == head_in(second.segment) and sides.has(ONE, TWO)

    @pytest.mark.parametrize(
        "hostile",
        [
            "../../../../etc/passwd",
            "/etc/passwd",
            "a" * 64 + "#" + "9" * 40,
            "A" * 64 + "#1",
            "00112233-4455-6677-8899-aabbccddeeff-1700000000000#5",
            b"\xff\xfe",
            b"a\nb\x1b[2Jc",
            "0x6" + "#1",
        ],
    )
    def test_a_hostile_id_is_told_and_becomes_no_path(
        self, both: Callable[..., Both], hostile: str | bytes, asked: list[m.Blob]
    ) -> None:
        sides = both()
        put(sides.theirs, ONE)
        sides.serve(holder(1, [hostile, id_of(ONE)]))
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert slave.head is None and sides.has(ONE)
        assert slave.service.status.why.isprintable()
        assert [each.blob for each in asked] == [id_of(ONE)]

    @pytest.mark.parametrize("content", [encode_entry(b"hello"), b"\x07 no entries", b""])
    def test_an_index_block_that_lies_is_brought_once(
        self, both: Callable[..., Both], content: bytes, asked: list[m.Blob]
    ) -> None:
        sides = both(BLOCKS)
        put(sides.theirs, content)
        digest = hashlib.sha256(content).hexdigest()
        lie = encode_entry(Block(digest, len(content), level=1, total=999)).hex()
        sides.serve(holder(1, [lie]))
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert "its index blocks are not what its id says" in slave.service.status.why
        assert len(asked) <= 1

    @pytest.mark.parametrize("size", [0, 5, 100])
    def test_a_master_with_another_length(self, both: Callable[..., Both], size: int) -> None:
        sides = both()
        blob = put(sides.theirs, ONE).text
        (sides.theirs.path / DATA_STORE.place(blob[:64])).write_bytes(bytes(size))
        sides.serve(holder(1, [blob]))
        slave = sides.follow()
        assert slave.state == status.FAILED and f"has {size} bytes" in slave.service.status.why

    def test_more_bytes_than_the_id_says_are_not_written(self, tmp_path: Path) -> None:
        """From an Oak primary, which believes the number in an id and sends the whole file."""
        blob, config = id_of(ONE[:5]), SlaveConfig(store=tmp_path, blob_store=str(tmp_path / "own"))
        with StoreWriter.open(tmp_path / "copy", create=True, disk=QuickDisk()) as writer:
            copy = BlobCopy.open(config, writer, QuickDisk())
            assert copy is not None
            taken = copy.take([Chunk(blob, 0, ONE[:3]), Chunk(blob, 3, ONE[3:])], [])
            assert taken == Taken([], {}, [], ())
            assert [each.size for each in copy.store.partials()] == [5]
            assert copy.take([], [blob]).stored == [blob]
            copy.end()

    def test_a_master_whose_file_is_not_what_its_id_says(self, both: Callable[..., Both]) -> None:
        sides = both()
        blob = put(sides.theirs, LARGE).text
        path = sides.theirs.path / DATA_STORE.place(blob[:64])
        path.write_bytes(b"x" + LARGE[1:])
        sides.serve(holder(1, [blob]))
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert "what the master has is not what its id says" in slave.service.status.why
        assert not list(sides.ours.files()) and not list(sides.ours.partials())
        path.write_bytes(LARGE)
        sides.rig.pass_time(20, step=1)
        assert slave.state == status.IN_SYNC and sides.has(LARGE)

    def test_a_part_that_was_spoilt_here_is_brought_anew(self, both: Callable[..., Both]) -> None:
        sides = both()
        blob = put(sides.theirs, LARGE)
        sides.ours.path.mkdir()
        part = sides.ours.path / DATA_STORE.partial(blob.text[:64])
        part.write_bytes(bytes(1_000_000))
        sides.serve(holder(1, [blob.text]))
        assert sides.follow().state == status.IN_SYNC
        assert sides.has(LARGE) and not part.exists()

    @KINDS
    def test_the_paths_that_need_it(self, both: Callable[..., Both], kind: str) -> None:
        sides = oaks(both, kind)
        victim = next(sides.theirs.files())
        content = victim.path.read_bytes()
        lose(sides.theirs, victim.digest)
        slave = sides.follow()
        assert slave.state == status.FAILED
        why = slave.service.status.why
        assert re.search(r"#?\w+ \(at .*/data", why), why
        victim.path.parent.mkdir(parents=True, exist_ok=True)
        victim.path.write_bytes(content)
        sides.rig.pass_time(20, step=1)
        assert slave.state == status.IN_SYNC

    def test_one_that_no_node_holds_keeps_nothing(self, both: Callable[..., Both]) -> None:
        sides = both()
        put(sides.theirs, ONE)

        def edit(top: NodeBuilder, writer: RepositoryWriter) -> None:
            external(writer, id_of(TWO))
            top.child("page").set("data", Property.of(external(writer, id_of(ONE))))

        write(sides.store, edit)
        sides.master = served(sides.rig, sides.store, blob_store=str(sides.theirs.path))
        sides.master.factory.blobs = sides.theirs
        slave = sides.follow()
        assert slave.state == status.IN_SYNC and sides.has(ONE)
        listed = MissingBlobs.load(sides.tmp_path / "copy").blobs
        assert [(blob, each.unneeded) for blob, each in listed.items()] == [(id_of(TWO), True)]
        put(sides.theirs, TWO)
        sides.rig.pass_time(RETRY_AFTER + 25, step=5)
        assert sides.has(TWO)
        assert not MissingBlobs.load(sides.tmp_path / "copy").blobs

    def test_paths_in_the_content_and_in_checkpoints(self, both: Callable[..., Both]) -> None:
        sides = both(blobs="warn")
        put(sides.theirs, TWO)

        def edit(top: NodeBuilder, writer: RepositoryWriter) -> None:
            lost = external(writer, id_of(ONE))
            top.child("root").child("a/b").set("data", Property.of([lost, lost]))
            kept = top.child("checkpoints").child("saved").child("root")
            kept.child("old").set("jcr:data", Property.of(lost))
            top.child("root").child("checkpoints").set("data", Property.of(lost))

        write(sides.store, edit, top=True)
        sides.master = served(sides.rig, sides.store, blob_store=str(sides.theirs.path))
        sides.master.factory.blobs = sides.theirs
        slave = sides.follow()
        assert slave.state == status.IN_SYNC
        (row,) = report(slave.service)["missing_blobs"]
        assert sorted(row["paths"]) == [
            "/a\\u002fb/data",
            "/a\\u002fb/data",
            "/checkpoints/data",
            "checkpoint saved: /old/jcr:data",
        ]


class TestShared:
    def test_it_is_only_looked_at(self, both: Callable[..., Both], asked: list[m.Blob]) -> None:
        sides = both(blob_store_shared=True)
        sides.settings["blob_store"] = str(sides.theirs.path)
        put(sides.theirs, ONE)
        before = sorted(sides.theirs.path.rglob("*"))
        first = holder(1, [id_of(ONE)])
        sides.serve(first)
        slave = sides.follow()
        assert slave.state == status.IN_SYNC and slave.head == head_in(first.segment)
        second = holder(2, [id_of(TWO)], [first.segment])
        sides.commit(second)
        assert slave.state == status.FAILED
        assert "not in the shared" in slave.service.status.why
        assert slave.head == head_in(first.segment)
        put(sides.theirs, TWO)
        sides.rig.pass_time(20, step=1)
        assert slave.state == status.IN_SYNC and slave.head == head_in(second.segment)
        assert not asked
        assert not [path for path in sides.theirs.path.iterdir() if path.name.startswith(".")]
        assert before

    def test_one_that_is_not_mounted(self, both: Callable[..., Both]) -> None:
        sides = both(blob_store_shared=True, blobs="warn")
        sides.serve(holder(1, [id_of(ONE)]))
        (sides.tmp_path / "ours").mkdir()
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert "is its disk mounted?" in slave.service.status.why
        assert head_of(sides) is None


class TestLookups:
    """What is looked up again, and what is not."""

    def test_an_increment_costs_what_is_new(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sides = both()
        first = holder(1, [put(sides.theirs, bytes([n])).text for n in range(50)])
        sides.serve(first)
        slave = sides.follow()
        looked: list[str] = []
        wanted = BlobStore.wanted

        def counting(self: BlobStore, blob: Any) -> Any:
            looked.append(blob.text)
            return wanted(self, blob)

        monkeypatch.setattr(BlobStore, "wanted", counting)
        second = holder(2, [put(sides.theirs, ONE).text], [first.segment])
        sides.commit(second)
        assert slave.head == head_in(second.segment) and looked == [id_of(ONE)]
        third = leaf(3, [second.segment])
        sides.commit(third, "data00002a.tar")
        assert slave.head == head_in(third.segment) and looked == [id_of(ONE)]

    def test_with_warn_what_is_listed_is_not_searched_for_again(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch, asked: list[m.Blob]
    ) -> None:
        sides = both(blobs="warn")
        put(sides.theirs, TWO)
        first = holder(1, [id_of(ONE)])
        sides.serve(first)
        slave = sides.follow()
        searched: list[object] = []
        monkeypatch.setattr(
            "tarfailover.slave.blobcopy.holders", lambda *args: searched.append(args)
        )
        asked.clear()
        second = holder(2, [id_of(TWO)], [first.segment])
        sides.commit(second)
        assert slave.head == head_in(second.segment)
        assert [each.blob for each in asked] == [id_of(TWO)]
        sides.rig.pass_time(RETRY_AFTER + 25, step=5)
        assert [each.blob for each in asked] == [id_of(TWO), id_of(ONE)]
        assert list(MissingBlobs.load(sides.tmp_path / "copy").blobs) == [id_of(ONE)]
        assert not searched and slave.state == status.IN_SYNC

    def test_too_many_ids_of_another_kind(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(blobcopy, "MAX_MISSING", 20)
        sides = both(blobs="warn")
        sides.serve(holder(1, [f"{k:062}zz" for k in range(21)]))
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert "blob_store_kind 'file' right?" in slave.service.status.why

    def test_more_missing_than_can_be_listed(
        self, both: Callable[..., Both], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(blobcopy, "MAX_MISSING", 20)
        sides = both(blobs="warn")
        put(sides.theirs, ONE)
        sides.serve(holder(1, [f"{k:064}#1" for k in range(21)]))
        slave = sides.follow()
        assert slave.state == status.FAILED
        assert "21 binaries are missing, and 20 can be listed" in slave.service.status.why

    def test_many_at_once(self, both: Callable[..., Both]) -> None:
        sides = both()
        contents = [b"%d" % number * 40 for number in range(300)]
        sides.serve(holder(1, [put(sides.theirs, each).text for each in contents]))
        assert sides.follow().state == status.IN_SYNC
        assert sides.has(*contents) and not list(sides.ours.partials())

    def test_after_a_cleanup_all_is_looked_at_once_more(self, both: Callable[..., Both]) -> None:
        sides = both()
        new = Generation(1, 1, compacted=True)
        old = holder(1, [put(sides.theirs, ONE).text])
        sides.serve(old)
        slave = sides.follow()
        kept = holder(2, [put(sides.theirs, TWO).text], generation=new)
        sides.commit(kept)
        sides.rig.pass_time(30, step=1)
        assert slave.service.copy is not None and not slave.service.copy.cleanup_due
        lose(sides.ours, id_of(TWO)[:64])
        third = leaf(3, [kept.segment], generation=new)
        sides.commit(third, "data00002a.tar")
        assert slave.head == head_in(third.segment) and sides.has(TWO)


def cut_after(link: Link, size: int) -> None:
    """Cut a connection once so many bytes were delivered."""
    link.cut_after = size


class TestBrokenLinks:
    """Whatever a link does, nothing wrong is stored, and in the end all is there."""

    CONTENTS = (b"first " * 700, b"", b"second " * 900, random.Random(3).randbytes(5000))

    def brought(self, tmp_path: Path, spoil: Callable[[Link], None]) -> Both:
        """A copy whose first connection is spoilt once its introductions are over."""
        sides = Both(tmp_path)
        ids = [put(sides.theirs, each).text for each in self.CONTENTS]
        sides.serve(holder(1, ids))
        made = sides.rig.master
        spoilt: list[bool] = []

        def one() -> Any:
            assert made is not None
            if not spoilt:
                spoilt.append(True)
                sides.rig.callLater(0, lambda: spoil(sides.rig.link))
            return made()

        sides.rig.master = one
        slave = sides.follow()
        sides.rig.pass_time(70, step=2)
        assert slave.state == status.IN_SYNC, slave.service.status
        assert sides.has(*self.CONTENTS)
        assert not list(sides.ours.partials())
        return sides

    def size(self, tmp_path: Path) -> int:
        sides = self.brought(tmp_path / "whole", lambda _: None)
        size = sides.rig.link.master.delivered
        sides.end()
        return size

    def test_cut_at_many_bytes(self, tmp_path: Path) -> None:
        for cut in range(100, self.size(tmp_path), 611):
            sides = self.brought(tmp_path / f"{cut}", partial(cut_after, size=cut))
            assert len(sides.rig.links) == 2
            sides.end()

    def test_a_flipped_bit_at_many_bytes(self, tmp_path: Path) -> None:
        for place in range(100, self.size(tmp_path), 797):

            def flip(at: int, data: bytes) -> bytes:
                if not at <= place < at + len(data):  # noqa: B023
                    return data
                wrong = bytearray(data)
                wrong[place - at] ^= 16  # noqa: B023
                return bytes(wrong)

            def spoil(link: Link) -> None:
                link.master.alter = flip

            self.brought(tmp_path / f"{place}", spoil).end()
