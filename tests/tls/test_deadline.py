"""A handshake has as long as it has, whatever bytes come meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tarfailover.errors import DeadlineError, LinkError
from tarfailover.tls.handshake import Handshakes, Secured


@pytest.mark.parametrize("peer", ["the master", "the slave"])
def test_a_handshake_that_does_not_end(peer: str) -> None:
    clock, told = Clock(), list[tuple[Any, LinkError]]()
    handshakes = Handshakes(
        Factory.forProtocol(Protocol),
        clock,
        10.0,
        peer,
        lambda *_: None,
        lambda who, error: told.append((who, error)),
    )
    secured = handshakes.buildProtocol(IPv4Address("TCP", "127.0.0.1", 8023))
    assert isinstance(secured, Secured)
    transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 8023))
    secured.makeConnection(transport)
    clock.pump([1] * 9)
    assert not transport.disconnecting
    clock.advance(1)
    assert transport.disconnecting
    secured.connectionLost()
    ((_, error),) = told
    assert isinstance(error, DeadlineError)
    assert (error.name, error.what) == ("tls-handshake", f"the TLS handshake of {peer}")
    assert not clock.getDelayedCalls()
