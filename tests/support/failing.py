"""A TCP proxy that fails, once, at an exact byte of a conversation, in one of many ways.

It is made of Twisted protocols alone: between sockets of loopback it runs as well as in
memory, on `links.Rig` and its clock. A `Strike` says what happens, and where: in which
direction, in which phase of the conversation, after how many bytes of that phase.
"""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from conversation import Frames, Marks
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

CUT, RESET, HALF_OPEN, BLACKHOLE = "cut", "reset", "half-open", "blackhole"
DELAY, TRICKLE = "delay", "trickle"
TRUNCATE, DUPLICATE, SKIP, FLIP = "truncate", "duplicate", "skip", "flip"
ANYWHERE = "anywhere"
"""As a phase: counted from the first byte of the connection."""

UP: Literal["up"] = "up"
"""From the slave to the master."""
DOWN: Literal["down"] = "down"

DELAY_SECONDS = 5.0
"""Less than any deadline of a program's defaults."""
TICK = 0.5
TICK_BYTES = 8
TRICKLE_BYTES = 128
"""Bytes that trickle, before the rest comes as always: it takes less than any deadline."""


@dataclass(frozen=True)
class Strike:
    """One fault.

    cut, truncate: both ends are closed in good order. reset: both get a reset. half-open:
    this direction is dead from there on, closing included, as behind a firewall that has
    forgotten half a connection; blackhole: both are. delay: all that follows comes
    `DELAY_SECONDS` later. trickle: the next `TRICKLE_BYTES` come `TICK_BYTES` at a time.
    duplicate: `amount` bytes come twice. skip: `amount` bytes never come. flip: the
    bits `amount` of one byte are other ones.
    """

    does: str
    direction: str
    phase: str
    at: int = 0
    amount: int = 0


class Proxy:
    """Passes connections on to what `dial` reaches; the first to come by `strike` meets it.

    `dial` is given the protocol to connect. `encrypted` connections must be tapped, so
    that their phases are known. If the fault is `lasting`, every connection meets it, until
    `strike` is None.
    """

    def __init__(
        self,
        clock: Any,
        dial: Callable[[Side], None],
        strike: Strike | None = None,
        *,
        encrypted: bool = False,
    ) -> None:
        self.lasting = False
        self.clock = clock
        self.dial = dial
        self.strike = strike
        self.encrypted = encrypted
        self.struck_at: float | None = None
        """When it struck first, by the clock."""
        self.pairs: list[Pair] = []
        """All that ever were."""
        self.unreachable = ""
        """What happens to the next connection before any byte of it: cut or half-open."""

    def accept(self) -> Side:
        """The slave's end of one more connection."""
        pair = Pair(self)
        self.pairs.append(pair)
        return pair.near

    @property
    def open_ends(self) -> int:
        """Ends that are still connected."""
        return sum(side.alive for pair in self.pairs for side in (pair.near, pair.far))

    def cut(self) -> None:
        """End everything at once."""
        for pair in self.pairs:
            pair.reset()


class Pair:
    """The two ends of one connection that is passed on."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._struck = False
        self.near, self.far = Side(self, "near"), Side(self, "far")
        self.up = Flow(self, UP, self.near, self.far)
        self.down = Flow(self, DOWN, self.far, self.near)

    def strikes(self) -> Strike | None:
        """What is still to strike."""
        over = self._struck if self.proxy.lasting else self.proxy.struck_at is not None
        return None if over else self.proxy.strike

    def struck(self) -> None:
        """It strikes here and now."""
        self._struck = True
        if self.proxy.struck_at is None:
            self.proxy.struck_at = self.proxy.clock.seconds()

    def reset(self) -> None:
        """Reset both ends."""
        for side in (self.near, self.far):
            if side.alive:
                side.transport.abortConnection()

    def close(self) -> None:
        """Close both ends once what has passed is written."""
        for side in (self.near, self.far):
            if side.alive:
                side.transport.loseConnection()


class Side(Protocol):
    """One end: `flow` takes what comes here, `back` writes here."""

    transport: Any

    def __init__(self, pair: Pair, name: str) -> None:
        self.pair = pair
        self.name = name
        self.alive = False

    @property
    def flow(self) -> Flow:
        """Takes what comes in here."""
        return self.pair.up if self.name == "near" else self.pair.down

    @property
    def back(self) -> Flow:
        """Writes here."""
        return self.pair.down if self.name == "near" else self.pair.up

    def connectionMade(self) -> None:
        """The slave came, or the master was reached."""
        self.alive = True
        self.back.connected()
        if self.name == "near":
            self._reach()

    def _reach(self) -> None:
        proxy = self.pair.proxy
        does, proxy.unreachable = proxy.unreachable, ""
        if not does:
            proxy.dial(self.pair.far)
        elif does == CUT:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Bytes to pass on."""
        self.flow.data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """This end is gone; the other hears of it as it does of bytes."""
        self.alive = False
        self.back.target_gone()
        self.flow.ended(reset=not reason.check(ConnectionDone))


@implementer(IPushProducer)
class Flow:
    """One direction, from `source` to `target`."""

    def __init__(self, pair: Pair, name: str, source: Side, target: Side) -> None:
        self.name = name
        self.marks = Marks()
        self._frames = Frames()
        self._pair = pair
        self._source = source
        self._target = target
        self.passed = 0
        """Bytes that came from the source."""
        self._seen = 0
        self._skip = 0
        self._dead = False
        self._ended: str = ""
        self._late = bytearray()
        """What comes later than it should."""
        self._call: Any = None

    def data(self, data: bytes) -> None:
        """Bytes came from the source."""
        self.passed += len(data)
        if self._dead:
            return
        if not self._pair.proxy.encrypted:
            self.marks.add(self._frames.feed(data))
        for piece, phase in self.marks.split(data):
            self._piece(piece, phase)

    def _piece(self, piece: bytes, phase: str) -> None:
        strike = self._pair.strikes()
        mine = strike is not None and strike.direction == self.name
        if strike is None or not mine or strike.phase not in (phase, ANYWHERE):
            self._pass(piece)
            return
        at = strike.at - self._seen
        self._seen += len(piece)
        if at >= len(piece):
            self._pass(piece)
            return
        self._pass(piece[:at])
        self._strike(strike, piece[at:])

    def _strike(self, strike: Strike, rest: bytes) -> None:
        """Strike now; `rest` is at least one byte."""
        self._pair.struck()
        does = strike.does
        if does in (CUT, TRUNCATE):
            self._dead = True
            self._pair.close()
        elif does == RESET:
            self._dead = True
            self._pair.reset()
        elif does in (HALF_OPEN, BLACKHOLE):
            self._die()
            if does == BLACKHOLE:
                (self._pair.down if self.name == UP else self._pair.up)._die()
        elif does in (DELAY, TRICKLE):
            self._late += rest
            self._later(DELAY_SECONDS, 0) if does == DELAY else self._later(TICK, TRICKLE_BYTES)
        elif does == FLIP:
            self._pass(bytes([rest[0] ^ strike.amount]) + rest[1:])
        elif does == DUPLICATE:
            self._pass(rest[: strike.amount] + rest)
        else:
            assert does == SKIP
            self._skip = strike.amount
            self._pass(rest)

    def _pass(self, data: bytes) -> None:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data = data[skipped:]
        if self._dead or not data:
            return
        if self._call is not None or not self._target.alive:
            self._late += data
        else:
            self._target.transport.write(data)

    def _die(self) -> None:
        """Nothing passes any more, and nothing is acknowledged."""
        self._dead = True
        if self._source.alive:
            self._source.transport.pauseProducing()

    # what comes later

    def _later(self, seconds: float, trickling: int) -> None:
        self._call = self._pair.proxy.clock.callLater(seconds, self._go_on, trickling)

    def _go_on(self, trickling: int) -> None:
        self._call = None
        late, self._late = self._late, bytearray()
        size = TICK_BYTES if trickling > 0 else len(late)
        self._pass(bytes(late[:size]))
        if trickling > 0:
            self._late = late[size:]
            self._later(TICK, trickling - TICK_BYTES)
        elif self._ended:
            self._end()

    def connected(self) -> None:
        """The target can be written to."""
        self._target.transport.registerProducer(self, True)
        late, self._late = bytes(self._late), bytearray()
        self._pass(late)
        if self._ended:
            self._end()

    # the end

    def ended(self, *, reset: bool) -> None:
        """The source is gone."""
        self._ended = "reset" if reset else "closed"
        if self._call is None and not self._dead:
            self._end()

    def _end(self) -> None:
        if not self._target.alive:
            return
        if self._ended == "reset":
            self._target.transport.abortConnection()
        else:
            self._target.transport.unregisterProducer()
            self._target.transport.loseConnection()

    def target_gone(self) -> None:
        """Nobody takes what comes."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self._die()

    # the target's buffer is full, or has room again

    def pauseProducing(self) -> None:
        """Take no more."""
        if self._source.alive:
            self._source.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Take more."""
        if self._source.alive and not self._dead:
            self._source.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The target is gone; it tells so itself."""
