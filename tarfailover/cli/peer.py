"""A master that a command asks: the slave's end of a link, used from a thread that may wait.

The reactor runs in a thread of its own, so that the command stays one that begins, does one
thing after the other, can be interrupted, and ends.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import LinkError, PeerError, ProtocolError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.slave.dialects import Dialect, Lost, Welcomed
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.link import Link
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.security import SlaveSecurity
from tarfailover.store.intake import Arrival
from tarfailover.tls import rules
from tarfailover.wire import digests
from tarfailover.wire.messages import MAX_IDS, MAX_SLICE, ErrorCode, HeadIs, Hello, Welcome
from tarfailover.wire.negotiate import BLOBS, DIGEST, compression_offered
from tarfailover.wire.stream import Refusal, Segment

reactor: Any = _reactor

Answer = bytes | Refusal
"""A digest, or why there is none."""


class _Asking(Dialect):
    """Ours, for somebody who only asks."""

    def link(
        self, config: SlaveConfig, clock: IReactorTime, welcomed: Welcomed, lost: Lost
    ) -> Link:
        """As `Dialect.link`."""
        features = (DIGEST, BLOBS, *compression_offered(config.compression))
        hello = Hello(f"{socket.gethostname()}, command", features, token=self.token())
        return SlaveProtocol(config, clock, hello, welcomed, lost)


class Peer:
    """A connection to a master; made by `connected`. All methods block and raise LinkError."""

    def __init__(self, protocol: SlaveProtocol, welcome: Welcome) -> None:
        self._protocol = protocol
        self.welcome = welcome

    @property
    def received(self) -> int:
        """Bytes that came."""
        return self._protocol.received

    def head(self) -> RecordId | None:
        """Its head; None if it has none."""
        try:
            return self.head_is(None).head
        except PeerError as error:
            if error.code != ErrorCode.NOT_READY:
                raise
            return None

    def head_is(self, have: RecordId | None) -> HeadIs:
        """Its head, and what is known of it."""
        found = _wait(lambda: self._protocol.head(have, 0.0))
        if not isinstance(found, HeadIs):
            raise ProtocolError("the master told its head in another dialect")
        return found

    def listing(self, head: SegmentId, took: Callable[[bytes], None]) -> None:
        """The closure of the segment `head`: `took` gets pieces of n × (16 bytes id | u32 length).

        It is called in the reactor's thread, and may raise LinkError, which ends all.
        """
        _wait(lambda: self._protocol.list(head, b"", took))

    def get(self, ids: Sequence[SegmentId]) -> dict[SegmentId, Arrival | str]:
        """The segments as they came, or why one did not."""
        found: dict[SegmentId, Arrival | str] = {}

        def took(item: Segment | Refusal) -> None:
            found[item.segment] = item.text if isinstance(item, Refusal) else Arrival(*item)

        for some in _cut(ids):
            _wait(partial(self._protocol.get, some, took))
        return found

    def blob(self, blob: str, offset: int) -> tuple[int, bytes]:
        """A slice of a binary from `offset` on, and the length of the whole."""
        if not self._protocol.gives_blobs:
            raise PeerError(ErrorCode.NO_BLOBS, "the other side has no blob store")
        came = bytearray()

        def took(data: bytes | bytearray) -> None:
            came.extend(data)

        length: int = _wait(lambda: self._protocol.blob(blob, offset, MAX_SLICE, took))
        return length, bytes(came)

    def digests(
        self, ids: Sequence[SegmentId], salt: bytes
    ) -> Callable[[], dict[SegmentId, Answer]]:
        """Ask for the digests of `ids`; what is returned waits for them.

        Meanwhile this side can read its own.
        """
        found: dict[SegmentId, Answer] = {}
        ended: Deferred[object] = Deferred()

        def took(item: Segment | Refusal) -> None:
            found[item.segment] = item if isinstance(item, Refusal) else digests.told(item)

        def ask() -> None:
            asked = [self._protocol.get(some, took, salt=salt) for some in _cut(ids)]
            gatherResults(asked, consumeErrors=True).addErrback(_first).addBoth(ended.callback)

        def wait() -> dict[SegmentId, Answer]:
            _wait(lambda: ended)
            return found

        reactor.callFromThread(ask)
        return wait

    def refuse_old(self) -> None:
        """Raise PeerError unless it can tell digests."""
        if DIGEST not in self.welcome.features:
            why = f"{self.welcome.software} cannot tell digests; update the master"
            raise PeerError(ErrorCode.UNKNOWN_TYPE, why)

    def close(self) -> None:
        """End the connection."""
        reactor.callFromThread(self._protocol.close)


@contextmanager
def connected(config: SlaveConfig) -> Iterator[Peer]:
    """A connection to the master of `config`; raises LinkError, ConfigError."""
    with _running():
        calling = _Calling(config)
        try:
            peer = Peer(*_wait(calling.begin))
            yield peer
        finally:
            _wait(calling.end)


class _Calling:
    """One attempt to connect; used in the reactor's thread alone."""

    def __init__(self, config: SlaveConfig) -> None:
        self._config = config
        self._security: SlaveSecurity | None = None
        self._called: Deferred[tuple[SlaveProtocol, Welcome]] = Deferred()
        self._gone: Deferred[None] = Deferred()
        self._connection: SlaveProtocol | None = None
        self._factory = SlaveFactory(
            config, reactor, _Asking(), self._welcomed, self._lost, lambda: None
        )

    def begin(self) -> Deferred[tuple[SlaveProtocol, Welcome]]:
        """Connect."""
        config, factory = self._config, self._factory
        if rules.uses_tls(config):
            self._security = SlaveSecurity(config, factory, reactor, self._lost)
            self._security.start()
        target = self._security.factory if self._security else factory
        reactor.connectTCP(config.master_host, config.port, target, timeout=config.deadline_connect)
        return self._called

    def end(self) -> Deferred[None]:
        """Disconnect."""
        self._factory.stop()
        if self._security is not None:
            self._security.stop()
        if self._connection is None and not self._gone.called:
            self._gone.callback(None)
        if not self._gone.called:
            late = reactor.callLater(_CLOSE_SECONDS, self._abort)
            self._gone.addCallback(lambda _: late.cancel() if late.active() else None)
        return self._gone

    def _abort(self) -> None:
        """The other side does not let go."""
        if self._connection is not None:
            self._connection.transport.abortConnection()

    def _welcomed(self, protocol: Any, welcome: Any) -> None:
        self._connection = protocol
        if not isinstance(welcome, Welcome):
            protocol.fail(ProtocolError("this master does not speak the native dialect"))
        elif not self._called.called:
            self._called.callback((protocol, welcome))

    def _lost(self, protocol: Any, error: LinkError) -> None:
        self._factory.stopTrying()  # type: ignore[no-untyped-call]
        if not self._called.called:
            self._called.errback(Failure(error))
        if protocol is self._connection and not self._gone.called:
            self._gone.callback(None)


def _cut(ids: Sequence[SegmentId]) -> list[Sequence[SegmentId]]:
    """`ids` in rows that one request may ask for."""
    return [ids[first : first + MAX_IDS] for first in range(0, len(ids), MAX_IDS)]


def _first(failure: Failure) -> Failure:
    """What failed first, out of what tells which it was."""
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


def _wait(function: Callable[[], Any]) -> Any:
    """Call `function` in the reactor's thread; what its Deferred gives, or raises."""
    return blockingCallFromThread(reactor, function)


@contextmanager
def _running() -> Iterator[None]:
    """The reactor runs, in a thread of its own unless it does already."""
    if reactor.running:
        yield
        return
    started = threading.Event()
    reactor.callWhenRunning(started.set)
    thread = threading.Thread(
        target=reactor.run, args=(False,), name="tarfailover-link", daemon=True
    )
    thread.start()
    started.wait()
    try:
        yield
    finally:
        reactor.callFromThread(reactor.stop)
        thread.join(_STOP_SECONDS)


_CLOSE_SECONDS = 2.0
"""For the other side to let go of the connection in good order."""
_STOP_SECONDS = 5.0
"""For the reactor to end; it is a daemon's thread, so that nothing hangs."""
