"""One slave's connection, seen from the master."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from tarfailover import __version__
from tarfailover.deadline import Deadline
from tarfailover.errors import DeadlineError, LinkError, ProtocolError
from tarfailover.ids import RecordId
from tarfailover.master.blobs import BlobSource
from tarfailover.master.digests import source_of
from tarfailover.master.packing import agreed
from tarfailover.master.sender import Sender
from tarfailover.master.sources import ListSource, Source, parse_cursor
from tarfailover.master.unread import Unread
from tarfailover.sockets import acknowledged
from tarfailover.store.snapshot import Snapshot
from tarfailover.wire import messages
from tarfailover.wire.messages import Answer, Blob, Error, ErrorCode, Get, Head, Hello, List, Ping
from tarfailover.wire.negotiate import VersionError, choose_version

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory

_TLS_HANDSHAKE = 0x1603
"""The first two bytes of a client that begins TLS: RFC 8446, 5.1."""


class Waiter:
    """A HEAD that waits for the head to move."""

    def __init__(self, request: int, have: RecordId | None, deadline: IDelayedCall) -> None:
        self.request = request
        self.have = have
        self.deadline = deadline


class MasterProtocol(Int32StringReceiver):
    """Answers the requests of one slave."""

    log = Logger()
    transport: Any

    def __init__(self, factory: MasterFactory, peer: str) -> None:
        self.factory: MasterFactory = factory
        self.peer = peer
        self.client = ""
        self.names: tuple[str, ...] = ()
        """The names in the client's certificate."""
        self.MAX_LENGTH = messages.MAX_HELLO_FRAME
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
        self._waiters: list[Waiter] = []
        config = factory.config
        self._hello = self._deadline("hello", config.deadline_hello, "HELLO")
        idle = config.deadline_idle_client
        self._idle = self._deadline("idle-client", idle, "a request", self._came)
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
        return "waiting for a head" if self._waiters else "idle"

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
        self._ended = True
        for deadline in (self._hello, self._idle, self._unfinished, self._stalled, self._ignored):
            deadline.stop()
        self._forget_waiters()
        self._unpin()
        self._unread.end()
        self.sender.stop()
        self.factory.disconnected(self, reason)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes came; a frame that stays unfinished has a deadline."""
        if self._ended:
            return
        self.received += len(data)
        self._unfinished.moving()
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._holds or not self.recvd:
            self._unfinished.stop()
        elif not self._unfinished.running:
            self._unfinished.start()

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """A frame is announced that is longer than any request can be."""
        why = f"a frame of {length} bytes; {self.MAX_LENGTH} are allowed"
        if length >> 16 == _TLS_HANDSHAKE:
            why = "the slave begins TLS, and this master has none; name tls_certificate and tls_key"
        self._end(ErrorCode.TOO_LARGE, why, 0)

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
        self._answer(request, Error(code, why))
        self._ended = True
        self._forget_waiters()
        self.factory.count_error(code)
        self.sender.stop()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._stalled.start()

    # requests

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        """A whole frame came."""
        self._unfinished.stop()
        if self._ended:
            return
        try:
            self._size = len(string)
            request, message = messages.decode_request(string)
            self._dispatch(request, message)
        except messages.UnknownTypeError as error:
            self._refuse_type(error)
        except ProtocolError as error:
            self._end(ErrorCode.PROTOCOL, str(error), 0)

    def _refuse_type(self, error: messages.UnknownTypeError) -> None:
        """A newer slave may try something new, once it is known for a slave."""
        if self._welcomed:
            self._answer(error.request, Error(ErrorCode.UNKNOWN_TYPE, str(error)))
        else:
            self._end(ErrorCode.PROTOCOL, f"{error}; a slave begins with HELLO", error.request)

    def _dispatch(self, request: int, message: Any) -> None:
        if isinstance(message, Hello):
            self._on_hello(request, message)
            return
        if not self._welcomed:
            raise ProtocolError("a slave begins with HELLO")
        self._idle.start()
        if isinstance(message, Head):
            self._on_head(request, message)
        elif isinstance(message, List):
            self._on_list(request, message)
        elif isinstance(message, Get):
            self._on_get(request, message)
        elif isinstance(message, Blob):
            self._submit(BlobSource(request, message, self.factory.blobs))
        elif isinstance(message, Ping):
            self._answer(request, messages.Pong())

    def _answer(self, request: int, message: Answer) -> None:
        frame = messages.framed(request, message)
        self._unread.wrote(len(frame))
        self.sender.say(frame)

    def _on_hello(self, request: int, hello: Hello) -> None:
        if self._welcomed:
            raise ProtocolError("HELLO came twice")
        try:
            version = choose_version(hello)
        except VersionError as error:
            self._end(ErrorCode.VERSION, str(error), request)
            return
        if objection := self.factory.objection(self, hello):
            self._end(ErrorCode.NOT_ALLOWED, objection, request)
            return
        if refused := self.factory.introduced(self):
            self._end(ErrorCode.BUSY, refused, request)
            return
        self._welcomed = True
        self.MAX_LENGTH = messages.MAX_REQUEST_FRAME
        self.client = messages.printable(hello.client)
        self._hello.stop()
        self._idle.start()
        config = self.factory.config
        features, self.sender.packing = agreed(hello, config, self.transport.getPeer())
        self.log.info("{peer}: connected", peer=self)
        welcome = messages.Welcome(
            version,
            features,
            config.repository,
            self.factory.epoch,
            f"tarfailover {__version__}",
        )
        self._answer(request, welcome)

    def _on_head(self, request: int, message: Head) -> None:
        """A slave that asks for the head has finished with what it was copying."""
        self._unpin()
        head = self.factory.head
        if head is None:
            self._answer(request, Error(ErrorCode.NOT_READY, self.factory.not_ready()))
        elif head.record == message.have and message.wait_ms:
            self._wait(request, message)
        else:
            self._send_head(request, message.have)

    def _wait(self, request: int, message: Head) -> None:
        most = self.factory.config.max_requests
        if len(self._waiters) >= most:
            raise ProtocolError(f"more than {most} HEADs wait")
        deadline = self.factory.clock.callLater(message.wait_ms / 1000, self.head_moved)
        self._waiters.append(Waiter(request, message.have, deadline))
        self._idle.stop()

    def _forget_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.deadline.active():
                waiter.deadline.cancel()

    def head_moved(self) -> None:
        """Answer the HEADs that wait: the head moved, or the oldest has waited long enough."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.deadline.active():
                waiter.deadline.cancel()
            if self.factory.head is None:
                error = Error(ErrorCode.NOT_READY, self.factory.not_ready())
                self._answer(waiter.request, error)
            else:
                self._send_head(waiter.request, waiter.have)
        if waiters and not self._ended:
            self._idle.start()

    def _send_head(self, request: int, have: RecordId | None) -> None:
        self._asked += 1
        answered = self.factory.head_is(have).addBoth(self._told)
        self._check_queue()
        answered.addCallback(self._answer_if_open, request)
        answered.addErrback(self._head_failed, request)

    def _told(self, result: Any) -> Any:
        """A thread has found out what a short answer says."""
        self._asked -= 1
        self._check_queue()
        return result

    def _answer_if_open(self, head: messages.HeadIs, request: int) -> None:
        if not self._ended:
            self._answer(request, head)

    def _head_failed(self, failure: Failure, request: int) -> None:
        error = failure.value
        if not isinstance(error, LinkError):
            self._broken(failure)
        elif not self._ended:
            self._answer(request, Error(ErrorCode.NOT_READY, str(error)))

    def _on_list(self, request: int, message: List) -> None:
        self._unpin()
        self._pinned = self.factory.snapshot.acquire()
        listings = self.factory.listings
        position = parse_cursor(message.cursor)
        self._submit(ListSource(request, listings, self._pinned, message.head, position))

    def _on_get(self, request: int, message: Get) -> None:
        current = self.factory.snapshot
        pinned = self._pinned or current
        snapshots = [current] if pinned is current else [pinned, current]
        self._submit(source_of(request, message, snapshots))

    def _submit(self, source: Source) -> None:
        # As long as answers are due it is not the client that is idle.
        self._idle.stop()
        self._sizes.append(self._size)
        self.sender.submit(source)
        self._check_queue()

    def _resume(self) -> None:
        """An answer was read, and is on its way."""
        self._sizes.popleft()
        self._check_queue()

    def _drained(self) -> None:
        """All that was due is out: from now on it is the client that is idle."""
        if not self._waiters and not self._ended:
            self._idle.start()

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
            self.pauseProducing()  # type: ignore[no-untyped-call]
        self._holds.add(why)

    def _go_on(self, why: str) -> None:
        if why in self._holds:
            self._holds.remove(why)
            if not self._holds and not self._ended:
                self.resumeProducing()  # type: ignore[no-untyped-call]

    def _unpin(self) -> None:
        pinned, self._pinned = self._pinned, None
        if pinned is not None:
            pinned.release()
