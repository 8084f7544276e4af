"""Where a conversation is: names the phase to which each byte on the wire belongs.

In plain text the frames are on the wire itself. Below TLS nobody can see them, so `Tapped`
stands between Twisted's TLS and OpenSSL at either end: it knows which plaintext became which
record, and tells the phases of the encrypted bytes before they are written.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from OpenSSL import SSL

from tarfailover.wire import messages as m

Spans = list[tuple[int, str]]
"""Bytes in a row, and the phase that they belong to; '' is none."""

TLS, HELLO, HEAD, LIST, POLL = "tls", "hello", "head", "list", "poll"
GET, PART, END = "get", "part", "end"
AHEAD_LIST, AHEAD_PART, AHEAD_END = "ahead list", "ahead part", "ahead end"
"""What comes along with a head that was polled for."""
RECORD_HEADER = 5
"""Bytes before the encrypted ones in a TLS record: RFC 8446, 5.2."""

_LENGTH = 4
_KNOWN = _LENGTH + 1
_AHEAD = {LIST: AHEAD_LIST, PART: AHEAD_PART, END: AHEAD_END}
_NAMES = {
    m.Hello.TYPE: HELLO,
    m.Welcome.TYPE: HELLO,
    m.Head.TYPE: HEAD,
    m.HeadIs.TYPE: HEAD,
    m.Follow.TYPE: HEAD,
    m.List.TYPE: LIST,
    m.Listed.TYPE: LIST,
    m.ListEnd.TYPE: LIST,
    m.Get.TYPE: GET,
    m.Blob.TYPE: GET,
    m.Part.TYPE: PART,
    m.Packed.TYPE: PART,
    m.End.TYPE: END,
    m.BlobEnd.TYPE: END,
}


class Frames:
    """One direction of a conversation, frame by frame."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        """Frames that began, by the first word of their phase."""
        self._header = b""
        self._left = 0
        self._phase = ""

    def feed(self, data: bytes) -> Spans:
        """The phases of the next bytes; a header that is cut in two has none for its first half."""
        return list(self._spans(data))

    def _spans(self, data: bytes) -> Iterator[tuple[int, str]]:
        while data:
            if self._left:
                size = min(self._left, len(data))
                self._left -= size
                data = data[size:]
                yield size, self._phase
                continue
            size = min(_KNOWN - len(self._header), len(data))
            self._header += data[:size]
            data = data[size:]
            if len(self._header) < _KNOWN:
                yield size, ""
            else:
                self._begin()
                yield size, self._phase

    def _begin(self) -> None:
        """A frame begins: at least its type is in its header."""
        header, self._header = self._header, b""
        self._left = int.from_bytes(header[:_LENGTH], "big") - 1
        name = _NAMES.get(header[_LENGTH], "other")
        number = self.count[name]
        self.count[name] += 1
        if name == HEAD:
            self._phase = POLL if number else HEAD
        elif self.count[HEAD] > 1 and name in _AHEAD:
            self._phase = _AHEAD[name]
        else:
            self._phase = f"{name} {number}" if name in (GET, PART, END) else name


class Marks:
    """The phases of the bytes of one direction, in the order in which they are written."""

    def __init__(self) -> None:
        self.sizes: Counter[str] = Counter()
        """Bytes of each phase so far."""
        self._spans: deque[tuple[int, str]] = deque()

    def add(self, spans: Spans) -> None:
        """Bytes are about to be written."""
        self._spans += [span for span in spans if span[0]]
        for size, phase in spans:
            self.sizes[phase] += size

    def split(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """The next bytes off the wire, cut where a phase ends."""
        while data:
            size, phase = self._spans.popleft()
            if size > len(data):
                self._spans.appendleft((size - len(data), phase))
            yield data[:size], phase
            data = data[size:]


class Tapped:
    """A TLS connection of OpenSSL that tells `mark` what each encrypted byte is for."""

    def __init__(self, connection: SSL.Connection, mark: Callable[[Spans], None]) -> None:
        self._real: Any = connection
        self._mark = mark
        self._frames = Frames()
        self._out = bytearray()
        self._phase = TLS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, data: bytes) -> int:
        """As the connection's: one record, if it takes any of `data`."""
        self._collect()
        sent: int = self._real.send(data)
        self._phase = ""
        self._collect(self._frames.feed(data[:sent]))
        return sent

    def bio_read(self, size: int) -> bytes:
        """As the connection's."""
        self._collect()
        if not self._out:
            raise SSL.WantReadError
        data = bytes(self._out[:size])
        del self._out[:size]
        return data

    def _collect(self, inside: Spans | None = None) -> None:
        """Take what OpenSSL has for the wire: the record around `inside`, or something of TLS."""
        made = b""
        while True:
            try:
                made += self._real.bio_read(2**15)
            except SSL.Error:
                break
        self._out += made
        if inside:
            trailer = len(made) - RECORD_HEADER - sum(size for size, _ in inside)
            assert trailer >= 0, "nothing was encrypted"
            self._mark([(RECORD_HEADER, inside[0][1]), *inside, (trailer, inside[-1][1])])
        elif made:
            self._mark([(len(made), self._phase)])
