"""A peer in Oak's dialect that says what a test says, and keeps what the master answers."""

# ruff: noqa: N802 -- the names are those of Twisted's interfaces
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from links import Link
from oak_samples import whole
from sides import MasterSide
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tarfailover.errors import ProtocolError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.wire.oak import requests
from tarfailover.wire.oak.frames import AnswerParser, AnyAnswer, HeadAnswer
from tarfailover.wire.oak.requests import GetHead, GetReferences, GetSegment, Request
from tarfailover.wire.oak.snappy import Unpacker


class RawStandby(Protocol):
    """Asks in lines, and unpacks what comes."""

    transport: Any

    def __init__(self, name: str = "raw") -> None:
        self.name = name
        self.raw = bytearray()
        """All bytes that came."""
        self.plain = bytearray()
        """The same without Snappy."""
        self.parses = True
        self.answers: list[AnyAnswer] = []
        self.lost: Failure | None = None
        self.broken: ProtocolError | None = None
        self._unpacker = Unpacker()
        self._parser = AnswerParser()

    def ask(self, *asked: Request) -> None:
        """Send requests, in one breath."""
        self.transport.write(b"".join(requests.line(self.name, each) for each in asked))

    def say(self, body: str) -> None:
        """Send a line with any body."""
        self.transport.write(f"Standby-CMD@{self.name}:{body}\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        """Keep the answers."""
        self.raw += data
        try:
            self._unpack(data)
        except ProtocolError as error:
            # As Oak: what follows is not understood either. Nothing of it is an answer.
            self.broken = error

    def _unpack(self, data: bytes) -> None:
        for piece in self._unpacker.feed(data):
            self.plain += piece
            if self.parses:
                self.answers += self._parser.feed(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost = reason

    def take(self) -> list[object]:
        """What was answered since the last time, blobs' chunks and segments with their bytes."""
        answers, self.answers = self.answers, []
        return whole(answers)

    def head(self) -> RecordId:
        """The one answer, which is a head."""
        (answer,) = self.take()
        assert isinstance(answer, HeadAnswer)
        return answer.record


def standby(master: MasterSide, name: str = "raw") -> tuple[RawStandby, Link]:
    """A standby that has said nothing yet."""
    made = RawStandby(name)
    link = master.rig.join(made, master.protocol())
    master.rig.settle()
    return made, link


def asking(ids: Iterable[SegmentId]) -> list[Request]:
    """Questions for the references and the bytes of each of `ids`, and for the head behind them."""
    found: list[Request] = []
    for each in ids:
        found += [GetReferences(each), GetSegment(each)]
    return [*found, GetHead()]
