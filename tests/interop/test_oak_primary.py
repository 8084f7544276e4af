"""A slave of a real Oak primary: our own, against Oak's own server, unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from copies import sound
from daemons import Daemon
from oak_content import free_port
from oak_peer import Peer, Store
from oak_vectors import EACH_ONCE, STORES
from tls_made import Certs

from tarfailover.ids import RecordId

pytestmark = pytest.mark.interop

FAST = ("--dialect", "oak", "--interval", "0.2", "--retry-initial", "0.1")
EDITS = {"nodes": 200, "kib": 40}
RATIO = 1.5


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


@pytest.mark.cell("an Oak primary: copied by our slave, opened by Oak")
@pytest.mark.parametrize("name", EACH_ONCE)
def test_it_copies_what_an_oak_primary_has(peer: Peer, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    known = next(each for each in STORES if each.name == f"{peer.release}-{name}")
    original = known.unpack(tmp_path / "store")
    with peer.open(original) as store, following(store, copy) as slave:
        slave.expect("in sync")
    assert peer.walk(copy)[0:] == (known.head, known.nodes, known.properties, known.blob_bytes,
                                   known.sha256)  # fmt: skip
    assert not list(copy.glob("*.bak")), "every tar of the copy has an index that Oak accepts"


@pytest.mark.cell("an Oak primary that commits, makes checkpoints, compacts and cleans: followed")
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
            slave.expect("cleanup for generation 3/2 compacted")
            assert size(copy) <= RATIO * size(tmp_path / "store"), "it cleans up as Oak does"
        expected = store.digest("/")
    assert "diverged" not in slave.output
    assert peer.digest(copy) == expected
    sound(copy)


@pytest.mark.cell("an Oak primary: our slave killed in the middle, and started again")
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


@pytest.mark.cell("an Oak primary killed in the middle, and started again: our slave goes on")
def test_it_goes_on_when_the_primary_was_killed(
    peer: Peer, another_peer: Peer, tmp_path: Path
) -> None:
    copy, port = tmp_path / "copy", free_port()
    store = another_peer.open(tmp_path / "store")
    store.fill(nodes=1500, kib=60)
    head, expected = store.head(), store.digest("/")
    store.primary(port)
    options = ("--rate-limit", "4MiB", "--retry-max", "0.5")
    with Daemon.slave(copy, port, *FAST, *options) as slave:
        slave.expect(r"syncing")
        another_peer.kill()
        slave.expect("stalled: the connection to the master ended")
        assert not (copy / "journal.log").exists(), "no head yet"
        with peer.open(tmp_path / "store") as again, again.primary(port):
            wait_for(slave, head)
            slave.stop()
    sound(copy)
    assert peer.digest(copy) == expected


@pytest.mark.cell("an Oak primary with TLS and the certificate that it makes: followed")
def test_over_tls_with_the_certificate_that_oak_makes(peer: Peer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with peer.open(tmp_path / "store") as store:
        store.fill(**EDITS)
        with following(store, copy, "--tls-trust-anyone", secure="true") as slave:
            wait_for(slave, store.head())
            assert "its certificate is not verified" in slave.output
        expected = store.digest("/")
    assert peer.digest(copy) == expected


@pytest.mark.cell("an Oak primary with TLS, and a slave without: a state, and nothing else")
def test_plain_text_is_no_success_where_the_primary_speaks_tls(peer: Peer, tmp_path: Path) -> None:
    with peer.open(tmp_path / "store") as store:
        store.fill(**EDITS)
        with following(store, tmp_path / "copy", secure="true") as slave:
            slave.expect("stalled: .*one with secure=true if no TLS is spoken")
    assert "in sync" not in slave.output


@pytest.mark.cell("an Oak primary without TLS, and a slave with it: a state, and nothing else")
def test_tls_is_no_success_where_the_primary_speaks_plain_text(peer: Peer, tmp_path: Path) -> None:
    quick = ("--tls-trust-anyone", "--deadline-tls-handshake", "1")
    with (
        peer.open(tmp_path / "store") as store,
        following(store, tmp_path / "copy", *quick) as slave,
    ):
        slave.expect("stalled: .*tls-handshake")
    assert "in sync" not in slave.output


@pytest.mark.cell(
    "an Oak primary that does not let our slave in: a state that says what to look at"
)
def test_who_is_not_let_in_is_told_where_to_look(peer: Peer, tmp_path: Path) -> None:
    with (
        peer.open(tmp_path / "store") as store,
        following(store, tmp_path / "copy", ranges="10.0.0.1-10.0.0.2") as slave,
    ):
        slave.expect(r"stalled: .*primary\.allowed-client-ip-ranges")
    assert "in sync" not in slave.output


@pytest.mark.cell("an Oak primary with TLS and a certificate: followed")
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


@pytest.mark.cell("an Oak primary with a FileDataStore: binaries brought to a store of our own")
def test_binaries_come_before_the_head_that_needs_them(peer: Peer, tmp_path: Path) -> None:
    blobs, copy, own = (tmp_path / name for name in ("blobs", "copy", "own"))
    with peer.open(tmp_path / "store", blobs=blobs) as store:
        store.fill(nodes=60, kib=300)
        before = store.head()
        with following(store, copy, "--blob-store", own, chunk=100_000) as slave:
            wait_for(slave, before)
            assert len(files(own)) == len(files(blobs)) > 0
            store.fill(nodes=40, kib=500, seed=2)
            store.checkpoint(name="nightly")
            store.commit([["remove", "/content/run2"]])  # only the checkpoint has them (D3)
            wait_for(slave, store.head())
        expected = store.digest("/")
    assert [path.name for path in files(own)] == [path.name for path in files(blobs)]
    assert peer.digest(copy, blobs=own) == expected


@pytest.mark.cell("an Oak primary that has lost a binary: the head waits for it, the others come")
def test_a_binary_that_the_primary_has_lost_is_named(peer: Peer, tmp_path: Path) -> None:
    blobs, copy, own = (tmp_path / name for name in ("blobs", "copy", "own"))
    with peer.open(tmp_path / "store", blobs=blobs) as store:
        store.fill(nodes=60, kib=300)
        lost = files(blobs)[0]
        hidden = lost.rename(tmp_path / "hidden")
        with following(store, copy, "--blob-store", own) as slave:
            slave.expect(f"failed: head .* needs 1 binaries .*{lost.name}")
            assert len(files(own)) == len(files(blobs)), "all others have come"
            hidden.rename(lost)
            wait_for(slave, store.head())
        expected = store.digest("/")
    assert peer.digest(copy, blobs=own) == expected


def size(store: Path) -> int:
    """Bytes of the tars."""
    return sum(path.stat().st_size for path in store.glob("*.tar"))


def files(blobs: Path) -> list[Path]:
    """The binaries in a FileDataStore."""
    return sorted(path for path in blobs.rglob("*") if re.fullmatch("[0-9a-f]{40,64}", path.name))
