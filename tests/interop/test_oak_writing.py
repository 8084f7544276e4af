"""Real Oak judges what the API writes, and both write the same store in turns."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from copies import sound
from histories import STEPS, holding, replay
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oak_content import digest_of, lives_on
from oak_peer import Peer

from tarfailover import repository
from tarfailover.repository import Name, Reference, Uri, WeakReference, WritableNode

pytestmark = pytest.mark.interop

DAY = dt.datetime(2026, 11, 29, 12, 0, 0, 5000, dt.timezone.utc)
VALUES = {
    "string": "é😀 text",
    "long text": "x" * 300_000,
    "name": Name("nt:file"),
    "path": repository.Path("/content"),
    "uri": Uri("https://example.org"),
    "reference": Reference("b9"),
    "weak": WeakReference("b9"),
    "long": -(2**63),
    "double": 1e10,
    "decimal": Decimal("-1.50"),
    "boolean": True,
    "date": DAY,
    "small": b"\0\1",
    "medium": random.Random(1).randbytes(16_511),
    "large": random.Random(2).randbytes(700_000),
}


def fill(top: WritableNode, seed: int) -> None:
    rng = random.Random(seed)
    for name, value in VALUES.items():
        top.properties[name] = value
        top.properties[f"{name}[]"] = [value] * rng.randrange(1, 4)
    for number in range(300):
        node = top.make(f"wide/n{number}", "nt:unstructured")
        node.properties["x"] = rng.random()
    node = top
    for _ in range(50):
        node = node.make("deep")


@pytest.mark.cell("our commits: opened, extended, compacted and cleaned by Oak")
def test_oak_opens_extends_compacts_and_cleans_what_the_api_wrote(
    peer: Peer, tmp_path: Path
) -> None:
    with repository.open_for_writing(tmp_path, create=True) as store:
        for number in range(3):
            with store.commit() as root:
                fill(root.make(f"content/run{number}"), number)
        with store.commit() as root:
            root.remove("content/run0/wide/n7")
            root.node("content/run1/wide/n8").properties["x"] = 1
            root.children["copy"] = root.node("content/run2")
            with store.commit() as other:
                other.node("content/run1/wide/n9").properties["y"] = [1, 2]
    assert peer.walk(tmp_path).digest == digest_of(tmp_path)
    assert lives_on(peer, tmp_path) == digest_of(tmp_path)
    sound(tmp_path)


@pytest.mark.cell("our commits: in turns with Oak's on one store, over compactions")
def test_oak_then_we_then_oak_then_we(peer: Peer, tmp_path: Path) -> None:
    """Our commits on a store of Oak's, with a node of ours of before a compaction of Oak's."""
    with peer.open(tmp_path) as opened:
        opened.fill(seed=1, nodes=60, kib=20)
        opened.checkpoint()
    with repository.open_for_writing(tmp_path) as store, store.commit() as root:
        fill(root.make("content/ours"), 1)
        next(iter(root.node("content").children.values())).properties["touched"] = True
    with repository.open(tmp_path) as before:
        assert peer.walk(tmp_path).digest == digest_of(tmp_path)
        with peer.open(tmp_path) as opened:
            opened.fill(seed=2, nodes=20)
            opened.compact("full")
        with repository.open_for_writing(tmp_path) as store, store.commit() as root:
            root.remove("content/ours/wide")
            root.children["restored"] = before.node("content/ours")
            fill(root.make("content/more"), 2)
    sound(tmp_path)
    found = digest_of(tmp_path)
    with peer.open(tmp_path) as opened:
        for _ in range(3):
            opened.compact("full")
        assert opened.digest() == found
    assert digest_of(tmp_path) == found
    assert lives_on(peer, tmp_path) == digest_of(tmp_path)
    sound(tmp_path)


@pytest.mark.cell("any history of ours, with crashes: opened, compacted and cleaned by Oak")
def test_oak_goes_on_with_any_history_of_ours(peer: Peer, tmp_path: Path) -> None:
    number = count()

    # Inside, since this is one test of a session that has one Oak of each release.
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # each example costs seconds: none is made smaller
    )
    @given(st.lists(STEPS, min_size=5, max_size=12))
    def any_history(steps: list[tuple[str, object]]) -> None:
        store = tmp_path / str(next(number))
        store.mkdir()
        with holding(10):
            replay(store, steps)
        found = digest_of(store)
        with peer.open(store) as opened:
            assert opened.digest() == found
            opened.fill(seed=1, nodes=5)
            extended = opened.digest()
            for how in ("tail", "full", "full"):
                opened.compact(how)
                assert opened.digest() == extended
        assert digest_of(store) == extended
        sound(store)

    any_history()


@pytest.mark.cell("our checkpoints: kept through Oak's compaction, expired by Oak")
def test_oak_keeps_our_checkpoints_until_they_expire(peer: Peer, tmp_path: Path) -> None:
    with repository.open_for_writing(tmp_path, create=True) as store:
        with store.commit() as root:
            fill(root.make("content"), 1)
        kept = store.checkpoint(dt.timedelta(days=1), {"creator": "ours"})
        gone = store.checkpoint(dt.timedelta(milliseconds=1))
        with store.commit() as root:
            root.remove("content")
    with peer.open(tmp_path) as opened:
        for _ in range(2):
            opened.compact("full")
        assert opened.digest() == digest_of(tmp_path)
        theirs = opened.checkpoint(creator="theirs")
    with repository.open_for_writing(tmp_path) as store:
        found = {each.name: each for each in store.checkpoints()}
        assert set(found) == {kept, theirs} and gone not in found
        assert found[kept].info == {"creator": "ours"}
        node = found[kept].revision().node("content")
        assert node.properties["large"].binary.read() == VALUES["large"]
        with store.commit() as root:
            root.children["restored"] = node
        store.release(kept)
        store.release(theirs)
    sound(tmp_path)
    with peer.open(tmp_path) as opened:
        for _ in range(2):
            opened.compact("full")
        assert opened.digest() == digest_of(tmp_path)
