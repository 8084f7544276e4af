"""The slave's end of a connection: requests go out, each as a Deferred with a deadline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import LinkError, PeerError, ProtocolError
from tarfailover.ids import RecordId, SegmentId
from tarfailover.slave.ahead import Ahead
from tarfailover.slave.asked import (
    Asked,
    AskedBlob,
    AskedList,
    AskedSegments,
    OnBytes,
    OnItem,
    OnItems,
)
from tarfailover.slave.framing import FrameReceiver
from tarfailover.slave.link import Lacking, Link
from tarfailover.slave.told import Introduction, ToldHead
from tarfailover.wire import messages
from tarfailover.wire.answers import FINAL
from tarfailover.wire.compression import Unpacker
from tarfailover.wire.messages import (
    Answer,
    Blob,
    BlobEnd,
    Digest,
    End,
    Error,
    Follow,
    Get,
    Head,
    HeadIs,
    Hello,
    List,
    Listed,
    ListEnd,
    Packed,
    Part,
    Request,
    Welcome,
)
from tarfailover.wire.negotiate import BLOBS, FOLLOW, ZSTD, check_welcome

_NOTES = {"hello": ", which an Oak primary never gives: see dialect"}
"""Why an answer may not come, by the name of its deadline."""


class SlaveProtocol(Link, FrameReceiver):
    """One connection to a master.

    `welcomed` is called once the master has introduced itself, `lost` when the
    connection is gone, with the reason. Every request fails with a LinkError if the
    connection ends, or if one of its deadlines passes.
    """

    MAX_LENGTH = messages.MAX_ANSWER_FRAME
    blob_step = messages.MAX_SLICE
    """Bytes that one `blob` may ask for."""
    log = Logger()

    def __init__(
        self,
        config: SlaveConfig,
        clock: IReactorTime,
        hello: Hello,
        welcomed: Callable[[Any, Introduction], None],
        lost: Callable[[Any, LinkError], None],
    ) -> None:
        Link.__init__(self, config, clock, welcomed, lost)
        FrameReceiver.__init__(self)
        self._hello = hello
        self._number = 0
        self._pending: dict[int, Asked] = {}
        self._streams: deque[int] = deque()
        self._follows = False
        """Whether FOLLOW was agreed on."""
        self._ahead: Ahead | None = None
        """What comes, or came, along with the last head."""
        self._unpacker: Unpacker | None = None
        """None where no compression was agreed on."""

    # the connection

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Connected: introduce this slave."""
        super().connectionMade()
        said = self._send(Asked(self._hello), "hello", self._config.deadline_hello)
        said.addCallback(self._on_welcome).addErrback(self._failed)

    def _on_welcome(self, welcome: Welcome) -> None:
        check_welcome(self._hello, welcome)
        self._follows = FOLLOW in welcome.features
        if ZSTD in welcome.features:
            self._unpacker = Unpacker()
        self.gives_blobs = BLOBS in welcome.features
        self._welcomed(self, welcome)

    def _due(self) -> bool:
        return bool(self._streams)

    def _drop(self, error: LinkError) -> None:
        pending, self._pending = self._pending, {}
        self._streams.clear()
        for each in pending.values():
            each.stop_deadline()
            each.cut()
            each.done.errback(Failure(error))

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """A frame is announced that is longer than any answer can be."""
        self.fail(
            ProtocolError(f"the master announced a frame of {length} bytes; is this a master?")
        )

    def _stop_reading(self) -> None:
        self.pauseProducing()  # type: ignore[no-untyped-call]

    def _read_again(self) -> None:
        self.resumeProducing()  # type: ignore[no-untyped-call]

    # requests

    def head(self, have: RecordId | None, wait: float) -> Deferred[ToldHead]:
        """The master's head; it may wait up to `wait` seconds for another than `have`."""
        seconds = wait + self._config.deadline_answer
        self._ahead = None
        return self._send(Asked(Head(have, int(wait * 1000))), "answer", seconds)

    def follow(self, have: RecordId | None, wait: float, cursor: bytes) -> Deferred[ToldHead]:
        """As `Link.follow`, where that was agreed on."""
        if have is None or not self._follows:
            return self.head(have, wait)
        self._ahead = None
        asked = Ahead(Follow(have, int(wait * 1000), cursor))
        return self._send(asked, "answer", wait + self._config.deadline_answer)

    def list(
        self, head: SegmentId, cursor: bytes, on_items: OnItems, lacking: Lacking | None = None
    ) -> Deferred[bytes]:
        """As `Link.list`: all that lies behind the cursor, whether it is lacking or not."""
        del lacking
        if self._ahead is not None and self._ahead.lists(head, cursor):
            return self._ahead.list(on_items)
        return self._send(AskedList(List(head, cursor), on_items))

    def get(
        self, ids: Sequence[SegmentId], on_item: OnItem, *, salt: bytes = b""
    ) -> Deferred[None]:
        """Fetch segments; `on_item` gets each as it completes, in this order.

        With a `salt` it gets digests in place of segments: see `wire.digests`.
        """
        if self._ahead is not None and not salt and self._ahead.has(ids):
            return self._ahead.get(on_item)
        message = Digest(tuple(ids), salt) if salt else Get(tuple(ids))
        return self._send(AskedSegments(message, on_item))

    def blob(self, blob: str, offset: int, most: int, on_bytes: OnBytes) -> Deferred[int]:
        """Fetch the bytes of a blob from `offset` on, `most` at the most; its whole length.

        `on_bytes` gets them, in order.
        """
        return self._send(AskedBlob(Blob(blob, offset, most), on_bytes))

    def _send(self, pending: Asked, name: str = "", seconds: float = 0) -> Deferred[Any]:
        done = pending.done
        if self._failure is not None:
            done.errback(Failure(self._failure))
            return done
        self._number += 1
        self._pending[self._number] = pending
        if name:
            what = f"the answer to {pending.message.NAME}{_NOTES.get(name, '')}"
            pending.deadline = self._deadline(name, seconds, what)
            pending.deadline.start()
        else:
            self._begin_stream(self._number)
        self.sendString(messages.encode(self._number, pending.message))  # type: ignore[no-untyped-call]
        return done

    def _begin_stream(self, number: int) -> None:
        self._streams.append(number)
        if len(self._streams) == 1 and not self._held:
            self._first.start()

    # answers

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes came."""
        self._count(len(data))
        super().dataReceived(data)

    def frameReceived(self, frame: memoryview) -> None:  # noqa: N802
        """A whole frame came."""
        if self._failure is not None:
            return
        try:
            if frame and frame[0] == Part.TYPE:
                self._on_part(int.from_bytes(frame[1:5], "big"), frame[5:])
            else:
                self._on_answer(*messages.decode_answer(bytes(frame)))
        except LinkError as error:
            self.fail(error)
        except Exception:  # noqa: BLE001 - of whoever the answer was for: told, not lost
            self._unforeseen()

    def _on_part(self, number: int, piece: memoryview) -> None:
        self._stream(number).part(piece)

    def _unpacked(self, packed: Packed) -> bytes:
        if self._unpacker is None:
            raise ProtocolError("PACKED came, and compression was not agreed on")
        return self._unpacker.unpack(packed)

    def _stream(self, number: int) -> Asked:
        """The request that a piece of a streamed answer belongs to: always the oldest one."""
        if not self._streams or self._streams[0] != number:
            raise ProtocolError(f"a piece of an answer to request {number}, which is not its turn")
        self._progress()
        return self._pending[number]

    def _on_answer(self, number: int, answer: Answer) -> None:
        if isinstance(answer, Error):
            self._on_error(number, answer)
        elif isinstance(answer, Packed):
            self._on_part(number, memoryview(self._unpacked(answer)))
        elif isinstance(answer, Listed):
            self._stream(number).listed(answer)
        elif isinstance(answer, ListEnd):
            if self._stream(number).list_ended(answer.cursor):
                self._complete(number, answer.cursor)
        elif isinstance(answer, (End, BlobEnd)):
            self._complete(number, self._stream(number).end(answer))
        else:
            self._on_single(number, answer)

    def _on_single(self, number: int, answer: Answer) -> None:
        pending = self._pending.get(number)
        expected = _SINGLE.get(type(pending.message)) if pending else None
        if expected is None or not isinstance(answer, expected):
            raise ProtocolError(f"{type(answer).__name__} answers no request")
        if isinstance(pending, Ahead) and isinstance(answer, HeadIs) and pending.more(answer):
            pending.stop_deadline()
            self._begin_stream(number)
            self._ahead = pending
            pending.begin(answer)
        else:
            self._complete(number, answer)

    def _on_error(self, number: int, error: Error) -> None:
        told = PeerError(error.code, messages.printable(error.text))
        pending = self._pending.get(number)
        if pending is None or error.code in FINAL:
            raise told
        if number in self._streams:
            self._stream(number)
        self._complete(number, Failure(told))

    def _complete(self, number: int, result: object) -> None:
        pending = self._pending.pop(number)
        pending.stop_deadline()
        if self._streams and self._streams[0] == number:
            self._streams.popleft()
            if not self._streams:
                self._nothing_due()
        pending.done.callback(result)


_SINGLE: dict[type[Request], type[Answer]] = {Head: HeadIs, Follow: HeadIs, Hello: Welcome}
"""What is answered with one message, a FOLLOW at first."""
