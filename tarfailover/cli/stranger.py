"""Whether a master serves the repository of a store at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tarfailover.cli.peer import Peer
from tarfailover.errors import DamagedStoreError, DivergedError
from tarfailover.ids import SegmentId
from tarfailover.store.snapshot import Snapshot
from tarfailover.store.state import SlaveState
from tarfailover.wire.messages import SALT_SIZE, ErrorCode
from tarfailover.wire.negotiate import DIGEST

_ITEM = np.dtype([("segment", "V16"), ("length", ">u4")])
SAMPLED = 64
"""Segments that are asked for first, evenly from all: the other side reads some 16 MiB."""


def refuse_stranger(directory: Path, snapshot: Snapshot, peer: Peer) -> None:
    """Raise DivergedError if `peer` serves another repository than that of `directory`.

    By the name that a slave remembers, if both have one, and by the segments: ids are
    random, so two repositories have none in common. `snapshot` has those that are here.
    """
    serves = peer.welcome.repository
    name = _name(directory)
    if name and serves and name != serves:
        raise DivergedError(
            f"the master serves repository {serves!r}, but {directory} is a copy of {name!r}: "
            "nothing was compared and nothing changed; name the right master"
        )
    ids = _sample(snapshot)
    if ids and not (_has_some(peer, ids) or _lists_some(peer, snapshot)):
        raise DivergedError(
            f"the master has none of the segments of {directory}: it serves another repository; "
            "nothing was compared and nothing changed; name the right master"
        )


def _name(directory: Path) -> str:
    try:
        state = SlaveState.load(directory)
    except DamagedStoreError:
        return ""  # its segments tell all the same
    return state.repository if state else ""


def _sample(snapshot: Snapshot) -> list[SegmentId]:
    step = max(1, snapshot.count // SAMPLED)
    return list(map(snapshot.segment, range(0, snapshot.count, step)))


def _has_some(peer: Peer, ids: Sequence[SegmentId]) -> bool:
    """Whether it has one of `ids`, be it damaged; False also if it cannot tell."""
    if DIGEST not in peer.welcome.features:
        return False
    told = peer.digests(ids, os.urandom(SALT_SIZE))().values()
    return any(isinstance(each, bytes) or each.code != ErrorCode.SEGMENT_GONE for each in told)


def _lists_some(peer: Peer, snapshot: Snapshot) -> bool:
    """Whether something that its head needs is in `snapshot`."""
    head = peer.head()
    found = 0

    def took(items: bytes) -> None:
        nonlocal found
        ids = np.frombuffer(items, _ITEM)["segment"].tobytes()
        found += int((snapshot.find_all(ids) >= 0).sum())

    if head is not None:
        peer.listing(head.segment, took)
    return bool(found)
