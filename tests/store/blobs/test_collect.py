"""Garbage: only what nothing mentions goes, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import handmade
import pytest
from blob_samples import one_file_id, put, unpacked, vectors, with_blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import QuickDisk

from tarfailover.errors import (
    BlobMissingError,
    ConfigError,
    ContentError,
    DamagedStoreError,
    NoHeadError,
    StoreLockedError,
)
from tarfailover.format.blobid import Block
from tarfailover.store.blobs import BLOCKS, DATA_STORE, BlobStore, guard
from tarfailover.store.blobs import collect as module
from tarfailover.store.blobs.collect import Collected, Collection

NOW = 1_600_000_000 * 10**9
DAY = 86400.0
NAME = "data00000a.tar"


def text_of(content: bytes) -> bytes:
    return one_file_id(DATA_STORE, content).text.encode()


OLD = handmade.data(1, blob=text_of(b"old"))
HEAD = handmade.data(2, OLD, blob=text_of(b"head"))
LATER = handmade.data(3, HEAD, blob=text_of(b"later"))


def segments(tmp_path: Path, *pieces: handmade.Piece, name: str = "segments") -> Path:
    """A store that is being written, with the last of `pieces` as the head."""
    tars = {NAME: handmade.open_tar(pieces)}
    return handmade.store(tmp_path / name, tars, handmade.line(pieces[-1]))


def aged(store: BlobStore, *, days: float = 10) -> BlobStore:
    """All files of `store` look as if they had been written some days before now."""
    for each in [*store.files(), *store.partials()]:
        os.utime(each.path, ns=(NOW, NOW - int(days * DAY * 1e9)))
    return store


def blobs(tmp_path: Path, *contents: bytes) -> BlobStore:
    store = BlobStore(tmp_path / "blobs", DATA_STORE, QuickDisk())
    for content in contents:
        put(store, content)
    return aged(store)


def collection(store: BlobStore, *directories: Path, margin: float = DAY) -> Collection:
    return Collection(store, directories, began_ns=NOW, margin_s=margin)


def collect(store: BlobStore, *directories: Path, **how: float) -> Collected:
    with collection(store, *directories, **how) as found:
        found.mark()
        list(found.sweep())
        return found.collected


def left(store: BlobStore) -> set[bytes]:
    return {each.path.read_bytes() for each in store.files()}


def test_what_is_mentioned_stays_and_all_else_that_is_old_goes(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"head", b"garbage", b"more garbage")
    put(store, b"young")
    directory = segments(tmp_path, OLD, HEAD)
    with collection(store, directory) as found:
        found.mark()
        told = {each.digest for each in found.sweep(dry_run=True)}
        assert told == {hashlib.sha256(each).hexdigest() for each in (b"garbage", b"more garbage")}
        assert len(left(store)) == 5
        assert found.collected == Collected(5, 31, 2, 1, 2, 19)
    assert collect(store, directory) == Collected(5, 31, 2, 1, 2, 19)
    assert left(store) == {b"old", b"head", b"young"}
    assert collect(store, directory, margin=-(10**9)) == Collected(3, 12, 2, 0, 1, 5)
    assert left(store) == {b"old", b"head"}
    assert not list((tmp_path / "blobs").glob(hashlib.sha256(b"young").hexdigest()[:2]))


def test_segments_beyond_the_head_count_too(tmp_path: Path) -> None:
    """A slave stores segments, then their binaries, then the head."""
    directory = handmade.store(
        tmp_path / "s", {NAME: handmade.open_tar([OLD, HEAD, LATER])}, handmade.line(HEAD)
    )
    store = blobs(tmp_path, b"old", b"head", b"later", b"garbage")
    assert collect(store, directory).removed == 1
    assert left(store) == {b"old", b"head", b"later"}


@pytest.mark.parametrize("wrong", [b"7", b"003", b"9999"])
def test_a_wrong_length_in_an_id_costs_nothing(tmp_path: Path, wrong: bytes) -> None:
    digest = text_of(b"head").partition(b"#")[0]
    if wrong == b"003":
        with pytest.raises(ContentError, match="cannot say where it is"):
            collect(
                blobs(tmp_path, b"head"),
                segments(tmp_path, handmade.data(1, blob=digest + b"#003")),
            )
        return
    store = blobs(tmp_path, b"head", b"garbage")
    directory = segments(tmp_path, handmade.data(1, blob=digest + b"#" + wrong))
    assert collect(store, directory).removed == 1
    assert left(store) == {b"head"}


def test_several_segment_stores_can_use_one_blob_store(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"head", b"later", b"garbage")
    one = segments(tmp_path, OLD, name="one")
    other = segments(tmp_path, OLD, HEAD, LATER, name="other")
    collect(store, one, other)
    assert left(store) == {b"old", b"head", b"later"}
    collect(store, one)
    assert left(store) == {b"old"}


# beside others


class Interrupted(Collection):
    """Something happens when the batch was chosen, before it is removed."""

    happens: object = None

    def _mark_fresh(self) -> None:
        happens, self.happens = self.happens, None
        if callable(happens):
            happens()
        super()._mark_fresh()


def test_a_segment_that_comes_meanwhile_protects_what_it_mentions(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"head", b"later", b"garbage")
    directory = segments(tmp_path, OLD, HEAD)

    def pull() -> None:
        with (directory / NAME).open("ab") as tar:
            tar.write(handmade.entry(LATER))
        assert store.has(store.parse(text_of(b"later")))

    with Interrupted(store, [directory], began_ns=NOW, margin_s=DAY) as found:
        found.mark()
        found.happens = pull
        list(found.sweep())
    assert left(store) == {b"old", b"head", b"later"}


def test_what_was_removed_is_not_found_by_who_asks_then(tmp_path: Path) -> None:
    """Who counts on a binary waits as long as some are being removed."""
    store = blobs(tmp_path, b"old", b"head", b"later")
    directory = segments(tmp_path, OLD, HEAD)
    blob, answers = store.parse(text_of(b"later")), []
    asked = threading.Event()

    def ask() -> None:
        asked.set()
        answers.append(store.has(blob))

    with guard.removing(store.path):
        thread = threading.Thread(target=ask)
        thread.start()
        asked.wait(10)
        (gone,) = (each for each in store.files() if each.path.read_bytes() == b"later")
        assert store.remove(gone, NOW) and not answers
    thread.join(10)
    assert answers == [False]
    assert collect(store, directory).removed == 0


def test_a_lock_that_is_held_for_ever_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = blobs(tmp_path, b"old", b"garbage")
    monkeypatch.setattr(guard, "PAUSE", 0.0)
    monkeypatch.setattr(guard, "ATTEMPTS", 3)
    with (
        guard.removing(store.path),
        pytest.raises(StoreLockedError, match="somebody has held its lock"),
    ):
        store.has(store.parse(text_of(b"old")))
    with (
        guard.counting_on(store.path),
        guard.counting_on(store.path),
        pytest.raises(StoreLockedError, match="somebody has held its lock"),
    ):
        collect(store, segments(tmp_path, OLD))
    assert left(store) == {b"old", b"garbage"}


def test_what_is_written_again_meanwhile_stays(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"garbage", b"wanted again")
    with Interrupted(store, [segments(tmp_path, OLD)], began_ns=NOW, margin_s=DAY) as found:
        found.mark()

        def write() -> None:
            (path,) = (e.path for e in store.files() if e.path.read_bytes() == b"wanted again")
            os.utime(path, ns=(NOW, NOW))

        found.happens = write
        list(found.sweep())
    assert left(store) == {b"old", b"wanted again"}


def test_a_cleanup_beside_it_only_keeps_more(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"head", b"later", b"garbage")
    directory = segments(tmp_path, OLD, HEAD, LATER)

    def clean_up() -> None:
        (directory / NAME).unlink()
        name = "data00000b.tar"
        (directory / name).write_bytes(handmade.closed_tar(name, [OLD, HEAD, LATER][1:2]))
        (directory / "data00001a.tar").write_bytes(handmade.open_tar([OLD, LATER]))

    with Interrupted(store, [directory], began_ns=NOW, margin_s=DAY) as found:
        found.mark()
        found.happens = clean_up
        list(found.sweep())
    assert left(store) == {b"old", b"head", b"later"}


@settings(max_examples=40)
@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)), st.integers(1, 4), st.data())
def test_any_course_keeps_what_is_mentioned_or_young(
    tmp_path_factory: pytest.TempPathFactory,
    stored: set[int],
    mentioned: set[int],
    batch: int,
    data: st.DataObject,
) -> None:
    tmp_path = tmp_path_factory.mktemp("course")
    contents = {number: b"content%d" % number for number in range(12)}
    mentioned |= {0}
    stored |= mentioned
    store = blobs(tmp_path, *(contents[number] for number in sorted(stored)))
    pieces = [handmade.data(50 + n, blob=text_of(contents[n])) for n in sorted(mentioned)]
    directory = segments(tmp_path, *pieces)
    young = data.draw(st.sets(st.sampled_from(sorted(stored))))
    later = data.draw(st.sets(st.integers(0, 11)))
    for each in store.files():
        if int(each.path.read_bytes()[7:]) in young:
            os.utime(each.path, ns=(NOW, NOW - 1))

    def pull() -> None:
        with (directory / NAME).open("ab") as tar:
            for number in sorted(later):
                tar.write(
                    handmade.entry(handmade.data(80 + number, blob=text_of(contents[number])))
                )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", batch)
        with Interrupted(store, [directory], began_ns=NOW, margin_s=DAY) as found:
            found.mark()
            found.happens = pull
            removed = list(found.sweep())
    there = {int(content[7:]) for content in left(store)}
    assert there >= stored & (mentioned | later | young)
    assert len(removed) + len(there) == len(stored)
    assert not there - mentioned - young - later


def test_a_kill_leaves_what_was_not_removed_yet(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", *(b"garbage%d" % number for number in range(9)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 2)
        with collection(store, segments(tmp_path, OLD)) as found:
            found.mark()
            sweep = found.sweep()
            for _ in range(3):
                next(sweep)
            sweep.close()
    assert b"old" in left(store) and 5 <= len(left(store)) <= 7
    collect(store, tmp_path / "segments")
    assert left(store) == {b"old"}


def test_files_on_their_way_go_when_they_are_old_and_nobody_holds_them(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old")
    for content in (b"abandoned", b"held", b"fresh"):
        with store.incoming(one_file_id(DATA_STORE, content)) as incoming:
            incoming.write(content[:3])
    aged(store)
    (fresh,) = (e for e in store.partials() if hashlib.sha256(b"fresh").hexdigest() == e.digest)
    os.utime(fresh.path, ns=(NOW, NOW))
    with store.incoming(one_file_id(DATA_STORE, b"held")):
        assert collect(store, segments(tmp_path, OLD)).removed == 1
    names = {each.digest for each in store.partials()}
    assert names == {hashlib.sha256(each).hexdigest() for each in (b"held", b"fresh")}
    assert left(store) == {b"old"}


# blocks


def test_all_blocks_of_what_is_mentioned_stay(tmp_path: Path) -> None:
    store = unpacked("nested", tmp_path / "blobs")
    texts = [text for name, _, text in vectors() if name == "nested"]
    put(store, b"garbage")
    before = len(list(aged(store).files()))
    directory = segments(tmp_path, handmade.data(1, blob=texts[0].encode()))
    collect(store, directory)
    kept = store.parse(texts[0])
    store.verify(kept)
    assert {each.digest for each in store.files()} == store.digests(kept)
    assert len(list(store.files())) < before


def test_an_index_block_that_is_missing_or_wrong_stops_everything(tmp_path: Path) -> None:
    store = unpacked("nested", tmp_path / "blobs")
    text = next(text for name, _, text in vectors() if name == "nested")
    directory = segments(tmp_path, handmade.data(1, blob=text.encode()))
    aged(store)
    before = list(store.files())
    top = store.find(next(part for part in store.parse(text).parts if isinstance(part, Block)))
    assert top is not None
    content = top.read_bytes()
    top.write_bytes(content[:-1] + b"?")
    with pytest.raises(DamagedStoreError, match="not what its name says"):
        collect(store, directory)
    top.unlink()
    with pytest.raises(BlobMissingError, match="is not there"):
        collect(store, directory)
    top.write_bytes(content)
    assert [e.digest for e in store.files()] == [e.digest for e in before]


# doubt


def test_what_looks_like_the_blob_store_of_another_repository_is_left_alone(tmp_path: Path) -> None:
    directory = segments(tmp_path, OLD)
    store = blobs(tmp_path, b"quite", b"different")
    with pytest.raises(
        ConfigError, match=r"does not have .*segments needs \(of 1 that.*0 are there"
    ):
        collect(store, directory)
    plain = segments(tmp_path, handmade.data(1), name="plain")
    with pytest.raises(
        ConfigError, match=r"does not have .*plain needs \(its head mentions none\)"
    ):
        collect(store, plain)
    with pytest.raises(ContentError, match=r"mentions a binary of which.*is no id of a FileBlob"):
        collect(BlobStore(store.path, BLOCKS), directory)
    assert left(store) == {b"quite", b"different"}
    empty = BlobStore(tmp_path / "empty", DATA_STORE)
    empty.path.mkdir()
    assert collect(empty, directory) == Collected()


def test_a_store_without_a_head_or_with_a_broken_one_is_left_alone(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"garbage")
    tars = {NAME: handmade.open_tar([OLD])}
    with pytest.raises(NoHeadError):
        collect(store, handmade.store(tmp_path / "headless", tars, b""))
    lines = handmade.line(OLD) + handmade.line(LATER)
    with pytest.raises(DamagedStoreError, match=r"newest head.*nothing may be removed"):
        collect(store, handmade.store(tmp_path / "broken", tars, lines))
    assert left(store) == {b"old", b"garbage"}


def test_a_store_in_which_oak_collects_is_left_alone(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"garbage")
    (store.path / "repository-0b1c").touch()
    with collection(store, segments(tmp_path, OLD)) as found:
        found.mark()
        assert len(list(found.sweep(dry_run=True))) == 1
        with pytest.raises(ConfigError, match=r"repository-0b1c says that an Oak instance uses"):
            list(found.sweep())
    assert left(store) == {b"old", b"garbage"}


@pytest.mark.parametrize("kind", ["file", "blocks"])
def test_of_a_store_of_real_oak_nothing_goes_that_it_needs(tmp_path: Path, kind: str) -> None:
    directory, path = with_blobs(kind, tmp_path)
    store = BlobStore(path, DATA_STORE if kind == "file" else BLOCKS, QuickDisk())
    put(store, b"garbage")
    before = left(aged(store))
    assert collect(store, directory).removed == 1
    assert left(store) == before - {b"garbage"}


def test_a_hostile_id_deletes_nothing(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old", b"garbage")
    victim = tmp_path / "victim"
    victim.write_bytes(b"x")
    evil = handmade.data(9, OLD, blob=b"../../victim" + b"#1")
    with pytest.raises(ContentError, match="cannot say where it is"):
        collect(store, segments(tmp_path, OLD, evil))
    assert victim.exists() and left(store) == {b"old", b"garbage"}


def test_ids_of_one_digest_prefix_are_both_kept(tmp_path: Path) -> None:
    store = blobs(tmp_path, b"old")
    digest = hashlib.sha256(b"old").hexdigest()
    twin = digest[:16] + "0" * 48
    place = store.path / DATA_STORE.place(twin)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"twin")
    aged(store)
    assert collect(store, segments(tmp_path, OLD)).removed == 0


def test_many_marks_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MERGED_AT", 1)
    store = blobs(tmp_path, b"old", b"head", b"garbage")
    assert collect(store, segments(tmp_path, OLD, HEAD)).removed == 1
    assert left(store) == {b"old", b"head"}


def test_another_instance_that_shares_less_than_half_is_seen(tmp_path: Path) -> None:
    contents = [b"binary%d" % number for number in range(7)]
    chained = [handmade.data(9, blob=text_of(contents[0]))]
    for number, content in enumerate(contents[1:], 20):
        chained.append(handmade.data(number, chained[-1], blob=text_of(content)))
    directory = segments(tmp_path, *chained)
    store = blobs(tmp_path, *contents[:3], b"of the other")
    with pytest.raises(ConfigError, match="of 7 that were looked for, 3 are there"):
        collect(store, directory)
    put(store, contents[3])
    assert collect(store, directory).removed == 1
