"""Between TLS and a protocol: nothing is told to the protocol before the peer is known.

::

    TCP  →  Twisted's TLS  →  Secured  →  MasterProtocol or SlaveProtocol

`Secured` waits for the handshake, under a deadline, and says in words what became of it.
It is also the protocol's transport.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tarfailover.deadline import Deadline
from tarfailover.errors import ConnectionLostError, DeadlineError, LinkError, TlsError
from tarfailover.tls import words
from tarfailover.tls.contexts import Contexts, Judge
from tarfailover.tls.files import names

_HANDSHAKE = b"\x16"
"""The type of a TLS record that begins a handshake: RFC 8446, 5.1."""

_NATIVE = b"\x00"
"""How a slave of ours begins; nobody else understands the refusal."""

_Tls: Any = TLSMemoryBIOFactory.protocol


@dataclass(frozen=True)
class Secure:
    """What a handshake led to: version of TLS, and the names of the peer's certificate."""

    version: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.version}, certificate of {', '.join(self.names) or 'nobody'}"


Done = Callable[[Any, Secure], None]
"""Called with the protocol before it is told of its connection."""
Failed = Callable[[Any, LinkError], None]
"""Called with the protocol, or with the peer's address while there is none."""


@implementer(IHandshakeListener)
class Secured(ProtocolWrapper):
    """One connection, from the first byte of its handshake on."""

    factory: Handshakes
    judge: Judge | None = None
    transport: Any

    def __init__(self, factory: Handshakes, protocol: Any) -> None:
        super().__init__(factory, protocol)  # type: ignore[arg-type]
        self.done = False
        self.plaintext = False
        self.certificate: x509.Certificate | None = None
        """What the peer showed."""
        self._late: DeadlineError | None = None
        self._pulled = False
        self._deadline = Deadline(
            factory.clock,
            "tls-handshake",
            factory.seconds,
            f"the TLS handshake of {factory.peer}",
            self._too_late,
        )

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's name
        """TCP is connected; the handshake begins."""
        self.transport = transport
        self.connected = 1
        self.factory.registerProtocol(self)  # type: ignore[no-untyped-call]
        self._deadline.start()

    def _too_late(self, error: DeadlineError) -> None:
        self._late = error
        self.transport.abortConnection()

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """The peer is who it must be."""
        self._deadline.stop()
        self.done = True
        connection = self.transport.getHandle()
        certificate = connection.get_peer_certificate(as_cryptography=True)
        self.certificate = certificate
        found = names(certificate) if certificate is not None else ()
        self.factory.completed(self.wrappedProtocol, Secure(_version(connection), found))
        self.wrappedProtocol.makeConnection(self)  # type: ignore[arg-type]

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Ask `producer` for more; one that is pulled is asked when TCP has sent everything.

        Twisted's TLS would ask it in every turn of the reactor, ready or not.
        """
        self._pulled = not streaming
        self._asker.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:  # noqa: N802
        """Ask no more."""
        asker, self._pulled = self._asker, False
        asker.unregisterProducer()

    @property
    def _asker(self) -> Any:
        return self.transport.transport if self._pulled else self.transport

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes of the peer, as it wrote them."""
        self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The connection is gone: tell whoever must know, and why if that was TLS."""
        self._deadline.stop()
        self.factory.unregisterProtocol(self)  # type: ignore[no-untyped-call]
        error = self._why(reason)
        if error is not None:
            who = self.wrappedProtocol if self.done else self.transport.getPeer()
            self.factory.failed(who, error)
        if self.done:
            self.wrappedProtocol.connectionLost(Failure(error) if error else reason)

    def _why(self, reason: Failure) -> LinkError | None:
        """What to tell of the end; None if TLS has nothing to do with it."""
        if self._late is not None:
            return self._late
        if self.plaintext:
            return TlsError(f"{self.factory.peer} does not speak TLS")
        if self.judge is not None and self.judge.refusal:
            return TlsError(self.judge.refusal)
        if self.done and not isinstance(reason.value, SSL.Error):
            return None
        if not isinstance(reason.value, SSL.Error):
            why = reason.getErrorMessage()
            return ConnectionLostError(f"the connection ended in the TLS handshake: {why}")
        shown = self.transport.getHandle().get_certificate() is not None
        return TlsError(words.failure(reason.value, self.factory.peer, shown=shown))


def _version(connection: Any) -> str:
    name: str = connection.get_protocol_version_name()
    return name.replace("TLSv", "TLS ")


class Handshakes(WrappingFactory):
    """Makes a `Secured` around each protocol of `wrapped`.

    `peer` is ``the master`` or ``the slave``; a handshake has `seconds`.
    """

    protocol = Secured
    noisy = False

    def __init__(
        self,
        wrapped: Any,
        clock: IReactorTime,
        seconds: float,
        peer: str,
        completed: Done,
        failed: Failed,
    ) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.seconds = seconds
        self.peer = peer
        self.completed = completed
        self.failed = failed

    @property
    def pending(self) -> list[Secured]:
        """The connections whose handshake is under way."""
        return [each for each in self.protocols if not each.done]

    def revoked(self, contexts: Contexts) -> list[Any]:
        """The protocols of open connections whose certificate was revoked meanwhile."""
        return [
            each.wrappedProtocol
            for each in self.protocols
            if each.done and each.certificate is not None and contexts.revoked(each.certificate)
        ]

    def abort(self) -> None:
        """Cut off all handshakes under way."""
        for each in self.pending:
            each.transport.abortConnection()


class _MasterTls(_Tls):  # type: ignore[misc]
    """TLS of a master; a client that does not begin with it is told so in its own words."""

    _began = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Bytes from the network."""
        if not self._began and data[:1] != _HANDSHAKE:
            self.wrappedProtocol.plaintext = True
            if data[:1] == _NATIVE:
                self.transport.write(self.factory.refusal)
            self.transport.loseConnection()
            return
        self._began = True
        super().dataReceived(data)


def master_tls(contexts: Contexts, handshakes: Handshakes, refusal: bytes) -> TLSMemoryBIOFactory:
    """What a master listens with; `refusal` is sent to a client that does not speak TLS."""
    factory: Any = TLSMemoryBIOFactory(contexts, False, handshakes)
    factory.protocol = _MasterTls
    factory.refusal = refusal
    made: TLSMemoryBIOFactory = factory
    return made


def slave_tls(contexts: Contexts, handshakes: Handshakes) -> TLSMemoryBIOFactory:
    """What a slave connects with."""
    return TLSMemoryBIOFactory(contexts, True, handshakes)
