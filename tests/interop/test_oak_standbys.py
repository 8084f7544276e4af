"""Oak's own standby, unmodified, follows our master."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from daemons import LINE_SECONDS, Daemon
from oak_build import Built
from oak_links import OAK_SLAVE, QUICK_SLAVE, has, oak_primary, oak_standby, synced
from oak_peer import Peer
from oak_vectors import EACH_ONCE
from tls_made import NOW, Certs

from tarfailover.ids import RecordId
from tarfailover.tls.authority import Authority
from tarfailover.wire.oak.snappy import PADDING

pytestmark = pytest.mark.interop


@pytest.mark.cell("our master on a live store of Oak → two Oak standbys, our slave")
def test_two_standbys_and_a_slave_follow_a_live_store(peer: Peer, tmp_path: Path) -> None:
    """Through a compaction and its cleanup on either side."""
    store = tmp_path / "a"
    with peer.open(store) as original:
        original.fill(nodes=200, kib=30)
        with (
            Daemon.master(store) as master,
            Daemon.slave(tmp_path / "ours", master.port, *QUICK_SLAVE) as slave,
            oak_standby(peer, tmp_path / "b", master.port) as (first, one),
            oak_standby(peer, tmp_path / "c", master.port) as (second, two),
        ):
            head = original.head()
            for change in ("checkpoint", "full", "tail", ""):
                running = two.begin("sync")
                synced(first, one, head)
                assert running.result()["failed"] == "0"
                assert second.head() == head
                has(slave, head)
                if change == "checkpoint":
                    original.checkpoint(creator="test")
                    original.fill(seed=2, nodes=40)
                elif change:
                    original.compact(change)
                head = original.head()
                if change:
                    master.expect(f"head {RecordId.parse(head)}")
            digest = original.digest()
            slave.stop()
            master.stop()
    for copy in ("ours", "b", "c"):
        assert peer.digest(tmp_path / copy) == digest


@pytest.mark.cell("our master, every kind of store that Oak wrote → Oak standby")
def test_every_kind_of_store(peer: Peer, tmp_path: Path) -> None:
    for name, kept in EACH_ONCE.items():
        store, copy = kept.unpack(tmp_path / name), tmp_path / f"{name}-copy"
        with (
            Daemon.master(store) as master,
            oak_standby(peer, copy, master.port) as (mine, standby),
        ):
            synced(mine, standby, kept.head)
            assert mine.digest() == kept.sha256


@pytest.mark.cell("our master with TLS → Oak standby with TLS, our slave, through one port")
def test_secure_without_key_files(peer: Peer, tmp_path: Path) -> None:
    """D11: a master makes a certificate on any Python; whoever follows trusts anyone."""
    store, ours = tmp_path / "a", tmp_path / "c"
    with peer.open(store) as original:
        original.fill(nodes=50)
        head, digest = original.head(), original.digest()
    (tmp_path / "StandbyStoreService.config").write_text('mode="primary"\nsecure=B"true"\n')
    with (
        Daemon.master(store, "--config", tmp_path / "StandbyStoreService.config") as master,
        Daemon.slave(ours, master.port, *QUICK_SLAVE, "--tls-trust-anyone") as slave,
        oak_standby(peer, tmp_path / "b", master.port, secure="true") as (copy, standby),
    ):
        synced(copy, standby, head)
        assert copy.digest() == digest
        has(slave, head)
        slave.stop()
        master.stop()
    assert peer.digest(ours) == digest


def trust_store(certs: Certs, folder: Path) -> Path:
    """The CA in the form in which Java trusts it."""
    store = folder / "trust.p12"
    keytool = shutil.which("keytool")
    assert keytool
    subprocess.run(
        [keytool, "-importcert", "-noprompt", "-alias", "ca", "-file", certs.path("good/ca.pem")]
        + ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit"],
        check=True,
        capture_output=True,
        env={**os.environ},
    )
    return store


class Mutual(NamedTuple):
    """An Oak that trusts our CA, a store that it wrote, and certificates."""

    peer: Peer
    certs: Certs
    store: Path
    head: str
    digest: str

    def shown(self, name: str) -> dict[str, str]:
        """Options of Oak with which it shows the certificate of `name`."""
        stem = f"good/{name}"
        return {"key": self.certs.path(f"{stem}.key"), "chain": self.certs.path(f"{stem}.pem")}


@pytest.fixture(scope="module")
def mutual(
    oak_built: Built, release: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mutual]:
    """Oak's trust is that of its whole process."""
    if release == "1.22":
        pytest.skip("Oak 1.22 has no settings for certificates")
    folder = tmp_path_factory.mktemp("mutual")
    certs = Certs(folder)
    Authority(folder / "good", NOW).init([], ["stranger"])
    trust = trust_store(certs, folder)
    trusting = f"-Djavax.net.ssl.trustStore={trust} -Djavax.net.ssl.trustStorePassword=changeit"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAVA_TOOL_OPTIONS", trusting)
        peer = Peer(oak_built, release)
    with peer:
        with peer.open(folder / "a") as original:
            original.fill(nodes=50)
            head, digest = original.head(), original.digest()
        yield Mutual(peer, certs, folder / "a", head, digest)
        peer.finish()


@pytest.mark.cell("our master with client certificates → Oak standby, known by its subject")
def test_client_certificates(mutual: Mutual, tmp_path: Path) -> None:
    """D10: `sslSubjectPattern` works, on any Java; D21: each side trusts the CA that it names."""
    peer, certs = mutual.peer, mutual.certs
    (tmp_path / "StandbyStoreService.config").write_text(
        'mode="primary"\nsecure=B"true"\nsslValidateClient=B"true"\n'
        f'sslKeyFile="{certs.path("good/master.key")}"\n'
        f'sslChainFile="{certs.path("good/master.pem")}"\n'
        'sslSubjectPattern="CN\\=oak"\n'
    )
    secure = {"secure": "true", "timeout": 1500}
    with Daemon.master(
        *(mutual.store, "--config", tmp_path / "StandbyStoreService.config"),
        *("--tls-ca", certs.path("good/ca.pem")),
    ) as master:
        oak, stranger = mutual.shown("oak"), mutual.shown("stranger")
        with oak_standby(peer, tmp_path / "b", master.port, **secure, **oak) as (copy, standby):
            synced(copy, standby, mutual.head)
            assert copy.digest() == mutual.digest
        master.expect("certificate of oak.*: connected")
        with oak_standby(peer, tmp_path / "c", master.port, **secure, **stranger) as (
            copy,
            standby,
        ):
            standby.sync()
            assert copy.head() != mutual.head
        master.expect("has the subject 'CN=stranger', which does not match the pattern")
        master.stop()


@pytest.mark.cell("an Oak primary that demands client certificates → our slave")
def test_an_oak_primary_that_demands_a_certificate(mutual: Mutual, tmp_path: Path) -> None:
    certs, copy = mutual.certs, tmp_path / "copy"
    demanding = {"secure": "true", "validate": "true", **mutual.shown("master")}
    options = (*OAK_SLAVE, "--tls-ca", certs.path("good/ca.pem"))
    own = mutual.shown("oak")
    with mutual.peer.open(mutual.store) as live, oak_primary(live, **demanding) as port:
        with Daemon.slave(copy, port, *options) as slave:
            slave.expect("failed: the master demands a client certificate; set tls_certificate")
            slave.stop()
        assert "in sync" not in slave.output
        showing = ("--tls-certificate", own["chain"], "--tls-key", own["key"])
        with Daemon.slave(copy, port, *options, *showing) as slave:
            has(slave, mutual.head)
            slave.stop()
    assert mutual.peer.digest(copy) == mutual.digest


@pytest.mark.cell("our master with a private blob store → two Oak standbys at once")
def test_binaries(peer: Peer, tmp_path: Path) -> None:
    """Files of a FileDataStore, one of several MiB, in chunks."""
    store, blobs = tmp_path / "a", tmp_path / "blobs-a"
    with peer.open(store, blobs=blobs) as original:
        original.fill(nodes=60, kib=40)
        original.fill(seed=2, nodes=20, kib=3000)
        head, digest = original.head(), original.digest()
    with (
        Daemon.master(store, "--blob-store", blobs) as master,
        oak_standby(peer, tmp_path / "b", master.port, tmp_path / "blobs-b") as (first, one),
        oak_standby(peer, tmp_path / "c", master.port, tmp_path / "blobs-c") as (second, two),
    ):
        running = two.begin("sync")
        synced(first, one, head)
        running.result()
        synced(second, two, head)
        master.stop()
    for copy in ("b", "c"):
        assert peer.digest(tmp_path / copy, blobs=tmp_path / f"blobs-{copy}") == digest


@pytest.mark.cell("our master without a head yet → Oak standby waits, and is shown life")
def test_a_head_is_waited_for(peer: Peer, tmp_path: Path) -> None:
    """What is sent meanwhile, for the sake of Oak's read timeout, is understood and no answer."""
    store = tmp_path / "a"
    with peer.open(store) as original:
        original.fill(nodes=50)
        head, digest = original.head(), original.digest()
    (store / "journal.log").rename(tmp_path / "journal.log")
    with (
        Daemon.master(store) as master,
        Watched(master.port, PADDING) as between,
        oak_standby(peer, tmp_path / "b", between.port) as (copy, standby),
    ):
        running = standby.begin("sync")
        assert between.seen.wait(LINE_SECONDS)
        assert not running.done
        (tmp_path / "journal.log").rename(store / "journal.log")
        assert running.result()["failed"] == "0"
        assert copy.head() == head
        assert copy.digest() == digest


class Watched:
    """Passes one connection on to `port`; `seen` is set once `pattern` came back."""

    def __init__(self, port: int, pattern: bytes) -> None:
        self.seen = threading.Event()
        self._pattern = pattern
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._target = port
        self._thread = threading.Thread(target=self._pass)

    def _pass(self) -> None:
        with (
            self._server.accept()[0] as near,
            socket.create_connection(("127.0.0.1", self._target)) as far,
        ):
            up = threading.Thread(target=self._pump, args=(near, far))
            up.start()
            self._pump(far, near)
            up.join()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._pattern in data:
                    self.seen.set()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(LINE_SECONDS)
        self._server.close()
