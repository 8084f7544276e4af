"""Oak's own bytes, in a clone without Java: read, checked, replicated, mended, written, compacted.

Each store tells its content digest as Oak itself computed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from copies import same, sound
from links import Rig
from oak_build import RELEASES
from oak_recipes import RECIPES, shown
from oak_vectors import DATASTORE, EACH_ONCE, EXTERNAL, HOME, INTERNAL, STORES, OakStore
from sides import SlaveSide, served

from tarfailover import repository
from tarfailover.cli import main
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.deepcheck import Books, DeepCheck
from tarfailover.repository.digest import content_digest
from tarfailover.repository.values import Property
from tarfailover.slave import status
from tarfailover.store.check import StoreCheck
from tarfailover.store.finding import FAULT
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

LARGEST = 1536 * 1024
"""Bytes that all of these stores together may take in the repository."""


@pytest.fixture(params=INTERNAL, ids=str)
def oak_store(request: pytest.FixtureRequest) -> OakStore:
    """Each store whose binaries are all in it."""
    found: OakStore = request.param
    return found


def is_what_oak_found(
    directory: Path, wanted: OakStore, *, head: bool = True, blobs: Path | None = None
) -> None:
    """We find in it what Oak found: the head, the counts, the digest."""
    with repository.open(directory, blobs) as opened:
        found = content_digest(opened.head.super_root.state)
        assert found == (wanted.nodes, wanted.properties, wanted.blob_bytes, wanted.sha256)
        assert not head or opened.head.record.hex == wanted.head


def test_every_store_is_there_and_all_are_small() -> None:
    zips = {path.stem: path.stat().st_size for path in HOME.glob("*.zip")}
    assert zips.keys() == {store.name for store in STORES}
    assert sum(zips.values()) < LARGEST


def test_each_store_tells_the_command_and_the_steps_that_made_it() -> None:
    """Those of the recipes as they are now: `scripts/vectors NAME` makes the same again."""
    told = json.loads((HOME / "stores.json").read_text())
    for name, each in told.items():
        assert each["command"] == f"scripts/vectors {name}"
        assert each["steps"] == shown(RECIPES[name.partition("-")[2]]), name
        assert len(each["sha256"]) == 64
    assert len(told) == len(RELEASES) * len(RECIPES)


def test_the_content_is_what_oak_found(oak_store: OakStore, tmp_path: Path) -> None:
    is_what_oak_found(oak_store.unpack(tmp_path), oak_store)


def test_no_check_finds_a_fault(oak_store: OakStore, tmp_path: Path) -> None:
    store = oak_store.unpack(tmp_path)
    assert [found for found in StoreCheck(store).run() if found.severity == FAULT] == []
    with repository.open(store) as opened:
        check = DeepCheck(opened.snapshot, Books(), clock=lambda: 0.0)
        assert list(check.run(opened.head.record)) == []


def test_a_slave_gets_all_of_it(oak_store: OakStore, tmp_path: Path) -> None:
    store, copy = oak_store.unpack(tmp_path / "store"), tmp_path / "copy"
    rig = Rig()
    master = served(rig, store)
    slave = SlaveSide(rig, copy).start()
    assert slave.state == status.IN_SYNC
    slave.stop()
    master.close()
    same(store, copy)
    is_what_oak_found(copy, oak_store)


def test_a_commit_of_ours_changes_what_it_says_and_nothing_else(
    oak_store: OakStore, tmp_path: Path
) -> None:
    """Also where Oak was killed: its last tar is mended first."""
    store = oak_store.unpack(tmp_path)
    random = Random(1)
    committed(store, random, lambda root: root.set("ours", Property.of("text")))
    committed(store, random, lambda root: root.remove_property("ours"))
    sound(store)
    is_what_oak_found(store, oak_store, head=False)


def committed(store: Path, random: Random, change: Callable[[NodeBuilder], object]) -> None:
    """Make `change` at the top of the content."""
    with StoreWriter.open(store) as writer:
        ours = RepositoryWriter(writer, random.randbytes, wid="test", now=lambda: 1)
        super_root = ours.super_root()
        change(super_root.child("root"))
        ours.commit(super_root)


@pytest.mark.parametrize("kind", EACH_ONCE)
def test_our_compaction_and_cleanup_keep_the_content(kind: str, tmp_path: Path) -> None:
    store = EACH_ONCE[kind].unpack(tmp_path)
    for _ in range(2):
        assert main(["compact", "--retain", "1", str(store)]) == 0
    sound(store)
    is_what_oak_found(store, EACH_ONCE[kind], head=False)


@pytest.mark.parametrize("wanted", EXTERNAL, ids=str)
def test_binaries_in_a_data_store_are_read_from_it(wanted: OakStore, tmp_path: Path) -> None:
    store = wanted.unpack(tmp_path)
    is_what_oak_found(store, wanted, blobs=store / DATASTORE)
    assert main(["check", "--deep", "--blob-store", str(store / DATASTORE), str(store)]) == 0
