"""One cell of the fault matrix: a slave, its master, and a proxy that fails once between them.

All of it in memory and on a `Clock`, with the defaults of both programs: a deadline of 15
minutes takes no time, and is held to the second.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from conversation import END, GET, HEAD, HELLO, LIST, PART, POLL, TLS, Tapped
from copies import every_head_is_whole, heads_of, same, sound
from failing import (
    BLACKHOLE,
    CUT,
    DELAY,
    DELAY_SECONDS,
    DOWN,
    DUPLICATE,
    FLIP,
    HALF_OPEN,
    RESET,
    SKIP,
    TRICKLE,
    TRUNCATE,
    UP,
    Proxy,
    Side,
    Strike,
)
from format_samples import data_segment
from links import Connector, Rig
from sides import MasterSide, SlaveSide, store_of
from stores import RECORD, Sample, add_heads, bulk, content, data_id, head_in, leaf, tar_bytes
from tls_made import HOST, Certs
from twisted.internet.address import IPv4Address

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.format import journal as lines
from tarfailover.format import segment
from tarfailover.ids import RecordId
from tarfailover.master.security import MasterSecurity
from tarfailover.slave import status
from tarfailover.slave.security import SlaveSecurity
from tarfailover.store.state import SlaveState
from tarfailover.sync import Window

CONNECT, FIRST, MIDDLE, LAST = "connect", "first", "middle", "last"
PLAIN_LINK, TLS_LINK = "plain", "TLS"
LINKS = (PLAIN_LINK, TLS_LINK)

FAULTS = (
    CUT,
    RESET,
    HALF_OPEN,
    BLACKHOLE,
    DELAY,
    TRICKLE,
    TRUNCATE,
    DUPLICATE,
    SKIP,
    FLIP,
)
AT_CONNECT = (CUT, RESET, HALF_OPEN, BLACKHOLE, DELAY)
"""What can happen before there are bytes."""
ENDED = (CUT, RESET, TRUNCATE, HALF_OPEN, BLACKHOLE)
"""What no slave can miss."""
SLOW = (DELAY, TRICKLE)
"""What is no fault, as long as it goes on."""
CHANGED = (DUPLICATE, SKIP, FLIP)
"""What the other side may only find out later, or never need to."""
PHASES = {
    UP: (TLS, HELLO, HEAD, LIST, FIRST, MIDDLE, LAST, POLL),
    DOWN: (TLS, HELLO, HEAD, LIST, FIRST, MIDDLE, LAST, END, POLL),
}

WINDOW = 100_000
"""Bytes asked for ahead: a copy of `SAMPLES` takes several requests, one after the other."""
SLACK = 16
"""Bytes by which a handshake may be shorter another time."""
AMOUNT = 48
"""Bytes that are doubled or left out, at the most."""
AGAIN = 10.0
"""Seconds from a failure until all is well, once the link is."""
NOTICED = 1.0
"""Seconds after a deadline in which it must have had its effect."""
NAMED = (status.STALLED, status.REFUSED, status.FAILED)
"""States that a fault of the link may lead to; `diverged` would blame the stores."""

VALUE, NODE = segment.VALUE, segment.NODE
"""Types of records."""
BULKS = [bulk(number, 70_000) for number in range(5)]
CHAIN = [leaf(0)]
for _number in range(1, 40):
    CHAIN.append(leaf(_number, [CHAIN[-1].segment], 100))


def root(number: int, references: Sequence[bytes]) -> Sample:
    """A segment for heads: it has the record that they name, and that is a node."""
    values = [(VALUE, bytes([40]) + content(number, 40))] * RECORD
    data = data_segment(records=[*values, (NODE, bytes(12))], references=references)
    return Sample(data_id(number), data, tuple(references))


SAMPLES = [
    *BULKS,
    *CHAIN,
    root(1000, [CHAIN[-1].segment, *(each.segment for each in BULKS)]),
]


class Cell(NamedTuple):
    """A place in the matrix."""

    link: str
    direction: str
    phase: str
    does: str

    def __str__(self) -> str:
        return f"{self.link}-{self.direction}-{self.phase}-{self.does}"


def cells(link: str) -> list[Cell]:
    """All cells of one kind of link."""
    return [Cell(link, UP, CONNECT, does) for does in AT_CONNECT] + [
        Cell(link, direction, phase, does)
        for direction, phases in PHASES.items()
        for phase in phases
        for does in FAULTS
        if phase != TLS or link != PLAIN_LINK
    ]


class Outcome(NamedTuple):
    """What became of a cell: the state first reached after the fault, and when."""

    state: str
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state} {self.seconds:.3g}"


class Clean(NamedTuple):
    """What a conversation without a fault consists of: bytes by phase and direction."""

    sizes: dict[str, Counter[str]]

    def concrete(self, direction: str, phase: str) -> str:
        """The very frame that `phase` means."""
        kind = END if phase == END else GET if direction == UP else PART
        count = sum(name.startswith(f"{kind} ") for name in self.sizes[direction])
        places = {FIRST: 0, MIDDLE: count // 2, LAST: count - 1, END: count - 1}
        return f"{kind} {places[phase]}" if phase in places else phase

    def strike(self, cell: Cell, random: Random) -> Strike:
        """Where exactly, and what exactly."""
        phase = self.concrete(cell.direction, cell.phase)
        size = self.sizes[cell.direction][phase]
        assert size, f"nothing is said {cell.direction} in phase {cell.phase}"
        last = size - 1 - (SLACK if phase == TLS else 0)
        at = random.randint(1, last)
        if cell.does == CUT:
            at = 0
        amount = 1 << random.randrange(8) if cell.does == FLIP else random.randint(1, AMOUNT)
        return Strike(cell.does, cell.direction, phase, at, amount)


class FaultyRig(Rig):
    """A rig whose connections go through a proxy, and whose TLS is tapped and on its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy: Proxy
        self.at_connect = ""
        """What happens to the next attempt to connect."""
        self.before_connecting: Callable[[], None] = lambda: None

    def tap(self, security: MasterSecurity | SlaveSecurity, direction: str) -> None:
        """See what goes below the TLS of `security`."""
        security.factory._clock = self.clock
        make = security.contexts._connection

        def tapped(protocol: Any) -> Any:
            flow = getattr(self.proxy.pairs[-1], direction)
            return Tapped(make(protocol), flow.marks.add)

        security.contexts._connection = tapped  # type: ignore[method-assign]

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> Connector:  # noqa: N802
        """As the reactor's."""
        self.before_connecting()
        return super().connectTCP(host, port, factory, timeout)

    def attempted(self, connector: Connector) -> None:
        """Answer an attempt, unless something speaks against it."""
        does, self.at_connect = self.at_connect, ""
        if does:
            self.proxy.struck_at = self.seconds()
        if does == RESET:
            self.callLater(0, connector.refused)
        elif does == DELAY:
            self.callLater(DELAY_SECONDS, super().attempted, connector)
        elif does != BLACKHOLE:
            super().attempted(connector)
        if does in (CUT, HALF_OPEN):
            self.proxy.unreachable = does

    def advance(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until `reached`, from call to call; False if `seconds` were not enough."""
        end = self.seconds() + seconds
        self.settle()
        while not reached() and self.seconds() < end:
            times = [call.getTime() for call in self.clock.getDelayedCalls()]
            next_time = min([*times, end])
            self.clock.advance(max(next_time - self.seconds(), 1e-9))
            self.settle()
        return reached()


class World:
    """A master, a slave and a link between them that may fail."""

    def __init__(
        self, directory: Path, template: Path, certs: Certs | None, strike: Strike | None
    ) -> None:
        self.store, self.copy = directory / "master", directory / "slave"
        shutil.copytree(template, self.store)
        self.rig = FaultyRig()
        ours, theirs = _tls_settings(certs)
        self.master = MasterSide(self.rig, self.store, **ours)
        self.security: MasterSecurity | None = None
        if certs is not None:
            config = MasterConfig(store=self.store, **ours)
            self.security = MasterSecurity(config, self.master.factory, self.rig)
            self.rig.tap(self.security, DOWN)
        self.proxy = Proxy(self.rig.clock, self._dial, strike, encrypted=certs is not None)
        self.rig.proxy = self.proxy
        self.rig.master = self.proxy.accept
        self.slave = SlaveSide(self.rig, self.copy, **theirs)
        self.slave.service._window = Window(WINDOW)
        self.rig.before_connecting = self._connecting
        self.trace: list[Outcome] = []
        """Every state, when it was reached."""
        self.heads = [head_in(SAMPLES[-1].segment)]
        self.slave.service.status.watchers.append(self._moved)

    def _connecting(self) -> None:
        security = self.slave.service._security
        if security is not None:
            self.rig.tap(security, UP)

    def _moved(self) -> None:
        now = self.slave.service.status
        self.trace.append(Outcome(now.state, self.rig.seconds(), now.why))

    def _dial(self, far: Side) -> None:
        served = self.security.factory if self.security else self.master.factory
        address = IPv4Address("TCP", HOST, 40_000 + len(self.proxy.pairs))
        self.rig.join(far, served.buildProtocol(address))

    @property
    def in_sync(self) -> bool:
        """Whether the slave has the newest head, and says so."""
        copy = self.slave.service.copy
        has = copy is not None and copy.head == self.heads[-1]
        return has and self.slave.state == status.IN_SYNC

    @property
    def struck(self) -> bool:
        """Whether the fault has come about."""
        return self.proxy.struck_at is not None

    def failures(self) -> list[Outcome]:
        """The states since the fault that say that something is wrong, and when after it."""
        at = self.proxy.struck_at
        assert at is not None
        return [
            Outcome(each.state, each.seconds - at, each.why)
            for each in self.trace
            if each.seconds >= at and each.state not in WELL
        ]

    def move_head(self) -> RecordId:
        """Somebody commits to the master's store."""
        number = 2000 + len(self.heads)
        new = root(number, [self.heads[-1].segment, BULKS[0].segment])
        name = f"data{len(self.heads):05d}a.tar"
        (self.store / name).write_bytes(tar_bytes(name, [new]))
        add_heads(self.store, new.segment)
        self.heads.append(head_in(new.segment))
        self.master.refresh()
        return self.heads[-1]

    def nothing_wrong(self) -> None:
        """All that the copy has is the master's, and every head that it names is whole."""
        if not (self.copy / lines.NAME).exists():
            return
        true = lines.parse((self.store / lines.NAME).read_bytes())
        mine = lines.parse((self.copy / lines.NAME).read_bytes())
        assert set(mine) <= set(true), "a line in the journal that the master never wrote"
        every_head_is_whole(self.copy)
        state = SlaveState.load(self.copy)
        assert state is not None
        assert (state.epoch, state.repository) == (0, ""), "a lie about the master is kept"

    def objects(self) -> list[Any]:
        """What must not outlive the cell."""
        ends = [end.protocol for link in self.rig.links for end in (link.slave, link.master)]
        return [self, self.slave.service, self.master.factory, *self.proxy.pairs, *ends]

    def abandon(self) -> None:
        """Let go of everything, whatever is wrong already."""
        self.slave.begin_to_stop()
        if self.security is not None:
            self.security.stop()
        self.proxy.cut()
        self.rig.settle()
        self.master.close()

    def close(self) -> None:
        """Stop everything; whatever is left then has leaked."""
        self.slave.stop()
        if self.security is not None:
            self.security.stop()
        self.proxy.cut()
        self.rig.settle()
        assert not self.proxy.open_ends, "ends of the proxy are still open"
        assert not self.rig.delayed, self.rig.delayed
        self.master.close()
        assert not any(link.alive for link in self.rig.links), "a connection is still open"
        assert not self.slave.fatal, self.slave.fatal
        same(self.store, self.copy)
        sound(self.copy)
        assert heads_of(self.copy)[-1] == self.heads[-1]
        self.nothing_wrong()


WELL = (status.CONNECTING, status.SYNCING, status.IN_SYNC)


def _tls_settings(certs: Certs | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """For the master, and for the slave: both show certificates."""
    if certs is None:
        return {}, {}
    trusted = {"tls_ca": certs.path("good/ca.pem")}
    return {**certs.shows("good/master"), **trusted}, {**certs.shows("good/oak"), **trusted}


def template(directory: Path) -> Path:
    """The master's store, of which each cell gets a copy."""
    return store_of(directory, SAMPLES)


def clean_run(directory: Path, store: Path, certs: Certs | None) -> Clean:
    """What is said without any fault."""
    world = World(directory, store, certs, None)
    world.slave.start()
    assert world.in_sync
    (pair,) = world.proxy.pairs
    flows = {UP: pair.up.marks, DOWN: pair.down.marks}
    sizes = {direction: Counter(marks.sizes) for direction, marks in flows.items()}
    world.move_head()
    assert world.in_sync
    sizes[DOWN][POLL] = flows[DOWN].sizes[POLL]
    world.close()
    return Clean(sizes)


def deadline(cell: Cell) -> float:
    """The slave's deadline that passes at the latest, in seconds."""
    config = SlaveConfig(store=Path("nowhere"))
    if cell.does in (CUT, RESET, TRUNCATE):
        return 0.0
    answer = max(config.deadline_answer, config.deadline_idle)
    if cell.does in CHANGED and cell.phase != POLL:
        # What was changed may have been taken for another message, and the next is waited for.
        return answer
    tls = config.deadline_tls_handshake
    seconds: dict[str, float] = {
        CONNECT: tls
        if cell.does == HALF_OPEN and cell.link != PLAIN_LINK
        else config.deadline_connect,
        TLS: max(tls, config.deadline_hello),
        HELLO: config.deadline_hello,
        HEAD: config.deadline_answer,
        POLL: config.deadline_answer + config.poll_wait,
    }
    return seconds.get(cell.phase, answer)


def masters_deadline(cell: Cell) -> float:
    """The master's deadlines that pass at the latest, in seconds: then it has let go."""
    config = MasterConfig(store=Path("nowhere"))
    # TLS is closed in agreement, for which a client has as long as for the rest of an answer.
    closing = 0.0 if cell.link == PLAIN_LINK else config.deadline_slow_reader
    return _first_deadline(cell, config) + closing


def _first_deadline(cell: Cell, config: MasterConfig) -> float:
    if cell.phase in (CONNECT, TLS):
        return max(config.deadline_tls_handshake, config.deadline_hello)
    if cell.phase == HELLO and cell.direction == UP:
        return config.deadline_hello
    return config.deadline_idle_client + SlaveConfig(store=Path("nowhere")).poll_wait


def run(world: World, cell: Cell) -> Outcome:
    """Let it happen; whatever must hold is asserted. Returns the first that came of it."""
    if cell.phase == CONNECT:
        world.rig.at_connect = cell.does
    world.slave.start()
    if not world.struck:
        assert cell.phase == POLL and cell.direction == DOWN, "it did not strike"
        assert world.in_sync
        world.move_head()
    elif cell.phase == POLL:
        world.move_head()
    assert world.struck, "it did not strike"
    world.rig.advance(lambda: world.in_sync or bool(world.failures()), deadline(cell) + NOTICED)
    outcome = _outcome(world, cell)
    world.nothing_wrong()
    assert world.rig.advance(lambda: world.in_sync, AGAIN), (
        f"not mended: {world.slave.service.status}"
    )
    world.move_head()
    patience = NOTICED if world.failures() else _hidden(cell)
    assert world.rig.advance(lambda: world.in_sync, patience), "a new head is not followed"
    _judge(world, cell)
    _masters_end(world, cell)
    return outcome


def _hidden(cell: Cell) -> float:
    """Seconds until the next head, if the slave has not seen yet that something is wrong.

    What is slow may still be; what was changed behind all that was needed is found by the
    next answer, or by its deadline.
    """
    config = SlaveConfig(store=Path("nowhere"))
    more = 0.0 if cell.does in SLOW else config.poll_wait + config.deadline_answer
    return AGAIN + more


def _outcome(world: World, cell: Cell) -> Outcome:
    failures = world.failures()
    if failures:
        assert failures[0].state in NAMED, failures[0]
        return failures[0]
    late = f"neither in sync nor failed within {deadline(cell) + NOTICED:g} s"
    assert world.in_sync, f"{late}: {world.slave.service.status}"
    at = world.proxy.struck_at
    assert at is not None
    return Outcome(status.IN_SYNC, world.rig.seconds() - at)


def _judge(world: World, cell: Cell) -> None:
    failures = world.failures()
    assert all(each.state in NAMED and each.why for each in failures), failures
    if cell.does in ENDED:
        assert failures, "it was not noticed"
    if cell.does in SLOW:
        assert not failures, failures


def _masters_end(world: World, cell: Cell) -> None:
    """The master lets go of the connection that failed, too."""
    factory, at = world.master.factory, world.proxy.struck_at
    assert at is not None
    world.slave.begin_to_stop()
    left = at + masters_deadline(cell) + NOTICED - world.rig.seconds()
    gone = world.rig.advance(lambda: not factory.clients, max(left, 0))
    assert gone, f"the master holds on to {[str(each) for each in factory.clients]}"
    assert world.slave.stopped
