"""Random edit histories: made from a seed, without any store, to be replayed on Oak and on us.

A history is a list of steps. The edits of a commit are in the words of `tests/interop/peer/
Edits.java`, and each is possible when its turn comes: a model of all names is kept meanwhile.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Edit = list[str]

NAMES = (
    "AaAa",
    "AaBB",
    "BBAa",
    "BBBB",
    "jcr:content",
    "a",
    "b",
    "c",
    "é",
    "中文",
    "😀",
    "x y",
    ";",
)
"""Names of children; the first four have one hash in Java."""
PROPERTIES = ("title", "n", "jcr:primaryType", "jcr:mixinTypes", "tags", "Ä", "a=b", "data")
TYPES = {"jcr:primaryType": "one", "jcr:mixinTypes": "many"}
"""Always NAMEs: of another type, Oak neither finds nor removes them once they are stored."""
SIZES = (0, 1, 5, 20, 100, 127, 128, 129, 3000, 4096, 16511, 16512, 16513, 20000)
HUGE = (262143, 262144, 270000)
COMMITS, EDITS, BURST = 10, 9, 100
"""At most: commits of a history, edits of a commit, children made by one edit."""
DEEPEST = 12

TEXTS = {
    "DOUBLE": ("0.0", "-0.0", "1.5", "-2.25E-7", "1.0E300", "NaN", "Infinity", "-Infinity"),
    "DATE": ("2026-11-29T08:30:00.000+01:00", "1969-12-31T23:59:59.999Z"),
    "BOOLEAN": ("true", "false"),
    "NAME": ("nt:unstructured", "mix:title", "a"),
    "PATH": ("/content/a", "../b"),
    "REFERENCE": ("00000000-0000-0000-0000-000000000001",),
    "WEAKREFERENCE": ("ffffffff-ffff-ffff-ffff-ffffffffffff",),
    "URI": ("http://example.org/?q=1#f",),
    "DECIMAL": ("0", "1.50", "-1234567890.012345", "1E+40"),
}
KINDS = ("STRING", "STRING", "STRING", "LONG", "BINARY", "BINARY", *TEXTS)


class Step(NamedTuple):
    """What happens to the repository: a commit of `edits`, or what `what` says."""

    what: str
    """``commit``, ``checkpoint``, ``release``, ``reopen``, or a compaction: ``full``, ``tail``."""
    edits: Sequence[Edit] = ()
    which: int = 0
    """The place of the checkpoint to release among those that are there."""


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    properties: set[str] = field(default_factory=set)


def history(seed: int) -> list[Step]:
    """The history of `seed`."""
    return list(_History(random.Random(seed)).steps())


class _History:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._root = _Node()

    def steps(self) -> Iterator[Step]:
        kept = 0
        for _ in range(self._chance.randint(3, COMMITS)):
            yield Step("commit", list(self._edits()))
            what = self._chance.choices(
                ["checkpoint", "release", "reopen", "full", "tail", ""], [4, 2, 3, 1, 2, 18]
            )[0]
            if what == "release" and not kept:
                continue
            kept += (what == "checkpoint") - (what == "release")
            if what:
                yield Step(what, which=self._chance.randrange(kept + 1) if what == "release" else 0)

    def _edits(self) -> Iterator[Edit]:
        if self._chance.random() < 0.4:  # in front: of nodes that this commit has not touched
            yield from self._moved()
        for _ in range(self._chance.randint(1, EDITS)):
            kind = self._chance.choices(
                ["set", "unset", "node", "remove", "burst"], [10, 2, 4, 2, 1]
            )[0]
            yield from getattr(self, f"_{kind}")()

    def _walk(self) -> tuple[str, _Node]:
        """An existing node, any depth."""
        path, node = "", self._root
        while node.children and len(path.split("/")) < DEEPEST and self._chance.random() < 0.7:
            name = self._chance.choice(list(node.children))
            path, node = f"{path}/{name}", node.children[name]
        return path or "/", node

    def _below(self) -> tuple[str, _Node, str]:
        """An existing node that is not the root: its parent's path, its parent, its name."""
        path, node = self._walk()
        while not node.children and node is not self._root:
            path, node = self._walk()
        if not node.children:
            return path, node, ""
        return path.rstrip("/"), node, self._chance.choice(list(node.children))

    def _name(self) -> str:
        if self._chance.random() < 0.5:
            return self._chance.choice(NAMES)
        return f"n{self._chance.randrange(1000)}"

    def _node(self) -> Iterator[Edit]:
        path, node = self._walk()
        path = path.rstrip("/")
        for _ in range(self._chance.randint(1, 3)):
            name = self._name()
            path, node = f"{path}/{name}", node.children.setdefault(name, _Node())
        yield ["node", path]

    def _burst(self) -> Iterator[Edit]:
        path, node = self._walk()
        for _ in range(self._chance.randint(1, BURST)):
            name = f"c{self._chance.randrange(10000)}"
            node.children.setdefault(name, _Node()).properties.add("n")
            yield ["set", f"{path.rstrip('/')}/{name}", "n", "LONG", "one", self._text("LONG")]

    def _set(self) -> Iterator[Edit]:
        path, node = self._walk()
        name = self._chance.choice(PROPERTIES)
        kind = "NAME" if name in TYPES else self._chance.choice(KINDS)
        node.properties.add(name)
        count = 1 if self._chance.random() < 0.7 else self._chance.choice([0, 1, 2, 5, 300])
        many = "many" if count != 1 or self._chance.random() < 0.2 else "one"
        if name in TYPES:
            many, count = TYPES[name], count if TYPES[name] == "many" else 1
        values = [self._text(kind, small=count > 1) for _ in range(count)]
        yield ["set", path, name, kind, many, *values]

    def _unset(self) -> Iterator[Edit]:
        path, node = self._walk()
        if node.properties:
            name = self._chance.choice(sorted(node.properties))
            node.properties.remove(name)
            yield ["unset", path, name]

    def _remove(self) -> Iterator[Edit]:
        path, parent, name = self._below()
        if name:
            del parent.children[name]
            yield ["remove", f"{path}/{name}"]

    def _moved(self) -> Iterator[Edit]:
        path, parent, name = self._below()
        into_path, into = self._walk()
        source, target = f"{path}/{name}", f"m{self._chance.randrange(10**6)}"
        if not name or f"{into_path}/".startswith(f"{source}/"):
            return
        if self._chance.random() < 0.5:
            into.children[target] = parent.children.pop(name)
            yield ["move", source, f"{into_path.rstrip('/')}/{target}"]
        else:
            into.children[target] = _copied(parent.children[name])
            yield ["copy", source, f"{into_path.rstrip('/')}/{target}"]

    def _text(self, kind: str, *, small: bool = False) -> str:
        size = self._chance.choice(SIZES[:6] if small else SIZES)
        if not small and self._chance.random() < 0.01:
            size = self._chance.choice(HUGE)
        if kind == "STRING":
            letters = self._chance.choice(["abc", "ä", "中", "a😀"])
            return "".join(self._chance.choices(letters, k=size))
        if kind == "BINARY":
            return base64.b64encode(self._chance.randbytes(size)).decode()
        if kind == "LONG":
            return str(self._chance.randrange(-(2**63), 2**63))
        return self._chance.choice(TEXTS[kind])


def _copied(node: _Node) -> _Node:
    top = _Node(properties=set(node.properties))
    pending = [(node, top)]
    while pending:
        source, target = pending.pop()
        for name, child in source.children.items():
            target.children[name] = _Node(properties=set(child.properties))
            pending.append((child, target.children[name]))
    return top
