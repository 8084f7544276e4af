"""A chain with real Oak at both ends, of which each part is killed in the middle of its work."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_build import Built
from oak_content import digest_of, free_port
from oak_links import OAK_SLAVE, has, synced
from oak_peer import Peer, Standby, Store

pytestmark = pytest.mark.interop

SEED = int(os.environ.get("KILL_SEED", "1"))
"""Chooses when, and what is written meanwhile; another one tries another course."""
MOST = 0.4
"""Seconds until a kill, at most."""
WORK = (
    ("fill", "nodes=60", "kib=300", "batch=5"),
    ("fill", "nodes=40", "batch=2"),
    ("checkpoint", "creator:test"),
    ("compact", "full"),
    ("compact", "tail"),
)


class Chain:
    """An Oak primary, our slave of it, our master of that, an Oak standby of that one."""

    def __init__(
        self, oak: tuple[Built, str], folder: Path, stack: ExitStack, outside: bool
    ) -> None:
        """With `outside` each keeps long binaries in a FileDataStore of its own."""
        self._oak, self._folder, self._stack, self._outside = oak, folder, stack, outside
        self.chance = random.Random(SEED)
        self._ports = {name: free_port() for name in ("primary", "master")}
        self.start_primary()
        self.start_slave()
        self.slave.expect("is durable")  # so that there is something to serve
        self.start_master()
        self.start_standby()

    def _peer(self) -> Peer:
        return self._stack.enter_context(Peer(*self._oak))

    def blobs(self, store: str) -> Path:
        """The data store beside `store`."""
        return self._folder / f"{store}-blobs"

    def _oaks(self, store: str) -> dict[str, object]:
        return {"blobs": self.blobs(store)} if self._outside else {}

    def _ours(self, store: str) -> tuple[object, ...]:
        return ("--blob-store", self.blobs(store)) if self._outside else ()

    def start_primary(self) -> None:
        self.live: Store = self._peer().open(self._folder / "store", **self._oaks("store"))
        self.live.fill(seed=self.chance.randrange(10**6), nodes=20, kib=40)
        self.live.primary(self._ports["primary"])

    def start_slave(self) -> None:
        options = (*OAK_SLAVE, *self._ours("copy"))
        self.slave = self._stack.enter_context(
            Daemon.slave(self._folder / "copy", self._ports["primary"], *options)
        )

    def start_master(self) -> None:
        options = ("--store", self._folder / "copy", "--port", self._ports["master"])
        self.master = self._stack.enter_context(
            Daemon("tarfailover-master", *options, *self._ours("copy"))
        )
        self.master.expect("listening on")

    def start_standby(self) -> None:
        self.copy: Store = self._peer().open(
            self._folder / "last", standby="true", **self._oaks("last")
        )
        self.standby: Standby = self.copy.standby(self._ports["master"], timeout=2000)

    def kill(self, part: str) -> None:
        """SIGKILL to one part, some moment after work has begun, and start it again."""
        self._begin_work()
        self.standby.begin("sync")
        threading.Event().wait(self.chance.uniform(0, MOST))
        if part in ("slave", "master"):
            getattr(self, part).kill()
        else:
            (self.live if part == "primary" else self.copy).peer.kill()
        getattr(self, f"start_{part}")()

    def _begin_work(self) -> None:
        verb, *words = self.chance.choice(WORK)
        if verb == "fill":
            words.append(f"seed={self.chance.randrange(10**6)}")
        self.live.begin(verb, *words)

    def settle(self) -> str:
        """Until all have the same head; the digest of the content."""
        head = self.live.fill(seed=self.chance.randrange(10**6), nodes=5)["head"]
        has(self.slave, head)
        synced(self.copy, self.standby, head)
        return self.live.digest()


@contextmanager
def chain(oak: tuple[Built, str], folder: Path, *, outside: bool) -> Iterator[Chain]:
    """A chain whose parts are gone at the end."""
    with ExitStack() as stack:
        yield Chain(oak, folder, stack, outside)


@pytest.mark.cell("kill -9 of each in a chain: Oak primary, our slave, our master, Oak standby")
@pytest.mark.parametrize("outside", [False, True], ids=["segments", "data stores"])
def test_each_of_a_chain_is_killed(
    oak_built: Built, release: str, tmp_path: Path, outside: bool
) -> None:
    """After each kill all come to the same head again, and at the end all digests are equal."""
    with chain((oak_built, release), tmp_path, outside=outside) as running:
        for part in ("slave", "primary", "standby", "master"):
            running.kill(part)
            expected = running.settle()
            assert running.copy.digest() == expected
        running.slave.stop()
        running.master.stop()
    blobs = running.blobs("copy") if outside else None
    assert digest_of(tmp_path / "copy", blobs) == expected
    sound(tmp_path / "copy")
