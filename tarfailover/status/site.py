"""The pages ``/status`` and ``/health``, and what keeps strangers from leaning on them.

Nothing can be changed here. A request may be asked for by GET and HEAD, carries no body,
and names this machine by an address, as ``localhost`` or by a name that was configured:
a web page whose own name was bound to this address (DNS rebinding) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import (
    FORBIDDEN,
    NOT_ALLOWED,
    NOT_FOUND,
    OK,
    SERVICE_UNAVAILABLE,
    HTTPChannel,
)
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

MAX_CONNECTIONS = 32
"""Connections at a time; one more is closed at once."""
IDLE_SECONDS = 10.0
"""Without a line of a request, or between two."""
LIFE_SECONDS = 30.0
"""Of a connection, whatever it does."""

Report = Callable[[], "dict[str, Any]"]
"""All that ``/status`` shows; what JSON can hold."""
Health = Callable[[], "tuple[bool, str]"]
"""Whether all is well, and one word for it."""

_BODY = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 33\r\n\r\nno request here carries anything\n"
)


class Channel(HTTPChannel):
    """One connection, with an end."""

    _end: IDelayedCall | None = None
    _refused = False
    site: Any
    transport: Any

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Somebody connected."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.site.channels.add(self)
        self._end = self.site.reactor.callLater(LIFE_SECONDS, self._too_old)

    def _too_old(self) -> None:
        self._end = None
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The connection is gone."""
        end, self._end = self._end, None
        if end is not None:
            end.cancel()
        self.site.channels.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:  # noqa: N802
        """A body would be kept on the disk, however long: it is not read."""
        if self.length == 0:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]
            return
        self._refused = True
        self.transport.write(_BODY)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """A piece of a body."""
        if not self._refused:
            super().rawDataReceived(data)


Page = tuple[int, str, str]
"""Code, kind of content and text of an answer."""

_TEXT = "text/plain; charset=utf-8"
_ROOT = "/status  all there is to know, as JSON\n/health  one word"


class _Pages(Resource):
    """All pages: Twisted's own ones for errors are HTML, and repeat what was asked."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, report: Report, health: Health, names: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names | {"localhost"}
        self._report = report
        self._health = health

    def render(self, request: Request) -> bytes:
        """The answer to `request`."""
        code, kind, text = self._answer(request)
        body = f"{text}\n".encode()
        request.setResponseCode(code)
        for name, value in (*_HEADERS, ("Content-Type", kind), ("Content-Length", len(body))):
            request.setHeader(name, str(value))
        if code == NOT_ALLOWED:
            request.setHeader("Allow", "GET, HEAD")
        return b"" if request.method == b"HEAD" else body

    def _answer(self, request: Request) -> Page:
        if request.method not in (b"GET", b"HEAD"):
            return NOT_ALLOWED, _TEXT, "there is nothing to do here but GET and HEAD"
        if not self._is_meant(request.getHeader("Host") or "localhost"):
            return FORBIDDEN, _TEXT, "this machine has another name; see status.names"
        if request.path == b"/status":
            text = json.dumps(self._report(), indent=2, ensure_ascii=False)
            return OK, "application/json", text
        if request.path == b"/health":
            well, word = self._health()
            return (OK if well else SERVICE_UNAVAILABLE), _TEXT, word
        found = request.path == b"/"
        return (OK if found else NOT_FOUND), _TEXT, _ROOT

    def _is_meant(self, host: str) -> bool:
        if host.startswith("["):
            return isIPv6Address(host[1:].partition("]")[0])
        name = host.partition(":")[0].lower().rstrip(".")
        return name in self._names or isIPAddress(name)


_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Server", "tarfailover"),
)


class StatusSite(Site):
    """Serves `report` and `health` to whoever asks this machine by one of `names`."""

    protocol: Any = Channel
    noisy = False

    def __init__(self, reactor: Any, report: Report, health: Health, names: frozenset[str]) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            _Pages(report, health, names), timeout=IDLE_SECONDS, reactor=reactor
        )
        self.channels: set[Channel] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: N802 - Twisted's name
        """A channel for one more connection, if there is room."""
        if len(self.channels) >= MAX_CONNECTIONS:
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """Tell nothing of each request: monitors ask all the time."""

    def abort(self) -> None:
        """Cut off whoever is connected."""
        for channel in list(self.channels):
            channel.transport.abortConnection()
