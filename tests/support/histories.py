"""Histories of a repository, and what it should hold after each of their steps.

Commits, commits that are overtaken, and that raise; checkpoints; full and tail compactions,
cleanups; closing and opening; and the machine dying anywhere in between, losing what was not
synced.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from copies import sound
from crash import Drive, RecordingDisk, crashes
from hypothesis import strategies as st
from repository_models import NAMES, Model, TwoWaysError, merged_models, model_of

from tarfailover.errors import ConflictError
from tarfailover.format.gclog import GcLine
from tarfailover.ids import RecordId
from tarfailover.repository import WritableNode, WritableRepository, editing, open_repository, paths
from tarfailover.repository.compaction import compact
from tarfailover.repository.deepcheck import Books, DeepCheck
from tarfailover.repository.values import Property
from tarfailover.store import base, gcfile
from tarfailover.store.cleanup.marks import OAK, Rule
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.writer import StoreWriter

ONLY_NEW = Rule(retained=1, ahead=False, newer=True)
LIFETIME = timedelta(seconds=50)

SIZES = st.sampled_from([0, 1, 127, 128, 16511, 16512, 30_000, 262_144, 270_000])
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    # Of many other numbers Java before 19 prints a digit more, and a compaction by Oak does so.
    st.integers(-(2**20), 2**20).map(lambda number: number / 4),
    st.booleans(),
    SIZES.map(lambda size: bytes([size % 251]) * size),
    SIZES.map(lambda size: "ä" * (size // 2)),
    st.lists(st.sampled_from("abc"), max_size=3),
)
CHILDREN = NAMES.filter(lambda name: "/" not in name)
PATHS = st.lists(st.integers(0, 5), max_size=3)
EDITS = st.one_of(
    st.tuples(st.just("set"), PATHS, CHILDREN, VALUES),
    st.tuples(st.just("unset"), PATHS, st.integers(0, 5), st.none()),
    st.tuples(st.just("make"), PATHS, CHILDREN, VALUES),
    st.tuples(st.just("grow"), PATHS, st.integers(1, 70), st.none()),
    st.tuples(st.just("remove"), PATHS, st.integers(0, 5), st.none()),
    st.tuples(st.just("copy"), PATHS, PATHS, CHILDREN),
)
Edit = tuple[str, list[int], Any, Any]
SOME = st.lists(EDITS, min_size=1, max_size=5)


def chosen(model: Model, path: Sequence[int]) -> Iterator[str]:
    """The names that the numbers of `path` choose, as far as there are children."""
    for number in path:
        if not model.children:
            return
        name = sorted(model.children)[number % len(model.children)]
        yield name
        model = model.children[name]


def at(model: Model, names: Sequence[str]) -> Model:
    for name in names:
        model = model.children[name]
    return model


def edited(root: WritableNode, content: Model, edit: Edit) -> None:
    """Do one edit with the repository and with the model."""
    kind, path, what, value = edit
    names = list(chosen(content, path))
    node, model = root.node(paths.join(names)), at(content, names)
    if kind == "set":
        node.properties[what] = value
        model.properties[what] = Property.of(value)
    elif kind == "unset" and model.properties:
        name = sorted(model.properties)[what % len(model.properties)]
        del node.properties[name]
        del model.properties[name]
    elif kind == "make":
        node.make(paths.escape(what)).properties["x"] = value
        model.children.setdefault(what, Model()).properties["x"] = Property.of(value)
    elif kind == "grow":
        for number in range(what):
            node.make(f"n{number}").properties["x"] = number
            child = model.children.setdefault(f"n{number}", Model())
            child.properties["x"] = Property.of(number)
    elif kind == "remove" and model.children:
        name = sorted(model.children)[what % len(model.children)]
        del node.children[name]
        del model.children[name]
    elif kind == "copy":
        source = list(chosen(content, what))
        copied = copy.deepcopy(at(content, source))
        node.children[value] = root.node(paths.join(source))
        model.children[value] = copied


class History:
    """A store, what it should hold, and what it held under each of its heads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.time = 1_000_000
        self.chance = random.Random(1)
        self.expected = Model({}, {"root": Model()})
        self.states: list[tuple[RecordId, Model]] = []
        self.disk = RecordingDisk()
        self.began = Drive()
        self.store = self.opened()
        self.remember()

    def opened(self) -> WritableRepository:
        writer = StoreWriter.open(
            self.directory,
            create=True,
            headless=True,
            tar_limit=2**20,
            disk=self.disk,
            clock=lambda: 1.0,
        )
        return WritableRepository(writer, random=self.chance.randbytes, now=self.now)

    def now(self) -> int:
        self.time += 1
        return self.time

    def remember(self) -> None:
        """Now the head is durable, and somebody was told."""
        self.states.append((self.store.head, copy.deepcopy(self.expected)))
        self.disk.say(len(self.states) - 1)

    # steps

    def commit(self, edits: list[Edit]) -> None:
        content = copy.deepcopy(self.expected.children["root"])
        with self.store.commit() as root:
            for edit in edits:
                edited(root, content, edit)
        self.expected.children["root"] = content
        self.remember()

    def overtaken(self, both: tuple[list[Edit], list[Edit]]) -> None:
        before = self.expected.children["root"]
        ours, theirs = copy.deepcopy(before), copy.deepcopy(before)
        try:
            with self.store.commit() as root:
                for edit in both[0]:
                    edited(root, ours, edit)
                with self.store.commit() as other:
                    for edit in both[1]:
                        edited(other, theirs, edit)
                self.expected.children["root"] = theirs
                self.remember()
        except ConflictError:
            with pytest.raises(TwoWaysError):
                merged_models(before, ours, theirs)
            return
        merged = merged_models(before, ours, theirs)
        assert merged is not None
        self.expected.children["root"] = merged
        self.remember()

    def raising(self, edits: list[Edit]) -> None:
        content = copy.deepcopy(self.expected.children["root"])
        with contextlib.suppress(ZeroDivisionError), self.store.commit() as root:
            for edit in edits:
                edited(root, content, edit)
            raise ZeroDivisionError

    def checkpoint(self, _: object) -> None:
        self.time += 10_000
        name = self.store.checkpoint(LIFETIME, {"creator": "test"})
        above = self.expected.children.setdefault("checkpoints", Model())
        for known, model in list(above.children.items()):
            if self.time > int(str(model.properties["timestamp"].values[0])):
                del above.children[known]
        above.children[name] = Model(
            {
                "timestamp": Property.of(self.time_of(name) + 50_000),
                "created": Property.of(self.time_of(name)),
            },
            {
                "properties": Model({"creator": Property.of("test")}),
                "root": copy.deepcopy(self.expected.children["root"]),
            },
        )
        self.remember()

    def time_of(self, checkpoint: str) -> int:
        [found] = [each for each in self.store.checkpoints() if each.name == checkpoint]
        assert found.created_ms is not None and self.time - 5 <= found.created_ms <= self.time
        return found.created_ms

    def release(self, number: int) -> None:
        kept = self.expected.children.get("checkpoints", Model()).children
        if kept:
            name = sorted(kept)[number % len(kept)]
            self.store.release(name)
            del kept[name]
            self.remember()

    def reopen(self, _: object) -> None:
        self.store.close()
        self.store = self.opened()

    def compact(self, how: str) -> None:
        self.store.close()
        with StoreWriter.open(self.directory, tar_limit=2**20, disk=self.disk) as writer:
            keep = None
            if how == "tail":
                with contextlib.suppress(base.NoBaseError), writer.snapshot() as snapshot:
                    keep = base.find(snapshot, self.directory)
            done = compact(writer, self.chance.randbytes, wid="c", now=self.now, keep=keep)
            self.states.append((done.head, copy.deepcopy(self.expected)))
            self.disk.say(len(self.states) - 1)
            number, full, _ = done.generation
            line = GcLine(1, 1, 1, number, full, 1, done.head)
            gcfile.append(self.directory, line, self.disk)
        self.store = self.opened()

    def collect(self, how: tuple[bool, int]) -> None:
        """A compaction and its cleanup while the store is open."""
        self.store.compact(tail=how[0], retained=how[1])
        self.remember()

    def clean(self, rule: Rule) -> None:
        self.store.close()
        with StoreWriter.open(self.directory, tar_limit=2**20, disk=self.disk) as writer:
            cleanup = Cleanup(writer, rule)
            while cleanup.step():
                pass
            cleanup.close()
        self.store = self.opened()

    def crash(self, where: tuple[int, int]) -> None:
        """The machine dies, somewhere since the last crash, and starts again."""
        self.store.close()
        steps = self.disk.steps[: where[0] % (len(self.disk.steps) + 1)]
        drive = self.began
        for step in steps:
            drive.apply(step)
        told = [step.what for step in steps if step.kind == "said"]
        ways = [left for _, left in crashes(drive)]
        ways[where[1] % len(ways)].write_to(self.directory)
        self.began = Drive.of(self.directory)
        self.disk = RecordingDisk(self.began)
        self.store = self.opened()
        last = max((int(str(each)) for each in told), default=0)
        known = dict(self.states[last:])
        if told:
            assert self.store.head in known, "an older head, or none, of those that were told"
        self.expected = copy.deepcopy(known.get(self.store.head, Model({}, {"root": Model()})))
        self.states = []
        self.remember()

    def step(self, what: str, how: Any) -> None:
        getattr(self, what)(how)
        with open_repository(self.directory) as seen:
            assert seen.head_line.record == self.store.head
            assert model_of(seen.head.super_root.state) == self.expected

    def finish(self) -> None:
        self.store.close()
        with open_repository(self.directory) as seen:
            check = DeepCheck(seen.snapshot, Books(), clock=lambda: 0.0)
            assert list(check.run(seen.head_line.record)) == []
        sound(self.directory)


STEPS = st.one_of(
    st.tuples(st.just("commit"), SOME),
    st.tuples(st.just("commit"), SOME),
    st.tuples(st.just("overtaken"), st.tuples(SOME, SOME)),
    st.tuples(st.just("raising"), SOME),
    st.tuples(st.just("checkpoint"), st.none()),
    st.tuples(st.just("release"), st.integers(0, 3)),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("compact"), st.sampled_from(["full", "tail"])),
    st.tuples(st.just("collect"), st.tuples(st.booleans(), st.sampled_from([1, 2]))),
    st.tuples(st.just("clean"), st.sampled_from([OAK, ONLY_NEW])),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 10_000), st.integers(0, 50))),
)


@contextlib.contextmanager
def holding(edits: int) -> Iterator[None]:
    """Commits look at what they hold after so many edits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(editing, "HELD_EDITS", edits)
        patch.setattr(editing, "HELD_NODES", edits // 2)
        yield


def replay(directory: Path, steps: list[tuple[str, Any]]) -> History:
    """Do `steps` in a new store, looking at what it holds after each; closed in the end."""
    history = History(directory)
    try:
        for what, how in steps:
            history.step(what, how)
    finally:
        history.store.close()
    history.finish()
    return history
