"""What all clients have in common, whatever dialect they speak: deadlines, limits, backpressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.deadline import Deadline
from tarfailover.errors import DeadlineError
from tarfailover.master.sender import Sender
from tarfailover.master.sources import Source
from tarfailover.master.unread import Unread
from tarfailover.sockets import acknowledged
from tarfailover.store.snapshot import Snapshot
from tarfailover.wire.messages import ErrorCode

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory


class Connection(Protocol):
    """One client's connection; a dialect says how requests are read and answers written.

    It must have `pauseProducing` and `resumeProducing`, which hold its requests back.
    """

    log = Logger()
    transport: Any
    dialect: ClassVar[str]
    """Its name, as on the status page."""

    def __init__(self, factory: MasterFactory, peer: str) -> None:
        self.factory: MasterFactory = factory
        self.peer = peer
        self.client = ""
        self.names: tuple[str, ...] = ()
        """The names in the client's certificate."""
        self.received = 0
        """Bytes that came."""
        self._welcomed = False
        self._ended = False
        self._holds: set[str] = set()
        """Why the requests of this client are not read for now."""
        self._sizes: deque[int] = deque()
        """Bytes of the requests whose streamed answers are not complete."""
        self._asked = 0
        """Short answers that threads are at."""
        self._pinned: Snapshot | None = None
        config = factory.config
        self._hello = self._deadline("hello", config.deadline_hello, "HELLO")
        self._idle = self._deadline(*self._idleness(), "a request", self._came)
        request, reader = config.deadline_request, config.deadline_slow_reader
        self._unfinished = self._deadline("request", request, "the rest of a request", self._came)
        self._stalled = self._deadline("slow-reader", reader, "the client to read", self._went)
        self._ignored = self._deadline("slow-reader", reader, "the client to read", self._went)
        self._disk = self._deadline("disk", config.deadline_disk, "the disk of the store")

    def _deadline(
        self, name: str, seconds: float, what: str, moved: Callable[[], int] | None = None
    ) -> Deadline:
        return Deadline(self.factory.clock, name, seconds, what, self._too_late, moved)

    def _came(self) -> int:
        return self.received

    def _went(self) -> int:
        return acknowledged(self.transport)

    def __str__(self) -> str:
        return f"{self.client} at {self.peer}" if self.client else self.peer

    @property
    def state(self) -> str:
        """What it is at, in a word or two."""
        if not self._welcomed:
            return "introducing"
        if self.sender.queued:
            return "being answered"
        return "waiting for a head" if self._waits_for_head() else "idle"

    # what a dialect says

    def _idleness(self) -> tuple[str, float]:
        """Name and seconds of the deadline for a request."""
        return "idle-client", self.factory.config.deadline_idle_client

    def _take(self, data: bytes) -> None:
        """Read requests."""
        raise NotImplementedError

    @property
    def _unfinished_request(self) -> bool:
        """Whether a request has come in part."""
        raise NotImplementedError

    def _waits_for_head(self) -> bool:
        """Whether it waits for a head."""
        raise NotImplementedError

    def _say_end(self, request: int, code: ErrorCode, why: str) -> None:
        """Tell the client why the connection ends, if the dialect can."""
        raise NotImplementedError

    def head_moved(self) -> None:
        """There is another head, or none any more."""
        raise NotImplementedError

    # the connection

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """A client connected."""
        self.connected_at = self.factory.clock.seconds()
        self.sender = Sender(
            self.transport,
            self.factory.clock,
            self.factory.in_thread,
            self.factory.throttle.lane(),
            self._stalled,
            self._disk,
            self._broken,
            self._resume,
        )
        self.sender.drained = self._drained
        self._hello.start()
        self._unread = Unread(
            self.factory.clock,
            self.factory.config.max_queued,
            self._went,
            self._unread_begins,
            self._unread_ends,
        )
        self.factory.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The client is gone, whoever ended it."""
        self._let_go()
        self.factory.disconnected(self, reason)

    def hand_over(self, heir: Connection) -> None:
        """Nothing was said yet, and now it turns out that `heir` speaks the client's dialect."""
        self._let_go()
        self.factory.clients.discard(self)
        heir.names = self.names
        heir.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def _let_go(self) -> None:
        self._ended = True
        for deadline in (self._hello, self._idle, self._unfinished, self._stalled, self._ignored):
            deadline.stop()
        self._unpin()
        self._unread.end()
        self.sender.stop()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes came; a request that stays unfinished has a deadline."""
        if self._ended:
            return
        self.received += len(data)
        self._unfinished.moving()
        self._take(data)
        if self._holds or not self._unfinished_request:
            self._unfinished.stop()
        elif not self._unfinished.running:
            self._unfinished.start()

    def _too_late(self, error: DeadlineError) -> None:
        if error.name == "slow-reader":
            self.log.warn("{peer}: {error}", peer=self, error=error)
            self._ended = True
            self.transport.abortConnection()
        else:
            self._end(ErrorCode.DEADLINE, str(error), 0)

    def _broken(self, failure: Failure) -> None:
        """A fault of this program or of its disk: the log has it all, the client a sentence."""
        self.log.failure("{peer}: an answer failed", failure, peer=self)
        self._end(ErrorCode.INTERNAL, "an answer failed; the log of the master says why", 0)

    def end(self, code: ErrorCode, why: str) -> None:
        """Tell the client why, and close the connection."""
        self._end(code, why, 0)

    def _end(self, code: ErrorCode, why: str, request: int) -> None:
        if self._ended:
            return
        # What strangers cause must not fill the log.
        words = "{peer}: {why}; disconnecting"
        if self._welcomed:
            self.log.warn(words, peer=str(self), why=why)
        else:
            self.factory.seldom.warn(code.name, words, peer=str(self), why=why)
        self._say_end(request, code, why)
        self._ended = True
        self.factory.count_error(code)
        self.sender.stop()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._stalled.start()

    def _introduce(self, client: str, token: str | None, request: int) -> bool:
        """Let a stranger in as `client`; False if it may not come in, which it was told.

        `token` is what it shows, None if its dialect has none.
        """
        if objection := self.factory.objection(self, token):
            self._end(ErrorCode.NOT_ALLOWED, objection, request)
            return False
        if refused := self.factory.introduced(self):
            self._end(ErrorCode.BUSY, refused, request)
            return False
        self._welcomed = True
        self.client = client
        self._hello.stop()
        self._idle.start()
        return True

    @property
    def is_news(self) -> bool:
        """Whether its coming and going is worth a line in the log."""
        return True

    def _tell_connected(self) -> None:
        if self.is_news:
            self.log.info("{peer}: connected", peer=self)

    # answers

    def _pin(self) -> Snapshot:
        """Hold what the store has now, until it is unpinned."""
        self._unpin()
        self._pinned = self.factory.snapshot.acquire()
        return self._pinned

    def _unpin(self) -> None:
        pinned, self._pinned = self._pinned, None
        if pinned is not None:
            pinned.release()

    def _snapshots(self) -> list[Snapshot]:
        """Where a segment is looked for: what is pinned, then what there is now."""
        current = self.factory.snapshot
        pinned = self._pinned or current
        return [current] if pinned is current else [pinned, current]

    def _submit(self, source: Source, size: int) -> None:
        """Send the answer of `source` to requests of `size` bytes."""
        # As long as answers are due it is not the client that is idle.
        self._idle.stop()
        self._sizes.append(size)
        self.sender.submit(source)
        self._check_queue()

    def _resume(self) -> None:
        """An answer was read, and is on its way."""
        self._sizes.popleft()
        self._check_queue()

    def _drained(self) -> None:
        """All that was due is out: from now on it is the client that is idle."""
        if not self._waits_for_head() and not self._ended:
            self._idle.start()

    # holding requests back

    def _check_queue(self) -> None:
        """Read no further while too much waits; read again when that is down to half."""
        config = self.factory.config
        waiting, size = len(self._sizes) + self._asked, sum(self._sizes)
        if waiting > config.max_requests or size > config.max_queued:
            self._hold("queue")
        elif waiting <= config.max_requests // 2 and size <= config.max_queued // 2:
            self._go_on("queue")

    def _unread_begins(self) -> None:
        """The client asks and does not read."""
        self._ignored.start()
        self._hold("unread")

    def _unread_ends(self) -> None:
        self._ignored.stop()
        self._go_on("unread")

    def _hold(self, why: str) -> None:
        """Read no requests for now; one that has come in part has no deadline meanwhile."""
        if not self._holds and not self._ended:
            self.pauseProducing()
        self._holds.add(why)

    def _go_on(self, why: str) -> None:
        if why in self._holds:
            self._holds.remove(why)
            if not self._holds and not self._ended:
                self.resumeProducing()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read no requests for now."""
        raise NotImplementedError

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read on."""
        raise NotImplementedError
