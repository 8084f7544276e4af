"""A small certificate authority in a directory: for a master, its slaves, and revocations.

::

    DIR/ca.pem       the authority, for tls_ca on both sides
    DIR/ca.key       its key: who has it lets anybody in; keep it off both machines
    DIR/crl.pem      what it revoked, for tls_crl of the master
    DIR/master.pem   the certificate of the master, and master.key
    DIR/NAME.pem     the certificate of slave NAME, and NAME.key

A master's certificate is good for a server alone, a slave's for a client alone: no slave
can pass for a master. Keys are of the curve P-256, which every TLS of today knows.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tarfailover.errors import ConfigError
from tarfailover.tls import files

CA_DAYS = 3650
"""How long an authority lasts; its revocation list lasts as long."""
DAYS = 730
"""How long a certificate lasts unless told otherwise."""
_SKEW = dt.timedelta(hours=1)
"""Certificates are valid from a little earlier: clocks differ."""
_MASTER = "master"
_RESERVED = ("ca", "crl", _MASTER)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")

Key = ec.EllipticCurvePrivateKey
_Wanted = tuple[str, tuple[str, ...], x509.ObjectIdentifier]


@dataclass(frozen=True)
class Issued:
    """A certificate that was made: the names in it, its files, and when it ends."""

    names: tuple[str, ...]
    certificate: Path
    key: Path
    ends: dt.datetime


class Authority:
    """The authority in `directory`; `now` is the time, `secret` the passphrase of its keys."""

    def __init__(self, directory: Path, now: dt.datetime, secret: bytes | None = None) -> None:
        self.directory = directory
        self.certificate_path = directory / "ca.pem"
        self.key_path = directory / "ca.key"
        self.crl_path = directory / "crl.pem"
        self._now = now
        self._secret = secret

    def init(
        self, hosts: Sequence[str], slaves: Sequence[str], days: int = DAYS
    ) -> tuple[bool, list[Issued]]:
        """Make certificates; tells whether the authority is new, and what was made.

        `hosts` are the names and addresses of the master, in one certificate. An authority
        that is there is used. Raises ConfigError, before anything is written, if a name is
        bad or a file is there already.
        """
        wanted = self._wanted(hosts, slaves)
        fresh = not self.certificate_path.exists()
        targets = [path for stem, *_ in wanted for path in self._pair(stem)]
        if fresh:
            targets += [self.key_path, self.crl_path]
        for path in targets:
            if path.exists():
                raise ConfigError(f"{path} is there already, and nothing is ever overwritten")
        self.directory.mkdir(parents=True, exist_ok=True)
        ca, key = self._make() if fresh else self._load()
        return fresh, [self._issue(ca, key, *each, days) for each in wanted]

    def _wanted(self, hosts: Sequence[str], slaves: Sequence[str]) -> list[_Wanted]:
        if not hosts and not slaves:
            raise ConfigError("nothing to make; name a --master HOST or a --slave NAME")
        for name in slaves:
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise ConfigError(
                    f"{name!r} is no name for a slave; use letters, digits, - and ., and not "
                    f"{', '.join(_RESERVED)}"
                )
        if len(set(slaves)) < len(slaves):
            raise ConfigError("a slave is named twice; every slave has a certificate of its own")
        client = ExtendedKeyUsageOID.CLIENT_AUTH
        wanted: list[_Wanted] = [(name, (name,), client) for name in slaves]
        for host in hosts:
            _general_name(host)
        if hosts:
            wanted.insert(0, (_MASTER, tuple(hosts), ExtendedKeyUsageOID.SERVER_AUTH))
        return wanted

    def _pair(self, stem: str) -> tuple[Path, Path]:
        return self.directory / f"{stem}.pem", self.directory / f"{stem}.key"

    def _make(self) -> tuple[x509.Certificate, Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        # A name of its own: two authorities of one name cannot be told apart in messages.
        name = f"tarfailover CA {x509.random_serial_number() % 16**8:08x}"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = _usage(authority=True)
        ends = self._now + dt.timedelta(days=CA_DAYS)
        built = _builder(subject, subject, key, self._now, ends)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(usage, critical=True)
        ca = built.sign(key, hashes.SHA256())
        self._write_key(self.key_path, key)
        _write(self.certificate_path, ca.public_bytes(serialization.Encoding.PEM), 0o644)
        self._write_crl(ca, key, [])
        return ca, key

    def _load(self) -> tuple[x509.Certificate, Key]:
        (ca, *_) = files.certificates(str(self.certificate_path))
        try:
            pem = self.key_path.read_bytes()
            key = serialization.load_pem_private_key(pem, self._secret)
        except OSError as error:
            raise ConfigError(f"{self.key_path}: {error.strerror}; check path, rights") from error
        except (ValueError, TypeError):
            raise ConfigError(
                f"{self.key_path} cannot be read; is --passphrase-file right?"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
            raise ConfigError(f"{self.key_path} is not the key of {self.certificate_path}")
        return ca, key

    def _issue(
        self,
        ca: x509.Certificate,
        ca_key: Key,
        stem: str,
        names: tuple[str, ...],
        purpose: x509.ObjectIdentifier,
        days: int,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        ends = min(self._now + dt.timedelta(days=days), ca.not_valid_after_utc)
        built = _builder(subject, ca.subject, key, self._now, ends)
        alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
        built = built.add_extension(alternative, critical=False)
        built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        built = built.add_extension(_usage(authority=False), critical=True)
        built = built.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        made = built.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())
        certificate_path, key_path = self._pair(stem)
        self._write_key(key_path, key)
        _write(certificate_path, made.public_bytes(serialization.Encoding.PEM), 0o644)
        return Issued(names, certificate_path, key_path, ends)

    def revoke(self, name: str) -> bool:
        """Put the certificate of `name` on the list; False if it is there already."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a certificate in {self.directory}")
        ca, key = self._load()
        (certificate, *_) = files.certificates(str(self._pair(name)[0]))
        if certificate.issuer != ca.subject or certificate.serial_number == ca.serial_number:
            raise ConfigError(f"{self._pair(name)[0]} is not from {self.certificate_path}")
        (crl,) = files.revocations(str(self.crl_path))
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return False
        revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        self._write_crl(ca, key, [*crl, revoked.revocation_date(self._now).build()])
        return True

    def _write_crl(
        self, ca: x509.Certificate, key: Key, revoked: Sequence[x509.RevokedCertificate]
    ) -> None:
        # A list that ends would lock everybody out on that day: it lasts as the authority does.
        built = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.subject)
            .last_update(self._now - _SKEW)
            .next_update(ca.not_valid_after_utc)
        )
        for each in revoked:
            built = built.add_revoked_certificate(each)
        pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        _replace(self.crl_path, pem)

    def _write_key(self, path: Path, key: Key) -> None:
        locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self._secret:
            locked = serialization.BestAvailableEncryption(self._secret)
        form = serialization.PrivateFormat.PKCS8
        _write(path, key.private_bytes(serialization.Encoding.PEM, form, locked), 0o600)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: dt.datetime, ends: dt.datetime
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    """An address or a host name; raises ConfigError if it is neither."""
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    if not all(_NAME.fullmatch(label) for label in name.split(".")) or len(name) > 253:
        raise ConfigError(f"{name!r} is neither a host name nor an address")
    return x509.DNSName(name)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file with the rights of `mode` from its first byte on."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
