"""TLS connections from files that may be replaced while the program runs.

Built from Twisted's `CertificateOptions`, with one callback of our own for the peer's
certificate on both sides: OpenSSL and Twisted would only say "certificate verify
failed". The name is checked by service-identity, as Twisted does.
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from OpenSSL.crypto import Error as CryptoError
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from zope.interface import implementer

from tarfailover.errors import ConfigError
from tarfailover.tls import subject, words
from tarfailover.tls.files import (
    Expiry,
    Material,
    TlsFiles,
    expiries,
    fingerprint,
    names,
    read,
    revoked,
)
from tarfailover.tls.names import SYSTEM

WARN_BEFORE = dt.timedelta(days=30)
"""How long before the end of a certificate the log begins to tell of it."""

Now = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The time, with its zone."""
    return dt.datetime.now(dt.timezone.utc)


@dataclass(frozen=True)
class Demand:
    """What one side demands of the other's certificate.

    `peer` is ``the master`` or ``the slave``. All of its subject must match `subject`, a
    pattern, if that is not ''. `name` must be in the certificate if it is
    not ''. One of `pins`, SHA-256 fingerprints, must be the certificate's if there are
    any. Without `certified` no CA is asked. `anyone` demands nothing at all.
    """

    peer: str
    certified: bool = True
    name: str = ""
    pins: frozenset[str] = frozenset()
    named: bool = False
    anyone: bool = False
    subject: str = ""

    def refuses(self, certificate: X509) -> str:
        """Why the peer's own certificate is refused, if it is valid otherwise; '' if not."""
        found = certificate.to_cryptography()
        if self.anyone:
            return self._other_subject(found)
        print_ = fingerprint(found)
        if self.pins and not any(hmac.compare_digest(print_, pin) for pin in self.pins):
            return f"{self.peer} shows a certificate with another fingerprint: {print_}"
        if self.named and not names(found):
            return (
                f"the certificate of {self.peer} has no subject alternative name; give it one, or "
                "know it by its subject (tls_subject_pattern)"
            )
        return self._other_subject(found) or (self._other_name(found) if self.name else "")

    def _other_subject(self, found: x509.Certificate) -> str:
        shown = subject.subject(found) if self.subject else ""
        if not self.subject or subject.matches(self.subject, shown):
            return ""
        return (
            f"the certificate of {self.peer} has the subject {shown!r}, which does not match the "
            "pattern (tls_subject_pattern, sslSubjectPattern)"
        )

    def _other_name(self, found: x509.Certificate) -> str:
        try:
            if isIPAddress(self.name) or isIPv6Address(self.name):
                verify_certificate_ip_address(found, self.name)
            else:
                verify_certificate_hostname(found, self.name)
        except (VerificationError, CertificateError):
            shown = ", ".join(names(found)) or "no name"
            return f"the certificate of {self.peer} is for {shown}, not for {self.name}"
        return ""


class Judge:
    """Judges the certificates of one connection; `refusal` says why it said no."""

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.refusal = ""

    def __call__(self, _: Any, certificate: X509, number: int, depth: int, ok: int) -> bool:
        """OpenSSL asks, certificate by certificate: the peer's own has depth 0."""
        demand = self.demand
        if not ok and demand.anyone:
            return True
        if not ok and (demand.certified or number not in words.UNTRUSTED):
            return self._refuse(words.fault(number, demand.peer))
        if depth:
            return True
        return self._refuse(demand.refuses(certificate))

    def _refuse(self, why: str) -> bool:
        self.refusal = self.refusal or why
        return not why


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Contexts:
    """Makes the TLS connections of one side; files that change count from the next one on.

    `demand` is None for a master that asks its clients for no certificate.
    """

    log = Logger()

    def __init__(self, files: TlsFiles, demand: Demand | None, now: Now = utc_now) -> None:
        """Read the files; raises ConfigError."""
        self.files = files
        self.demand = demand
        self._now = now
        self.changed: Callable[[], None] = _nothing
        """Called when files that were replaced are in use."""
        self._seen = files.signature()
        self._load()

    def _load(self) -> None:
        material = read(self.files)
        # What cannot be used must not replace what can: assigned when all is made.
        self._context, self._material = _context(self.files, material), material

    def refresh(self) -> None:
        """Read the files again if one changed; what is broken leaves all as it was."""
        seen = self.files.signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._load()
        except ConfigError as error:
            self.log.error("{error}; the certificates read before stay in use", error=str(error))
        else:
            self.log.info("certificates were replaced: new connections use the new ones")
            self.tell_ends()
            self.changed()

    def tell_ends(self) -> None:
        """Log what has expired or will within `WARN_BEFORE`."""
        now = self._now()
        for _, what, end in self.expiries():
            day = f"{end:%Y-%m-%d %H:%M} UTC"
            if end <= now:
                self.log.error("{what} has expired: {day}", what=what, day=day)
            elif end - now <= WARN_BEFORE:
                days = (end - now).days
                self.log.warn("{what} expires in {n} days: {day}", what=what, n=days, day=day)

    def expiries(self) -> list[Expiry]:
        """What of the files in use will end, and when: certificates, CAs, revocation lists."""
        return list(expiries(self.files, self._material))

    def revoked(self, certificate: x509.Certificate) -> bool:
        """Whether the peer's certificate is on a list that is in use now."""
        return revoked(certificate, self._material)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802 - Twisted's name
        """A master's end of a connection."""
        return self._connection(protocol)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """A slave's end of a connection."""
        connection = self._connection(protocol)
        name = self.demand.name if self.demand else ""
        if name and not isIPAddress(name) and not isIPv6Address(name):
            connection.set_tlsext_host_name(name.encode("idna"))
        return connection

    def _connection(self, protocol: Any) -> SSL.Connection:
        self.refresh()
        connection = SSL.Connection(self._context)
        if self.demand is not None:
            judge = Judge(self.demand)
            protocol.wrappedProtocol.judge = judge
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            connection.set_verify(mode, judge)
        return connection


def _nothing() -> None:
    """Nobody wants to know."""


def _context(files: TlsFiles, material: Material) -> SSL.Context:
    """A context for new connections; raises ConfigError."""
    settings: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
    if material.chain:
        own, *others = material.chain
        settings |= {"privateKey": material.key, "certificate": own, "extraCertChain": others}
    if files.ca == SYSTEM:
        settings["trustRoot"] = platformTrust()
    elif material.roots:
        roots = [Certificate(X509.from_cryptography(each)) for each in material.roots]
        settings["trustRoot"] = trustRootFromCertificates(roots)
    try:
        context = CertificateOptions(**settings).getContext()
        store: Any = context.get_cert_store()
        for crl in material.revocations:
            store.add_crl(crl)
        if material.revocations:
            store.set_flags(X509StoreFlags.CRL_CHECK)
    except (SSL.Error, CryptoError, ValueError) as error:
        raise ConfigError(
            f"OpenSSL cannot use {', '.join(map(str, files.paths()))}: {error}"
        ) from error
    return context
