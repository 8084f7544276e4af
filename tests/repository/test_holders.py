"""Which nodes hold a binary: found within a time, and what is shared once."""

from __future__ import annotations

from pathlib import Path

from content import external, write

from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.holders import MAX_PATHS, Holders, holders
from tarfailover.repository.values import Property
from tarfailover.store.follower import Follower

BLOB = "a" * 64 + "#70000"


def search(directory: Path, *blobs: str, nodes: int = 1_000_000) -> Holders:
    left = [nodes]

    def go_on() -> bool:
        left[0] -= 1
        return left[0] > 0

    with Follower.open(directory) as follower:
        return holders(follower.snapshot, follower.head().record, blobs, go_on)


def deep(top: NodeBuilder, writer: RepositoryWriter) -> None:
    lost = external(writer, BLOB)
    for name in ("b", "a"):
        node = top.child("content").child(name)
        for _ in range(30):
            node = node.child("x")
        node.set("jcr:data", Property.of(lost)).set("title", Property.of("text"))
    top.child("inline").set("data", Property.of(external(writer, "0x6869#2")))


def test_every_place_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "s", deep)
    found = search(tmp_path / "s", BLOB, "another")
    below = "/x" * 30 + "/jcr:data"
    assert found.complete
    assert {blob: sorted(paths) for blob, paths in found.paths.items()} == {
        BLOB: [f"/content/a{below}", f"/content/b{below}"]
    }


def test_a_search_that_ends_early_says_so(tmp_path: Path) -> None:
    write(tmp_path / "s", deep)
    found = search(tmp_path / "s", BLOB, nodes=5)
    assert not found.complete


def test_some_paths_are_enough(tmp_path: Path) -> None:
    def many(top: NodeBuilder, writer: RepositoryWriter) -> None:
        lost = external(writer, BLOB)
        for number in range(3 * MAX_PATHS):
            top.child(f"n{number}").set("data", Property.of(lost))

    write(tmp_path / "s", many)
    assert len(search(tmp_path / "s", BLOB).paths[BLOB]) == MAX_PATHS


def test_what_a_checkpoint_shares_with_the_head_is_searched_once(tmp_path: Path) -> None:
    def kept(top: NodeBuilder, writer: RepositoryWriter) -> None:
        deep(top.child("root"), writer)

    def shared(top: NodeBuilder, writer: RepositoryWriter) -> None:
        del writer
        root = top.base
        assert root is not None
        state = root.child("root")
        assert state is not None
        top.child("checkpoints").child("one").set_child("root", state)

    write(tmp_path / "s", kept, shared, top=True)
    found = search(tmp_path / "s", BLOB)
    assert found.complete and len(found.paths[BLOB]) == 2
