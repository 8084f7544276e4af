"""Links between real Oak and our own processes: who follows whom, and until it has the head."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons import Daemon
from oak_build import OakError
from oak_content import free_port
from oak_peer import Peer, Standby, Store, until

from tarfailover.ids import RecordId

QUICK_SLAVE = ("--interval", "0.2", "--retry-initial", "0.1", "--retry-max", "0.2")
OAK_SLAVE = ("--dialect", "oak", *QUICK_SLAVE)

PORTS = 3
"""Ports that are tried; Oak cannot let the system choose one."""


@contextmanager
def oak_standby(
    peer: Peer, copy: Path, port: int, blobs: Path | None = None, **options: object
) -> Iterator[tuple[Store, Standby]]:
    """The store of an Oak standby, and the standby, which follows whoever serves at `port`."""
    opening: dict[str, object] = {} if blobs is None else {"blobs": blobs}
    with (
        peer.open(copy, standby="true", **opening) as store,
        store.standby(port, **options) as standby,
    ):
        yield store, standby


@contextmanager
def oak_primary(store: Store, **options: object) -> Iterator[int]:
    """Oak's own primary of `store`; its port, another one if somebody was quicker to take it."""
    for last in range(PORTS - 1, -1, -1):
        port = free_port()
        try:
            serving = store.primary(port, **options)
            break
        except OakError as error:
            if not last or "port taken" not in str(error):
                raise
    with serving:
        yield port


def synced(store: Store, standby: Standby, head: str) -> None:
    """Runs Oak's standby until its store has `head`."""

    def equal() -> bool:
        standby.sync()
        return store.head() == head

    until(equal, f"the standby has {head}")


def has(slave: Daemon, head: str) -> None:
    """Waits until our slave has made `head` durable, given as Oak writes it."""
    slave.expect(rf"head {re.escape(str(RecordId.parse(head)))} is durable")
