"""A standby in Oak's dialect over a real socket, with TLS or without."""

from __future__ import annotations

from typing import Any

from services import until
from standbys import RawStandby
from tls_made import Certs
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS

from tarfailover.tls.contexts import Contexts
from tarfailover.tls.files import TlsFiles
from tarfailover.wire.oak.requests import GetHead


def shown(certs: Certs, stem: str) -> Contexts:
    """TLS that trusts anyone, as Oak does without key files, and shows the certificate `stem`."""
    own = certs.shows(stem)
    return Contexts(TlsFiles(own["tls_certificate"], own["tls_key"]), None)


def nothing_shown() -> Contexts:
    """TLS that trusts anyone."""
    return Contexts(TlsFiles(), None)


async def connected(port: int, tls: Contexts | None = None) -> RawStandby:
    """A standby that is connected."""
    endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    if tls is not None:
        endpoint = wrapClientTLS(tls, endpoint)
    made: RawStandby = await connectProtocol(endpoint, RawStandby("oak"))
    return made


async def asked_for_head(port: int, tls: Contexts | None = None) -> RawStandby:
    """A standby that asked for the head, and was answered or disconnected; then it leaves."""
    peer = await connected(port, tls)
    peer.ask(GetHead())
    await until(lambda: bool(peer.answers) or peer.lost is not None, "an answer, or the end")
    if peer.lost is None:
        peer.transport.abortConnection()
    await until(lambda: peer.lost is not None, "the end")
    return peer
