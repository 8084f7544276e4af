"""A slave of a real Oak primary: our own, against Oak's own server, unchanged."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import Daemon
from oak_content import FIXTURES
from oak_peer import Peer, Store
from tls_made import Certs

from tarfailover.ids import RecordId

pytestmark = pytest.mark.interop

FAST = ("--dialect", "oak", "--interval", "0.2", "--retry-initial", "0.1")
EDITS = {"nodes": 200, "kib": 40}


def free_port() -> int:
    """A port that nobody listens on; Oak's server does not accept 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def following(store: Store, copy: Path, *options: object, **oaks: object) -> Iterator[Daemon]:
    """Oak's primary of `store`, and our slave that follows it."""
    port = free_port()
    with store.primary(port, **oaks), Daemon.slave(copy, port, *FAST, *options) as slave:
        yield slave
        slave.stop()


def wait_for(slave: Daemon, head: str) -> None:
    """Until the copy has `head`, as Oak writes it."""
    slave.expect(f"head {re.escape(str(RecordId.parse(head)))} is durable")


@pytest.mark.parametrize("name", FIXTURES)
def test_it_copies_what_an_oak_primary_has(
    peer: Peer, fixture_store: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    with peer.open(fixture_store(name)) as store, following(store, copy) as slave:
        slave.expect("in sync")
    assert peer.walk(copy) == FIXTURES[name]
    assert not list(copy.glob("*.bak")), "every tar of the copy has an index that Oak accepts"


def test_it_follows_a_primary_that_grows_and_compacts(peer: Peer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with peer.open(tmp_path / "store") as store:
        store.fill(**EDITS)
        with following(store, copy) as slave:
            wait_for(slave, store.head())
            for step in (
                lambda: store.fill(seed=2, **EDITS),
                lambda: store.checkpoint(name="nightly"),
                lambda: store.compact("full"),
                lambda: store.fill(seed=3, **EDITS),
                lambda: store.compact("tail"),
                lambda: store.fill(seed=4, **EDITS),
                lambda: store.compact("full"),
            ):
                step()
                wait_for(slave, store.head())
        expected = store.digest("/")
    assert "diverged" not in slave.output
    assert peer.digest(copy) == expected


def test_it_goes_on_where_it_was_killed(peer: Peer, tmp_path: Path) -> None:
    copy, port = tmp_path / "copy", free_port()
    with peer.open(tmp_path / "store") as store:
        store.fill(nodes=1500, kib=60)
        with store.primary(port):
            with Daemon.slave(copy, port, *FAST, "--rate-limit", "4MiB") as slave:
                slave.expect(r"syncing")
                while sum(tar.stat().st_size for tar in copy.glob("*.tar")) < 2**20:
                    assert slave.process.poll() is None
                slave.kill()
            with Daemon.slave(copy, port, *FAST) as slave:
                wait_for(slave, store.head())
                slave.stop()
        expected = store.digest("/")
    assert peer.digest(copy) == expected


def test_over_tls_the_certificate_of_the_primary_is_verified(peer: Peer, tmp_path: Path) -> None:
    certs, copy = Certs(tmp_path / "certs"), tmp_path / "copy"
    shown = {"secure": "true", "key": certs.path("good/master.key"),
             "chain": certs.path("good/master.pem")}  # fmt: skip
    if peer.release == "1.22":
        pytest.skip("Oak 1.22 takes no key and no certificate")
    with peer.open(tmp_path / "store") as store:
        store.fill(**EDITS)
        with following(store, copy, "--tls-ca", certs.path("good/ca.pem"), **shown) as slave:
            wait_for(slave, store.head())
        expected = store.digest("/")
    assert peer.digest(copy) == expected
