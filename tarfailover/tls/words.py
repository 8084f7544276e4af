"""Why a TLS connection failed, in a sentence that says which certificate and what to do."""

from __future__ import annotations

from OpenSSL import SSL

# Numbers of X509_V_ERR_*: openssl/x509_vfy.h.
NOT_YET_VALID = 9
EXPIRED = 10
UNTRUSTED = frozenset({2, 18, 19, 20, 21, 27})
"""The chain leads to no trusted CA, or there is no chain: self-signed."""

_FAULTS = {
    NOT_YET_VALID: "is not valid yet; compare the clocks of both machines",
    EXPIRED: "has expired; give {peer} a new one",
    18: "is self-signed, not from a CA of tls_ca",
    19: "is from a CA that is not in tls_ca",
    2: "is from a CA that is not in tls_ca",
    20: "is from a CA that is not in tls_ca",
    21: "is from a CA that is not in tls_ca",
    23: "is revoked",
    26: "is not made for this side of a connection (extended key usage)",
    3: "cannot be checked: tls_crl has no list of its CA",
    12: "cannot be checked: the list in tls_crl is past its next update; renew it",
}

_ALERTS = {
    "unknown ca": "refused our certificate: self-signed, of a CA not trusted there, or not pinned",
    "certificate expired": "refused our certificate: it has expired",
    "certificate revoked": "refused our certificate: it is revoked",
    "bad certificate": "refused our certificate: it is not valid yet, or broken",
    "certificate unknown": "refused our certificate: not the name or the fingerprint expected",
    # What OpenSSL sends if its own checks pass and ours of the name does not.
    "internal error": "refused our certificate: not the name or the fingerprint expected",
    "unsupported certificate": "refused our certificate: it is not made for this side",
    "certificate required": "demands a client certificate; set tls_certificate and tls_key",
    "handshake failure": "refused the handshake: no client certificate, or no cipher in common",
    "protocol version": "speaks no version of TLS that we do; 1.2 is the least",
}

_REFUSED = "refused our certificate"

_OURS = {
    "peer did not return a certificate": "{peer} showed no certificate; it needs one from a CA "
    "of tls_ca",
    "unsupported protocol": "{peer} speaks no TLS from 1.2 on",
    "no shared cipher": "{peer} has no cipher in common with us",
    "unexpected eof while reading": "{peer} ended the connection in the middle of TLS",
}
_NO_TLS = (
    "wrong version number",
    "http request",
    "https proxy request",
    "packet length too long",
    "record layer failure",
)


def fault(number: int, peer: str) -> str:
    """What is wrong with a certificate of `peer`, by OpenSSL's number of the fault."""
    words = _FAULTS.get(number, f"was refused by OpenSSL (X509 error {number})")
    return f"the certificate of {peer} {words.format(peer=peer)}"


def failure(error: SSL.Error, peer: str, *, shown: bool) -> str:
    """What an error of OpenSSL means; `peer` is ``the master`` or ``the slave``.

    `shown` is whether there was a certificate of ours to refuse.
    """
    reasons = _reasons(error)
    for reason in reasons:
        alert = reason.rpartition("alert ")[2]
        if "alert " in reason and alert in _ALERTS:
            return f"{peer} {_meant(alert, shown=shown)}"
        if reason in _OURS:
            return _OURS[reason].format(peer=peer)
        if reason in _NO_TLS:
            return f"{peer} does not speak TLS"
    return f"TLS with {peer} failed: {'; '.join(reasons) or 'no reason is known'}"


def _meant(alert: str, *, shown: bool) -> str:
    meant = _ALERTS[alert]
    if meant.startswith(_REFUSED) and not shown:
        # Java says so of the certificate that did not come.
        return _ALERTS["certificate required"]
    return meant


def _reasons(error: SSL.Error) -> list[str]:
    """The last words of each entry of OpenSSL's queue: (library, function, reason)."""
    queue = error.args[0] if error.args else ()
    if not isinstance(queue, (list, tuple)):
        return [str(queue)]
    return [str(entry[-1]) for entry in queue if isinstance(entry, tuple) and entry]
