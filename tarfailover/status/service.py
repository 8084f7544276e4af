"""The status page as a service beside master or slave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import ConfigError, TarFailoverError
from tarfailover.status.site import MAX_CONNECTIONS, Health, Report, StatusSite


class StatusService(Service):
    """Shows `report` and `health` where `config` says; `reactor` is passed in."""

    log = Logger()

    def __init__(
        self,
        config: MasterConfig | SlaveConfig,
        reactor: Any,
        report: Report,
        health: Health,
        fatal: Callable[[TarFailoverError], None],
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._fatal = fatal
        names = frozenset(config.status_names.lower().replace(",", " ").split())
        self._site = StatusSite(reactor, report, health, names)
        self.port: IListeningPort | None = None
        """What it listens on, once it does."""

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Listen."""
        super().startService()  # type: ignore[no-untyped-call]
        where = self._config.status_interface
        try:
            self.port = self._reactor.listenTCP(
                self._config.status_port, self._site, backlog=MAX_CONNECTIONS, interface=where
            )
        except CannotListenError as error:
            self._fatal(
                ConfigError(f"the status page cannot listen: {error}; choose another --status-port")
            )
            return
        address: Any = self.port.getHost()
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.log.info("status on http://{host}:{port}/status", host=host, port=address.port)

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Listen no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self.port = self.port, None
        self._site.abort()
        return maybeDeferred(port.stopListening if port else _nothing)


def _nothing() -> None:
    pass
