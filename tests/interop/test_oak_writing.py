"""Real Oak judges what the API writes, and both write the same store in turns."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from pathlib import Path

import pytest
from copies import sound
from oak import OakPeer
from oak_content import lives_on

from tarfailover import repository
from tarfailover.repository import Name, Reference, Uri, WeakReference, WritableNode
from tarfailover.repository.digest import content_digest

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


def digest(store: Path) -> str:
    with repository.open(store) as opened:
        return content_digest(opened.head.super_root.state).sha256


def test_oak_opens_extends_compacts_and_cleans_what_the_api_wrote(
    oak: OakPeer, tmp_path: Path
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
    assert oak.digest(tmp_path) == digest(tmp_path)
    assert lives_on(oak, tmp_path) == digest(tmp_path)
    sound(tmp_path)


def test_oak_then_we_then_oak_then_we(oak: OakPeer, tmp_path: Path) -> None:
    """Our commits on a store of Oak's, over a compaction of Oak's, with nodes of before it."""
    oak.run("create", tmp_path, 120, 40, seed=1)
    oak.run("checkpoint", tmp_path)
    with repository.open_for_writing(tmp_path) as store, store.commit() as root:
        fill(root.make("content/ours"), 1)
        [first, *_] = root.node("content/run1").children.values()
        first.properties["touched"] = True
    with repository.open(tmp_path) as before:
        assert oak.digest(tmp_path) == digest(tmp_path)
        oak.run("create", tmp_path, 60, 20, seed=2)
        oak.run("compact", tmp_path)
        with repository.open_for_writing(tmp_path) as store, store.commit() as root:
            root.remove("content/ours/wide")
            root.children["restored"] = before.node("content/ours")
            fill(root.make("content/more"), 2)
    sound(tmp_path)
    found = digest(tmp_path)
    assert oak.digest(tmp_path) == found
    for _ in range(3):
        oak.run("compact", tmp_path)
    assert oak.digest(tmp_path) == found == digest(tmp_path)
    assert lives_on(oak, tmp_path) == digest(tmp_path)
    sound(tmp_path)
