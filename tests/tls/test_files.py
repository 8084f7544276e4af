"""Files of TLS: what is read, what is refused and how, and what will expire."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tls_made import NOW, SECRET, Certs
from twisted.logger import formatEvent, globalLogPublisher

from tarfailover import config
from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.tls import files, rules
from tarfailover.tls.authority import Authority
from tarfailover.tls.contexts import Contexts
from tarfailover.tls.files import TlsFiles


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    made = Certs(tmp_path_factory.mktemp("certs"))
    Authority(made.directory / "locked", NOW, SECRET).init(["localhost"], ["oak"])
    (made.directory / "secret").write_bytes(SECRET + b"\r\n")
    (made.directory / "wrong").write_bytes(b"not the secret of tests\n")
    (made.directory / "empty").write_bytes(b"")
    return made


def test_an_encrypted_key_is_opened_by_the_first_line_of_a_file(certs: Certs) -> None:
    locked = Path(certs.path("locked/master.key"))
    assert b"ENCRYPTED" in locked.read_bytes()
    named = TlsFiles(certs.path("locked/master.pem"), str(locked), certs.path("secret"))
    assert files.read(named).key.public_key() == files.read(named).chain[0].public_key()
    Contexts(named, None)


REFUSED = {
    "no passphrase": (("locked/master.pem", "locked/master.key", ""), "is encrypted; name tls_key"),
    "wrong passphrase": (("locked/master.pem", "locked/master.key", "wrong"), "is the passphrase"),
    "empty passphrase": (("locked/master.pem", "locked/master.key", "empty"), "no passphrase"),
    "needless passphrase": (("good/oak.pem", "good/oak.key", "secret"), "is not encrypted; remove"),
    "another key": (("good/oak.pem", "good/master.key", ""), "oak.pem; the certificate of this"),
    "no such file": (("good/none.pem", "good/oak.key", ""), "none.pem: No such file"),
    "no certificate": (("good/oak.key", "good/oak.key", ""), "holds no certificate in PEM form"),
    "no key": (("good/oak.pem", "good/oak.pem", ""), "oak.pem holds no private key in PEM form"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_are_refused_by_name_and_without_secrets(case: str, certs: Certs) -> None:
    named, told = REFUSED[case]
    paths = [certs.path(each) if each else "" for each in named]
    with pytest.raises(ConfigError) as caught:
        files.read(TlsFiles(*paths))
    assert told in str(caught.value)
    assert SECRET.decode() not in str(caught.value)
    assert "not the secret of tests" not in str(caught.value)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"ca": "good/ca.key"}, "holds no certificate in PEM form"),
        ({"ca": "good/ca.pem", "crl": "good/ca.pem"}, "holds no certificate revocation list"),
    ],
)
def test_trust_is_refused_by_name(named: dict[str, str], told: str, certs: Certs) -> None:
    with pytest.raises(ConfigError, match=told):
        files.read(TlsFiles(**{key: certs.path(name) for key, name in named.items()}))


def test_a_broken_certificate_is_refused(certs: Certs, tmp_path: Path) -> None:
    pem = Path(certs.path("good/ca.pem")).read_text().splitlines()
    pem[2] = pem[2][::-1]
    (tmp_path / "broken.pem").write_text("\n".join(pem))
    with pytest.raises(ConfigError, match="holds a broken certificate"):
        Contexts(TlsFiles(ca=str(tmp_path / "broken.pem")), None)


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.pem").open("wb") as file:
        file.truncate(files.MAX_PEM + 1)
    with pytest.raises(ConfigError, match="is no PEM file: it is larger than"):
        files.certificates(str(tmp_path / "large.pem"))


def test_names_are_those_of_the_san_and_never_the_cn(certs: Certs) -> None:
    certs.self_signed()
    (signed,) = files.certificates(certs.path("self.pem"))
    assert "CN=myself" in signed.subject.rfc4514_string()
    assert files.names(signed) == ()
    (oak,) = files.certificates(certs.path("good/oak.pem"))
    assert files.names(oak) == ("oak",)


@pytest.mark.parametrize(
    ("days", "level", "told"),
    [
        (731, "error", "has expired"),
        (729, "warn", "expires in 1 days"),
        (701, "warn", "expires in 29 days"),
        (699, "", ""),
    ],
)
def test_the_end_of_a_certificate_is_told(certs: Certs, days: int, level: str, told: str) -> None:
    lines: list[str] = []

    def keep(event: Any) -> None:
        lines.append(f"{event['log_level'].name} {formatEvent(event)}")

    named = TlsFiles(
        certs.path("good/oak.pem"), certs.path("good/oak.key"), ca=certs.path("good/ca.pem")
    )
    contexts = Contexts(named, None, now=lambda: NOW + dt.timedelta(days=days))
    globalLogPublisher.addObserver(keep)
    try:
        contexts.tell_ends()
    finally:
        globalLogPublisher.removeObserver(keep)
    if not level:
        assert lines == []
        return
    (line,) = lines
    assert line.startswith(f"{level} the certificate in ")
    assert told in line


CERTIFIED = {"tls-certificate": "c", "tls-key": "k"}
COMBINATIONS: list[tuple[Any, dict[str, Any], str]] = [
    (MasterConfig, {"tls-key": "k"}, "tls_key is given without tls_certificate"),
    (MasterConfig, {"tls-certificate": "c"}, "tls_certificate is given without tls_key"),
    (MasterConfig, {"tls-key-passphrase-file": "p"}, "passphrase_file is given without tls_key"),
    (MasterConfig, {"tls-ca": "a"}, "name tls_certificate and tls_key of the master too"),
    (MasterConfig, {**CERTIFIED, "tls-ca": "system"}, "tls_ca of a master must be a file"),
    (MasterConfig, {**CERTIFIED, "tls-crl": "r"}, "name a file there"),
    (
        MasterConfig,
        {**CERTIFIED, "endpoint": "ssl:1:interface=127.0.0.1"},
        "exclude each other; write tcp:",
    ),
    (
        MasterConfig,
        {**CERTIFIED, "interface": "0.0.0.0"},
        "no client is authenticated; demand certificates of the slaves with --tls-ca",
    ),
    (SlaveConfig, CERTIFIED, "nothing says whom to trust; name tls_ca or tls_pin"),
    (SlaveConfig, {"tls-server-name": "n"}, "tls_server_name is only checked with tls_ca"),
    (SlaveConfig, {"tls-crl": "r", "tls-ca": "system"}, "name a file there"),
    (SlaveConfig, {"tls-pin": "ab"}, "'ab' is no SHA-256 fingerprint of 64"),
    (SlaveConfig, {"tls-trust-anyone": 1, "tls-ca": "a"}, "accepts every certificate"),
    (SlaveConfig, {"tls-trust-anyone": 1, "tls-pin": "ab" * 32}, "accepts every certificate"),
]


@pytest.mark.parametrize(("kind", "options", "told"), COMBINATIONS)
def test_settings_that_make_no_sense_together(
    kind: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.merge(kind, {}, {}, {"store": "s", **options})
    assert told in str(caught.value)


def test_with_client_certificates_a_listener_needs_no_leave() -> None:
    options = {"store": "s", "interface": "0.0.0.0", **CERTIFIED, "tls-ca": "a"}
    assert config.merge(MasterConfig, {}, {}, options).interface == "0.0.0.0"


def test_pins_may_be_written_as_openssl_prints_them() -> None:
    written = ":".join(["AB"] * 32)
    merged = config.merge(SlaveConfig, {}, {}, {"store": "s", "tls-pin": f"{written} {'cd' * 32}"})
    assert rules.pins(merged) == {"ab" * 32, "cd" * 32}


def test_names_of_files_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"store": "s", **CERTIFIED, "tls-ca": "system"}
    loaded = config.load(SlaveConfig, {}, options)
    assert (loaded.tls_certificate, loaded.tls_ca) == (str(tmp_path / "c"), "system")
    assert loaded.tls_crl == ""
