"""The slave's client factory: connects, and connects again with growing pauses."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import ConnectionLostError, LinkError
from tarfailover.slave.dialects import Dialect
from tarfailover.slave.limit import AHEAD, AT_A_TIME, within
from tarfailover.slave.link import Link
from tarfailover.slave.told import Introduction
from tarfailover.sockets import STEP, set_buffer, tune


class SlaveFactory(ReconnectingClientFactory):
    """Makes a `Link` in `dialect` for each connection; Twisted's own backoff and jitter between.

    `connecting` is called with each attempt, `welcomed` with each connection that is
    ready, `lost` whenever one ended or could not be made. `worked` makes the next pause
    short again.
    """

    noisy = False
    factor = 2.0
    jitter = 0.1
    """Standard deviation of a pause, as a share of it."""

    def __init__(
        self,
        config: SlaveConfig,
        clock: Any,
        dialect: Dialect,
        welcomed: Callable[[Link, Introduction], None],
        lost: Callable[[Link | None, LinkError], None],
        connecting: Callable[[], None],
    ) -> None:
        self.config = config
        self.clock: Any = clock
        self.initialDelay = config.retry_initial
        self.resetDelay()  # type: ignore[no-untyped-call]
        self.maxDelay = config.retry_max  # type: ignore[assignment]
        self.dialect = dialect
        self._welcomed = welcomed
        self._lost = lost
        self._connecting = connecting
        self.attempts = 0
        self._connector: Any = None

    def startedConnecting(self, connector: IConnector) -> None:  # noqa: N802 - Twisted's name
        """The receive buffer must be set before the connection is made."""
        self.attempts += 1
        self._connecting()
        self._connector = connector
        handle = getattr(getattr(connector, "transport", None), "socket", None)
        size = within(self.config.receive_buffer, self.config.rate_limit, AHEAD)
        set_buffer(handle, socket.SO_RCVBUF, size)

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002, N802
        """A protocol for the connection that was made."""
        return self.dialect.link(self.config, self.clock, self._ready, self._lost)

    def _ready(self, protocol: Link, welcome: Introduction) -> None:
        step = within(STEP, self.config.rate_limit, AT_A_TIME)
        tune(protocol.transport, socket.SO_RCVBUF, 0, step)
        self._welcomed(protocol, welcome)

    def reconfigure(self, config: SlaveConfig) -> None:
        """Use `config` for the next attempts, and for the connections that come of them."""
        self.config = config
        self.initialDelay = config.retry_initial
        self.maxDelay = config.retry_max  # type: ignore[assignment]
        self.delay = min(self.delay, config.retry_max)
        if self._connector is not None:
            self._connector.timeout = config.deadline_connect

    def worked(self) -> None:
        """A cycle ended well: the next pause is a short one."""
        # Not resetDelay: that forgets an attempt that is planned, and also that this stopped.
        self.delay = self.initialDelay
        self.retries = 0

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:  # noqa: N802
        """No connection could be made; try again after a pause."""
        where = f"{self.config.master_host}:{self.config.port}"
        why = f"no connection to {where}: {reason.getErrorMessage()}"
        self._lost(None, ConnectionLostError(why))
        super().clientConnectionFailed(connector, reason)  # type: ignore[no-untyped-call]

    def connect_now(self) -> None:
        """Give up what is under way, if anything is, and connect: what should have did not."""
        connector = self._connector
        if connector is None:
            return
        if connector.state == "disconnected":
            self.stopTrying()  # type: ignore[no-untyped-call]
            self.continueTrying = 1
            connector.connect()
        elif connector.state == "connected":
            connector.transport.abortConnection()
        else:
            connector.stopConnecting()

    def stop(self) -> None:
        """Connect no more."""
        self.stopTrying()  # type: ignore[no-untyped-call]
        if self._connector is not None:
            self._connector.disconnect()
