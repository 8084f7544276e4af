"""What TLS tells of a failure, in our words."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from tarfailover.tls.words import failure

DEMANDS = "the master demands a client certificate; set tls_certificate and tls_key"


@pytest.mark.parametrize(
    ("alert", "shown", "told"),
    [
        ("bad certificate", True, "the master refused our certificate: it is not valid yet, or"),
        ("bad certificate", False, DEMANDS),
        ("unknown ca", True, "the master refused our certificate: self-signed"),
        ("unknown ca", False, DEMANDS),
        ("certificate required", False, DEMANDS),
        ("protocol version", False, "the master speaks no version of TLS that we do"),
    ],
)
def test_a_certificate_that_was_not_shown_was_not_refused(
    alert: str, shown: bool, told: str
) -> None:
    """Java has no other alert for one that did not come."""
    error = SSL.Error([("SSL routines", "", f"ssl/tls alert {alert}")])
    assert failure(error, "the master", shown=shown).startswith(told)
