"""An Oak standby's connection, seen from the master: the dialect of Oak's cold standby.

All answers go in the order of the requests. There is no introduction: the first request is
one. A standby that is busy with its own tree gives the connection up after a time without
any byte, so a few that mean nothing are sent to it while nothing else is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from tarfailover.errors import ProtocolError
from tarfailover.master.connection import Connection
from tarfailover.master.oaksources import OakSource, Served, Wanted
from tarfailover.master.visitors import Visitor
from tarfailover.sockets import read_at_most
from tarfailover.wire.fields import printable
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak import answers
from tarfailover.wire.oak.requests import Asked, GetHead, Ignored, LineParser
from tarfailover.wire.oak.snappy import Packer

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory

BEAT = 2.0
"""Seconds between two signs of life; Oak's read timeout is 60, and in its own tests 4."""
HEAD_WAIT = 10.0
"""Seconds for which a question for the head waits for one, as in Oak."""
MAX_READ = 64 * 1024
"""Bytes that are read at a time: some thousand of the shortest requests."""
AT_ONCE = 64
"""Requests that are answered by one source."""
MAX_NAME = 255
"""Characters of a standby's name that are kept."""


class OakConnection(Connection):
    """Answers the requests of one Oak standby."""

    dialect = "oak"

    def __init__(self, factory: MasterFactory, peer: str) -> None:
        super().__init__(factory, peer)
        self._lines = LineParser()
        self._came_whole: deque[Asked | Ignored] = deque()
        """What one read brought and is not dealt with: requests are held back."""
        self._sources: deque[OakSource] = deque()
        self._packer = Packer()
        self._visitor: Visitor | None = None
        self._beat: IDelayedCall | None = None
        self._head_wait: IDelayedCall | None = None

    def _idleness(self) -> tuple[str, float]:
        return "idle-standby", self.factory.config.deadline_idle_standby

    def _waits_for_head(self) -> bool:
        return self._head_wait is not None

    @property
    def is_news(self) -> bool:
        """Whether it was not here before: it comes back every few seconds."""
        return self._visitor is None or self._visitor.runs == 1

    def _tell_connected(self) -> None:
        if self.is_news:
            words = "{peer}: connected, an Oak standby; its next runs are on the status page alone"
            self.log.info(words, peer=self)

    def _let_go(self) -> None:
        super()._let_go()
        if self._visitor is not None:
            self._visitor.last = self.factory.clock.seconds()
            self._visitor.sent += self.sender.sent
        self._stop_calls()
        self._came_whole.clear()

    def _say_end(self, request: int, code: ErrorCode, why: str) -> None:
        del request, code, why  # no answer says it
        self._stop_calls()

    def _stop_calls(self) -> None:
        calls, self._beat, self._head_wait = (self._beat, self._head_wait), None, None
        for call in calls:
            if call is not None and call.active():
                call.cancel()

    # lines

    def _take(self, data: bytes) -> None:
        try:
            found = self._lines.feed(data)
        except ProtocolError as error:
            self._end(ErrorCode.PROTOCOL, str(error), 0)
            return
        self._came_whole += found
        self._deal()

    @property
    def _unfinished_request(self) -> bool:
        return not self._lines.between

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """See `Connection`."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """See `Connection`."""
        self._deal()
        if not self._holds and not self._ended:
            self.transport.resumeProducing()
            self.dataReceived(b"")

    def _deal(self) -> None:
        """Answer what came, until too much waits; many requests in a row together."""
        while self._came_whole and not self._holds and not self._ended:
            batch = self._batch()
            if batch:
                self._answer(batch)

    def _batch(self) -> list[Wanted]:
        """The next requests, as far as they can be answered now."""
        batch: list[Wanted] = []
        while self._came_whole and len(batch) < AT_ONCE and not self._holds:
            asked = self._came_whole.popleft()
            if isinstance(asked, Ignored):
                self._ignore(asked.why)
            elif not self._welcomed and not self._let_in(asked.client):
                return []
            elif isinstance(asked.request, GetHead):
                batch += self._head(asked, first=not batch)
            else:
                batch.append(asked.request)
        return batch

    def _ignore(self, why: str) -> None:
        self.factory.seldom.warn("line", "{peer}: {why}; ignored", peer=str(self), why=why)

    def _let_in(self, client: str) -> bool:
        name = printable(client[:MAX_NAME]) or "an Oak standby"
        if not self._introduce(name, None, 0):
            return False
        address = getattr(self.transport.getPeer(), "host", "")
        now = self.factory.clock.seconds()
        self._visitor = self.factory.visitors.comes(name, address, now)
        self._tell_connected()
        read_at_most(self.transport, MAX_READ)
        self._beat = self.factory.clock.callLater(BEAT, self._show_life)
        return True

    def _answer(self, batch: list[Wanted]) -> None:
        served = Served(self._snapshots(), self.factory.blobs)
        source = OakSource(batch, served, self._packer)
        self._sources.append(source)
        self._submit(source, sum(map(_size, batch)))

    def _resume(self) -> None:
        """The answers of a source were read; what it left out is told."""
        for why in self._sources.popleft().unanswered:
            words = "{peer}: no answer for {why}"
            self.factory.seldom.warn("unanswered", words, peer=str(self), why=why)
        super()._resume()

    # the head

    def _head(self, asked: Asked, *, first: bool) -> list[Wanted]:
        """The answer; if there is no head yet, `asked` waits for one, and all behind it."""
        head = self.factory.head
        if head is None:
            self._came_whole.appendleft(asked)
            self._idle.stop()
            self._head_wait = self.factory.clock.callLater(HEAD_WAIT, self._no_head)
            self._hold("head")
            return []
        if first and not self.sender.queued:
            # Behind other requests it only asks whether they were answered.
            self._pin()
        if self._visitor is not None:
            self._visitor.head = str(head.record)
        return [answers.head(head.record)]

    def _no_head(self) -> None:
        """It was waited for long enough: if there is none there is no answer, as from Oak."""
        if self.factory.head is None:
            self._came_whole.popleft()
            why = self.factory.not_ready()
            self.factory.seldom.warn("head", "{peer}: no answer: {why}", peer=str(self), why=why)
        self._wait_no_more()

    def head_moved(self) -> None:
        """There may be a head now."""
        if self._head_wait is not None and self.factory.head is not None:
            self._head_wait.cancel()
            self._wait_no_more()

    def _wait_no_more(self) -> None:
        self._head_wait = None
        self._idle.start()
        self._go_on("head")

    # signs of life

    def _show_life(self) -> None:
        self._beat = self.factory.clock.callLater(BEAT, self._show_life)
        if not self.sender.busy:
            self.transport.write(self._packer.padding())


def _size(wanted: Wanted) -> int:
    """Bytes that a request takes while it waits."""
    return len(wanted if isinstance(wanted, bytes) else wanted.body)
