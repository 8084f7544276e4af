"""TLS of the master: what it listens with, and what its log says of clients that fail."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from tarfailover.access.token import Token
from tarfailover.config import MasterConfig
from tarfailover.errors import LinkError
from tarfailover.master.factory import MasterFactory
from tarfailover.master.protocol import MasterProtocol
from tarfailover.master.sources import framed
from tarfailover.tls.contexts import Contexts, Demand
from tarfailover.tls.files import TlsFiles
from tarfailover.tls.handshake import Handshakes, Secure, master_tls
from tarfailover.tls.watch import Watch
from tarfailover.wire.messages import Error, ErrorCode, Hello

_REFUSAL = framed(
    0, Error(ErrorCode.PROTOCOL, "this master speaks TLS only; give the slave tls_ca or tls_pin")
)
_ANYBODY = "clients are not authenticated"


class MasterSecurity:
    """Puts TLS around `factory`; raises ConfigError if a file cannot be used."""

    log = Logger()

    def __init__(self, config: MasterConfig, factory: MasterFactory, reactor: Any) -> None:
        files = TlsFiles(
            config.tls_certificate,
            config.tls_key,
            config.tls_key_passphrase_file,
            config.tls_ca,
            config.tls_crl,
        )
        demand = Demand("the slave", named=True) if config.tls_ca else None
        self.contexts = Contexts(files, demand)
        self._seldom = factory.seldom
        self._token = Token(config.token_file) if config.token_file else None
        factory.objection = self._objection
        self._watch = Watch(self.contexts, reactor)
        self._handshakes = Handshakes(
            factory,
            reactor,
            config.deadline_tls_handshake,
            "the slave",
            self._completed,
            self._failed,
        )
        self.factory: TLSMemoryBIOFactory = master_tls(self.contexts, self._handshakes, _REFUSAL)
        """What to listen with."""

    def start(self) -> None:
        """Tell how clients are known, and of certificates that end soon."""
        shown = ["a certificate"] if self.contexts.demand is not None else []
        shown += ["the token"] if self._token is not None else []
        who = f"clients must show {' and '.join(shown)}" if shown else _ANYBODY
        self.log.info("TLS is on; {who}", who=who)
        self._watch.start()

    def stop(self) -> None:
        """Cut handshakes off, and watch no more."""
        self._watch.stop()
        self._handshakes.abort()

    def _objection(self, client: MasterProtocol, hello: Hello) -> str:
        """Why this client may not be served, or ''."""
        del client
        return self._token.refuses(hello.token) if self._token is not None else ""

    def _completed(self, protocol: MasterProtocol, secure: Secure) -> None:
        protocol.peer = f"{protocol.peer} ({secure})"

    def _failed(self, who: Any, error: LinkError) -> None:
        host, port = getattr(who, "host", None), getattr(who, "port", None)
        peer = str(who) if host is None else f"{host}:{port}"
        self._seldom.warn("{peer}: {why}; disconnecting", peer=peer, why=str(error))
