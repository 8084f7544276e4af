"""TLS between a real master and a real slave over loopback: what is refused, and in which words.

Each failure ends the connection on both sides, and both say which it was.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from services import Master, Slave, until
from sides import chain, large, store_of
from tls_made import HOST, NOW, SECRET, Certs
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol

from tarfailover.slave import status
from tarfailover.tls.authority import Authority
from tarfailover.tls.contexts import Contexts
from tarfailover.tls.files import TlsFiles
from tarfailover.wire.messages import ErrorCode

QUIET = {"retry_initial": 60.0, "retry_max": 60.0}
"""One attempt, and no other while the test looks."""


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    made = Certs(tmp_path_factory.mktemp("certs"))
    made.made("other", NOW)
    made.made("named", NOW, host="oak.example.org")
    made.made("revoking", NOW).revoke("oak")
    made.made("revoking-master", NOW).revoke("master")
    made.misdated("master", -10)
    made.misdated("master", 10)
    made.misdated("oak", -10)
    made.misdated("oak", 10)
    made.self_signed()
    Authority(made.directory / "locked", NOW, SECRET).init([HOST], ["oak"])
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "original", chain(3))


Settings = Callable[[Certs], dict[str, Any]]


def plain(_: Certs) -> dict[str, Any]:
    return {}


def master(stem: str = "good/master", **more: str) -> Settings:
    return lambda c: {**c.shows(stem), **{k: c.path(v) for k, v in more.items()}}


def slave(stem: str = "", **more: str) -> Settings:
    def made(c: Certs) -> dict[str, Any]:
        shown = c.shows(stem) if stem else {}
        return {**shown, **{k: c.path(v) for k, v in more.items()}}

    return made


def pinned(name: str, **more: Any) -> Settings:
    return lambda c: {"tls_pin": c.pin(name), **more}


MUTUAL = {"tls_ca": "good/ca.pem", "tls_crl": "good/crl.pem"}

GOOD = {
    "server only": (master(), slave(tls_ca="good/ca.pem"), "TLS 1.3, certificate of nobody"),
    "mutual": (
        master(**MUTUAL),
        slave("good/oak", **MUTUAL),
        "TLS 1.3, certificate of oak",
    ),
    "pinned": (master(), pinned("good/master.pem"), "certificate of nobody"),
    "pinned, several": (
        master(),
        lambda c: {"tls_pin": f"{'0' * 64}, {c.pin('good/master.pem')}"},
        "certificate of nobody",
    ),
    "pinned, self-signed": (master("self"), pinned("self.pem"), "certificate of nobody"),
    "pinned beside a CA": (
        master(),
        lambda c: {"tls_pin": c.pin("good/master.pem"), "tls_ca": c.path("good/ca.pem")},
        "certificate of nobody",
    ),
    "another name": (
        master("named/master"),
        lambda c: {"tls_ca": c.path("named/ca.pem"), "tls_server_name": "oak.example.org"},
        "certificate of nobody",
    ),
    "password of the key itself": (
        lambda c: {**c.shows("locked/master"), "tls_key_passphrase": SECRET.decode()},
        slave(tls_ca="locked/ca.pem"),
        "certificate of nobody",
    ),
    "known by the subject": (
        lambda c: {**master(**MUTUAL)(c), "tls_subject_pattern": "(?i)cn=O.*"},
        lambda c: {**slave("good/oak", **MUTUAL)(c), "tls_subject_pattern": r"CN=127\.0\.0\.1"},
        "certificate of oak",
    ),
    "anyone, made at the start": (
        lambda _: {"tls_self_signed": True},
        lambda _: {"tls_trust_anyone": True, "tls_subject_pattern": "CN=localhost"},
        "certificate of nobody",
    ),
    "anyone": (master("self"), lambda _: {"tls_trust_anyone": True}, "certificate of nobody"),
}


@pytest.mark.parametrize("case", GOOD)
@pytest_twisted.ensureDeferred
async def test_what_is_trusted(
    case: str, certs: Certs, store: Path, tmp_path: Path, log: list[str]
) -> None:
    ours, theirs, told = GOOD[case]
    async with (
        Master(store, **ours(certs)) as served,
        served.slave(tmp_path / "copy", **theirs(certs)) as copying,
    ):
        await copying.in_sync(served.service.factory.snapshot.head.record)  # type: ignore[union-attr]
        assert any(told in line and line.endswith(": connected") for line in log)
        assert any("tls_trust_anyone" in line for line in log) == ("anyone" in case)


CASES: dict[str, tuple[Settings, Settings, str, str]] = {
    "plaintext slave": (
        master(),
        plain,
        "the slave does not speak TLS",
        "this master speaks TLS only; give the slave tls_ca",
    ),
    "plaintext master": (
        plain,
        slave(tls_ca="good/ca.pem"),
        "the slave begins TLS, and this master has none",
        "the master does not speak TLS",
    ),
    "master of another CA": (
        master("other/master"),
        slave(tls_ca="good/ca.pem"),
        "the slave refused our certificate: self-signed, of a CA not trusted there",
        "the certificate of the master is from a CA that is not in tls_ca",
    ),
    "slave of another CA": (
        master(**MUTUAL),
        slave("other/oak", tls_ca="good/ca.pem"),
        "the certificate of the slave is from a CA that is not in tls_ca",
        "the master refused our certificate: self-signed, of a CA not trusted there",
    ),
    "master of another name": (
        master("named/master"),
        slave(tls_ca="named/ca.pem"),
        "the slave refused our certificate: not the name or the fingerprint expected",
        f"the certificate of the master is for oak.example.org, not for {HOST}",
    ),
    "master's certificate expired": (
        master("master--10/master"),
        slave(tls_ca="good/ca.pem"),
        "the slave refused our certificate: it has expired",
        "the certificate of the master has expired",
    ),
    "slave's certificate expired": (
        master(tls_ca="good/ca.pem"),
        slave("oak--10/oak", tls_ca="good/ca.pem"),
        "the certificate of the slave has expired",
        "the master refused our certificate: it has expired",
    ),
    "master's certificate not yet valid": (
        master("master-10/master"),
        slave(tls_ca="good/ca.pem"),
        "the slave refused our certificate: it is not valid yet, or broken",
        "the certificate of the master is not valid yet",
    ),
    "slave's certificate not yet valid": (
        master(tls_ca="good/ca.pem"),
        slave("oak-10/oak", tls_ca="good/ca.pem"),
        "the certificate of the slave is not valid yet",
        "the master refused our certificate: it is not valid yet, or broken",
    ),
    "slave revoked": (
        master("revoking/master", tls_ca="revoking/ca.pem", tls_crl="revoking/crl.pem"),
        slave("revoking/oak", tls_ca="revoking/ca.pem"),
        "the certificate of the slave is revoked",
        "the master refused our certificate: it is revoked",
    ),
    "master revoked": (
        master("revoking-master/master"),
        slave(tls_ca="revoking-master/ca.pem", tls_crl="revoking-master/crl.pem"),
        "the slave refused our certificate: it is revoked",
        "the certificate of the master is revoked",
    ),
    "no list of this CA": (
        master("good/master", tls_ca="good/ca.pem", tls_crl="other/crl.pem"),
        slave("good/oak", tls_ca="good/ca.pem"),
        "the certificate of the slave cannot be checked: tls_crl has no list of its CA",
        "the master",
    ),
    "self-signed master": (
        master("self"),
        slave(tls_ca="good/ca.pem"),
        "the slave refused our certificate: self-signed",
        "the certificate of the master is self-signed",
    ),
    "self-signed slave": (
        master(tls_ca="good/ca.pem"),
        slave("self", tls_ca="good/ca.pem"),
        "the certificate of the slave is self-signed",
        "the master refused our certificate: self-signed",
    ),
    "no client certificate": (
        master(tls_ca="good/ca.pem"),
        slave(tls_ca="good/ca.pem"),
        "the slave showed no certificate",
        "the master demands a client certificate; set tls_certificate and tls_key",
    ),
    "a slave's certificate for a master": (
        master("good/oak"),
        slave(tls_ca="good/ca.pem"),
        "the slave refused our certificate",
        "the certificate of the master is not made for this side",
    ),
    "a master's certificate for a slave": (
        master(tls_ca="good/ca.pem"),
        slave("good/master", tls_ca="good/ca.pem"),
        "the certificate of the slave is not made for this side",
        "the master refused our certificate",
    ),
    "slave of another subject": (
        lambda c: {**master(**MUTUAL)(c), "tls_subject_pattern": "CN=oa"},
        slave("good/oak", **MUTUAL),
        "the certificate of the slave has the subject 'CN=oak', which does not match",
        "the master refused our certificate",
    ),
    "master of another subject": (
        lambda _: {"tls_self_signed": True},
        lambda _: {"tls_trust_anyone": True, "tls_subject_pattern": "CN=oak"},
        "the slave refused our certificate",
        "the certificate of the master has the subject 'CN=localhost', which does not match",
    ),
    "pinned, another one": (
        master(),
        pinned("other/master.pem"),
        "the slave refused our certificate: self-signed, of a CA not trusted there, or not pinned",
        "the master shows a certificate with another fingerprint",
    ),
    "pinned, expired": (
        master("master--10/master"),
        pinned("master--10/master.pem"),
        "the slave refused our certificate: it has expired",
        "the certificate of the master has expired",
    ),
    "pinned beside another CA": (
        master(),
        lambda c: {"tls_pin": c.pin("good/master.pem"), "tls_ca": c.path("other/ca.pem")},
        "the slave refused our certificate: self-signed, of a CA",
        "the certificate of the master is from a CA that is not in tls_ca",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest_twisted.ensureDeferred
async def test_what_is_refused(
    case: str, certs: Certs, store: Path, tmp_path: Path, log: list[str]
) -> None:
    ours, theirs, master_says, slave_says = CASES[case]
    async with (
        Master(store, **ours(certs)) as served,
        served.slave(tmp_path / "copy", **QUIET, **theirs(certs)) as copying,
    ):
        state = copying.service.status
        await copying.reaches(lambda: state.state != status.CONNECTING, "an end")
        factory = served.service.factory
        assert factory is not None

        def told() -> bool:
            return any(line.startswith("warn ") and master_says in line for line in log)

        await until(told, f"a warning {master_says!r}")
        await until(lambda: not factory.clients, "no client")
        assert slave_says in state.why
        assert copying.service.copy is not None
        assert copying.service.copy.head is None
        assert not any("Traceback" in line or line.startswith("critical") for line in log)


@pytest_twisted.ensureDeferred
async def test_much_more_than_the_buffers_hold(
    certs: Certs, tmp_path: Path, log: list[str]
) -> None:
    original = store_of(tmp_path / "original", large(100))
    theirs = slave("good/oak", **MUTUAL)(certs)
    async with (
        Master(original, **master(**MUTUAL)(certs)) as served,
        served.slave(tmp_path / "copy", **theirs) as copying,
    ):
        await copying.in_sync(served.service.factory.snapshot.head.record)  # type: ignore[union-attr]
    assert any("100 %: 19.1 of 19.1 MiB" in line for line in log)


@pytest.mark.parametrize(
    ("newest", "spoken"),
    [
        (SSL.TLS1_3_VERSION, "TLSv1.3"),
        (SSL.TLS1_2_VERSION, "TLSv1.2"),
        (SSL.TLS1_1_VERSION, None),
    ],
)
def test_versions(certs: Certs, newest: int, spoken: str | None) -> None:
    files = TlsFiles(**{key[4:]: value for key, value in certs.shows("good/master").items()})
    ours = Contexts(files, None).serverConnectionForTLS(None)
    ours.set_accept_state()
    old = SSL.Context(SSL.TLS_METHOD)
    old.set_cipher_list(b"ALL:@SECLEVEL=0")
    old.set_min_proto_version(SSL.TLS1_VERSION)
    old.set_max_proto_version(newest)
    theirs = SSL.Connection(old)
    theirs.set_connect_state()
    if spoken is None:
        with pytest.raises(SSL.Error, match=r"unsupported protocol|protocol version"):
            shake(ours, theirs)
    else:
        shake(ours, theirs)
        assert ours.get_protocol_version_name() == spoken


def shake(ours: SSL.Connection, theirs: SSL.Connection) -> None:
    """A handshake in memory."""
    for _ in range(4):
        for one, other in ((theirs, ours), (ours, theirs)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))


@pytest_twisted.ensureDeferred
async def test_a_slave_that_says_nothing_has_a_deadline(
    certs: Certs, store: Path, log: list[str]
) -> None:
    ours = {**master()(certs), "deadline_tls_handshake": 0.1}
    async with Master(store, **ours) as served:
        lost: list[object] = []

        class Silent(Protocol):
            def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
                lost.append(reason)

        factory = ClientFactory()
        factory.protocol = Silent
        factory.noisy = False
        reactor.connectTCP(HOST, served.port, factory)
        await until(lambda: bool(lost), "the end of the connection")
        told = "deadline tls-handshake of 0.1 s passed while waiting for the TLS handshake of the"
        await until(lambda: any(told in line for line in log), told)


@pytest_twisted.ensureDeferred
async def test_a_master_that_says_nothing_has_a_deadline(certs: Certs, tmp_path: Path) -> None:
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface=HOST)
    theirs = {**slave(tls_ca="good/ca.pem")(certs), **QUIET, "deadline_tls_handshake": 0.1}
    async with Slave(tmp_path / "copy", port.getHost().port, **theirs) as copying:
        await copying.in_state(status.STALLED)
        assert copying.service.status.why == (
            "deadline tls-handshake of 0.1 s passed while waiting for the TLS handshake of the "
            "master"
        )
    await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_new_certificates_count_without_a_restart_and_drop_nobody(
    certs: Certs, store: Path, tmp_path: Path, log: list[str]
) -> None:
    served_certs = tmp_path / "served"
    for stem in ("master.pem", "master.key", "ca.pem"):
        replace(served_certs / stem, certs.path(f"good/{stem}"))
    ours = {
        "tls_certificate": str(served_certs / "master.pem"),
        "tls_key": str(served_certs / "master.key"),
    }
    async with (
        Master(store, **ours) as served,
        served.slave(tmp_path / "one", tls_ca=certs.path("good/ca.pem")) as one,
    ):
        await one.in_sync()
        factory = served.service.factory
        assert factory is not None
        before = set(factory.clients)
        (served_certs / "master.pem").write_text("no certificate at all")
        async with served.slave(tmp_path / "two", tls_ca=certs.path("good/ca.pem")) as two:
            await two.in_sync()
        assert sum("holds no certificate in PEM form; the certi" in line for line in log) == 1
        for stem in ("master.pem", "master.key"):
            replace(served_certs / stem, certs.path(f"other/{stem}"))
        async with served.slave(tmp_path / "three", tls_ca=certs.path("other/ca.pem")) as three:
            await three.in_sync()
        assert any("certificates were replaced" in line for line in log)
        assert before <= factory.clients


@pytest.mark.parametrize("noticed", ["by a look", "by the next connection"])
@pytest_twisted.ensureDeferred
async def test_a_revocation_counts_for_open_connections_too(
    store: Path, tmp_path: Path, log: list[str], noticed: str
) -> None:
    certs = Certs(tmp_path / "own")
    good = tmp_path / "own" / "good"
    Authority(good, NOW).init([], ["other"])
    theirs = slave("good/oak", tls_ca="good/ca.pem")(certs)
    others = slave("good/other", tls_ca="good/ca.pem")(certs)
    often = 0.05 if noticed == "by a look" else 60.0
    async with (
        Master(store, **master(**MUTUAL)(certs), tls_refresh=often) as served,
        served.slave(tmp_path / "other", **others) as other,
    ):
        await other.in_sync()
        async with served.slave(tmp_path / "one", **QUIET, **theirs) as one:
            await one.in_sync()
            Authority(good, NOW + dt.timedelta(seconds=1)).revoke("oak")
            if noticed != "by a look":
                async with served.slave(tmp_path / "third", **others) as third:
                    await third.in_sync()
            await one.in_state(status.REFUSED)
            told = "the certificate of the slave was revoked meanwhile"
            assert told in one.service.status.why
            assert any(told in line and "certificate of oak" in line for line in log)
        assert other.service.status.state == status.IN_SYNC
        assert served.service.factory is not None
        assert served.service.factory.errors == {ErrorCode.NOT_ALLOWED: 1}
        async with served.slave(tmp_path / "two", **QUIET, **theirs) as two:
            await two.reaches(lambda: bool(two.service.status.why), "a refusal")
            assert "the master refused our certificate: it is revoked" in two.service.status.why


@pytest_twisted.ensureDeferred
async def test_a_master_that_is_revoked_later(store: Path, tmp_path: Path) -> None:
    certs = Certs(tmp_path / "own")
    theirs = {**slave(**MUTUAL)(certs), **QUIET, "tls_refresh": 0.05}
    async with (
        Master(store, **master()(certs)) as served,
        served.slave(tmp_path / "one", **theirs) as one,
    ):
        await one.in_sync()
        Authority(tmp_path / "own" / "good", NOW + dt.timedelta(seconds=1)).revoke("master")
        await one.in_state(status.FAILED)
        assert one.service.status.why == "the certificate of the master was revoked meanwhile"


@pytest.mark.parametrize(
    ("allowed", "served"),
    [("oak", True), ("other, OAK", True), ("other,oa,oak2", False), ("*", False)],
)
@pytest_twisted.ensureDeferred
async def test_only_the_slaves_in_the_list(
    certs: Certs, store: Path, tmp_path: Path, log: list[str], allowed: str, served: bool
) -> None:
    theirs = slave("good/oak", tls_ca="good/ca.pem")(certs)
    async with (
        Master(store, **master(**MUTUAL)(certs), allowed_slaves=allowed) as serving,
        serving.slave(tmp_path / "copy", **QUIET, **theirs) as copying,
    ):
        if served:
            await copying.in_sync()
            return
        await copying.in_state(status.REFUSED)
        told = "the certificate of oak is not in allowed_slaves"
        assert told in copying.service.status.why
        assert any(told in line and "disconnecting" in line for line in log)


@pytest_twisted.ensureDeferred
async def test_what_ends_when_is_known(certs: Certs, store: Path, tmp_path: Path) -> None:
    theirs = slave("good/oak", tls_ca="good/ca.pem")(certs)
    async with (
        Master(store, **master(**MUTUAL)(certs)) as served,
        served.slave(tmp_path / "copy", **theirs) as copying,
    ):
        await copying.in_sync()
        ours, its = served.service._security, copying.service._security
        assert ours is not None and its is not None
        days = [(Path(e.file).name, (e.not_after - NOW).days) for e in ours.expiries()]
        assert days == [("master.pem", 730), ("ca.pem", 3650), ("crl.pem", 3650)]
        days = [(Path(e.file).name, (e.not_after - NOW).days) for e in its.expiries()]
        assert days == [("oak.pem", 730), ("ca.pem", 3650)]
        assert ours.expiries()[0].what == f"the certificate in {certs.path('good/master.pem')}"


def replace(path: Path, source: str) -> None:
    """As whoever renews certificates should: the file is the old one or the new one."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(Path(source).read_bytes())
    beside.replace(path)
