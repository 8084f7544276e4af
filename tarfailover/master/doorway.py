"""The first byte of a client tells which dialect it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tarfailover.master.connection import Connection
from tarfailover.master.oak import OakConnection
from tarfailover.master.protocol import MasterProtocol

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory

OAK = b"S"
"""How each line of an Oak standby begins; a native frame begins with a zero."""


class Doorway(Protocol):
    """Hands a connection to who speaks its dialect; who says nothing is taken for native."""

    transport: Any

    def __init__(self, factory: MasterFactory, peer: str) -> None:
        self.client: Connection = MasterProtocol(factory, peer)
        self._silent = True

    def __str__(self) -> str:
        return str(self.client)

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """A client connected."""
        self.client.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes came."""
        if self._silent:
            self._silent = False
            if data.startswith(OAK):
                self._speaks_oak()
        self.client.dataReceived(data)

    def _speaks_oak(self) -> None:
        native = self.client
        self.client = OakConnection(native.factory, native.peer)
        native.hand_over(self.client)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The client is gone."""
        self.client.connectionLost(reason)
