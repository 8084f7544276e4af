"""A slave's end of a connection, as far as it is the same in every dialect.

The service and `pull` know only this: what they ask is a Deferred, which fails with a
LinkError if the connection ends or one of its deadlines passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tarfailover.config import SlaveConfig
from tarfailover.deadline import Deadline
from tarfailover.errors import ConnectionLostError, LinkError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.slave.asked import OnBytes, OnItem, OnItems
from tarfailover.slave.limit import ReadLimit
from tarfailover.slave.told import Introduction, ToldHead
from tarfailover.sockets import acknowledged

SILENT = (
    "; it ends one at once and without a word if this machine is not among its "
    "allowed_client_ip_ranges, or if too many connect"
)
"""What may be the matter with a master that ends a connection before it has said anything."""

Lacking = Callable[[bytes], "Deferred[bytes]"]
"""Those of items as `OnItems` gets them that the store lacks."""


@implementer(IPushProducer)
class _WriteWatch:
    """Hears from the transport when the master stops to take what is sent, and when it goes on."""

    def __init__(self, stalled: Deadline) -> None:
        self._stalled = stalled

    def pauseProducing(self) -> None:  # noqa: N802 - the interface's name
        """The transport's buffer is full."""
        self._stalled.start()

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport's buffer is empty again."""
        self._stalled.stop()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone."""
        self._stalled.stop()


class Link:
    """One connection to a master, beside the Twisted protocol that reads a dialect.

    `welcomed` is called once the master has shown that it speaks it, `lost` when the
    connection is gone, with the reason.
    """

    log = Logger()
    transport: Any
    blob_step = 0
    """Bytes for which one `blob` may ask; 0: it asks for all that follows the offset."""
    silent = SILENT
    """What may be the matter if the connection ends before a byte came."""

    def __init__(
        self,
        config: SlaveConfig,
        clock: IReactorTime,
        welcomed: Callable[[Any, Introduction], None],
        lost: Callable[[Any, LinkError], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._welcomed = welcomed
        self._lost = lost
        self._failure: LinkError | None = None
        self.received = 0
        """Bytes that came."""
        self.gives_blobs = False
        """Whether the master has a blob store: whether `blob` may be called."""
        self._held = False
        self._seen = False
        """Whether what came last was seen to be progress already."""
        self._limit = ReadLimit(clock, config.rate_limit, self._pause, self._resume)
        first, idle = config.deadline_answer, config.deadline_idle
        stall = config.deadline_write_stall
        self._first = self._deadline("answer", first, "the first bytes of an answer", self._came)
        self._idle = self._deadline("idle", idle, "more of an answer", self._came)
        self._stalled = self._deadline("write-stall", stall, "the master to read", self._went)

    # what is asked

    def head(self, have: RecordId | None, wait: float) -> Deferred[ToldHead]:
        """The master's head; it may wait up to `wait` seconds for another than `have`."""
        raise NotImplementedError

    def follow(self, have: RecordId | None, wait: float, cursor: bytes) -> Deferred[ToldHead]:
        """As `head`; what lies behind `cursor` may come along with another head.

        Whoever wants it asks for the list as soon as he is told the head.
        """
        del cursor
        return self.head(have, wait)

    def list(
        self, head: SegmentId, cursor: bytes, on_items: OnItems, lacking: Lacking
    ) -> Deferred[bytes]:
        """List the closure of `head`; `on_items` gets the items, the Deferred the new cursor.

        At least what `lacking` says is not there must be listed.
        """
        raise NotImplementedError

    def get(self, ids: Sequence[SegmentId], on_item: OnItem) -> Deferred[None]:
        """Fetch segments; `on_item` gets each as it completes, in this order."""
        raise NotImplementedError

    def blob(self, blob: str, offset: int, most: int, on_bytes: OnBytes) -> Deferred[int]:
        """Fetch the bytes of a blob from `offset` on, `most` at the most; its whole length.

        A `most` of 0 means all. `on_bytes` gets them in order, in pieces of any size, also
        those that came before the connection is cut. Fails with a PeerError, BLOB_GONE for
        one that the master does not have, DAMAGED for one that is not what its id says.
        """
        raise NotImplementedError

    # what a dialect tells

    def _due(self) -> bool:
        """Whether an answer is due that comes in pieces, and has no deadline of its own."""
        raise NotImplementedError

    def _drop(self, error: LinkError) -> None:
        """Fail whatever was asked and is not answered."""
        raise NotImplementedError

    def _progress(self) -> None:
        """A piece of an answer came that was due; of many read together, the first one counts."""
        if self._seen and not self._first.running:
            return
        self._seen = True
        # A master that answers is alive; it reads on when it has answered enough.
        self._stalled.progress()
        if self._held:
            return
        if self._idle.running:
            self._idle.progress()
        else:
            self._first.stop()
            self._idle.start()

    def _nothing_due(self) -> None:
        self._idle.stop()
        self._first.stop()

    # deadlines

    def _deadline(
        self, name: str, seconds: float, what: str, moved: Callable[[], int] | None = None
    ) -> Deadline:
        return Deadline(self._clock, name, seconds, what, self.fail, moved)

    def _came(self) -> int:
        return self.received

    def _went(self) -> int:
        return acknowledged(self.transport)

    def _count(self, size: int) -> None:
        """Count bytes that came."""
        self.received += size
        self._seen = False
        self._first.moving()
        self._idle.moving()
        self._limit.read(size)

    # the connection

    def reconfigure(self, config: SlaveConfig) -> None:
        """Read at another rate; the deadlines of this connection stay what they are."""
        self._limit.set(config.rate_limit)

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Connected."""
        self.transport.registerProducer(_WriteWatch(self._stalled), True)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, LinkError):
            error = LinkError(f"{type(error).__name__}: {failure.getErrorMessage()}")
        self.fail(error)

    def _unforeseen(self) -> None:
        """Whoever an answer was for raises: told, not lost."""
        self.log.failure("an answer of the master cannot be worked on")
        self._failed(Failure())

    def fail(self, error: LinkError) -> None:
        """End the connection because of `error`; every request fails with it."""
        if self._failure is None:
            self._failure = error
            self.transport.abortConnection()

    def close(self) -> None:
        """End the connection in good order."""
        self._failure = self._failure or ConnectionLostError("the connection was closed here")
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The connection is gone: every request that is not answered fails."""
        why = f"the connection to the master ended: {reason.getErrorMessage()}"
        if not self.received:
            why += self.silent
        error = self._failure or ConnectionLostError(why)
        self._failure = error
        for deadline in (self._first, self._idle, self._stalled):
            deadline.stop()
        self._limit.stop()
        self._drop(error)
        self._lost(self, error)

    # flow

    def hold(self) -> None:
        """Read no more for now: the disk is slower than the link. No deadline runs meanwhile."""
        if not self._held:
            self._held = True
            self._nothing_due()
            self._stop_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._held:
            self._held = False
            if self._due():
                self._idle.start()
            self._read_again()
            if self._limit.waiting:
                self._pause()

    def _stop_reading(self) -> None:
        self.transport.pauseProducing()

    def _read_again(self) -> None:
        self.transport.resumeProducing()

    def _pause(self) -> None:
        self.transport.pauseProducing()

    def _resume(self) -> None:
        if not self._held:
            self.transport.resumeProducing()
