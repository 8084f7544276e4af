"""Small stores that real Oak writes, as recipes: the requests to it, in its order.

``open``, ``close`` and ``kill`` are of the store; the other words are those of OakPeer.java. A
store's binaries go into ``datastore`` beside its tars if it is opened with ``blobs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from oak_peer import Peer, Store

DATASTORE = "datastore"

Edit = list[str]
Recipe = list[str] | Callable[[], list[Edit]]


def _one_of_each_type() -> Iterator[Edit]:
    texts = {
        "STRING": ["", "text", "äöü 中文 😀", "line\nline"],
        "LONG": ["0", "-9223372036854775808", "9223372036854775807"],
        "DOUBLE": ["0.0", "-0.0", "1.5E300", "NaN", "-Infinity"],
        "DATE": ["2026-11-29T08:30:00.000+01:00", "1969-12-31T23:59:59.999Z"],
        "BOOLEAN": ["true", "false"],
        "NAME": ["jcr:content", "a"],
        "PATH": ["/content/a", "../b"],
        "REFERENCE": ["00000000-0000-0000-0000-000000000001"],
        "WEAKREFERENCE": ["ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "URI": ["http://example.org/?q=1#f"],
        "DECIMAL": ["0", "-1234567890.0123456789", "1E+40"],
        "BINARY": ["", "AAECAwQ=", "Ynl0ZXNz" * 40],
    }
    for kind, values in texts.items():
        for number, value in enumerate(values):
            yield ["set", f"/types/{kind}", f"one{number}", kind, "one", value]
        yield ["set", f"/types/{kind}", "many", kind, "many", *values]
        yield ["set", f"/types/{kind}", "none", kind, "many"]
    yield ["set", "/types", "jcr:primaryType", "NAME", "one", "nt:unstructured"]
    yield ["set", "/types", "jcr:mixinTypes", "NAME", "many", "mix:title", "mix:referenceable"]
    yield ["set", "/types/odd", "jcr:primaryType", "STRING", "one", "no name"]


def _long_values() -> Iterator[Edit]:
    for length in (127, 128, 16511, 16512, 16513, 70000):
        yield ["set", "/long", f"text{length}", "STRING", "one", "é" + "x" * (length - 2)]
        quads = -(-length // 3)
        yield ["set", "/long", f"bytes{length}", "BINARY", "one", "AQID" * quads]
    yield ["set", "/long", "list", "LONG", "many", *map(str, range(600))]


def _many_children() -> Iterator[Edit]:
    for number in range(400):
        yield ["set", f"/many/child{number}", "at", "LONG", "one", str(number)]
    for name in ("AaAa", "AaBB", "BBAa", "BBBB"):  # of one hash in Java
        yield ["node", f"/same-hash/{name}"]
    yield ["node", "/deep" + "/d" * 150]
    for number in range(0, 400, 3):
        yield ["remove", f"/many/child{number}"]


RECIPES: dict[str, list[Recipe]] = {
    "plain": [["open"], ["fill", "seed=1", "nodes=30"], ["close"]],
    "values": [
        ["open"],
        lambda: list(_one_of_each_type()),
        lambda: list(_long_values()),
        ["close"],
    ],
    "children": [["open"], lambda: list(_many_children()), ["close"]],
    "checkpoints": [
        ["open"],
        ["fill", "seed=1", "nodes=12"],
        ["checkpoint", "creator:one"],
        ["fill", "seed=2", "nodes=12"],
        ["checkpoint", "creator:two", "name:second"],
        ["commit", "remove", "/content/run1", ";"],
        ["close"],
    ],
    "full": [
        ["open"],
        ["fill", "seed=1", "nodes=20", "kib=20"],
        ["checkpoint", "creator:one"],
        ["fill", "seed=2", "nodes=12"],
        ["compact", "full"],
        ["fill", "seed=3", "nodes=5"],
        ["close"],
    ],
    "tail": [
        ["open"],
        ["fill", "seed=1", "nodes=20"],
        ["compact", "full"],
        ["fill", "seed=2", "nodes=10"],
        ["checkpoint", "creator:one"],
        ["compact", "tail"],
        ["fill", "seed=3", "nodes=5"],
        ["close"],
    ],
    "cleaned": [
        ["open", "retained=1"],
        ["fill", "seed=1", "nodes=20", "kib=20"],
        ["close"],
        ["open", "retained=1"],
        ["fill", "seed=2", "nodes=12"],
        ["commit", "remove", "/content/run1/part0/page7", ";"],
        ["compact", "full"],
        ["compact", "full"],
        ["close"],
    ],
    "killed": [
        ["open"],
        ["fill", "seed=1", "nodes=10"],
        ["close"],
        ["open"],
        ["fill", "seed=2", "nodes=10"],
        ["checkpoint", "creator:one"],
        ["kill"],
    ],
    "datastore": [
        ["open", "blobs"],
        ["fill", "seed=1", "nodes=25", "kib=20"],
        ["checkpoint", "creator:one"],
        ["close"],
    ],
}


def make(peer: Peer, directory: Path, recipe: list[Recipe]) -> None:
    """Carry out `recipe`; `peer` does not live on if the recipe kills it."""
    store: Store | None = None
    for step in recipe:
        if callable(step):
            assert store is not None
            store.commit(step())
        elif step[0] == "open":
            store = peer.open(directory, **_options(directory, step[1:]))
        elif step[0] == "kill":
            peer.kill()
        else:
            assert store is not None
            store.call(*step)


def _options(directory: Path, words: list[str]) -> dict[str, object]:
    given = dict(word.split("=", 1) for word in words if "=" in word)
    return given | ({"blobs": directory / DATASTORE} if "blobs" in words else {})


def shown(recipe: list[Recipe]) -> list[str]:
    """The steps as one reads them."""
    return [f"commit {len(step())} edits" if callable(step) else " ".join(step) for step in recipe]
