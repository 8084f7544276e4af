"""Brings one head: drives a `Transfer` over a connection and into the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.errors import LinkError
from tarfailover.ids import SegmentId
from tarfailover.slave.link import Link
from tarfailover.store.intake import Arrival
from tarfailover.store.receiver import Receipt, Receiver
from tarfailover.sync import Progress, Transfer, Window
from tarfailover.wire.stream import Refusal, Segment

BATCH = 2 * 1024 * 1024
"""Bytes that are handed to the store at a time."""
BACKLOG_HIGH = 8 * 1024 * 1024
"""Bytes on their way to the disk at which the connection is read no further. With more, what
comes is in no cache of the processor any more when its turn comes: a seventh of its time."""
BACKLOG_LOW = 4 * 1024 * 1024
"""Bytes on their way to the disk at which it is read again."""

InThread = Callable[..., "Deferred[Any]"]
"""Runs a function in the store's one thread, in the order of the calls."""


class Pull:
    """One attempt to complete the closure of the head in segment `head`.

    `done` fires with the cursor behind what was listed once the closure is whole in the
    store; it fails with a LinkError or a StoreError. What was stored stays stored.
    """

    log = Logger()

    def __init__(
        self,
        protocol: Link,
        receiver: Receiver,
        in_thread: InThread,
        head: SegmentId,
        window: Window,
        cursor: bytes,
    ) -> None:
        self.done: Deferred[bytes] = Deferred(self._cancelled)
        self._protocol = protocol
        self._receiver = receiver
        self._in_thread = in_thread
        self._transfer = Transfer(head, window, cursor=bool(cursor))
        self._batch: list[Segment] = []
        self._batch_bytes = 0
        self._backlog = 0
        self._checking = False
        self._finished = False
        self._cursor = cursor

    def start(self) -> Deferred[bytes]:
        """Begin; returns `done`."""
        self._list(self._cursor)
        return self.done

    def progress(self) -> Progress:
        """How far it is."""
        return self._transfer.progress()

    # the list

    def _list(self, cursor: bytes) -> None:
        listed = self._protocol.list(self._transfer.head, cursor, self._listed, self._lacking)
        listed.addCallback(self._list_ended).addErrback(self._fail)

    def _lacking(self, items: bytes) -> Deferred[bytes]:
        return self._in_thread(self._receiver.lacking, items)

    def _listed(self, items: bytes) -> None:
        lacking = self._lacking(items)
        lacking.addCallback(self._transfer.listed)
        lacking.addCallback(self._go_on).addErrback(self._fail)

    def _list_ended(self, cursor: bytes) -> Deferred[None]:
        self._cursor = cursor
        # The thread takes calls in order: all that was listed is looked up before this.
        return self._in_thread(_nothing).addCallback(self._all_listed)

    def _all_listed(self, _: object) -> None:
        self._transfer.list_ended()
        self._go_on()

    # segments

    def _go_on(self, _: object = None) -> None:
        """Ask for as much as may be asked for; see whether this was all."""
        if self._finished:
            return
        while ids := self._transfer.next_request():
            got = self._protocol.get(ids, self._item)
            got.addCallback(self._answered).addErrback(self._fail)
        if self._transfer.wants_list:
            self._transfer.list_again()
            self._in_thread(self._receiver.forget).addErrback(self._fail)
            self._list(b"")
        elif self._transfer.idle and not self._batch and not self._checking:
            self._checking = True
            checked = self._in_thread(_check, self._receiver, self._transfer.head)
            checked.addCallback(self._checked).addErrback(self._fail)

    def _item(self, item: Segment | Refusal) -> None:
        if self._finished:
            return
        if isinstance(item, Refusal):
            self._transfer.refused(item.segment, item.code, item.text)
            return
        self._transfer.arrived(item.segment, item.length)
        self._batch.append(item)
        self._batch_bytes += item.length
        if self._batch_bytes >= BATCH:
            self._store()

    def _answered(self, _: None) -> None:
        if self._finished:
            return
        if not self._transfer.expecting:
            self._store()
        self._go_on()

    def _store(self) -> None:
        if not self._batch:
            return
        batch, size = self._batch, self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        self._backlog += size
        if self._backlog > BACKLOG_HIGH:
            self._protocol.hold()
        stored = self._in_thread(_take, self._receiver, batch)
        stored.addCallback(self._stored, batch, size).addErrback(self._fail)

    def _stored(self, receipt: Receipt, batch: list[Segment], size: int) -> None:
        self._backlog -= size
        if self._backlog < BACKLOG_LOW:
            self._protocol.go_on()
        if self._finished:
            return
        self._transfer.stored([each.segment for each in batch], receipt)
        self._go_on()

    # the end

    def _checked(self, missing: list[SegmentId]) -> None:
        self._checking = False
        if self._finished:
            return
        if missing:
            self._transfer.lacks(missing)
            self._go_on()
        else:
            self._finished = True
            self.done.callback(self._cursor)

    def _fail(self, failure: Failure) -> None:
        if self._finished:
            return
        self._finished = True
        self._protocol.go_on()
        if self._batch and isinstance(failure.value, LinkError):
            # However often a thin line breaks, each time there is less to bring.
            self._in_thread(_take, self._receiver, self._batch).addErrback(self._not_kept)
        self._batch = []
        forgotten = self._in_thread(self._receiver.forget)
        forgotten.addBoth(self._failed, failure)

    def _failed(self, _: object, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)

    def _cancelled(self, _: object) -> None:
        """Nobody waits for this any more; who gave it up opens the store anew."""
        self._finished = True
        self._batch = []

    def _not_kept(self, failure: Failure) -> None:
        """The next cycle has the same trouble, and makes it a state."""
        self.log.warn("what had come is not kept: {why}", why=failure.getErrorMessage())


def _nothing() -> None:
    """Takes its place in the thread's queue."""


def _take(receiver: Receiver, batch: list[Segment]) -> Receipt:
    return receiver.take(Arrival(*each) for each in batch)


def _check(receiver: Receiver, head: SegmentId) -> list[SegmentId]:
    """Store what waits in a circle; what the closure of `head` lacks then."""
    receipt = receiver.close_circles()
    return list(receipt.missing) or receiver.missing(head)
