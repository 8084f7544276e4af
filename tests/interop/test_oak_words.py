"""Oak's own primary and our master, asked the same about one store: the same words, or more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import Daemon
from oak_links import oak_primary
from oak_peer import Peer, Store
from raw_standby import answered

from tarfailover.ids import SegmentId, is_data, text
from tarfailover.store.follower import Follower

pytestmark = pytest.mark.interop

LONG = ["set", "/long", "text", "STRING", "one", "x" * 300_000]
"""A text for which Oak makes bulk segments, also beside a data store."""
NONE_SUCH = "00000000-0000-4000-a000-00000000dead"


def closure_of(store: Path) -> list[SegmentId]:
    """All segments that the head needs, in some order."""
    with Follower.open(store) as follower:
        snapshot = follower.refresh()
        assert snapshot.head is not None
        found = dict.fromkeys([snapshot.head.record.segment])
        pending = list(found)
        while pending:
            more = [each for each in snapshot.references(pending.pop()) if each not in found]
            found.update(dict.fromkeys(more))
            pending += more
        return list(found)


@contextmanager
def both(live: Store, store: Path, blobs: Path) -> Iterator[tuple[int, int]]:
    """The ports of Oak's primary and of our master of the store that `live` has open."""
    with oak_primary(live) as port, Daemon.master(store, "--blob-store", blobs) as master:
        yield port, master.port
        master.stop()


@pytest.mark.cell("our master's words are Oak's own: heads, references, segments, binaries")
def test_the_same_frames(peer: Peer, tmp_path: Path) -> None:
    """Byte for byte, hashes included, the order of references too."""
    store, blobs = tmp_path / "store", tmp_path / "blobs"
    with peer.open(store, blobs=blobs) as live:
        live.fill(seed=1, nodes=60, kib=3000)
        live.fill(seed=2, nodes=60, kib=15)
        live.commit([LONG])
        live.checkpoint(creator="test")
        live.compact("full")
        live.fill(seed=3, nodes=20)
        ids = closure_of(store)
        assert {is_data(each) for each in ids} == {True, False}
        bodies = [f"s.{text(each)}" for each in ids]
        bodies += [f"r.{text(each)}" for each in ids if is_data(each)]
        bodies += [f"b.{each}" for each in sorted(live.marked())]
        assert len(bodies) > len(ids) + 5
        with both(live, store, blobs) as (oaks, ours):
            expected = answered(oaks, "h", *bodies)
            assert len(expected) > len(bodies) + 2, "binaries come in several chunks"
            assert answered(ours, "h", *bodies) == expected


@pytest.mark.cell("where Oak's primary ends the connection or is silent, our master goes on")
def test_where_oak_hangs_up(peer: Peer, tmp_path: Path) -> None:
    """Specification 2.7, D20: what Oak does, and that ours answers the next question."""
    store, blobs = tmp_path / "store", tmp_path / "blobs"
    with peer.open(store, blobs=blobs) as live:
        live.fill(seed=1, nodes=20)
        live.commit([LONG])
        bulk = next(each for each in closure_of(store) if not is_data(each))
        references = f"r.{text(bulk)}"
        hung_up = [references, "s.nonsense", "r.nonsense"]
        silent = [f"s.{NONE_SUCH}", f"r.{NONE_SUCH}", f"b.{'0' * 64}#7", "x", "", "h "]
        with both(live, store, blobs) as (oaks, ours):
            (head,) = answered(oaks)
            for body in hung_up:
                assert answered(oaks, body) == [], f"Oak does better now: {body}"
            for body in silent:
                assert answered(oaks, body) == [head], body
            for body in [*hung_up, *silent]:
                *more, last = answered(ours, body)
                assert last == head, body
                assert bool(more) == (body == references), body
            assert answered(ours, *hung_up, *silent)[-1] == head
