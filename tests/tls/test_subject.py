"""The subject of a certificate in one line, as Java has it, and patterns for it."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tarfailover.tls import selfsigned, subject

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def certificate(*rdns: list[tuple[ObjectIdentifier, str]]) -> x509.Certificate:
    """A certificate whose subject has `rdns`, in the order in which they are encoded."""
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [
        x509.RelativeDistinguishedName(x509.NameAttribute(oid, value) for oid, value in rdn)
        for rdn in rdns
    ]
    builder = x509.CertificateBuilder().subject_name(x509.Name(parts))
    builder = builder.issuer_name(x509.Name([])).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(1))
    return builder.sign(key, hashes.SHA256())


C, O, OU, CN = (  # noqa: E741 - their names in a subject
    NameOID.COUNTRY_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.COMMON_NAME,
)


@pytest.mark.parametrize(
    ("rdns", "expected"),
    [
        ([], ""),
        ([[(CN, "oak")]], "CN=oak"),
        (
            [[(C, "CH")], [(O, "Testing")], [(OU, "Ops")], [(CN, "a b")]],
            "CN=a b, OU=Ops, O=Testing, C=CH",
        ),
        ([[(O, "Example, Inc.")]], 'O="Example, Inc."'),
        ([[(O, 'a "b"')]], 'O="a \\"b\\""'),
        ([[(NameOID.EMAIL_ADDRESS, "a@b")]], "EMAILADDRESS=a@b"),
        ([[(NameOID.PSEUDONYM, "x")]], "OID.2.5.4.65=x"),
    ],
)
def test_as_java_writes_it(rdns: list[list[tuple[ObjectIdentifier, str]]], expected: str) -> None:
    assert subject.subject(certificate(*rdns)) == expected


def test_two_attributes_in_one_part() -> None:
    assert subject.subject(certificate([(CN, "a"), (OU, "b")])).split(" + ") == ["CN=a", "OU=b"]


@pytest.mark.parametrize(
    ("pattern", "found", "expected"),
    [
        (".*.esting.*", "CN=a, O=Testing", True),
        ("foobar", "CN=foobar", False),
        ("CN=a", "CN=a, O=b", False),
        (r"CN=\d+", "CN=12", True),
        (r"CN=\d+", "CN=\u0661", False),
        (".*", "x" * (subject.MAX_SUBJECT + 1), False),
    ],
)
def test_all_of_it_must_match(pattern: str, found: str, expected: bool) -> None:
    assert subject.matches(pattern, found) is expected


def test_a_certificate_made_for_the_moment() -> None:
    made, key = selfsigned.make(NOW)
    assert made.public_key() == key.public_key()
    assert subject.subject(made) == "CN=localhost"
    assert made.not_valid_before_utc < NOW < made.not_valid_after_utc
