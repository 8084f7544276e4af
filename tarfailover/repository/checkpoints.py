"""Checkpoints: states of the content that are kept for a while, made and released.

They stand beside the content, below the super root, as Oak has them: a node each, named by a
UUID, with LONG properties `timestamp` (when it expires) and `created`, in milliseconds since
1970, a child `properties` with what its creator noted, and the content as the child `root`.
Who makes one removes those that have expired. Facts: storage format, section 6.1.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Mapping

from tarfailover.errors import ContentError, NotFoundError
from tarfailover.repository import paths
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import CHECKPOINTS, ROOT
from tarfailover.repository.storing import check_name
from tarfailover.repository.values import MAX_LONG, Property, PropertyType

NAMES_SHOWN = 5


def create(
    super_root: NodeBuilder,
    now_ms: int,
    lifetime_ms: int,
    info: Mapping[str, str],
    random: Callable[[int], bytes],
) -> str:
    """Keep the content of the state below `super_root`; the name of the checkpoint.

    `random(16)` makes the name. Raises ContentError for a lifetime below 1 ms, and for names
    and texts in `info` that a repository cannot hold.
    """
    if lifetime_ms < 1:
        raise ContentError("a checkpoint lives at least a millisecond")
    root = None if super_root.base is None else super_root.base.child(ROOT)
    if root is None:
        raise ContentError("there is no content of which a checkpoint could be made")
    above = super_root.child(CHECKPOINTS)
    _remove_expired(above, now_ms)
    name = str(uuid.UUID(bytes=random(16), version=4))
    made = above.child(name)
    made.set("timestamp", Property.of(min(now_ms + lifetime_ms, MAX_LONG - 1)))
    made.set("created", Property.of(now_ms))
    noted = made.child("properties")
    for key, text in info.items():
        check_name(key)
        if not isinstance(text, str):
            raise ContentError(f"{key!r:.80}: {text!r:.80} is no text")
        noted.set(key, Property.of(str(text)))
    made.set_child(ROOT, root)
    return name


def _remove_expired(above: NodeBuilder, now_ms: int) -> None:
    """Also those that do not say when they expire."""
    for name in above.child_names():
        state = None if above.base is None else above.base.child(name)
        expires = None if state is None else state.property("timestamp")
        told = expires is not None and expires.tag == PropertyType.LONG
        if expires is None or not told or now_ms > int(str(expires.values[0])):
            above.remove_child(name)


def release(super_root: NodeBuilder, name: str) -> None:
    """Remove the checkpoint `name`; raises NotFoundError, which tells of similar ones."""
    above = super_root.existing(CHECKPOINTS)
    if above is None or not above.remove_child(name):
        names = [] if above is None else above.child_names()
        close = difflib.get_close_matches(name, names, NAMES_SHOWN, 0.3) or sorted(names)
        there = ", ".join(map(paths.escape, close[:NAMES_SHOWN]))
        raise NotFoundError(
            f"there is no checkpoint {paths.escape(name)}"
            + (f"; there is {there}" if there else ": there are none")
        )
