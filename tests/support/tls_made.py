"""Certificates for tests: our own authority's, and those that nobody should have made."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tarfailover.tls.authority import Authority
from tarfailover.tls.files import certificates, fingerprint

HOST = "127.0.0.1"
NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
SECRET = b"a secret of tests"


class Certs:
    """Files below `directory`: the authority ``good``, others beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made("good", NOW)

    def made(self, name: str, now: dt.datetime, host: str = HOST, days: int = 730) -> Authority:
        """An authority with a master and the slave ``oak``, all made at `now`."""
        authority = Authority(self.directory / name, now)
        authority.init([host], ["oak"], days)
        return authority

    def path(self, name: str) -> str:
        """The file `name`, as in ``good/ca.pem``."""
        return str(self.directory / name)

    def shows(self, stem: str) -> dict[str, str]:
        """Settings to show the certificate `stem`, as in ``good/oak``."""
        return {"tls_certificate": self.path(f"{stem}.pem"), "tls_key": self.path(f"{stem}.key")}

    def pin(self, name: str) -> str:
        """The fingerprint of the certificate in file `name`."""
        return fingerprint(certificates(self.path(name))[0])

    def misdated(self, stem: str, days: int) -> str:
        """A certificate of ``good`` that began `days` days from now and lasts a day."""
        folder = f"{stem}-{days}"
        source = Authority(self.directory / "good", NOW + dt.timedelta(days=days))
        target = self.directory / folder
        target.mkdir()
        ca, key = source._load()
        misdated = Authority(target, NOW + dt.timedelta(days=days))
        misdated._issue(ca, key, stem, (HOST if stem == "master" else stem,), purpose(stem), 1)
        return f"{folder}/{stem}"

    def self_signed(self) -> str:
        """A certificate that signed itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "myself")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        builder = builder.serial_number(1).public_key(key.public_key())
        builder = builder.not_valid_before(NOW - dt.timedelta(1)).not_valid_after(
            NOW + dt.timedelta(1)
        )
        made = builder.sign(key, hashes.SHA256())
        Path(self.path("self.pem")).write_bytes(made.public_bytes(serialization.Encoding.PEM))
        Path(self.path("self.key")).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return "self"


def purpose(stem: str) -> x509.ObjectIdentifier:
    """What the certificate `stem` is made for."""
    usage = x509.oid.ExtendedKeyUsageOID
    return usage.SERVER_AUTH if stem == "master" else usage.CLIENT_AUTH
