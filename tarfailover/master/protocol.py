"""One slave's connection, seen from the master, in the native dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

from tarfailover import __version__
from tarfailover.errors import LinkError, ProtocolError
from tarfailover.ids import SegmentId
from tarfailover.master.blobs import BlobSource
from tarfailover.master.connection import Connection
from tarfailover.master.digests import source_of
from tarfailover.master.listings import FollowSource, ListSource, parse_cursor
from tarfailover.master.packing import agreed
from tarfailover.master.waiters import Waiters
from tarfailover.wire import messages
from tarfailover.wire.messages import (
    Answer,
    Blob,
    Error,
    ErrorCode,
    Follow,
    Get,
    Head,
    HeadIs,
    Hello,
    List,
    Ping,
)
from tarfailover.wire.negotiate import VersionError, choose_version

if TYPE_CHECKING:
    from tarfailover.master.factory import MasterFactory

_TLS_HANDSHAKE = 0x1603
"""The first two bytes of a client that begins TLS: RFC 8446, 5.1."""
_OF_2014 = int.from_bytes(b"Fail", "big")
"""How a client of Oak's first failover begins: the standby protocol, section 1.4."""


class MasterProtocol(Connection, Int32StringReceiver):
    """Answers the requests of one slave."""

    dialect = "native"

    def __init__(self, factory: MasterFactory, peer: str) -> None:
        super().__init__(factory, peer)
        self.MAX_LENGTH = messages.MAX_HELLO_FRAME
        self._waiters = Waiters(factory.clock, self.head_moved)

    def _waits_for_head(self) -> bool:
        return bool(self._waiters)

    # frames

    def _take(self, data: bytes) -> None:
        Int32StringReceiver.dataReceived(self, data)

    @property
    def _unfinished_request(self) -> bool:
        return bool(self.recvd)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """See `Connection`."""
        Int32StringReceiver.pauseProducing(self)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """See `Connection`."""
        Int32StringReceiver.resumeProducing(self)

    def _let_go(self) -> None:
        super()._let_go()
        self._waiters.take()

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """A frame is announced that is longer than any request can be."""
        why = f"a frame of {length} bytes; {self.MAX_LENGTH} are allowed"
        if length >> 16 == _TLS_HANDSHAKE:
            why = "the slave begins TLS, and this master has none; name tls_certificate and tls_key"
        if length == _OF_2014:
            why = "a slave of Oak's first failover (before 1.1.2), whose protocol nobody speaks now"
        self._end(ErrorCode.TOO_LARGE, why, 0)

    def _say_end(self, request: int, code: ErrorCode, why: str) -> None:
        self._answer(request, Error(code, why))
        self._waiters.take()

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
        if isinstance(message, (Head, Follow)):
            self._on_head(request, message)
        elif isinstance(message, List):
            self._on_list(request, message)
        elif isinstance(message, Get):
            self._on_get(request, message)
        elif isinstance(message, Blob):
            self._submit(BlobSource(request, message, self.factory.blobs), self._size)
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
        if not self._introduce(messages.printable(hello.client), hello.token, request):
            return
        self._tell_connected()
        self.MAX_LENGTH = messages.MAX_REQUEST_FRAME
        config = self.factory.config
        features, self.sender.packing = agreed(hello, config, self.transport.getPeer())
        welcome = messages.Welcome(
            version,
            features,
            config.repository,
            self.factory.epoch,
            f"tarfailover {__version__}",
        )
        self._answer(request, welcome)

    def _on_head(self, request: int, message: Head | Follow) -> None:
        """A slave that asks for the head has finished with what it was copying."""
        self._unpin()
        head = self.factory.head
        if head is None:
            self._answer(request, Error(ErrorCode.NOT_READY, self.factory.not_ready()))
        elif head.record == message.have and message.wait_ms:
            self._wait(request, message)
        else:
            self._send_head(request, message)

    def _wait(self, request: int, message: Head | Follow) -> None:
        self._waiters.add(request, message, self.factory.config.max_requests)
        self._idle.stop()

    def head_moved(self) -> None:
        """Answer the HEADs that wait: the head moved, or the oldest has waited long enough."""
        waiters = self._waiters.take()
        if waiters and not self._ended:
            self._idle.start()
        for waiter in waiters:
            if self.factory.head is None:
                error = Error(ErrorCode.NOT_READY, self.factory.not_ready())
                self._answer(waiter.request, error)
            else:
                self._send_head(waiter.request, waiter.asked)

    def _send_head(self, request: int, asked: Head | Follow) -> None:
        self._asked += 1
        answered = self.factory.head_is(asked.have).addBoth(self._told)
        self._check_queue()
        answered.addCallback(self._answer_head, request, asked)
        answered.addErrback(self._head_failed, request)

    def _told(self, result: Any) -> Any:
        """A thread has found out what a short answer says."""
        self._asked -= 1
        self._check_queue()
        return result

    def _answer_head(self, head: HeadIs, request: int, asked: Head | Follow) -> None:
        if self._ended:
            return
        self._answer(request, head)
        if isinstance(asked, Follow) and head.known and head.head != asked.have:
            listed = self._listing(request, head.head.segment, asked.cursor)
            self._submit(FollowSource(listed, asked), 0)

    def _head_failed(self, failure: Failure, request: int) -> None:
        error = failure.value
        if not isinstance(error, LinkError):
            self._broken(failure)
        elif not self._ended:
            self._answer(request, Error(ErrorCode.NOT_READY, str(error)))

    def _on_list(self, request: int, message: List) -> None:
        self._submit(self._listing(request, message.head, message.cursor), self._size)

    def _listing(self, request: int, head: SegmentId, cursor: bytes) -> ListSource:
        listings, position = self.factory.listings, parse_cursor(cursor)
        return ListSource(request, listings, self._pin(), head, position)

    def _on_get(self, request: int, message: Get) -> None:
        self._submit(source_of(request, message, self._snapshots()), self._size)
