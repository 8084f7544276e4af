"""Two protocols joined in memory: a connection whose every byte the test moves, holds or cuts.

What is faked is not ours: the kernel's sockets, the reactor and its threads. `End` keeps to
what Twisted's TCP transport does, flow control and both ways to close included, which iosim's
transport does not. Nothing happens by itself: `Rig.settle` moves what can be moved, `Rig.pass_time`
lets the clock run. So a test says when a disk is slow, and at which byte a link breaks.
"""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    NotConnectingError,
    UserError,
)
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tarfailover.workers import Job

BUFFER = 64 * 1024
"""Bytes written and not taken by the kernel at which Twisted pauses a streaming producer."""
KERNEL = 256 * 1024
"""Bytes that the two kernels hold for one direction."""
READ = 64 * 1024
"""Bytes that Twisted reads at a time."""
TURNS = 100_000
"""Turns in which everything must have come to rest."""


class Work:
    """The threads of one side: what was given is done in order, when the test lets it."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.held = False
        """Whether the thread hangs in what it is at."""
        self.done = 0
        self._seconds = seconds
        self._longest: Job | None = None
        self._jobs: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...], Any]] = deque()
        self._stopping: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def run(self, function: Callable[..., Any], *args: Any, **named: Any) -> Deferred[Any]:
        """As `Workers.run`."""
        done: Deferred[Any] = Deferred()
        self._jobs.append((done, function, args, named))
        return done

    aside = run

    def start(self) -> None:
        """As `Workers.start`."""

    def longest(self) -> Job | None:
        """As `Workers.longest`: what the thread is at, which takes time only if it is held."""
        if not self._jobs:
            return None
        if self._longest is None:
            self._longest = Job(self._jobs[0][1].__name__.strip("_"), self._seconds())
        return self._longest

    def stop(self, seconds: float) -> Deferred[None]:
        """As `Workers.stop`, without the deadline."""
        del seconds
        if not self._jobs:
            return succeed(None)
        self._stopping = Deferred()
        return self._stopping

    def turn(self) -> bool:
        """Do the next piece of work; tells whether there was any."""
        if self.held or not self._jobs:
            return False
        done, function, args, named = self._jobs.popleft()
        self.done += 1
        self._longest = None
        try:
            result = function(*args, **named)
        except Exception:  # noqa: BLE001 - handed over, as by a thread pool
            done.errback(Failure())
        else:
            done.callback(result)
        if self._stopping is not None and not self._jobs:
            stopping, self._stopping = self._stopping, None
            stopping.callback(None)
        return True


class Handle:
    """A socket as far as it tells what the other end has taken."""

    def __init__(self, end: End) -> None:
        self._end = end

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """A ``struct tcp_info`` with the bytes that came out at the other end."""
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return struct.pack("=120xQ", self._end.delivered).ljust(size, b"\0")


@implementer(ITransport, IConsumer)
class End:
    """One end of a connection, as Twisted's TCP transport shows it to a protocol."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.protocol: Any = None
        self.other: End
        self.pending = bytearray()
        """Written here and not yet taken by the kernel."""
        self.wire = bytearray()
        """In the kernels, on the way to the other end."""
        self.most_pending = 0
        self.written = 0
        self.delivered = 0
        """Bytes that came out at the other end."""
        self.reading = True
        self.held = False
        """Whether the test keeps what is on the wire."""
        self.connected = True
        self.disconnecting = False
        self.aborting = False
        self.alter: Callable[[int, bytes], bytes] | None = None
        """Changes bytes on the wire, given the offset of the first."""
        self.lost: Callable[[Failure], None] = lambda _: None
        self._finished = False
        self._producer: Any = None
        self._streaming = False
        self._paused = False

    # what a protocol calls

    def write(self, data: bytes) -> None:
        """Write; never blocks. Nor does Twisted's transport take anything but bytes."""
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if not self.connected or self.aborting:
            return
        self.pending += data
        self.written += len(data)
        self.most_pending = max(self.most_pending, len(self.pending))
        if self._producer and self._streaming and len(self.pending) > BUFFER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        """Write the pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once all is written."""
        self.disconnecting = True
        self.reading = False

    def abortConnection(self) -> None:
        """Close now, and throw away what was not delivered."""
        if self.connected:
            self.aborting = True
            self.pending.clear()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As a FileDescriptor."""
        assert self._producer is None, f"{self.name}: a second producer"
        self._producer, self._streaming, self._paused = producer, streaming, False
        if not self.connected:
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """As a FileDescriptor."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Read no more."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting:
            self.reading = True

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def getHandle(self) -> Handle:
        """What the kernel tells of the connection."""
        return Handle(self)

    def getPeer(self) -> str:
        """Where the other end is."""
        return self.other.name

    def getHost(self) -> str:
        """Where this end is."""
        return self.name

    # what the rig calls

    def turn(self) -> bool:
        """Move some bytes of this end's; tells whether anything happened."""
        if not self.connected:
            return self._drain()
        if self.aborting:
            self.wire.clear()
            self.close(ConnectionAborted())
            self.other.close(ConnectionLost())
            return True
        took = self._take()
        return self._move() or took

    def _take(self) -> bool:
        """The kernel takes what it has room for."""
        room = KERNEL - len(self.wire)
        chunk = self.pending[:room]
        del self.pending[: len(chunk)]
        self.wire += chunk
        if self.pending:
            return bool(chunk)
        if self.disconnecting and not (self._producer and not self._streaming):
            self._finished = True
            self.close(ConnectionDone())
            return True
        if self._producer and (self._paused if self._streaming else chunk):
            self._paused = False
            self._producer.resumeProducing()
            return True
        return bool(chunk)

    def _drain(self) -> bool:
        """This end is closed: the other reads what is left, and then its end."""
        if not self.other.connected:
            self.wire.clear()
            return False
        if self.wire:
            return self._move()
        if self._finished and self.other.reading:
            self.other.close(ConnectionDone())
            return True
        return False

    def _move(self) -> bool:
        return not self.held and self._deliver(READ)

    def _deliver(self, limit: int) -> bool:
        if not self.other.reading or not self.other.connected or not self.wire:
            return False
        chunk = bytes(self.wire[:limit])
        del self.wire[: len(chunk)]
        if self.alter is not None:
            chunk = self.alter(self.delivered, chunk)
        self.delivered += len(chunk)
        self.other.protocol.dataReceived(chunk)
        return True

    def deliver(self, size: int) -> None:
        """Deliver exactly `size` bytes, or all that there are, and nothing more."""
        self._take()
        while size > 0 and self.wire:
            before = self.delivered
            if not self._deliver(min(size, READ)):
                break
            size -= self.delivered - before

    def close(self, why: Exception) -> None:
        """This end's protocol hears that the connection is gone."""
        if not self.connected:
            return
        self.connected = False
        self.pending.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        reason = Failure(why)
        self.protocol.connectionLost(reason)
        self.lost(reason)


class Link:
    """A connection: what the slave's end writes comes to the master's end, and back."""

    def __init__(self, slave: Any, master: Any) -> None:
        self.slave, self.master = End("slave"), End("master")
        self.slave.other, self.master.other = self.master, self.slave
        self.slave.protocol, self.master.protocol = slave, master
        self.cut_after: int | None = None
        """Bytes, of both directions together, after which the connection breaks."""

    def open(self) -> None:
        """Tell both protocols that they are connected."""
        self.master.protocol.makeConnection(self.master)
        self.slave.protocol.makeConnection(self.slave)

    @property
    def delivered(self) -> int:
        """Bytes that came out, of both directions."""
        return self.slave.delivered + self.master.delivered

    @property
    def alive(self) -> bool:
        """Whether an end is still connected."""
        return self.slave.connected or self.master.connected

    def cut(self) -> None:
        """Both ends learn that the connection broke; what was under way is gone."""
        self.slave.wire.clear()
        self.master.wire.clear()
        self.slave.close(ConnectionLost())
        self.master.close(ConnectionLost())

    def turn(self) -> bool:
        """Move some bytes each way."""
        if self.cut_after is None:
            moved = self.slave.turn()
            return self.master.turn() or moved
        moved = False
        for end in (self.slave, self.master):
            left = self.cut_after - self.delivered
            if self.alive and left <= 0:
                self.cut()
                return True
            if end.connected and not end.aborting and len(end.wire) + len(end.pending) >= left:
                end.deliver(left)
                moved = True
            else:
                moved = end.turn() or moved
        return moved


class Connector:
    """As Twisted's TCP connector; the rig decides what comes of an attempt."""

    def __init__(self, rig: Rig, factory: Any, timeout: float) -> None:
        self.state = "disconnected"
        self.transport: Any = None
        self._rig = rig
        self._factory = factory
        self.timeout = timeout
        self._late: Any = None

    def connect(self) -> None:
        """Try to connect."""
        assert self.state == "disconnected"
        self.state = "connecting"
        self._rig.attempts.append(self._rig.clock.seconds())
        self._late = self._rig.clock.callLater(
            self.timeout, self._failed, ConnectError(string="timed out")
        )
        self._factory.startedConnecting(self)
        self._rig.attempted(self)

    def stopConnecting(self) -> None:
        """Give the attempt up."""
        if self.state != "connecting":
            raise NotConnectingError
        self._failed(UserError())

    def disconnect(self) -> None:
        """End the attempt or the connection."""
        if self.state == "connecting":
            self.stopConnecting()
        elif self.state == "connected":
            self.transport.loseConnection()

    def _stop_waiting(self) -> None:
        if self._late.active():
            self._late.cancel()

    def refused(self) -> None:
        """Nobody listens."""
        self._failed(ConnectError(string="refused"))

    def _failed(self, error: Exception) -> None:
        if self.state != "connecting":
            return
        self._stop_waiting()
        self.state = "disconnected"
        self._factory.clientConnectionFailed(self, Failure(error))

    def accepted(self, master: Any) -> Link:
        """A protocol on the other side takes the connection."""
        self._stop_waiting()
        self.state = "connected"
        slave = self._factory.buildProtocol(None)
        link = Link(slave, master)
        self.transport = link.slave
        link.slave.lost = self._lost
        return link

    def _lost(self, reason: Failure) -> None:
        self.state = "disconnected"
        self._factory.clientConnectionLost(self, reason)


class Port:
    """As Twisted's listening port."""

    def __init__(self, rig: Rig, factory: Any, port: int, interface: str) -> None:
        self._rig = rig
        self._factory = factory
        self._address = IPv4Address("TCP", interface or "0.0.0.0", port)

    def getHost(self) -> IPv4Address:
        """Where it listens."""
        return self._address

    def stopListening(self) -> Deferred[None]:
        """Listen no more."""
        self._rig.master = None
        self._factory.doStop()
        return succeed(None)


class Rig:
    """A clock, threads and connections, and a reactor's face for what connects over them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.works: list[Work] = []
        self.links: list[Link] = []
        self.attempts: list[float] = []
        """When somebody tried to connect."""
        self.master: Callable[[], Any] | None = None
        """Makes the master's end of a connection; None refuses it."""
        self.answers = True
        """Whether an attempt to connect is answered at all."""
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds

    def work(self) -> Work:
        """The threads of one more side."""
        work = Work(self.clock.seconds)
        self.works.append(work)
        return work

    def join(self, slave: Any, master: Any) -> Link:
        """Connect two protocols."""
        link = Link(slave, master)
        self.links.append(link)
        link.open()
        return link

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        """As the reactor's: whoever connects from now on reaches `factory`."""
        del backlog
        factory.doStart()
        self.master = lambda: factory.buildProtocol(None)
        return Port(self, factory, port, interface)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """As the reactor's, with no thread."""
        self.clock.callLater(0, function, *args)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> Connector:
        """As the reactor's."""
        del host, port
        connector = Connector(self, factory, timeout)
        connector.connect()
        return connector

    def attempted(self, connector: Connector) -> None:
        """Answer an attempt, a turn later."""
        if self.answers:
            self.clock.callLater(0, self._answer, connector)

    def _answer(self, connector: Connector) -> None:
        if connector.state != "connecting":
            return
        if self.master is None:
            connector.refused()
            return
        link = connector.accepted(self.master())
        self.links.append(link)
        link.open()

    @property
    def link(self) -> Link:
        """The newest connection."""
        return self.links[-1]

    def turn(self) -> bool:
        """Let everybody do one thing."""
        due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.seconds()]
        self.clock.advance(0)
        moved = bool(due)
        for part in [*self.links, *self.works]:
            moved = part.turn() or moved
        return moved

    def settle(self) -> None:
        """Go on until nothing moves any more."""
        for _ in range(TURNS):
            if not self.turn():
                return
        raise AssertionError(f"still moving after {TURNS} turns")

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Go on until `reached`, with no time passing."""
        while not reached():
            assert self.turn(), f"comes to rest before {what}"

    def pass_time(self, seconds: float, step: float = 0.1) -> None:
        """Let `seconds` pass in small steps, and everything happen that happens meanwhile."""
        end = self.seconds() + seconds
        self.settle()
        while self.seconds() < end - 1e-9:
            self.clock.advance(min(step, end - self.seconds()))
            self.settle()

    @property
    def delayed(self) -> list[str]:
        """What waits for a time to come."""
        return [str(call) for call in self.clock.getDelayedCalls()]
