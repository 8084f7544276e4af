"""A compaction: the same content in segments of a new generation, and nothing else needed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from copies import sound, write
from crash import Drive, RecordingDisk, crashes
from hypothesis import given, settings
from hypothesis import strategies as st
from repository_models import MemorySink, Model, build, model_of, models
from stores import QuickDisk

from tarfailover.errors import FormatError, NoHeadError, SegmentMissingError
from tarfailover.format.gclog import GcLine
from tarfailover.format.segment import BLOB_ID, external_blob_ids
from tarfailover.ids import Generation, RecordId, SegmentId, is_bulk
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import CHECKPOINTS, ROOT, RepositoryWriter
from tarfailover.repository.compaction import Compacted, compact
from tarfailover.repository.digest import ContentDigest, content_digest
from tarfailover.repository.nodes import NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.records import Draft, node_draft, value_draft
from tarfailover.repository.values import ExternalBlob, Property
from tarfailover.store import base, gcfile
from tarfailover.store.cleanup.marks import Rule
from tarfailover.store.cleanup.run import Cleanup
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

ONLY_NEW = Rule(retained=1, ahead=False, newer=True)


def opened(directory: Path, disk: QuickDisk | None = None) -> StoreWriter:
    return StoreWriter.open(
        directory, create=True, tar_limit=2**20, disk=disk or QuickDisk(), clock=lambda: 1.0
    )


def compacted(sink: StoreWriter | MemorySink, seed: int = 1) -> Compacted:
    return compact(sink, random.Random(seed).randbytes, wid="test", now=lambda: 7)


def noted(writer: StoreWriter, done: Compacted) -> Compacted:
    """With the line in gc.log on which a tail compaction builds."""
    number, full, _ = done.generation
    line = GcLine(1, 1, 1, number, full, done.nodes, done.head)
    gcfile.append(writer.directory, line, writer.disk)
    return done


def tail(writer: StoreWriter, seed: int = 1) -> Compacted:
    """A tail compaction; NoBaseError if there can be none."""
    with writer.snapshot() as snapshot:
        keep = base.find(snapshot, writer.directory)
    chance = random.Random(seed).randbytes
    return noted(writer, compact(writer, chance, wid="test", now=lambda: 7, keep=keep))


def digest(sink: StoreWriter | MemorySink) -> ContentDigest:
    assert sink.head is not None
    return content_digest(NodeState(RecordReader(sink), sink.head))


def generations(writer: StoreWriter) -> set[Generation]:
    """Of all data segments that the head needs."""
    assert writer.head is not None
    found: set[SegmentId] = set()
    pending = [writer.head.segment]
    with writer.snapshot() as snapshot:
        while pending:
            segment = pending.pop()
            if segment not in found:
                found.add(segment)
                pending += snapshot.references(segment)
        return {snapshot.entry(each)[1].generation for each in found if not is_bulk(each)}


def bulks(writer: StoreWriter) -> int:
    with writer.snapshot() as snapshot:
        return sum(is_bulk(snapshot.segment(rank)) for rank in range(snapshot.count))


def clean(writer: StoreWriter) -> None:
    cleanup = Cleanup(writer, ONLY_NEW)
    while cleanup.step():
        pass
    assert not cleanup.report.failures
    cleanup.close()


def test_everything_is_the_same_again_and_again(tmp_path: Path) -> None:
    """All kinds of values, wide and deep nodes, a checkpoint: three generations of them."""
    for seed in (1, 2, 3):
        write(tmp_path, nodes=60, binary_kib=300, seed=seed)
    with opened(tmp_path) as writer:
        before, large = digest(writer), bulks(writer)
        reader = RecordReader(writer)
        assert writer.head is not None
        stable = {n: c.stable_id for n, c in NodeState(reader, writer.head).children()}
        for number in (1, 2, 3):
            found = compacted(writer, number)
            assert found.generation == Generation(number, number, True)
            assert (digest(writer), bulks(writer)) == (before, large)
            assert generations(writer) == {found.generation}
            assert writer.head == found.head
            again = NodeState(RecordReader(writer), found.head).children()
            assert {name: child.stable_id for name, child in again} == stable
            clean(writer)
            assert digest(writer) == before
    sound(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    write(tmp_path, nodes=5, seed=9)
    with opened(tmp_path) as writer:
        assert generations(writer) == {Generation(3, 3, True), Generation(3, 3, False)}
    sound(tmp_path)
    assert size < 8 * 2**20


COMMIT = models().map(lambda model: ("commit", model))
OTHERS = st.sampled_from(["checkpoint", "compact", "tail", "clean", "reopen"]).map(
    lambda what: (what, None)
)


class Course:
    """A store, and what it should hold, through commits, compactions, cleanups and openings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seed = 0
        self.writer = opened(directory)
        self.expected = Model({}, {"root": Model()})
        self.commit(Model())

    def repository(self) -> RepositoryWriter:
        self.seed += 1
        chance = random.Random(self.seed)
        return RepositoryWriter(self.writer, chance.randbytes, wid="w", now=lambda: self.seed)

    def commit(self, model: Model) -> None:
        repository = self.repository()
        top = repository.super_root()
        top.remove_child(ROOT)
        build(model, top.child(ROOT))
        repository.commit(top)
        self.expected.children[ROOT] = model

    def checkpoint(self) -> None:
        repository = self.repository()
        root = None if repository.head is None else repository.head.child(ROOT)
        assert root is not None
        top = repository.super_root()
        top.child(CHECKPOINTS).child(f"c{self.seed}").set_child(ROOT, root)
        repository.commit(top)
        kept = self.expected.children.setdefault(CHECKPOINTS, Model())
        kept.children[f"c{self.seed}"] = Model({}, {ROOT: self.expected.children[ROOT]})

    def step(self, what: str, model: Model | None) -> None:
        if model is not None:
            self.commit(model)
        elif what == "checkpoint":
            self.checkpoint()
        elif what == "compact":
            self.seed += 1
            noted(self.writer, compacted(self.writer, self.seed))
        elif what == "tail":
            self.seed += 1
            with contextlib.suppress(base.NoBaseError):
                tail(self.writer, self.seed)
        elif what == "clean":
            clean(self.writer)
        else:
            self.writer.close()
            self.writer = opened(self.directory)
        assert self.writer.head is not None
        assert model_of(NodeState(RecordReader(self.writer), self.writer.head)) == self.expected


@settings(max_examples=25)
@given(st.lists(COMMIT | OTHERS, min_size=3, max_size=8))
def test_any_course_of_a_store_keeps_its_content(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Model | None]]
) -> None:
    course = Course(tmp_path_factory.mktemp("course"))
    try:
        for what, model in steps:
            course.step(what, model)
    finally:
        course.writer.close()
    sound(course.directory)


# tail compactions


def change(writer: StoreWriter, number: int, edit: Callable[[NodeBuilder], object]) -> None:
    repository = RepositoryWriter(
        writer, random.Random(number).randbytes, wid="w", now=lambda: number
    )
    top = repository.super_root()
    edit(top.child(ROOT))
    repository.commit(top)


def segments(writer: StoreWriter) -> int:
    with writer.snapshot() as snapshot:
        return snapshot.count


def filled(directory: Path) -> StoreWriter:
    """A wide node, values of all lengths, a checkpoint; compacted, and noted."""
    write(directory, nodes=60, binary_kib=300)
    writer = opened(directory)

    def wide(root: NodeBuilder) -> None:
        for number in range(700):
            root.child("wide").child(f"n{number}").set("x", Property.of(f"text {number}"))
        root.child("big").set("b", Property.of(bytes(600_000)))

    change(writer, 11, wide)
    noted(writer, compacted(writer, 12))
    return writer


def test_a_tail_compaction_copies_what_is_new_and_shares_the_rest(tmp_path: Path) -> None:
    with filled(tmp_path) as writer:
        keep = compacted_segments(writer)
        for number in range(1, 5):

            def some(root: NodeBuilder, number: int = number) -> None:
                wide = root.child("wide")
                for each in range(1 + 40 * (number % 2)):
                    wide.child(f"n{each * 16}").set("y", Property.of(number))
                wide.remove_child(f"n{number + 1}")
                wide.child(f"new {number}").set("b", Property.of([bytes(20_000)] * 2))
                root.child("other").child(f"{number}").set("x", Property.of("x" * 300))

            change(writer, 20 + 2 * number, some)
            if number % 3:
                change(writer, 21 + 2 * number, lambda root: root.child("wide").child("n99").set(
                    "z", Property.of(1)))  # fmt: skip
            before, count = digest(writer), segments(writer)
            found = tail(writer, 50 + number)
            assert found.generation == Generation(1 + number, 1, True)
            assert digest(writer) == before
            assert found.nodes < 100, "of more than 700"
            assert segments(writer) - count <= 2
            assert not {each for each in generations(writer) if not each.compacted}
            clean(writer)
            assert digest(writer) == before
            assert keep <= compacted_segments(writer), "what is shared is kept"
        size = sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
        noted(writer, compacted(writer, 99))
        clean(writer)
        assert digest(writer) == before
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= size
    sound(tmp_path)


def compacted_segments(writer: StoreWriter) -> set[SegmentId]:
    with writer.snapshot() as snapshot:
        known = map(snapshot.segment, range(snapshot.count))
        return {each for each in known if snapshot.entry(each)[1].generation.compacted}


def test_a_tail_compaction_of_nothing_new_changes_nothing(tmp_path: Path) -> None:
    with filled(tmp_path) as writer:
        head, count = writer.head, segments(writer)
        assert tail(writer).head == head
        assert segments(writer) == count
        change(writer, 30, lambda root: root.remove_child("wide"))
        assert tail(writer, 31).nodes == 2
        assert writer.head is not None
        root = NodeState(RecordReader(writer), writer.head).child(ROOT)
        assert root is not None and root.child("wide") is None


def test_without_a_base_there_is_no_tail_compaction(tmp_path: Path) -> None:
    write(tmp_path, nodes=60)
    with opened(tmp_path) as writer:
        with pytest.raises(base.NoBaseError, match="no compaction is told of"):
            tail(writer)
        lost = RecordId(b"\1" * 8 + b"\xa1" * 8, 1)
        gcfile.append(tmp_path, GcLine(1, 1, 1, 1, 1, 1, lost), writer.disk)
        with pytest.raises(base.NoBaseError, match="is in no tar"):
            tail(writer)
        assert writer.head is not None
        gcfile.append(tmp_path, GcLine(1, 1, 1, 0, 0, 1, writer.head), writer.disk)
        with pytest.raises(
            base.NoBaseError, match="which is no compacted one of full generation 0"
        ):
            tail(writer)
        noted(writer, compacted(writer, 2))
        compacted(writer, 3)
        with pytest.raises(base.NoBaseError, match="no compacted one of full generation 2"):
            tail(writer, 4)


def test_what_a_checkpoint_shares_is_written_once(tmp_path: Path) -> None:
    write(tmp_path, nodes=300)
    with opened(tmp_path) as writer:
        alone = compacted(writer).nodes
        repository = RepositoryWriter(
            writer,
            random.Random(5).randbytes,
            wid="w",
            now=lambda: 9,
        )
        assert repository.head is not None
        root = repository.head.child(ROOT)
        assert root is not None
        top = repository.super_root()
        top.child(CHECKPOINTS).child("one").set_child(ROOT, root)
        repository.commit(top)
        before = digest(writer)
        assert before.nodes > 2 * alone - 10
        assert compacted(writer, 2).nodes == alone + 2
        assert digest(writer) == before


def test_names_of_external_binaries_come_along() -> None:
    """Short ones as they are; of a long one its text too, which may lie in another segment."""
    sink = MemorySink()
    repository = RepositoryWriter(sink, random.Random(4).randbytes, wid="w", now=lambda: 1)
    name = "x" * 5000
    text = repository._tree.records.string(name)
    long = repository._segments.write(Draft(BLOB_ID, b"\xf0", (text,)))
    short = repository._segments.write(Draft(BLOB_ID, b"\xe0\x04ab#1"))
    top = repository.super_root()
    top.child(ROOT).set("long", Property.of(ExternalBlob(long, name)))
    top.child(ROOT).set("many", Property.of([ExternalBlob(short, "ab#1")] * 2))
    repository.commit(top)
    found = compacted(sink)
    root = NodeState(RecordReader(sink), found.head).child(ROOT)
    assert root is not None
    values = {name: [v.blob_id for v in p.values] for name, p in root.properties()}  # type: ignore[union-attr]
    assert values == {"long": [name], "many": ["ab#1", "ab#1"]}
    assert set(external_blob_ids(sink.read(found.head.segment))[0]) == {b"ab#1"}


def test_an_unreadable_store_keeps_its_head(tmp_path: Path) -> None:
    sink = MemorySink()
    with pytest.raises(NoHeadError):
        compacted(sink)
    for seed in (1, 2):
        write(tmp_path, nodes=100, seed=seed)
    with opened(tmp_path) as writer, writer.snapshot() as snapshot:
        for rank in range(snapshot.count):
            segment = snapshot.segment(rank)
            sink.segments[segment] = snapshot.read(segment)
        assert writer.head is not None
        sink.journal.append((writer.head, 1))
    lost = next(s for s in sink.segments if not is_bulk(s) and s != writer.head.segment)
    del sink.segments[lost]
    with pytest.raises(SegmentMissingError):
        compacted(sink)
    assert len(sink.journal) == 1


def test_a_node_below_itself_is_no_endless_work() -> None:
    sink = MemorySink()
    repository = RepositoryWriter(sink, random.Random(4).randbytes, wid="w", now=lambda: 1)
    repository.commit(repository.super_root())
    head = sink.head
    assert head is not None
    segments = repository._segments
    node = NodeState(RecordReader(sink), head)
    before = segments.write(value_draft(b"x"))
    own = before._replace(number=before.number + 1)
    assert segments.write(node_draft(node.template_id, own, None)) == own
    segments.seal()
    sink.commit(own, 2)
    with pytest.raises(FormatError):
        compacted(sink)


def test_whenever_the_machine_dies_the_content_is_there(tmp_path: Path) -> None:
    """Before the new head is durable, and while the old one is removed."""
    store = tmp_path / "store"
    with opened(store) as writer:
        repository = RepositoryWriter(writer, random.Random(4).randbytes, wid="w", now=lambda: 1)
        for number in range(3):
            top = repository.super_root()
            top.child(ROOT).child(f"n{number}").set("b", Property.of(bytes(20_000)))
            repository.commit(top)
        before = digest(writer)
    drive = Drive.of(store)
    disk = RecordingDisk(drive)
    with opened(store, disk) as writer:
        old, new = writer.head, compacted(writer).head
        disk.say(new)
        clean(writer)
        gcfile.append(store, GcLine(1, 1, 1, 1, 1, 1, new), disk)
    promised = False
    tried = 0
    for step in disk.steps:
        promised = promised or step.kind == "said"
        drive.apply(step)
        for _, left in crashes(drive):
            with opened(left.write_to(tmp_path / "crashed")) as writer:
                assert writer.head == new or (writer.head == old and not promised)
                assert digest(writer) == before
            tried += 1
    assert promised and tried > 50
