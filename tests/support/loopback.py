"""The failing proxy between real sockets of loopback."""

from __future__ import annotations

from typing import Any

from failing import Proxy, Side, Strike
from services import until
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

HOST = "127.0.0.1"
END_SECONDS = 5.0
"""Until all connections are gone at the end."""


class LoopbackProxy:
    """Passes connections on to port `target`; listens as long as the block lasts."""

    def __init__(self, target: int, strike: Strike) -> None:
        self.proxy = Proxy(reactor, self._dial, strike)
        self._target = TCP4ClientEndpoint(reactor, HOST, target)
        self._port: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        number: int = self._port.getHost().port
        return number

    def _dial(self, far: Side) -> None:
        def refused(_: Failure) -> None:
            far.pair.reset()

        self._target.connect(_Making(far)).addErrback(refused)

    async def __aenter__(self) -> LoopbackProxy:
        self._port = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(_Making(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._port.stopListening()
        self.proxy.cut()
        await until(lambda: not self.proxy.open_ends, "the end of all connections", END_SECONDS)


class _Making(Factory):
    """Makes one side, or the near side of one more pair."""

    noisy = False

    def __init__(self, made: Side | LoopbackProxy) -> None:
        self._made = made

    def buildProtocol(self, addr: object) -> Side:  # type: ignore[override]  # noqa: ARG002, N802
        """As a factory."""
        return self._made if isinstance(self._made, Side) else self._made.proxy.accept()
