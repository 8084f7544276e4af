"""TLS of the master: what it listens with, and what its log says of clients that fail."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from tarfailover.access.ranges import entries
from tarfailover.access.token import Token
from tarfailover.config import MasterConfig
from tarfailover.errors import LinkError
from tarfailover.master.connection import Connection
from tarfailover.master.doorway import Doorway
from tarfailover.master.factory import MasterFactory
from tarfailover.tls.contexts import Contexts, Demand
from tarfailover.tls.files import Expiry, TlsFiles
from tarfailover.tls.handshake import Handshakes, Secure, master_tls
from tarfailover.tls.watch import Watch
from tarfailover.wire.messages import Error, ErrorCode, framed

_REFUSAL = framed(
    0, Error(ErrorCode.PROTOCOL, "this master speaks TLS only; give the slave tls_ca or tls_pin")
)
_ANYBODY = "clients are not authenticated"
_TOKENLESS = (
    "this master demands a token, and an Oak standby cannot show one; serve it from a master that "
    "demands a certificate instead (tls_ca, no token_file)"
)


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
            config.tls_key_passphrase,
            config.tls_self_signed,
        )
        # Whoever is known by the subject needs no other name.
        pattern = config.tls_subject_pattern
        demand = Demand("the slave", named=not pattern, subject=pattern) if config.tls_ca else None
        self.contexts = Contexts(files, demand)
        self._seldom = factory.seldom
        self._token = Token(config.token_file) if config.token_file else None
        factory.objection = self._objection
        self._watch = Watch(self.contexts, reactor, config.tls_refresh)
        self._handshakes = Handshakes(
            factory,
            reactor,
            config.deadline_tls_handshake,
            "the slave",
            self._completed,
            self._failed,
        )
        self.contexts.changed = self._cut_revoked
        self._allowed = frozenset(map(str.lower, entries(config.allowed_slaves)))
        self.factory: TLSMemoryBIOFactory = master_tls(self.contexts, self._handshakes, _REFUSAL)
        """What to listen with."""

    def start(self) -> None:
        """Tell how clients are known, and of certificates that end soon."""
        shown = ["a certificate"] if self.contexts.demand is not None else []
        shown += ["the token"] if self._token is not None else []
        who = f"clients must show {' and '.join(shown)}" if shown else _ANYBODY
        self.log.info("TLS is on; {who}", who=who)
        if self.contexts.files.self_signed:
            self.log.warn(
                "tls_self_signed: the certificate was made at this start, and no slave can verify "
                "it; use tls_certificate and tls_key"
            )
        self._watch.start()

    def reconfigure(self, config: MasterConfig) -> None:
        """Use `config` for the next clients."""
        self._handshakes.seconds = config.deadline_tls_handshake
        self._allowed = frozenset(map(str.lower, entries(config.allowed_slaves)))

    def expiries(self) -> list[Expiry]:
        """What of the certificates, CAs and lists in use ends when; see `tls.files.Expiry`."""
        return self.contexts.expiries()

    def stop(self) -> None:
        """Cut handshakes off, and watch no more."""
        self._watch.stop()
        self._handshakes.abort()

    def _objection(self, client: Connection, token: str | None) -> str:
        """Why this client may not be served, or ''; `token` is None if its dialect has none."""
        if self._allowed and self._allowed.isdisjoint(map(str.lower, client.names)):
            return f"the certificate of {', '.join(client.names)} is not in allowed_slaves"
        if self._token is None:
            return ""
        return _TOKENLESS if token is None else self._token.refuses(token)

    def _cut_revoked(self) -> None:
        """New files are in use: end the connections whose certificates they revoke."""
        for door in self._handshakes.revoked(self.contexts):
            door.client.end(
                ErrorCode.NOT_ALLOWED, "the certificate of the slave was revoked meanwhile"
            )

    def _completed(self, door: Doorway, secure: Secure) -> None:
        door.client.names = secure.names
        door.client.peer = f"{door.client.peer} ({secure})"

    def _failed(self, who: Any, error: LinkError) -> None:
        host, port = getattr(who, "host", None), getattr(who, "port", None)
        peer = str(who) if host is None else f"{host}:{port}"
        self._seldom.warn("tls", "{peer}: {why}; disconnecting", peer=peer, why=str(error))
