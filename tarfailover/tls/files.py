"""Certificates, keys, trust roots and revocations, read from PEM files.

Whatever is wrong with a file is a ConfigError that names it. What a key or a passphrase
holds is never part of a message.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tarfailover import smallfiles
from tarfailover.errors import ConfigError
from tarfailover.tls import selfsigned
from tarfailover.tls.names import SYSTEM

MAX_PEM = 4 * 1024 * 1024
"""Bytes of a PEM file that are read at most."""

_CERTIFICATE = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CRL = re.compile(b"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class TlsFiles:
    """Where one side finds what it shows and whom it trusts; '' where there is nothing."""

    certificate: str = ""
    key: str = ""
    passphrase: str = ""
    ca: str = ""
    crl: str = ""
    word: str = field(default="", repr=False)
    """The passphrase of the key itself."""
    self_signed: bool = False
    """Show a certificate that is made now, and is in no file."""

    def paths(self) -> list[Path]:
        """All files, without `SYSTEM`."""
        named = (self.certificate, self.key, self.passphrase, self.ca, self.crl)
        return [Path(each) for each in named if each and each != SYSTEM]

    def signature(self) -> tuple[object, ...]:
        """Differs from an earlier one if a file was replaced or written since."""
        return tuple(smallfiles.signature(path) for path in self.paths())


@dataclass(frozen=True)
class Material:
    """What the files hold."""

    chain: tuple[x509.Certificate, ...]
    key: Any
    roots: tuple[x509.Certificate, ...]
    revocations: tuple[x509.CertificateRevocationList, ...]


def read(files: TlsFiles) -> Material:
    """Read all `files`; raises ConfigError."""
    chain, key = certificates(files.certificate), None
    if files.self_signed:
        own, key = selfsigned.make(dt.datetime.now(dt.timezone.utc))
        chain = (own,)
    if files.key:
        key = _key(Path(files.key), passphrase(files.passphrase) or files.word.encode("utf-8"))
        if key.public_key() != chain[0].public_key():
            raise ConfigError(
                f"{files.key} is not the key of {files.certificate}; the certificate of this "
                "side must be the first in its file"
            )
    roots = () if files.ca == SYSTEM else certificates(files.ca)
    return Material(chain, key, roots, revocations(files.crl))


def certificates(name: str) -> tuple[x509.Certificate, ...]:
    """The certificates in the PEM file `name`, none if it is ''; raises ConfigError."""
    if not name:
        return ()
    found = [_parsed(name, each) for each in _CERTIFICATE.findall(_bytes(Path(name)))]
    if not found:
        raise ConfigError(f"{name} holds no certificate in PEM form")
    return tuple(found)


def _parsed(name: str, pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigError(f"{name} holds a broken certificate") from error


def revocations(name: str) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in the PEM file `name`, none if it is ''; raises ConfigError."""
    if not name:
        return ()
    pems = _CRL.findall(_bytes(Path(name)))
    if not pems:
        raise ConfigError(f"{name} holds no certificate revocation list in PEM form")
    try:
        return tuple(x509.load_pem_x509_crl(pem) for pem in pems)
    except ValueError as error:
        raise ConfigError(f"{name} holds a broken certificate revocation list") from error


def passphrase(name: str) -> bytes | None:
    """The first line of file `name`, None if that is ''; raises ConfigError."""
    return smallfiles.first_line(Path(name), "passphrase") if name else None


def _key(path: Path, word: bytes) -> Any:
    pem = _bytes(path)
    try:
        return load_pem_private_key(pem, word or None)
    except TypeError:
        # Not from the library's error: its texts are not ours to vouch for.
        why = "is encrypted; name tls_key_passphrase_file"
        if word:
            why = "is not encrypted; remove tls_key_passphrase_file"
        raise ConfigError(f"{path} {why}") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "; is the passphrase right?" if word else ""
        raise ConfigError(
            f"{path} holds no private key in PEM form that can be read{hint}"
        ) from None


def _bytes(path: Path) -> bytes:
    return smallfiles.read(path, MAX_PEM, "PEM file")


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of a certificate, in hexadecimal digits without colons."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names of a certificate's owner: its subject alternative names, never its CN."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(_printable(name) for name in found.value)


def _printable(name: x509.GeneralName) -> str:
    text = str(name.value)
    return text if text.isprintable() else ascii(text)


class Expiry(NamedTuple):
    """Something in `file` that ends at `not_after` (UTC); `what` it is, for people."""

    file: str
    what: str
    not_after: dt.datetime


def expiries(files: TlsFiles, material: Material) -> Iterator[Expiry]:
    """All that will end, or has ended: the own certificate first, then CAs, then lists."""
    for which in material.chain[:1] if files.certificate else ():
        what = f"the certificate in {files.certificate}"
        yield Expiry(files.certificate, what, which.not_valid_after_utc)
    for file, chain in ((files.certificate, material.chain[1:]), (files.ca, material.roots)):
        for which in chain:
            subject = which.subject.rfc4514_string()
            what = f"the CA certificate {subject!r} in {file}"
            yield Expiry(file, what, which.not_valid_after_utc)
    for crl in material.revocations:
        if crl.next_update_utc is not None:
            what = f"the revocation list in {files.crl}"
            yield Expiry(files.crl, what, crl.next_update_utc)


def revoked(certificate: x509.Certificate, material: Material) -> bool:
    """Whether a list of the issuer of `certificate` holds it."""
    return any(
        crl.issuer == certificate.issuer
        and crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
        for crl in material.revocations
    )
