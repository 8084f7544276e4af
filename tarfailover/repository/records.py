"""The records of a data segment as bytes: what each type looks like.

A record to be written is a `Draft`: bytes, a row of record ids, bytes. How an id is
spelled depends on the segment that takes the record, so that is left to the segment
(`segment_writer`). Facts: storage format, section 5.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tarfailover.errors import ContentError
from tarfailover.format.segment import (
    BLOCK,
    BRANCH,
    BUCKET,
    LEAF,
    LIST,
    NODE,
    TEMPLATE,
    VALUE,
)
from tarfailover.ids import RecordId
from tarfailover.repository.hashes import MAP_LAST_LEVEL, property_key

ID_SIZE = 6

SMALL_LIMIT = 128
MEDIUM_LIMIT = 16512
"""From this length on a value is long: a list of blocks; also Oak's inline threshold."""

BLOCK_SIZE = 4096
BUCKET_SIZE = 255
MAX_LIST = BUCKET_SIZE**3

MAP_LEAF_LIMIT = 32
MAP_SIZE_BITS = 29
MAX_MAP = 500_000_000
"""The size at which Oak itself refuses to let a map grow."""
DIFF_HEAD = 0xFFFFFFFF

SORTED_SHAPES = 1024
"""Rows of properties of which it is remembered how they are sorted: most nodes are alike."""

HAS_PRIMARY = 1 << 31
HAS_MIXINS = 1 << 30
NO_CHILDREN = 1 << 29
MANY_CHILDREN = 1 << 28
MIXIN_SHIFT = 18
MAX_MIXINS = 1023
MAX_PROPERTIES = (1 << MIXIN_SHIFT) - 1

_MEDIUM = struct.Struct(">H")
_LONG = struct.Struct(">Q")
_U32 = struct.Struct(">I")
_PAIR = struct.Struct(">II")


class Draft(NamedTuple):
    """A record before it has a place: `head`, own id if `stable`, `ids`, `tail`."""

    type: int
    head: bytes
    ids: Sequence[RecordId] = ()
    tail: bytes = b""
    stable: bool = False
    """Whether the record's own id stands in front of `ids`, as in a NODE."""

    @property
    def size(self) -> int:
        """Bytes of the record before alignment."""
        return len(self.head) + ID_SIZE * (len(self.ids) + self.stable) + len(self.tail)


@dataclass(frozen=True, slots=True)
class Template:
    """The shape of a node: types, kind of children, names and types of properties.

    At most one of `child` and `many` says that there are children. `properties` is in
    the order of the format (`property_key`), each with its tag, negative for arrays.
    """

    primary: str | None = None
    mixins: tuple[str, ...] | None = None
    child: str | None = None
    """The name of the only child."""
    many: bool = False
    """Whether there are two or more children."""
    properties: tuple[tuple[str, int], ...] = ()

    @property
    def head(self) -> int:
        """The first 32 bits of the record; raises ContentError beyond the format's limits."""
        mixins = len(self.mixins or ())
        if mixins > MAX_MIXINS or len(self.properties) > MAX_PROPERTIES:
            raise ContentError(
                f"a node cannot have {mixins} mixins and {len(self.properties)} properties "
                f"(limits: {MAX_MIXINS} and {MAX_PROPERTIES})"
            )
        head = mixins << MIXIN_SHIFT | len(self.properties)
        head |= HAS_PRIMARY if self.primary is not None else 0
        head |= HAS_MIXINS if self.mixins is not None else 0
        if self.many:
            return head | MANY_CHILDREN
        return head if self.child is not None else head | NO_CHILDREN


def sort_properties(tags: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """The (name, tag) pairs of `tags` in the order that a template must have."""
    return _sorted(tuple(tags.items()))


@lru_cache(SORTED_SHAPES)
def _sorted(tags: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(tags, key=lambda item: property_key(item[0])))


def value_draft(data: bytes) -> Draft:
    """The VALUE record of a small or medium value; `data` is shorter than 16512 bytes."""
    size = len(data)
    if size < SMALL_LIMIT:
        return Draft(VALUE, bytes((size,)) + data)
    return Draft(VALUE, _MEDIUM.pack(0x8000 | size - SMALL_LIMIT) + data)


def long_value_draft(length: int, blocks: RecordId) -> Draft:
    """The VALUE record of a long value of `length` bytes under the list `blocks`."""
    return Draft(VALUE, _LONG.pack(0xC000000000000000 | length - MEDIUM_LIMIT), (blocks,))


def block_draft(data: bytes) -> Draft:
    """A BLOCK record of 1 to 4096 bytes."""
    return Draft(BLOCK, data)


def bucket_draft(ids: Sequence[RecordId]) -> Draft:
    """A BUCKET record of 2 to 255 ids."""
    return Draft(BUCKET, b"", ids)


def list_draft(count: int, elements: RecordId | None) -> Draft:
    """The LIST record of an array of `count` values; `elements` is None iff it is empty."""
    return Draft(LIST, _U32.pack(count), () if elements is None else (elements,))


def template_draft(template: Template, ids: Sequence[RecordId]) -> Draft:
    """The TEMPLATE record; `ids`: primary, mixins, child's name, list of names, where present."""
    tags = struct.pack(f">{len(template.properties)}b", *(tag for _, tag in template.properties))
    return Draft(TEMPLATE, _U32.pack(template.head), ids, tags)


def node_draft(template: RecordId, children: RecordId | None, values: RecordId | None) -> Draft:
    """A NODE record of new content: its stable id is its own id."""
    ids = [template]
    if children is not None:
        ids.append(children)
    if values is not None:
        ids.append(values)
    return Draft(NODE, b"", ids, b"", True)


def map_head(level: int, size: int) -> int:
    """The first 32 bits of a leaf or branch; raises ContentError for too large a map."""
    if size > MAX_MAP:
        raise ContentError(f"a node cannot have {size} children (limit: {MAX_MAP})")
    return level << MAP_SIZE_BITS | size


def is_branch(level: int, size: int) -> bool:
    """Whether a map of `size` entries at `level` is a branch; otherwise it is a leaf."""
    return size > MAP_LEAF_LIMIT and level < MAP_LAST_LEVEL


def leaf_draft(level: int, entries: Sequence[tuple[int, RecordId, RecordId]]) -> Draft:
    """A LEAF record of sorted (hash, key, value) entries."""
    head = _U32.pack(map_head(level, len(entries)))
    hashes = struct.pack(f">{len(entries)}I", *(entry[0] for entry in entries))
    return Draft(LEAF, head + hashes, [record for entry in entries for record in entry[1:]])


def branch_draft(level: int, size: int, buckets: dict[int, RecordId]) -> Draft:
    """A BRANCH record of `size` entries below; `buckets` are the non-empty sub-maps."""
    places = sorted(buckets)
    bitmap = sum(1 << place for place in places)
    head = _PAIR.pack(map_head(level, size), bitmap)
    return Draft(BRANCH, head, [buckets[place] for place in places])


def diff_draft(hashed: int, key: RecordId, value: RecordId, base: RecordId) -> Draft:
    """A BRANCH record that says: like the map `base`, but `key` has `value`."""
    return Draft(BRANCH, _PAIR.pack(DIFF_HEAD, hashed), (key, value, base))
