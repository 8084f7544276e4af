"""The two sides of the native dialect for tests: real protocols, and peers that say anything."""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from links import Link, Rig
from stores import QuickDisk, Sample, bulk, leaf, make_store
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import TarFailoverError
from tarfailover.master.doorway import Doorway
from tarfailover.master.factory import MasterFactory
from tarfailover.master.service import MasterService
from tarfailover.slave import status
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.service import SlaveService
from tarfailover.store.follower import Follower
from tarfailover.wire import messages as m

HELLO = m.Hello("slave")
TAR = "data00000a.tar"
NEXT_TAR = "data00001a.tar"


def chain(count: int, size: int = 40, first: int = 0) -> list[Sample]:
    """Data segments, each referring to the one before it."""
    made: list[Sample] = []
    for number in range(first, first + count):
        made.append(leaf(number, [made[-1].segment] if made else [], size))
    return made


def large(count: int, size: int = 200_000) -> list[Sample]:
    """`count` bulk segments, and a data segment that refers to all of them."""
    bulks = [bulk(number, size) for number in range(count)]
    return [*bulks, leaf(1_000_000, [each.segment for each in bulks])]


def store_of(directory: Path, samples: list[Sample]) -> Path:
    """A store of one tar, whose head is in the last of `samples`."""
    return make_store(directory, {TAR: samples}, [samples[-1].segment])


class RawSlave(Int32StringReceiver):
    """Says what the test says, and keeps what the master answers."""

    MAX_LENGTH = m.MAX_ANSWER_FRAME

    def __init__(self) -> None:
        self.answers: list[tuple[int, m.Answer]] = []
        self.received = 0
        self.lost: Failure | None = None
        self.number = 0

    def ask(self, message: m.Request) -> int:
        """Send a request; returns its number."""
        self.number += 1
        self.sendString(m.encode(self.number, message))
        return self.number

    def dataReceived(self, data: bytes) -> None:
        """Count, and take frames."""
        self.received += len(data)
        super().dataReceived(data)

    def stringReceived(self, string: bytes) -> None:
        """Keep an answer."""
        self.answers.append(m.decode_answer(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason

    def take(self) -> list[m.Answer]:
        """What was answered since the last time."""
        answers, self.answers = self.answers, []
        return [answer for _, answer in answers]

    def error(self) -> m.Error:
        """The one answer, which is an error."""
        (answer,) = self.take()
        assert isinstance(answer, m.Error)
        return answer


class RawMaster(Int32StringReceiver):
    """Answers what the test answers, and keeps what the slave asks."""

    MAX_LENGTH = m.MAX_REQUEST_FRAME

    def __init__(self) -> None:
        self.requests: list[tuple[int, m.Request]] = []
        self.lost: Failure | None = None

    def stringReceived(self, string: bytes) -> None:
        """Keep a request."""
        self.requests.append(m.decode_request(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason

    def take(self) -> tuple[int, m.Request]:
        """The oldest request that was not taken."""
        return self.requests.pop(0)

    def answer(self, number: int, *answers: m.Answer) -> None:
        """Answer request `number`."""
        for answer in answers:
            self.sendString(m.encode(number, answer))

    def welcome(self, **changed: Any) -> None:
        """Answer the HELLO."""
        number, hello = self.take()
        assert isinstance(hello, m.Hello)
        welcome = m.Welcome(1, (), "", 0, "a master")
        self.answer(number, dataclasses.replace(welcome, **changed))


class MasterSide:
    """A master's factory over a store, on the rig's clock and threads."""

    def __init__(self, rig: Rig, store: Path, **settings: Any) -> None:
        self.rig = rig
        self.work = rig.work()
        self.follower = Follower.open(store)
        config = MasterConfig(store=store, **settings)
        self.factory = MasterFactory(config, self.follower, rig.clock, self.work.run)

    def protocol(self) -> Doorway:
        """The master's end of one more connection."""
        return self.factory.buildProtocol(None)

    def connect(self) -> tuple[RawSlave, Link]:
        """A client that has said nothing yet."""
        slave = RawSlave()
        link = self.rig.join(slave, self.protocol())
        self.rig.settle()
        return slave, link

    def welcome(self) -> tuple[RawSlave, Link]:
        """A client that was welcomed."""
        slave, link = self.connect()
        slave.ask(HELLO)
        self.rig.settle()
        (answer,) = slave.take()
        assert isinstance(answer, m.Welcome)
        return slave, link

    def refresh(self) -> None:
        """Look at the directory."""
        self.factory.refresh()
        self.rig.settle()

    @property
    def holders(self) -> int:
        """How often the current snapshot's files are held."""
        return self.factory.snapshot.tars._holders

    def close(self) -> None:
        """Let go of the store; the clients must be gone."""
        for link in self.rig.links:
            link.cut()
        self.rig.settle()
        self.factory.snapshot.release()
        self.follower.close()
        assert not self.rig.delayed


class MasterProgram:
    """A whole master, its service included, on the rig's clock, threads and network."""

    def __init__(self, rig: Rig, store: Path, **settings: Any) -> None:
        self.rig = rig
        self.work = rig.work()
        self.fatal: list[TarFailoverError] = []
        config = MasterConfig(store=store, **settings)
        self.service = MasterService(config, rig, self.fatal.append)
        self.service._workers = self.work  # type: ignore[assignment]
        self.service._in_thread = self.work.run
        self.stopped: list[object] = []

    def start(self) -> MasterProgram:
        """Start it, and let it do what it can without any time passing."""
        self.service.startService()
        self.rig.settle()
        return self

    def stop(self) -> None:
        """Stop it; without any time passing, if its clients go."""
        self.service.stopService().addBoth(self.stopped.append)
        self.rig.settle()
        assert self.stopped, "it did not stop"


class Lost(list[TarFailoverError]):
    """The reasons for which connections of a slave ended."""

    def __call__(self, _: object, error: TarFailoverError) -> None:
        """Keep one."""
        self.append(error)


class SlaveEnd:
    """A real slave's protocol facing a master that says anything."""

    def __init__(self, rig: Rig, hello: m.Hello = HELLO, **settings: Any) -> None:
        self.rig = rig
        self.lost = Lost()
        self.welcomes: list[m.Welcome] = []
        self.failures: list[BaseException] = []
        self.results: list[object] = []
        self.items: list[Any] = []
        config = SlaveConfig(store=Path("nowhere"), **settings)
        self.protocol = SlaveProtocol(
            config, rig.clock, hello, lambda _, w: self.welcomes.append(w), self.lost
        )
        self.master = RawMaster()
        self.link = rig.join(self.protocol, self.master)
        rig.settle()

    def welcomed(self) -> SlaveEnd:
        """After the introductions."""
        self.master.welcome()
        self.rig.settle()
        return self

    def asked(self, done: Any) -> None:
        """Keep what becomes of a request."""
        done.addCallbacks(self.results.append, lambda f: self.failures.append(f.value))

    def head(self, wait: float = 0.0) -> int:
        """Ask for the head; the request's number."""
        self.asked(self.protocol.head(None, wait))
        return self._number(m.Head)

    def list(self) -> int:
        """Ask for a list; the request's number."""
        self.asked(self.protocol.list(bytes(16), b"", self.items.append))
        return self._number(m.List)

    def get(self, *ids: bytes) -> int:
        """Ask for segments; the request's number."""
        self.asked(self.protocol.get(ids, self.items.append))
        return self._number(m.Get)

    def blob(self, offset: int, most: int, blob: str = "b" * 64) -> int:
        """Ask for a slice of a binary; the request's number."""
        self.asked(self.protocol.blob(blob, offset, most, self.items.append))
        return self._number(m.Blob)

    def _number(self, kind: type) -> int:
        self.rig.settle()
        number, message = self.master.take()
        assert isinstance(message, kind)
        return number

    def error(self) -> TarFailoverError:
        """Why the connection ended, which it must have, with no request left and no call."""
        self.rig.settle()
        (error,) = self.lost
        assert not self.link.alive
        assert not self.rig.delayed
        assert all(failure is error for failure in self.failures)
        return error


class SlaveSide:
    """A slave's service on the rig's clock, threads and network."""

    def __init__(self, rig: Rig, store: Path, **settings: Any) -> None:
        self.rig = rig
        self.work = rig.work()
        self.fatal: list[TarFailoverError] = []
        self.history: list[str] = []
        config = SlaveConfig(store=store, **{"scrub_rate": 0, **settings})
        self.service = SlaveService(config, rig, self.fatal.append)
        self.service._workers = self.work  # type: ignore[assignment]
        self.service._in_thread = self.work.run
        self.service.scrubbing._in_thread = self.work.aside
        self.service._keeper.disk = QuickDisk()
        self.service._factory.jitter = None
        self.service._again.pauses._chance = lambda seconds: seconds
        self.service.status.watchers.append(self._moved)
        self.stopped: list[object] = []

    def _moved(self) -> None:
        self.history.append(self.service.status.state)

    def start(self) -> SlaveSide:
        """Start it, and let it do what it can without any time passing."""
        self.service.startService()
        self.rig.settle()
        return self

    def stop(self) -> None:
        """Stop it; it must be stopped without any time passing, and leave nothing."""
        self.begin_to_stop()
        self.rig.settle()
        assert self.stopped, "it did not stop"
        assert self.service.copy is None

    def begin_to_stop(self) -> None:
        """Tell it to stop."""
        self.service.stopService().addBoth(self.stopped.append)

    @property
    def state(self) -> str:
        """Its state."""
        return self.service.status.state

    @property
    def head(self) -> object:
        """The head of its copy."""
        assert self.service.copy is not None
        return self.service.copy.head

    def held(self, samples: Iterable[Sample]) -> dict[bytes, bytes]:
        """Those of `samples` that its store has, with the bytes that it has under their ids."""
        assert self.service.copy is not None
        writer = self.service.copy.writer
        there = (each.segment for each in samples if writer.contains(each.segment))
        return {segment: writer.read(segment) for segment in there}


STATES = {
    status.CONNECTING,
    status.SYNCING,
    status.IN_SYNC,
    status.STALLED,
    status.REFUSED,
    status.DIVERGED,
    status.FAILED,
}


def in_trouble(slave: SlaveSide, state: str, why: str) -> None:
    """It said `state` because of `why`, tries again with growing pauses, and stays as it is."""
    rig, told = slave.rig, slave.service.status
    assert (told.state, why in told.why) == (state, True), (told.state, told.why)
    assert told.failures == 1, "one trouble is counted once"
    before, failures = rig.seconds(), told.failures
    rig.pass_time(0.4, step=0.1)
    assert told.failures == failures, "tried again without a pause"
    rig.pass_time(30, step=0.1)
    assert 2 < told.failures - failures < 12 + (rig.seconds() - before) / 4
    assert set(slave.history) <= STATES


def served(rig: Rig, store: Path, **settings: Any) -> MasterSide:
    """A master that whoever connects reaches."""
    side = MasterSide(rig, store, **settings)
    rig.master = side.protocol
    return side


def raw_masters(rig: Rig, made: Callable[[], RawMaster] = RawMaster) -> list[RawMaster]:
    """Masters that say what the test says: the list grows with each connection."""
    found: list[RawMaster] = []

    def one() -> RawMaster:
        found.append(made())
        return found[-1]

    rig.master = one
    return found
