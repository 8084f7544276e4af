"""A relay between a slave and its master that fails in the ways in which networks fail.

Each connection goes by a `Plan`: a fault for either direction that strikes after an exact
number of bytes, a rate, a delay. A test knows by `struck` that a fault has come about, so
that it never has to guess when something is in the middle.
"""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from services import until
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

HOST = "127.0.0.1"
STRIKE_SECONDS = 20.0
"""Until a fault strikes that is waited for."""
END_SECONDS = 5.0
"""Until all connections are gone at the end."""
HELD_BUFFER = 32 * 1024
"""The kernel's receive buffer for what is held."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fault(NamedTuple):
    """What happens to one direction of a connection after `after` bytes.

    close: both ends are closed in good order; reset: both get a reset; hold: nothing
    more passes, nor is it read, until `Proxy.release`; swallow: all that follows is read
    and thrown away, as by a firewall that has forgotten the connection.
    """

    after: int
    does: Literal["close", "reset", "hold", "swallow"]


class Plan(NamedTuple):
    """How one connection fares; `up` is from the slave to the master."""

    up: Fault | None = None
    down: Fault | None = None
    rate: float = 0
    """Bytes a second in each direction, 0 for no limit."""
    delay: float = 0
    """Seconds that each byte takes, in each direction."""


def blackhole(after: int) -> Plan:
    """Everything vanishes, in both directions, once `after` bytes have come down."""
    return Plan(down=Fault(after, "swallow"))


class Proxy:
    """Relays to a port of 127.0.0.1: the first connections by `plans`, all others well."""

    def __init__(self, target: int, plans: Iterable[Plan] = ()) -> None:
        self.target = target
        self.plans = deque(plans)
        self.struck = 0
        """Faults that came about."""
        self.accepted = 0
        """Connections that were made."""
        self.up = 0
        """Bytes passed on to the master."""
        self.down = 0
        """Bytes passed on to the slave."""
        self.pairs: set[Pair] = set()
        self._port: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        number: int = self._port.getHost().port
        return number

    async def strikes(self, count: int = 1) -> None:
        """Wait until `count` faults have come about."""
        await until(lambda: self.struck >= count, f"fault {count} of the link", STRIKE_SECONDS)

    def release(self) -> None:
        """Let what is held pass."""
        for pair in list(self.pairs):
            for flow in (pair.up, pair.down):
                flow.release()

    def cut(self) -> None:
        """Reset every connection."""
        for pair in list(self.pairs):
            pair.reset()

    async def __aenter__(self) -> Proxy:
        factory = Factory.forProtocol(Side)
        factory.noisy = False
        factory.proxy = self  # type: ignore[attr-defined]
        self._port = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(factory)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._port.stopListening()
        self.cut()
        await until(lambda: not self.pairs, "the end of all relayed connections", END_SECONDS)


class Pair:
    """Both ends of one relayed connection."""

    def __init__(self, proxy: Proxy, near: Side, plan: Plan) -> None:
        self.proxy = proxy
        self.near = near
        self.far: Side | None = None
        self.connecting = True
        self.lost = False
        self.up = Flow(self, "up", plan.up, plan)
        self.down = Flow(self, "down", plan.down, plan)
        proxy.pairs.add(self)

    def connect(self) -> None:
        """Reach the master for the slave that came."""
        self.near.transport.pauseProducing()
        factory = Factory.forProtocol(Side)
        factory.noisy = False
        endpoint = TCP4ClientEndpoint(reactor, HOST, self.proxy.target)
        endpoint.connect(factory).addCallbacks(self._connected, self._refused)

    def _connected(self, far: Side) -> None:
        self.connecting = False
        self.far = far
        far.pair = self
        far.flow = self.down
        self.up.join(self.near.transport, far.transport)
        self.down.join(far.transport, self.near.transport)
        if self.lost:
            self.reset()

    def _refused(self, _: Failure) -> None:
        self.connecting = False
        self.reset()
        self.gone()

    def sides(self) -> list[Side]:
        """The ends that are still connected."""
        return [s for s in (self.near, self.far) if s is not None and s.connected]

    def reset(self) -> None:
        """Reset both ends."""
        for side in self.sides():
            level, option = socket.SOL_SOCKET, socket.SO_LINGER
            side.transport.socket.setsockopt(level, option, _RESET_ON_CLOSE)
            side.transport.abortConnection()

    def close(self) -> None:
        """Close both ends once all is written that has passed."""
        for side in self.sides():
            side.transport.unregisterProducer()
            side.transport.loseConnection()

    def swallow(self) -> None:
        """Pass nothing on any more, either way."""
        self.up.swallowing = self.down.swallowing = True

    def gone(self) -> None:
        """An end was lost: the other one follows."""
        self.lost = True
        self.close()
        if not self.sides() and not self.connecting:
            self.up.stop()
            self.down.stop()
            self.proxy.pairs.discard(self)


@implementer(IPushProducer)
class Flow:
    """One direction: reads at the source as fast as the plan and the target allow."""

    def __init__(
        self, pair: Pair, name: Literal["up", "down"], fault: Fault | None, plan: Plan
    ) -> None:
        self.swallowing = False
        self._pair = pair
        self._name = name
        self._fault = fault
        self._plan = plan
        self._passed = 0
        self._held = bytearray()
        self._late: deque[bytes] = deque()
        self._stops: set[str] = set()
        self._calls: set[Any] = set()

    def join(self, source: Any, target: Any) -> None:
        """Begin."""
        self._source, self._target = source, target
        if self._fault is not None and self._fault.does == "hold":
            # Else the kernel takes in what the proxy does not, and nobody feels that it is held.
            source.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BUFFER)
        if target.connected:
            target.registerProducer(self, True)
        source.resumeProducing()
        if self._fault is not None and self._fault.after == 0:
            self._strike(b"")

    def data(self, data: bytes) -> None:
        """Bytes came from the source."""
        fault = self._fault
        if self.swallowing:
            return
        if "held" in self._stops:
            self._held += data
            return
        left = len(data) if fault is None else fault.after - self._passed
        self._pass(data[:left])
        if fault is not None and left <= len(data):
            self._strike(data[left:])

    def _pass(self, data: bytes) -> None:
        if not data:
            return
        self._passed += len(data)
        if self._plan.rate:
            self._stop("rate")
            self._later(len(data) / self._plan.rate, self._go, "rate")
        if self._plan.delay:
            self._late.append(data)
            self._later(self._plan.delay, lambda: self._write(self._late.popleft()))
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        proxy = self._pair.proxy
        setattr(proxy, self._name, getattr(proxy, self._name) + len(data))
        self._target.write(data)

    def _strike(self, rest: bytes) -> None:
        fault, self._fault = self._fault, None
        assert fault is not None
        self._pair.proxy.struck += 1
        if fault.does == "hold":
            self._held += rest
            self._stop("held")
        else:
            getattr(self._pair, fault.does)()

    def release(self) -> None:
        """Pass on what is held, and go on."""
        held, self._held = bytes(self._held), bytearray()
        self._go("held")
        self._pass(held)

    def stop(self) -> None:
        """The connection is gone."""
        for call in self._calls:
            if call.active():
                call.cancel()

    def _later(self, seconds: float, function: Any, *args: Any) -> None:
        self._calls = {call for call in self._calls if call.active()}
        self._calls.add(reactor.callLater(seconds, function, *args))

    # reading at the source, unless one of several reasons speaks against it

    def _stop(self, why: str) -> None:
        self._stops.add(why)
        self._source.pauseProducing()

    def _go(self, why: str) -> None:
        self._stops.discard(why)
        if not self._stops:
            self._source.resumeProducing()

    def pauseProducing(self) -> None:
        """The target's buffer is full."""
        self._stop("full")

    def resumeProducing(self) -> None:
        """The target's buffer is empty again."""
        self._go("full")

    def stopProducing(self) -> None:
        """The target is gone; the pair hears of it by itself."""


class Side(Protocol):
    """One end of a relayed connection."""

    transport: Any
    pair: Pair
    flow: Flow

    def connectionMade(self) -> None:
        """A slave came, or the master was reached."""
        proxy = getattr(self.factory, "proxy", None)
        if proxy is not None:
            proxy.accepted += 1
            plan = proxy.plans.popleft() if proxy.plans else Plan()
            self.pair = Pair(proxy, self, plan)
            self.flow = self.pair.up
            self.pair.connect()

    def dataReceived(self, data: bytes) -> None:
        """Bytes to pass on."""
        self.flow.data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """This end is gone."""
        self.connected = 0
        self.pair.gone()
