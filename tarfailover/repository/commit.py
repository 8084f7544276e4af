"""Writes changed trees as records that share everything unchanged, and commits heads.

The head is a node without properties and with the child `root`, the content tree;
`checkpoints` beside it appears with the first checkpoint. Facts: storage format, 5.7,
5.8 and 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from tarfailover.errors import BlobMissingError, ContentError
from tarfailover.format.blobid import shown
from tarfailover.ids import NO_GENERATION, Generation, RecordId
from tarfailover.repository import paths
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.maps import MapWriter
from tarfailover.repository.nodes import MIXIN_TYPES, PRIMARY_TYPE, NodeState
from tarfailover.repository.reader import RecordReader
from tarfailover.repository.record_writer import Outside, Readable, RecordWriter
from tarfailover.repository.records import Template, sort_properties
from tarfailover.repository.segment_writer import Clock, SegmentSink, SegmentWriter
from tarfailover.repository.values import ExternalBlob, Property, PropertyType, StoredBlob

ROOT = "root"
CHECKPOINTS = "checkpoints"

ChildIds = dict[str, RecordId | None]


@dataclass
class _Frame:
    """A node on the way from the top to where the writer is."""

    name: str
    builder: NodeBuilder
    pending: Iterator[tuple[str, NodeBuilder | NodeState | None]]
    written: ChildIds = field(default_factory=dict)


class TreeWriter:
    """Writes builders as nodes, children first, without recursion."""

    def __init__(self, segments: SegmentWriter, outside: Outside | None = None) -> None:
        self.reader = RecordReader(segments, None if outside is None else outside.store)
        self.records = RecordWriter(segments, outside)
        self._maps = MapWriter(self.reader, segments.write, self.records.string)

    def write(self, top: NodeBuilder) -> NodeState:
        """Write what changed in and below `top`; an unchanged node is its base.

        The node's segment may stay open until something reads from it.
        """
        frames = [_Frame("", top, top.changed_children())]
        while True:
            frame = frames[-1]
            name, child = next(frame.pending, ("", None))
            if isinstance(child, NodeBuilder):
                frames.append(_Frame(name, child, child.changed_children()))
            elif name:
                frame.written[name] = None if child is None else child.id
            else:
                try:
                    record = self._node(frame.builder, frame.written)
                except ContentError as error:
                    raise ContentError(f"{_path(frames)}: {error}") from error
                frames.pop()
                if not frames:
                    return NodeState(self.reader, record)
                frames[-1].written[frame.name] = record

    def _node(self, builder: NodeBuilder, written: ChildIds) -> RecordId:
        base = builder.base
        changes, more = _really_changed(base, written)
        properties = dict(builder.changed_properties())
        if base is not None and not changes and not properties:
            return base.id
        names, children = self._children(base, changes, more)
        before = Template() if base is None else base.template
        shape = _Shape(before, [] if base is None else base.value_records())
        for name, prop in properties.items():
            shape.change(name, prop, self.records.property)
        template = shape.template(names)
        if base is not None:
            self.records.learn_template(before, base.template_id)
        values = self._values(base, shape.ordered(template), bool(properties))
        return self.records.node(self.records.template(template), children, values)

    def _values(
        self, base: NodeState | None, ordered: list[RecordId], changed: bool
    ) -> RecordId | None:
        if not ordered:
            return None
        if base is not None and not changed:
            return base.values_record
        return self.records.list(ordered)

    def _children(
        self, base: NodeState | None, changes: ChildIds, more: int
    ) -> tuple[str | bool, RecordId | None]:
        """What the template says of the children (only name, or whether many), and their id.

        There are `more` than before.
        """
        if base is not None and base.template.many and base.child_record is not None:
            if not changes:
                return True, base.child_record
            if base.child_count() + more > 1:
                return True, self._maps.change(base.child_record, changes)
        left = dict(base.child_ids()) if base is not None else {}
        for name, record in changes.items():
            left.pop(name, None)
            if record is not None:
                left[name] = record
        if len(left) > 1:
            return True, self._maps.create(left)
        for name, record in left.items():
            return name, record
        return False, None


def _path(frames: list[_Frame]) -> str:
    """The path of the last of `frames` in the content, whether its top or one above it is first."""
    names = [frame.name for frame in frames[1:]]
    return paths.shortened(paths.join(names[1:] if names[:1] == [ROOT] else names))


def _really_changed(base: NodeState | None, written: ChildIds) -> tuple[ChildIds, int]:
    """Those of `written` that differ from before, and by how many there are more children."""
    if base is None:
        return written, 0
    changes: ChildIds = {}
    more = 0
    for name, record in written.items():
        before = base.child_id(name)
        if before != record:
            changes[name] = record
            more += (record is not None) - (before is not None)
    return changes, more


class _Shape:
    """Properties of a node on the way to a template and a row of values."""

    def __init__(self, before: Template, values: list[RecordId]) -> None:
        self._primary = before.primary
        self._mixins = before.mixins
        self._tags = dict(before.properties)
        self._values = dict(zip(self._tags, values, strict=True))

    def change(
        self, name: str, prop: Property | None, store: Callable[[Property], RecordId]
    ) -> None:
        """Take over one changed property; types that belong into the template go there."""
        self._tags.pop(name, None)
        self._values.pop(name, None)
        if name == PRIMARY_TYPE:
            self._primary = None
        elif name == MIXIN_TYPES:
            self._mixins = None
        if prop is None or self._take_type(name, prop):
            return
        self._tags[name] = prop.tag
        self._values[name] = store(prop)

    def _take_type(self, name: str, prop: Property) -> bool:
        if prop.type != PropertyType.NAME:
            return False
        texts = tuple(value for value in prop.values if isinstance(value, str))
        if name == PRIMARY_TYPE and not prop.array:
            self._primary = texts[0]
            return True
        if name == MIXIN_TYPES and prop.array:
            self._mixins = texts
            return True
        return False

    def template(self, children: str | bool) -> Template:
        """The template of this shape; `children` is the only name, or whether many."""
        only = children if isinstance(children, str) else None
        return Template(
            self._primary, self._mixins, only, children is True, sort_properties(self._tags)
        )

    def ordered(self, template: Template) -> list[RecordId]:
        """The values in the order of `template`."""
        return [self._values[name] for name, _ in template.properties]


class RepositoryWriter:
    """Commits new heads to a store.

    Every commit ends with the segment that holds the head's node, so that nothing of
    the head's closure lies behind it in the tars.
    """

    def __init__(
        self,
        sink: SegmentSink,
        random: Callable[[int], bytes],
        *,
        wid: str,
        now: Clock,
        outside: Outside | None = None,
    ) -> None:
        """Write to `sink`; `random(n)` gives n bytes for ids, `wid` names the writer.

        `now` gives the time of segments and of commits, milliseconds since 1970. Large
        binaries go to the blob store `outside`, where they are durable, and to be read, with
        the commit that follows; then it is to be closed, or used with ``with``.

        Raises SegmentMissingError or FormatError if the store's head cannot be read.
        """
        self._sink = sink
        self._now = now
        outside = None if outside is None else outside._replace(deferred=True)
        self._outside = outside
        self._segments = SegmentWriter(sink, random, wid=wid, now=now)
        self._tree = TreeWriter(self._segments, outside)
        head = sink.head
        self.head: NodeState | None = None if head is None else NodeState(self._tree.reader, head)
        self._segments.generation = self._next_generation(head)

    def _next_generation(self, head: RecordId | None) -> Generation:
        if head is None:
            return NO_GENERATION
        current = self._tree.reader.generation(head.segment)
        return current._replace(compacted=False)

    def close(self) -> None:
        """Forget large binaries that no commit followed."""
        self._tree.records.close()

    def __enter__(self) -> RepositoryWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def reader(self) -> RecordReader:
        """Reads what was written, and external binaries."""
        return self._tree.reader

    def super_root(self) -> NodeBuilder:
        """A builder over the head; in a fresh store, one with an empty `root`."""
        builder = NodeBuilder(self.head)
        if self.head is None:
            builder.child(ROOT)
        return builder

    def blob(self, source: bytes | Readable) -> StoredBlob | ExternalBlob:
        """Store a binary now, to be named by properties of this or a later commit."""
        return self._tree.records.blob(source)

    def external(self, blob_id: str) -> ExternalBlob:
        """The binary `blob_id` of the blob store, to be named by properties.

        Raises ContentError without a blob store, FormatError for an id that is none, and
        BlobMissingError if it is not there.
        """
        if self._outside is None:
            raise ContentError(f"the binary {shown(blob_id)} is in a blob store: say where it is")
        self._tree.records.settle()
        blob = self._outside.store.parse(blob_id)
        if not self._outside.store.claim(blob):
            raise BlobMissingError(
                f"{self._outside.store.path} does not have the binary {shown(blob_id)}, or not all "
                "of it: bring it there first"
            )
        return self._tree.records.external(blob_id)

    def write(self, builder: NodeBuilder) -> NodeState:
        """Write a finished subtree now, to be attached with `NodeBuilder.set_child`.

        This is how a large commit keeps little in memory. Nothing refers to the node
        until a commit does.
        """
        return self._tree.write(builder)

    def commit(self, super_root: NodeBuilder) -> RecordId:
        """Write the changes and make them the store's head; returns the head.

        Without any change the head stays as it is and no line is written.
        """
        written = self._tree.write(super_root)
        self._segments.seal()
        if self.head is None or written.id != self.head.id:
            self._tree.records.settle()
            self._sink.commit(written.id, self._now())
            self.head = written
        return written.id
