"""Content as real Oak and we see it, and what must hold after Oak has worked on a store."""

from __future__ import annotations

import socket
from pathlib import Path

from oak_peer import Peer, Walked

from tarfailover import repository
from tarfailover.repository.digest import content_digest
from tarfailover.store.blobs import BlobStore


def walked_by_us(store: Path, blobs: Path | BlobStore | None = None) -> Walked:
    """What our own reader finds in `store`, in the words of the judge."""
    with repository.open(store, blobs) as opened:
        head = opened.head.super_root.state
        return Walked(head.id.hex, *content_digest(head))


def digest_of(store: Path, blobs: Path | BlobStore | None = None) -> str:
    """The content digest as we see it."""
    return walked_by_us(store, blobs).digest


def lives_on(peer: Peer, store: Path, **options: object) -> str:
    """Lets Oak extend, compact and clean `store`; returns the digest of all that is then in it.

    Two full compactions: the second cleanup drops the generation in which the store came.
    """
    with peer.open(store, **options) as opened:
        opened.fill(seed=7, nodes=40, kib=20)
        extended = opened.digest()
        heads = {opened.head(), *(opened.compact("full")["head"] for _ in range(2))}
        assert len(heads) == 3
        assert opened.digest() == extended
    return extended


def free_port() -> int:
    """A port that nobody listens on; Oak's own server does not accept 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
