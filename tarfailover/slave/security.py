"""TLS of the slave: what it connects with, and how a failure becomes its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from tarfailover.access.token import Token
from tarfailover.config import SlaveConfig
from tarfailover.errors import ConnectionLostError, LinkError, TlsError
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.link import SILENT, Link
from tarfailover.tls import rules
from tarfailover.tls.contexts import Contexts, Demand
from tarfailover.tls.files import Expiry, TlsFiles
from tarfailover.tls.handshake import Handshakes, Secure, slave_tls
from tarfailover.tls.watch import Watch


def demand(config: SlaveConfig) -> Demand:
    """What the slave demands of the master's certificate; raises ConfigError."""
    named = config.tls_server_name or config.master_host
    return Demand(
        "the master",
        certified=bool(config.tls_ca),
        name=named if config.tls_ca else "",
        pins=rules.pins(config),
        anyone=config.tls_trust_anyone,
        subject=config.tls_subject_pattern,
    )


class SlaveSecurity:
    """Puts TLS around `factory`; raises ConfigError if a file cannot be used.

    `lost` is called with the reason of each handshake that failed.
    """

    log = Logger()

    def __init__(
        self,
        config: SlaveConfig,
        factory: SlaveFactory,
        reactor: Any,
        lost: Callable[[None, LinkError], None],
    ) -> None:
        files = TlsFiles(
            config.tls_certificate,
            config.tls_key,
            config.tls_key_passphrase_file,
            config.tls_ca,
            config.tls_crl,
            config.tls_key_passphrase,
        )
        self.contexts = Contexts(files, demand(config))
        if config.token_file:
            token = Token(config.token_file)
            factory.dialect.token = lambda: token.value
        self._lost = lost
        self._watch = Watch(self.contexts, reactor, config.tls_refresh)
        self._handshakes = handshakes = Handshakes(
            factory,
            reactor,
            config.deadline_tls_handshake,
            "the master",
            self._completed,
            self._failed,
        )
        self.contexts.changed = self._cut_revoked
        self.factory: TLSMemoryBIOFactory = slave_tls(self.contexts, handshakes)
        """What to connect with."""

    def start(self) -> None:
        """Warn of what is dangerous, and of certificates that end soon."""
        if self.contexts.demand is not None and self.contexts.demand.anyone:
            self.log.warn(
                "tls_trust_anyone: whoever answers is taken for the master, its certificate is "
                "not verified; use tls_ca or tls_pin"
            )
        self._watch.start()

    def reconfigure(self, config: SlaveConfig) -> None:
        """Use `config` for the next handshakes."""
        self._handshakes.seconds = config.deadline_tls_handshake

    def expiries(self) -> list[Expiry]:
        """What of the certificates, CAs and lists in use ends when; see `tls.files.Expiry`."""
        return self.contexts.expiries()

    def stop(self) -> None:
        """Watch no more."""
        self._watch.stop()

    def _cut_revoked(self) -> None:
        """New files are in use: end the connection if they revoke the master's certificate."""
        for protocol in self._handshakes.revoked(self.contexts):
            protocol.fail(TlsError("the certificate of the master was revoked meanwhile"))

    def _completed(self, protocol: Link, secure: Secure) -> None:
        del protocol
        self.log.info("the master: {secure}", secure=str(secure))

    def _failed(self, who: Any, error: LinkError) -> None:
        """A master refuses a certificate after the slave's end of the handshake: TLS 1.3."""
        if isinstance(who, Link):
            who.fail(error)
        elif isinstance(error, ConnectionLostError):
            self._lost(None, ConnectionLostError(f"{error}{SILENT}"))
        else:
            self._lost(None, error)
