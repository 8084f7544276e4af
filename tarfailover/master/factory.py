"""The master's factory: what all its clients share."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.access.rates import Seldom
from tarfailover.access.room import Room
from tarfailover.config import MasterConfig
from tarfailover.errors import LinkError
from tarfailover.format.journal import NAME as JOURNAL
from tarfailover.ids import RecordId
from tarfailover.master import gate
from tarfailover.master.connection import Connection
from tarfailover.master.doorway import Doorway
from tarfailover.master.listings import Listings
from tarfailover.master.sender import InThread
from tarfailover.master.throttle import Throttle
from tarfailover.master.visitors import Visitors
from tarfailover.sockets import tune
from tarfailover.store import journal
from tarfailover.store.blobs import BlobStore
from tarfailover.store.follower import Follower
from tarfailover.store.snapshot import Head, Snapshot
from tarfailover.wire.messages import ErrorCode, HeadIs

NO_LIMIT = 2**30
"""Open files where the system sets no limit."""


class MasterFactory(Factory):
    """Serves the snapshots of one follower; `clock` and `in_thread` are passed in."""

    noisy = False
    log = Logger()

    def __init__(
        self, config: MasterConfig, follower: Follower, clock: IReactorTime, in_thread: InThread
    ) -> None:
        self.config = config
        self.clock = clock
        self.in_thread = in_thread
        self.epoch = 0
        self.listings = Listings()
        self.throttle = Throttle(clock, config.rate_limit, config.rate_limit_client)
        self.clients: set[Connection] = set()
        """All connections whose TLS, if there is any, stands; introduced or not."""
        self.served: set[Connection] = set()
        """Those that are introduced."""
        self.visitors = Visitors()
        self.room = Room(config.max_clients, config.max_strangers)
        self.seldom = Seldom(self.log, clock.seconds)
        """For what strangers cause."""
        self.objection: Callable[[Connection, str | None], str] = _none
        """Why a client that introduced itself, with this token, may not be served, or ''."""
        self.errors: dict[int, int] = {}
        self.sent = 0
        """Bytes of answers to clients that are gone."""
        self.blind = ""
        """Why nobody knows whether the head is still the head; '' if it is known."""
        self.blobs: BlobStore | None = None
        """Where the binaries are that do not lie in segments; None if nothing is known of it."""
        self._emptied: Deferred[None] | None = None
        self._follower = follower
        self.snapshot = follower.snapshot.acquire()

    def buildProtocol(self, addr: IAddress | None) -> Doorway:  # noqa: N802
        """A protocol for one more client."""
        return Doorway(self, _peer(addr))

    # clients

    def connected(self, client: Connection) -> None:
        """Take a connection in; it is a stranger until `introduced`."""
        self.clients.add(client)

    def introduced(self, client: Connection) -> str:
        """Make a stranger a client; why it cannot be one, or ''."""
        if len(self.served) >= self.room.clients:
            return f"{self.room.clients} clients are connected, more are not allowed"
        guest = gate.guest(client.transport)
        refused = guest.factory.let_in(guest) if guest is not None else ""
        if not refused:
            self.served.add(client)
            tune(client.transport, socket.SO_SNDBUF, self.config.send_buffer)
        return refused

    def disconnected(self, client: Connection, reason: Failure) -> None:
        """Forget a connection."""
        self.sent += client.sender.sent
        self.clients.discard(client)
        if self._emptied is not None and not self.clients:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)
        if client in self.served:
            self.served.remove(client)
            if client.is_news:
                why = reason.getErrorMessage()
                self.log.info("{peer}: disconnected ({why})", peer=client, why=why)

    def set_rates(self, rate: int, rate_client: int) -> None:
        """Other limits of bytes a second, for all clients together and for each; 0 for none."""
        self.throttle.set_rates(rate, rate_client)

    def fit(self) -> Room:
        """Fit the limits on connections to the limit of open files, beside the tars of now."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = NO_LIMIT if soft == resource.RLIM_INFINITY else soft
        wanted = self.config.max_clients, self.config.max_strangers
        self.room = Room.within(*wanted, len(self.snapshot.tars.readers), files)
        return self.room

    def reconfigure(self, config: MasterConfig) -> None:
        """Use `config` from now on; for the deadlines of a client, from the next one on."""
        self.config = config
        self.set_rates(config.rate_limit, config.rate_limit_client)
        self.fit()

    def emptied(self) -> Deferred[None]:
        """Fires when the last client is gone; asked for once, when the master stops."""
        if not self.clients:
            return succeed(None)
        self._emptied = Deferred()
        return self._emptied

    def count_error(self, code: ErrorCode) -> None:
        """Count an error that ended a connection."""
        self.errors[code] = self.errors.get(code, 0) + 1

    # the store

    def refresh(self) -> Deferred[None]:
        """Look at the directory; clients that wait for a new head are told of it."""
        return self.in_thread(self._follower.refresh).addCallback(self._refreshed)

    def _refreshed(self, snapshot: Snapshot) -> None:
        before, head = self.snapshot.head, snapshot.head
        self.snapshot, old = snapshot.acquire(), self.snapshot
        if len(snapshot.tars.readers) != len(old.tars.readers):
            self.fit()
        old.release()
        if head is None and before is not None:
            self.log.error("no head can be served: {why}", why=self.not_ready())
        if head == before:
            return
        if head is not None:
            self.log.info("head {head}, generation {gen}", head=head.record, gen=head.generation)
            for why in head.skipped:
                self.log.warn("stepped back in the journal over {why}", why=why)
        for client in list(self.clients):
            client.head_moved()

    @property
    def head(self) -> Head | None:
        """The head to serve; None if there is none, or if it may have moved unseen."""
        return None if self.blind else self.snapshot.head

    def go_blind(self, why: str) -> None:
        """The store cannot be looked at: say so to whoever asks, instead of an old head."""
        self.blind = why
        for client in list(self.clients):
            client.head_moved()

    def not_ready(self) -> str:
        """Why there is no head."""
        return self.blind or str(
            self._follower.no_head or f"{self._follower.directory} has no head"
        )

    def head_is(self, have: RecordId | None) -> Deferred[HeadIs]:
        """The answer to a slave whose head is `have`."""
        snapshot, head = self.snapshot, self.head
        if head is None:
            raise LinkError(self.not_ready())
        answer = HeadIs(head.record, head.time_ms, head.generation, known=True)
        if have is None or snapshot.contains(have.segment):
            return succeed(answer)
        path = self._follower.directory / JOURNAL
        named: Deferred[Any] = self.in_thread(journal.names, path, have.segment)
        return named.addCallback(
            lambda known: HeadIs(head.record, head.time_ms, head.generation, known)
        )


def _none(client: Connection, token: str | None) -> str:
    del client, token
    return ""


def _peer(addr: Any) -> str:
    if isinstance(addr, IPv4Address):
        return f"{addr.host}:{addr.port}"
    if isinstance(addr, IPv6Address):
        return f"[{addr.host}]:{addr.port}"
    return "a local client" if addr is None else str(addr)
