"""The cells of the fault matrix: where each strikes, and what must come of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

from conversation import (
    AHEAD_END,
    AHEAD_LIST,
    AHEAD_PART,
    END,
    GET,
    HEAD,
    HELLO,
    LIST,
    PART,
    POLL,
    TLS,
)
from failing import (
    BLACKHOLE,
    CUT,
    DELAY,
    DOWN,
    DUPLICATE,
    FLIP,
    HALF_OPEN,
    RESET,
    SKIP,
    TRICKLE,
    TRUNCATE,
    UP,
    Strike,
)
from worlds import (
    BLOBS_LINK,
    PLAIN_LINK,
    TLS_LINK,
    TLS_ZSTD_LINK,
    TOKEN_LINK,
    ZSTD_LINK,
    Outcome,
    Setup,
    World,
    encrypted,
)

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.slave import status

CONNECT, FIRST, MIDDLE, LAST = "connect", "first", "middle", "last"
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
UPWARDS = [(UP, phase) for phase in (HELLO, HEAD, LIST, FIRST, MIDDLE, LAST, POLL)]
FOLLOWED = (POLL, AHEAD_LIST, AHEAD_PART, AHEAD_END)
"""What is said down once the head moves."""
DOWNWARDS = [(DOWN, phase) for phase in (HELLO, HEAD, LIST, FIRST, MIDDLE, LAST, END, *FOLLOWED)]
PACKED = [(DOWN, phase) for phase in (FIRST, MIDDLE, LAST)]
LINKS = {
    PLAIN_LINK: [(UP, CONNECT), *UPWARDS, *DOWNWARDS],
    TLS_LINK: [(UP, CONNECT), (UP, TLS), *UPWARDS, (DOWN, TLS), *DOWNWARDS],
    ZSTD_LINK: PACKED,
    TLS_ZSTD_LINK: PACKED,
    TOKEN_LINK: [(UP, HELLO), (DOWN, HELLO)],
    BLOBS_LINK: [(UP, MIDDLE), (UP, LAST), *PACKED[1:], (DOWN, END)],
}
"""The kinds of links, with the phases in which what they have of their own is struck."""

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
    return [
        Cell(link, direction, phase, does)
        for direction, phase in LINKS[link]
        for does in (AT_CONNECT if phase == CONNECT else FAULTS)
    ]


class Clean(NamedTuple):
    """What a conversation without a fault consists of: bytes by phase and direction."""

    sizes: dict[str, Counter[str]]

    def concrete(self, direction: str, phase: str) -> str:
        """The very frame that `phase` means."""
        kind = END if phase == END else GET if direction == UP else PART
        count = sum(name.startswith(f"{kind} ") for name in self.sizes[direction])
        places = {FIRST: 0, MIDDLE: count // 2, LAST: count - 1, END: count - 1}
        return f"{kind} {places[phase]}" if phase in places else phase

    def bytes_of_segments(self) -> int:
        """What the segments took on the wire."""
        sizes = self.sizes[DOWN]
        return sum(sizes[phase] for phase in sizes if phase.startswith(PART))

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


def clean_run(directory: Path, setup: Setup, link: str) -> Clean:
    """What is said without any fault."""
    world = World(directory, setup, link)
    world.slave.start()
    assert world.in_sync
    (pair,) = world.proxy.pairs
    flows = {UP: pair.up.marks, DOWN: pair.down.marks}
    sizes = {direction: Counter(marks.sizes) for direction, marks in flows.items()}
    world.move_head()
    assert world.in_sync
    sizes[DOWN].update({phase: flows[DOWN].sizes[phase] for phase in FOLLOWED})
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
        CONNECT: config.deadline_connect,
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
    closing = config.deadline_slow_reader if encrypted(cell.link) else 0.0
    return _first_deadline(cell, config) + closing


def _first_deadline(cell: Cell, config: MasterConfig) -> float:
    # What the master says last in a handshake may cross the slave's HELLO: then it is a client.
    if cell.direction == UP and cell.phase in (CONNECT, TLS):
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
        assert cell.phase in FOLLOWED and cell.direction == DOWN, "it did not strike"
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
