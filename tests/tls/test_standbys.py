"""Oak's standbys and TLS: the first byte inside it tells the dialect; who may come in."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from services import Master, until
from sides import chain, store_of
from stores import head_in
from tls_made import NOW, Certs
from tls_standby import asked_for_head, connected, nothing_shown, shown

from tarfailover.tls.authority import Authority

SAMPLES = chain(3)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    made = Certs(tmp_path_factory.mktemp("certs"))
    Authority(made.directory / "good", NOW).init([], ["other"])
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "original", SAMPLES)


@pytest_twisted.ensureDeferred
async def test_both_dialects_behind_tls(certs: Certs, store: Path, tmp_path: Path) -> None:
    async with (
        Master(store, **certs.shows("good/master")) as master,
        master.slave(tmp_path / "copy", tls_ca=certs.path("good/ca.pem")) as slave,
    ):
        peer = await asked_for_head(master.port, nothing_shown())
        assert peer.head() == HEAD
        await slave.in_sync(HEAD)


@pytest_twisted.ensureDeferred
async def test_a_standby_without_tls_is_told_nothing(
    certs: Certs, store: Path, log: list[str]
) -> None:
    """What a slave is told would be nonsense in Oak's dialect."""
    async with Master(store, **certs.shows("good/master")) as master:
        peer = await asked_for_head(master.port)
        assert peer.raw == b""
        await until(lambda: any("the slave does not speak TLS" in line for line in log), "told")


@pytest_twisted.ensureDeferred
async def test_certificates_are_demanded_of_standbys_too(
    certs: Certs, store: Path, log: list[str]
) -> None:
    settings = {**certs.shows("good/master"), "tls_ca": certs.path("good/ca.pem")}
    async with Master(store, **settings, allowed_slaves="oak") as master:
        assert (await asked_for_head(master.port, shown(certs, "good/oak"))).head() == HEAD
        assert (await asked_for_head(master.port, shown(certs, "good/other"))).raw == b""
        assert (await asked_for_head(master.port, nothing_shown())).raw == b""
    assert any("the certificate of other is not in allowed_slaves" in line for line in log)
    assert any("the slave showed no certificate" in line for line in log)


@pytest_twisted.ensureDeferred
async def test_a_standby_has_no_token(
    certs: Certs, store: Path, tmp_path: Path, log: list[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789" * 4)
    token.chmod(0o600)
    settings = {**certs.shows("good/master"), "token_file": str(token)}
    async with Master(store, **settings) as master:
        assert (await asked_for_head(master.port, nothing_shown())).raw == b""
    assert any("demands a token, and an Oak standby cannot show one" in line for line in log)


@pytest_twisted.ensureDeferred
async def test_a_standby_whose_certificate_is_revoked_is_cut_off(
    tmp_path: Path, store: Path
) -> None:
    certs = Certs(tmp_path)
    settings = {
        **certs.shows("good/master"),
        "tls_ca": certs.path("good/ca.pem"),
        "tls_crl": certs.path("good/crl.pem"),
        "tls_refresh": 0.05,
    }
    async with Master(store, **settings) as master:
        peer = await connected(master.port, shown(certs, "good/oak"))
        factory = master.service.factory
        assert factory is not None
        await until(lambda: len(factory.clients) == 1, "a client")
        Authority(tmp_path / "good", NOW).revoke("oak")
        await until(lambda: peer.lost is not None, "the end")
