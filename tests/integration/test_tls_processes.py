"""TLS as an operator runs it: the files of two commands, and two twistd processes."""

from __future__ import annotations

from pathlib import Path

from daemons import Daemon
from sides import chain, store_of

from tarfailover.cli import main
from tarfailover.store.follower import Follower


def head(directory: Path) -> str:
    """The head of a store."""
    with Follower.open(directory) as follower:
        return str(follower.head().record)


def test_a_copy_over_mutual_tls(tmp_path: Path) -> None:
    original, copy, certs = store_of(tmp_path / "a", chain(30)), tmp_path / "b", tmp_path / "certs"
    assert main(["certs", "init", str(certs), "--master", "127.0.0.1", "--slave", "oak2"]) == 0
    both = ("--tls-ca", certs / "ca.pem", "--tls-crl", certs / "crl.pem")
    shown = ("--tls-certificate", certs / "master.pem", "--tls-key", certs / "master.key")
    with Daemon.master(original, *shown, *both) as master:
        port = master.port
        own = ("--tls-certificate", certs / "oak2.pem", "--tls-key", certs / "oak2.key")
        with Daemon.slave(copy, port, *own, *both) as slave:
            slave.expect("the master: TLS 1.3, certificate of 127.0.0.1")
            slave.expect("in sync")
            master.expect(r"\(TLS 1.3, certificate of oak2\): connected")
            slave.stop()
        assert main(["certs", "revoke", str(certs), "oak2"]) == 0
        with Daemon.slave(copy, port, *own, *both) as slave:
            slave.expect("the master refused our certificate: it is revoked")
            master.expect("the certificate of the slave is revoked; disconnecting")
            slave.stop()
        master.stop()
    assert head(copy) == head(original)
    assert "BEGIN" not in master.output


def test_a_certificate_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    original = store_of(tmp_path / "a", chain(1))
    none = ("--tls-certificate", tmp_path / "none.pem", "--tls-key", tmp_path / "none.key")
    with Daemon.master(original, *none) as master:
        master.expect("none.pem: No such file or directory; check path and rights")
        assert master.end() == 2
    assert "Traceback" not in master.output
