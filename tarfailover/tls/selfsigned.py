"""A certificate that vouches for nobody: encryption alone, as Oak has it without key files."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "localhost"
LASTS = dt.timedelta(days=3650)
"""Longer than any process that made it."""
_SKEW = dt.timedelta(days=1)
"""It is valid from a little earlier: clocks differ."""


def make(now: dt.datetime) -> tuple[x509.Certificate, Any]:
    """A new certificate, and its key, which never leaves this process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    )
    return built.sign(key, hashes.SHA256()), key
