"""The slave's end of a connection to an unmodified Oak primary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from isal.isal_zlib import crc32
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import LinkError, PeerError, ProtocolError
from tarfailover.ids import RecordId, SegmentId, is_data, text
from tarfailover.slave.asked import OnBytes, OnItem, OnItems
from tarfailover.slave.link import Lacking, Link
from tarfailover.slave.oak.blob import ComingBlob, length_in
from tarfailover.slave.oak.lesson import Learned, Lesson, Tables
from tarfailover.slave.oak.lineage import Lineage
from tarfailover.slave.oak.queue import Question, Questions
from tarfailover.slave.told import Introduction, OakHead, OakPrimary, ToldHead
from tarfailover.wire.messages import ErrorCode
from tarfailover.wire.oak.frames import (
    AnswerParser,
    BlobPart,
    HeadAnswer,
    ReferencesAnswer,
    SegmentAnswer,
)
from tarfailover.wire.oak.requests import GetBlob, GetHead, GetReferences, GetSegment, line
from tarfailover.wire.oak.snappy import Unpacker
from tarfailover.wire.stream import Refusal, Segment

WINDOW = 32 * 1024 * 1024
"""Bytes of segments asked for and not yet come, by guess: a primary holds them in memory."""

_SILENT = (
    "; an Oak primary ends one at once and without a word if this machine is not among its "
    "primary.allowed-client-ip-ranges, and one with secure=true if no TLS is spoken"
)
_HELLO = (
    "the answer to the first question; a primary gives none while it has no head on its disk, "
    "and none to plain text where it speaks TLS or the other way round"
)


class Memory:
    """What a slave knows of its primary beyond one connection; `seconds` is the clock."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.tables = Tables()
        self.lineage = Lineage()
        self._seconds = seconds
        self._head: RecordId | None = None
        self._since = 0

    def heard(self, head: RecordId) -> int:
        """When `head` was told first, in milliseconds since 1970."""
        if head != self._head:
            self._head, self._since = head, int(self._seconds() * 1000)
        return self._since


class OakProtocol(Link, Protocol):
    """One connection to an Oak primary; `client` is the name that it is told.

    `memory` outlives the connection.
    """

    silent = _SILENT

    def __init__(
        self,
        config: SlaveConfig,
        clock: IReactorTime,
        client: str,
        welcomed: Callable[[Any, Introduction], None],
        lost: Callable[[Any, LinkError], None],
        memory: Memory,
    ) -> None:
        super().__init__(config, clock, welcomed, lost)
        self._client = client
        self._memory = memory
        self._unpacker = Unpacker()
        self._parser = AnswerParser()
        self._questions = Questions(min(WINDOW, config.window_max), self._mentioned)
        self._proven = False
        """Whether this is the primary that the copy is of."""
        self._told_last: RecordId | None = None
        self._open: dict[Deferred[Any], None] = {}
        self._lesson: Lesson | None = None
        self._greeting: ToldHead | None = None
        self._hello = self._deadline("hello", config.deadline_hello, _HELLO)

    # the connection

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Connected. Nobody greets here, so the first question is who answers at all."""
        super().connectionMade()
        self._hello.start()
        greeted = self._ask_head(None, _anybody)
        greeted.addCallback(self._greeted).addErrback(self._failed)

    def _greeted(self, told: ToldHead) -> None:
        self._hello.stop()
        self._greeting = told
        self.gives_blobs = True
        self._welcomed(self, OakPrimary())

    def _due(self) -> bool:
        return bool(self._questions)

    def _drop(self, error: LinkError) -> None:
        self._hello.stop()
        still_open, self._open = self._open, {}
        for done in still_open:
            done.errback(Failure(error))
        if self._lesson is not None:
            self._lesson.fail(Failure(error))

    # requests

    def head(self, have: RecordId | None, wait: float) -> Deferred[ToldHead]:
        """The primary's head, at once: Oak's dialect cannot wait for another than `have`."""
        del wait
        # What has no head yet, or the one that was told here, becomes a copy of this primary.
        self._proven = self._proven or have in (None, self._told_last)
        told, self._greeting = self._greeting, None
        if told is not None and have in (None, told.head) and self._failure is None:
            # Nobody has waited since the first answer: that saves a round trip.
            self._judge(have, told.head, True)
            return succeed(told)
        return self._ask_head(have, partial(self._judge, have))

    def _ask_head(
        self, have: RecordId | None, judge: Callable[[RecordId, bool], bool]
    ) -> Deferred[ToldHead]:
        """The primary's head; `judge` gets it, and whether the primary has anything of `have`."""
        done: Deferred[ToldHead] = self._opened()
        known: list[SegmentId] = []

        def told(answer: HeadAnswer) -> None:
            record = answer.record
            if not is_data(record.segment):
                raise ProtocolError(f"head {record} is in no data segment")
            if record == have:
                self._memory.tables.clear()
            is_known = judge(record, record == have or bool(known))
            self._close_one(done, OakHead(record, self._memory.heard(record), is_known))

        def seen(answer: ReferencesAnswer) -> None:
            known.append(answer.segment)

        questions = [Question(GetHead(), told, partial(self._no_head, done))]
        if have is not None and is_data(have.segment) and not self._proven:
            witnesses = self._memory.lineage.witnesses(have.segment)
            asked = [Question(GetReferences(each), seen, _nothing) for each in witnesses]
            questions = [*asked, *questions]
        self._questions.ask(questions)
        self._push()
        return done

    def _judge(self, have: RecordId | None, told: RecordId, has_it: bool) -> bool:
        """Whether the copy with the head `have` is of this primary, which told `told`."""
        self._told_last = told
        self._proven = self._proven or has_it
        if self._proven:
            self._memory.lineage.told(have, told)
        return self._proven

    def _mentioned(self, answer: HeadAnswer) -> None:
        """The head came behind other answers."""
        if self._proven and is_data(answer.record.segment):
            self._memory.lineage.mentioned(answer.record)

    def _no_head(self, done: Deferred[Any]) -> None:
        why = "the primary has no head on its disk yet"
        self._close_one(done, Failure(PeerError(ErrorCode.NOT_READY, why)))

    def list(
        self, head: SegmentId, cursor: bytes, on_items: OnItems, lacking: Lacking
    ) -> Deferred[bytes]:
        """As `Link.list`, of what the store lacks, and without any cursor."""
        del cursor
        if self._failure is not None:
            return fail(self._failure)
        lesson = self._lesson = Lesson(
            head, self._memory.tables, self._ask_about, on_items, lacking
        )
        lesson.go_on()
        return lesson.done

    def _ask_about(self, ids: Sequence[SegmentId], learned: Learned) -> None:
        self._questions.ask(
            Question(GetReferences(each), learned, partial(self._no_segment, each)) for each in ids
        )
        self._push()

    def _no_segment(self, segment: SegmentId) -> None:
        raise PeerError(ErrorCode.SEGMENT_GONE, self._gone(segment))

    def _gone(self, segment: SegmentId) -> str:
        # Perhaps it never was, and what was told of it is wrong.
        self._memory.tables.clear()
        return (
            f"the primary has no segment {text(segment)}, which its head needs; was it compacted?"
        )

    def get(self, ids: Sequence[SegmentId], on_item: OnItem) -> Deferred[None]:
        """As `Link.get`."""
        done: Deferred[None] = self._opened()
        left = len(ids)

        def give(item: Segment | Refusal) -> None:
            nonlocal left
            left -= 1
            on_item(item)
            if not left:
                self._close_one(done, None)

        def came(answer: SegmentAnswer) -> None:
            crc = 0
            for chunk in answer.chunks:
                crc = crc32(chunk, crc)
            give(Segment(answer.segment, crc, answer.length, answer.chunks))

        def gone(segment: SegmentId) -> None:
            give(Refusal(segment, ErrorCode.SEGMENT_GONE, self._gone(segment)))

        self._questions.fetch(Question(GetSegment(each), came, partial(gone, each)) for each in ids)
        self._push()
        return done

    def blob(self, blob: str, offset: int, most: int, on_bytes: OnBytes) -> Deferred[int]:
        """As `Link.blob`; what is before `offset` comes too, and is passed over."""
        del most
        done: Deferred[int] = self._opened()
        coming = ComingBlob(blob, offset, on_bytes)

        def close(end: Callable[[], int | None]) -> None:
            try:
                total = end()
            except PeerError as error:
                self._close_one(done, Failure(error))
            else:
                if total is not None:
                    self._close_one(done, total)

        def came(part: BlobPart) -> None:
            close(lambda: coming.part(part))

        def left_out() -> None:
            close(coming.left_out)

        size = min(length_in(blob) or 0, WINDOW)
        self._questions.fetch([Question(GetBlob(blob), came, left_out, size)])
        self._push()
        return done

    def _opened(self) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        if self._failure is not None:
            done.errback(Failure(self._failure))
        else:
            self._open[done] = None
        return done

    def _close_one(self, done: Deferred[Any], result: object) -> None:
        if done in self._open:
            del self._open[done]
            done.callback(result)

    def _push(self) -> None:
        """Send what may be sent now."""
        if self._failure is not None:
            return
        idle = not self._questions
        requests = self._questions.to_send()
        if requests:
            self.transport.write(b"".join([line(self._client, each) for each in requests]))
            if idle and not self._held and not self._idle.running:
                self._first.start()

    # answers

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Bytes came."""
        self._count(len(data))
        try:
            for piece in self._unpacker.feed(data):
                for answer in self._parser.feed(piece):
                    if self._failure is not None:
                        return
                    self._progress()
                    self._questions.answer(answer)
            if self._lesson is not None:
                self._lesson.go_on()
            self._push()
            if not self._questions:
                self._nothing_due()
        except LinkError as error:
            self.fail(error)
        except Exception:  # noqa: BLE001 - of whoever the answer was for: told, not lost
            self._unforeseen()


def _anybody(told: RecordId, has_it: bool) -> bool:
    """As `_judge`, before it is known who asks."""
    del told, has_it
    return True


def _nothing() -> None:
    """Left out, as may be."""
