"""The subject of a certificate as Java writes it, and the patterns of Oak's operators for it.

Java names the most specific part first, with a comma and a blank between the parts::

    CN=oak2.example.org, OU=Operations, O="Example, Inc.", C=CH
"""

from __future__ import annotations

import re
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

MAX_SUBJECT = 4096
"""Characters of a subject that is compared with a pattern."""

# Fact: class AVAKeyword of the JDK; anything else is shown as its number.
_KEYWORDS = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.TITLE: "T",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.DN_QUALIFIER: "DNQUALIFIER",
    NameOID.SURNAME: "SURNAME",
    NameOID.GIVEN_NAME: "GIVENNAME",
    NameOID.GENERATION_QUALIFIER: "GENERATION",
    NameOID.EMAIL_ADDRESS: "EMAILADDRESS",
    NameOID.USER_ID: "UID",
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
}
_QUOTED = re.compile(r'[,+=\n<>#;\\"]|^ | $|  ')


def subject(certificate: x509.Certificate) -> str:
    """The subject of `certificate` in one line."""
    parts = reversed(list(certificate.subject.rdns))
    return ", ".join(" + ".join(map(_shown, part)) for part in parts)


def _shown(attribute: x509.NameAttribute[Any]) -> str:
    oid, value = attribute.oid, str(attribute.value)
    if _QUOTED.search(value):
        value = '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return f"{_KEYWORDS.get(oid, 'OID.' + oid.dotted_string)}={value}"


def matches(pattern: str, found: str) -> bool:
    """Whether all of the subject `found` matches `pattern`, as in Java."""
    return len(found) <= MAX_SUBJECT and re.fullmatch(pattern, found, re.ASCII) is not None
