"""Oak's history of bugs in TLS: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from oak_files import of_file
from planted import BOTH, found
from services import Master, until
from sides import chain, store_of
from stores import head_in
from tls_made import HOST, NOW, SECRET, Certs
from tls_standby import asked_for_head, connected, nothing_shown, shown
from twisted.internet.defer import maybeDeferred

from tarfailover import oakfiles
from tarfailover.config import MasterConfig, merging
from tarfailover.master.security import MasterSecurity
from tarfailover.oakfiles import OakProperties
from tarfailover.settings import NO_SECRET
from tarfailover.tls.authority import Authority
from tarfailover.tls.files import certificates
from tarfailover.wire.oak.frames import HeadAnswer
from tarfailover.wire.oak.requests import GetHead

pytestmark = pytest.mark.load

SAMPLES = chain(3)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


@pytest.fixture
def certs(tmp_path: Path) -> Certs:
    made = Certs(tmp_path)
    Authority(tmp_path / "locked", NOW, SECRET).init([HOST], ["oak"])
    return made


def primary_file(certs: Certs, stem: str, *lines: str) -> Iterable[str]:
    """The lines of a primary with the key and the certificate `stem`."""
    own = certs.shows(stem)
    yield from ('mode="primary"', 'secure=B"true"', *lines)
    yield from (f'sslKeyFile="{own["tls_key"]}"', f'sslChainFile="{own["tls_certificate"]}"')


TLS = ("tls_certificate", "tls_key", "tls_ca", "tls_self_signed", "tls_key_passphrase")


def tls_of(told: MasterConfig) -> dict[str, Any]:
    """The settings of TLS."""
    return {name: getattr(told, name) for name in TLS}


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_9451_the_certificate_is_the_one_that_is_named(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could only be one that Oak made for itself."""
    if planted:
        monkeypatch.setattr(oakfiles, "_identity", lambda *_: iter(()))
    told = of_file(MasterConfig, tmp_path, *primary_file(certs, "good/master"))
    async with Master(store, **tls_of(told)) as served:
        peer = await connected(served.port, nothing_shown())
        peer.ask(GetHead())
        await until(lambda: bool(peer.answers), "an answer")
        issuer = peer.transport.getPeerCertificate().to_cryptography().issuer
        peer.transport.abortConnection()
        with found(planted):
            (ca,) = certificates(certs.path("good/ca.pem"))
            assert issuer == ca.subject


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_9451_who_must_show_a_certificate_and_has_none_is_refused(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any client was trusted."""
    if planted:
        made = MasterSecurity.__init__

        def trusts(self: MasterSecurity, config: MasterConfig, *rest: Any) -> None:
            made(self, replace(config, tls_ca=""), *rest)

        monkeypatch.setattr(MasterSecurity, "__init__", trusts)
    lines = primary_file(
        certs, "good/master", 'sslValidateClient=B"true"', f'tls.ca="{certs.path("good/ca.pem")}"'
    )
    async with Master(store, **tls_of(of_file(MasterConfig, tmp_path, *lines))) as served:
        peer = await asked_for_head(served.port, shown(certs, "good/oak"))
        assert peer.answers == [HeadAnswer(HEAD)]
        with found(planted):
            assert (await asked_for_head(served.port, nothing_shown())).raw == b""


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_9473_a_key_may_have_a_password(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        identity = oakfiles._identity

        def without(found: OakProperties, given: Any) -> Iterator[tuple[str, Any]]:
            yield from identity(replace(found, password=NO_SECRET), given)

        monkeypatch.setattr(oakfiles, "_identity", without)
    password = f'sslKeyPassword="{SECRET.decode()}"'.replace(" ", "\\ ")
    told = of_file(MasterConfig, tmp_path, *primary_file(certs, "locked/master", password))
    served = Master(store, **tls_of(told))
    served.service.startService()
    await until(lambda: bool(served.service.where or served.fatal), "listening, or the end")
    with found(planted):
        assert not served.fatal
        peer = await asked_for_head(served.port, nothing_shown())
        assert peer.answers == [HeadAnswer(HEAD)]
    await maybeDeferred(served.service.stopService)


@BOTH
@pytest_twisted.ensureDeferred
async def test_oak_9600_plain_text_stays_plain_text(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After OAK-9451 TLS was on, whatever the file said."""
    if planted:

        def always(found: OakProperties, given: Any) -> Iterator[tuple[str, Any]]:
            yield from oakfiles.for_master(replace(found, secure=True), given)

        monkeypatch.setitem(merging._IMPLIED, MasterConfig, always)
    lines = [each.replace("true", "false") for each in primary_file(certs, "good/master")]
    async with Master(store, **tls_of(of_file(MasterConfig, tmp_path, *lines))) as served:
        peer = await asked_for_head(served.port)
        with found(planted):
            assert peer.answers == [HeadAnswer(HEAD)]
