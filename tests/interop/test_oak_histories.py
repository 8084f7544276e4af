"""A hundred random edit histories, replayed on real Oak and on us, end in equal digests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from copies import sound
from edit_histories import Step, history
from oak_content import digest_of
from oak_peer import Peer, Store
from replay import Ours

from tarfailover import repository
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.store.blobs import BlobStore, open_blob_store

pytestmark = pytest.mark.interop

HISTORIES = 100
IN_TURNS = 16
FIRST = int(os.environ.get("HISTORY_SEED", "0"))
"""The first seed; another one tries other histories."""


def outside(seed: int, blobs: Path) -> Path | None:
    """The FileDataStore of every fourth history, for binaries of 16512 bytes and more."""
    return blobs if seed % 4 == 3 else None


def data_store(blobs: Path | None) -> BlobStore | None:
    """It as a FileDataStore, which it is also while nothing is in it."""
    return None if blobs is None else open_blob_store(blobs, "file", create=True)


class Both:
    """A repository of Oak's and one of ours, which live through the same."""

    def __init__(self, peer: Peer, folder: Path, seed: int) -> None:
        self.peer, self.folder = peer, folder
        self.oak, self.us = folder / "oak", folder / "ours"
        self.blobs = outside(seed, folder / "oak-blobs")
        self.our_blobs = outside(seed, folder / "our-blobs")
        self.theirs: Store = peer.open(self.oak, **given(self.blobs))
        self.ours = Ours(self.us, seed, self.our_blobs)
        self.checkpoints: list[str] = []

    def step(self, step: Step) -> None:
        if step.what == "commit":
            self.theirs.commit(step.edits)
            self.ours.commit(step.edits)
        elif step.what == "checkpoint":
            self.checkpoint()
        elif step.what == "release":
            name = self.checkpoints.pop(step.which)
            self.theirs.call("release", name)
            self.ours.release(name)
        elif step.what == "reopen":
            self.theirs.close()
            self.theirs = self.peer.open(self.oak, **given(self.blobs))
            self.ours.close()
        else:
            self.theirs.compact(step.what)
            self.ours.compact(step.what)

    def checkpoint(self) -> None:
        name = self.theirs.checkpoint(creator="history")
        self.checkpoints.append(name)
        with repository.open(self.oak) as opened:
            (made,) = (each for each in opened.checkpoints() if each.name == name)
            reader = RecordReader(opened.snapshot)
            self.ours.checkpoint(name, NodeState(reader, made.node.record))

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()


@pytest.mark.cell("a hundred edit histories, on Oak and on us")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + HISTORIES))
def test_a_history_ends_in_equal_digests(peer: Peer, tmp_path: Path, seed: int) -> None:
    """Each of the two stores is read by both."""
    both = Both(peer, tmp_path, seed)
    try:
        for step in history(seed):
            both.step(step)
        live = both.theirs.digest()
    finally:
        both.close()
    assert digest_of(both.oak, data_store(both.blobs)) == live
    assert digest_of(both.us, data_store(both.our_blobs)) == live
    assert peer.digest(both.us, **given(both.our_blobs)) == live
    sound(both.us)


@pytest.mark.cell("edit histories: Oak and we in turns on one store, with compactions of either")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + IN_TURNS))
def test_a_history_in_turns_ends_as_oaks_alone(peer: Peer, tmp_path: Path, seed: int) -> None:
    turns, blobs = tmp_path / "turns", outside(seed, tmp_path / "blobs")
    ours = Ours(turns, seed, blobs)
    ours.close()  # it has made it
    steps = [step for step in history(seed) if step.what in ("commit", "full", "tail")]
    with peer.open(tmp_path / "alone") as alone:
        for turn, step in enumerate(steps):
            if step.what == "commit":
                alone.commit(step.edits)
            if turn % 2:
                in_turn(ours, step)
                ours.close()
            else:
                with peer.open(turns, **given(blobs)) as theirs:
                    in_turn(theirs, step)
        expected = alone.digest()
    assert digest_of(turns, data_store(blobs)) == expected
    assert peer.digest(turns, **given(blobs)) == expected
    sound(turns)


def given(blobs: Path | None) -> dict[str, object]:
    """The option with which Oak opens it."""
    return {} if blobs is None else {"blobs": blobs}


def in_turn(side: Store | Ours, step: Step) -> None:
    """One step of one of the two."""
    if step.what == "commit":
        side.commit(step.edits)
    else:
        side.compact(step.what)
