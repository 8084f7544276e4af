"""Which of the questions to an Oak primary an answer answers, and which were left out.

Oak answers in the order of the questions, without numbers, and leaves out what it does
not have. So whatever stands before the one that an answer fits was left out; and behind
the last question there is always one for the head, which every primary answers that has
one: nothing has to be waited for in vain. Nor has room in the window: as long as it is
full, one stands somewhere among the questions.

What it answers it holds in memory until it is sent, however much that is. So segments
are asked for only as long as what they will probably take fits into a window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tarfailover.errors import ProtocolError
from tarfailover.format.segment import MAX_SEGMENT
from tarfailover.ids import SegmentId, is_bulk, text
from tarfailover.wire.fields import printable
from tarfailover.wire.oak.frames import (
    AnyAnswer,
    BlobPart,
    HeadAnswer,
    ReferencesAnswer,
    SegmentAnswer,
)
from tarfailover.wire.oak.requests import GetBlob, GetHead, GetReferences, GetSegment, Request

_LEARNS = 8
"""The size of a segment counts as one of so many."""


@dataclass(eq=False)
class Question:
    """A request, who gets its answer, and who is told if it is left out."""

    request: Request
    answered: Callable[[Any], None]
    left_out: Callable[[], None]
    size: int = 0
    """Bytes that it takes of the window."""


class Guess:
    """How long the next segment will be: about as those of its kind were, whole at first."""

    def __init__(self) -> None:
        self._sizes = {False: float(MAX_SEGMENT), True: float(MAX_SEGMENT)}

    def of(self, segment: SegmentId) -> int:
        """The bytes that `segment` will probably have."""
        return int(self._sizes[is_bulk(segment)])

    def came(self, segment: SegmentId, size: int) -> None:
        """`segment` had `size` bytes."""
        bulk = is_bulk(segment)
        self._sizes[bulk] += (size - self._sizes[bulk]) / _LEARNS


class Questions:
    """The questions of one connection: those to be sent, and those without an answer."""

    def __init__(self, window: int, on_head: Callable[[HeadAnswer], None]) -> None:
        """`on_head` gets the heads for which nobody asked but this itself."""
        self._window = window
        self._on_head = on_head
        self._at_once: list[Question] = []
        self._in_turn: deque[Question] = deque()
        self._sent: deque[Question] = deque()
        self._heads = 0
        """Questions for the head among those that are sent."""
        self._flight = 0
        self._guess = Guess()

    def __bool__(self) -> bool:
        """Whether an answer is due."""
        return bool(self._sent)

    def ask(self, questions: Iterable[Question]) -> None:
        """Send these next, whatever else is under way: their answers are short."""
        self._at_once += questions

    def fetch(self, questions: Iterable[Question]) -> None:
        """Send these when there is room in the window."""
        self._in_turn += questions

    def to_send(self) -> list[Request]:
        """The requests to send now."""
        now, self._at_once = self._at_once, []
        while self._in_turn:
            question = self._in_turn[0]
            if isinstance(question.request, GetSegment):
                question.size = self._guess.of(question.request.segment)
            if self._flight and self._flight + question.size > self._window:
                break
            self._flight += question.size
            now.append(self._in_turn.popleft())
        self._heads += sum(isinstance(each.request, GetHead) for each in now)
        if self._unnoticed(now):
            now.append(Question(GetHead(), self._on_head, _no_head))
            self._heads += 1
        self._sent += now
        return [each.request for each in now]

    def _unnoticed(self, now: list[Question]) -> bool:
        """Whether nothing would show that the last of `now`, or all in the window, is left out."""
        if self._in_turn and not self._heads:
            return True
        last = now[-1].request if now else GetHead()
        return isinstance(last, GetBlob) or not (self._in_turn or isinstance(last, GetHead))

    def answer(self, answer: AnyAnswer) -> None:
        """Give `answer` to whom it is for; raises ProtocolError, and what they raise."""
        at = next((at for at, each in enumerate(self._sent) if _fits(each.request, answer)), None)
        if at is None:
            raise ProtocolError(f"{_told(answer)} came without being asked for")
        for _ in range(at):
            self._next().left_out()
        if isinstance(answer, BlobPart) and not (answer.ends and answer.last):
            self._sent[0].answered(answer)
            return
        question = self._next()
        if isinstance(answer, SegmentAnswer):
            self._guess.came(answer.segment, answer.length)
        question.answered(answer)

    def _next(self) -> Question:
        question = self._sent.popleft()
        self._flight -= question.size
        self._heads -= isinstance(question.request, GetHead)
        return question


def _no_head() -> None:
    """A question that only shows what was left out is of no use without an answer."""


def _fits(request: Request, answer: AnyAnswer) -> bool:
    if isinstance(answer, SegmentAnswer):
        return isinstance(request, GetSegment) and request.segment == answer.segment
    if isinstance(answer, ReferencesAnswer):
        return isinstance(request, GetReferences) and request.segment == answer.segment
    if isinstance(answer, HeadAnswer):
        return isinstance(request, GetHead)
    return isinstance(request, GetBlob) and request.blob == answer.blob


def _told(answer: AnyAnswer) -> str:
    if isinstance(answer, SegmentAnswer):
        return f"segment {text(answer.segment)}"
    if isinstance(answer, ReferencesAnswer):
        return f"what segment {text(answer.segment)} refers to"
    if isinstance(answer, HeadAnswer):
        return f"head {answer.record}"
    return f"blob {printable(answer.blob)}"
