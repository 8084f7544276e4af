"""The first that a connection meets: whether its address may connect, and whether there is room.

::

    TCP  →  Gate  →  (TLS  →)  MasterFactory

What is refused here has cost an `accept` and a `close`, and no TLS. A connection is a
stranger until its HELLO was accepted; strangers have slots of their own, so they never take
those of clients, and when there are too many the least familiar one is cut off.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from tarfailover.access import ranges
from tarfailover.access.crowd import Crowd, origin
from tarfailover.access.names import Names
from tarfailover.access.ranges import Address, Ranges
from tarfailover.access.rates import Buckets
from tarfailover.access.room import LEAVING
from tarfailover.config import MasterConfig

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory


COLLECT_AFTER = 250
"""Strangers gone, after which the memory that they left in circles is looked for.

Twisted's TLS leaves a circle of failure and frames for each handshake that breaks, and with it
OpenSSL's part of the connection, some 100 KiB, until Python's own collector comes by.
"""


class Guest(ProtocolWrapper):
    """One connection, from `accept` to its end."""

    factory: Gate
    transport: Any
    place: Hashable = None
    leaving = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        """The connection is gone."""
        self.factory.left(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def cut(self) -> None:
        """End the connection without a word."""
        self.leaving = True
        self.transport.abortConnection()


def guest(transport: Any) -> Guest | None:
    """The guest whose connection `transport` is, with or without TLS; None if there is no gate."""
    while isinstance(transport, ProtocolWrapper):
        if isinstance(transport, Guest):
            return transport
        transport = transport.transport
    return None


class Gate(WrappingFactory):
    """Lets connections through to `wrapped`, which ends in `factory`.

    `names` holds the addresses of the host names in the list of those allowed. `refused`
    counts connections by why they were not let in, or cut off: ``address`` is not allowed,
    ``rate`` of its address is too high, ``crowd``: too many not introduced.
    """

    noisy = False
    protocol = Guest

    def __init__(
        self,
        wrapped: Any,
        config: MasterConfig,
        names: Names,
        factory: MasterFactory,
    ) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.refused: Counter[str] = Counter()
        self.strangers: Crowd[Guest] = Crowd()
        self._factory = factory
        self._ranges = Ranges.parse(config.allowed_client_ip_ranges)
        self._names = names
        self._seldom = factory.seldom
        seconds = factory.clock.seconds
        self._rates = Buckets(config.connect_rate, config.connect_burst, seconds)
        self._clients: Counter[Hashable] = Counter()
        self._per_address = config.max_clients_per_address
        self._leaving = 0
        self._gone = 0

    def reconfigure(self, config: MasterConfig, names: Names) -> None:
        """Use `config` and `names` for the next connections."""
        self._ranges = Ranges.parse(config.allowed_client_ip_ranges)
        self._names = names
        self._rates.limit(config.connect_rate, config.connect_burst)
        self._per_address = config.max_clients_per_address

    def buildProtocol(self, addr: IAddress | None) -> Guest | None:  # type: ignore[override]  # noqa: N802
        """Somebody connects: a protocol, or None for the end of it."""
        client = _address(addr)
        place = origin(client)
        why, words = self._objection(client, place)
        if why:
            self.refused[why] += 1
            self._seldom.warn(why, "{client} {why}; refused", client=str(client), why=words)
            return None
        made = Guest(self, self.wrappedFactory.buildProtocol(addr))  # type: ignore[arg-type]
        made.place = place
        self.strangers.add(place, made)
        return made

    def _objection(self, client: Address | None, place: Hashable) -> tuple[str, str]:
        """Why somebody may not connect, as counted and in words; '' if nothing is against it."""
        if client is not None and not self._ranges.allow(client, self._names.addresses):
            return "address", "is not in allowed_client_ip_ranges"
        if client is not None and not self._rates.take(place):
            return "rate", "connects too often (connect_rate, connect_burst)"
        if len(self.strangers) >= self._factory.room.strangers and not self._make_room():
            return "crowd", "connects while too many others do (max_strangers)"
        return "", ""

    def _make_room(self) -> bool:
        """Cut the first stranger off, unless too many are just being cut off."""
        if self._leaving >= LEAVING:
            return False
        stranger = self.strangers.pop()
        if stranger is not None:
            self._leaving += 1
            self.refused["crowd"] += 1
            self._seldom.warn(
                "crowd",
                "{place} is cut off: more than {n} connections without HELLO (max_strangers)",
                place=str(_address(stranger.transport.getPeer())),
                n=self._factory.room.strangers,
            )
            stranger.cut()
        return True

    def let_in(self, guest: Guest) -> str:
        """A stranger turned out to be a client; why it cannot be one, or ''."""
        if guest.place is not None and self._clients[guest.place] >= self._per_address:
            most = self._per_address
            return f"{most} clients from this address are connected, more are not allowed"
        self.strangers.let_in(guest.place, guest)
        self._clients[guest.place] += 1
        return ""

    def left(self, guest: Guest) -> None:
        """A connection is gone."""
        if guest.leaving:
            self._leaving -= 1
        elif not self.strangers.remove(guest.place, guest):
            self._clients[guest.place] -= 1
            self._clients += Counter()  # drops what is zero
            return
        self._gone += 1
        if self._gone >= COLLECT_AFTER:
            self._gone = 0
            gc.collect()


def _address(addr: Any) -> Address | None:
    """The address of a peer; None if it has none, as over a Unix socket."""
    host = getattr(addr, "host", None)
    return None if host is None else ranges.address(host)
