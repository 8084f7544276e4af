"""Oak primaries for tests without Java: one that serves segments, and one that says anything."""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from links import Rig
from sides import Lost
from stores import Sample, head_in
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import TarFailoverError
from tarfailover.ids import RecordId
from tarfailover.slave.oak.protocol import Memory, OakProtocol
from tarfailover.slave.told import Introduction, OakHead
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import (
    Asked,
    GetHead,
    GetReferences,
    GetSegment,
    LineParser,
    Request,
)
from tarfailover.wire.oak.snappy import Packer


class RawPrimary(Protocol):
    """Answers what the test answers, and keeps what the slave asks."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.clients: set[str] = set()
        self.lost: Failure | None = None
        self._lines = LineParser()
        self._packer = Packer()

    def dataReceived(self, data: bytes) -> None:
        """Keep requests."""
        for asked in self._lines.feed(data):
            assert isinstance(asked, Asked), asked
            self.clients.add(asked.client)
            self.asked(asked.request)

    def asked(self, request: Request) -> None:
        """Keep a request."""
        self.requests.append(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason

    def take(self) -> list[str]:
        """What was asked since the last time, as in the lines."""
        asked, self.requests = self.requests, []
        return [each.body for each in asked]

    def frame(self, *pieces: bytes | memoryview) -> None:
        """Send one answer."""
        self.transport.write(self._packer.pack(*pieces))

    def head(self, record: RecordId) -> None:
        """Answer a question for the head."""
        self.frame(answers.head(record))

    def segment(self, sample: Sample) -> None:
        """Answer a question for a segment."""
        self.frame(*answers.segment(sample.segment, sample.data))

    def references(self, sample: Sample) -> None:
        """Answer a question for what a segment refers to."""
        name = GetReferences(sample.segment).body.removeprefix("r.")
        self.frame(answers.references(name, sample.references))


class Served:
    """What `ServingPrimary`s serve, and what they were asked."""

    def __init__(self, samples: Iterable[Sample], head: RecordId | None) -> None:
        self.samples = {each.segment: each for each in samples}
        self.head = head
        self.blobs: dict[str, bytes] = {}
        self.chunk = 1024 * 1024
        self.silent: Callable[[Request], bool] = lambda _: False
        """To what, though it has it, it does not answer until the test says so."""
        self.asked: list[Request] = []
        self.connections = 0

    def primary(self) -> ServingPrimary:
        """The primary's end of one more connection."""
        self.connections += 1
        return ServingPrimary(self)

    def add(self, *samples: Sample) -> None:
        """More segments, of which the last has the new head."""
        self.samples.update((each.segment, each) for each in samples)
        self.head = RecordId(samples[-1].segment, 5)

    def taken(self, kind: type[Request]) -> list[bytes]:
        """The segments that questions of `kind` named since the last time."""
        found = [each.segment for each in self.asked if isinstance(each, kind)]  # type: ignore[union-attr]
        self.asked = [each for each in self.asked if not isinstance(each, kind)]
        return found


def serving(rig: Rig, samples: Iterable[Sample]) -> Served:
    """What whoever connects is served from now on: `samples`, with the head in the last."""
    every = list(samples)
    served = Served(every, head_in(every[-1].segment))
    rig.master = served.primary
    return served


class ServingPrimary(RawPrimary):
    """Does what Oak's server does, and leaves out what it does not have."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self._served = served

    def asked(self, request: Request) -> None:
        """Answer."""
        self._served.asked.append(request)
        if self._served.silent(request):
            return
        if isinstance(request, GetHead):
            if self._served.head is not None:
                self.head(self._served.head)
        elif isinstance(request, GetSegment):
            if sample := self._served.samples.get(request.segment):
                self.segment(sample)
        elif isinstance(request, GetReferences):
            if request.segment[8] >> 4 == 0xB:
                self.transport.loseConnection()
            elif sample := self._served.samples.get(request.segment):
                self.references(sample)
        elif data := self._served.blobs.get(request.blob):
            self.blob(request.blob, data)

    def blob(self, name: str, data: bytes) -> None:
        """Answer a question for a blob."""
        size = self._served.chunk
        for at in range(0, len(data), size):
            first, last = at == 0, at + size >= len(data)
            part = data[at : at + size]
            self.frame(*answers.blob_chunk(name, len(data), part, first=first, last=last))


class OakEnd:
    """A real slave's protocol facing a primary that says anything."""

    def __init__(self, rig: Rig, client: str = "slave", **settings: Any) -> None:
        self.rig = rig
        self.lost = Lost()
        self.welcomes: list[Introduction] = []
        self.failures: list[BaseException] = []
        self.results: list[Any] = []
        self.items: list[Any] = []
        config = SlaveConfig(store=Path("nowhere"), dialect="oak", **settings)
        self.protocol = OakProtocol(
            config,
            rig.clock,
            client,
            lambda _, w: self.welcomes.append(w),
            self.lost,
            Memory(lambda: 0.007),
        )
        self.primary = RawPrimary()
        self.link = rig.join(self.protocol, self.primary)
        rig.settle()

    def welcomed(self, head: RecordId) -> OakEnd:
        """After the first answer."""
        assert self.primary.take() == ["h"]
        self.primary.head(head)
        self.rig.settle()
        assert len(self.welcomes) == 1
        return self

    @staticmethod
    def nothing(head: RecordId) -> OakHead:
        """What a slave that is told nothing may take for an answer."""
        return OakHead(head, 7, known=True)

    def asked(self, done: Any) -> list[str]:
        """Keep what becomes of a request; what the primary is asked."""
        done.addCallbacks(self.results.append, lambda f: self.failures.append(f.value))
        self.rig.settle()
        return self.primary.take()

    def error(self) -> TarFailoverError:
        """Why the connection ended, which it must have, with no request left and no call."""
        self.rig.settle()
        (error,) = self.lost
        assert not self.link.alive
        assert not self.rig.delayed
        assert all(failure is error for failure in self.failures)
        return error
