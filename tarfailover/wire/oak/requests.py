"""What a standby asks: one line each, ``Standby-CMD@client:body`` and a line end.

Facts: the standby protocol, sections 2.2 and 2.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from tarfailover.errors import ProtocolError
from tarfailover.ids import SegmentId, text
from tarfailover.wire.fields import printable
from tarfailover.wire.oak.limits import MAX_LINE

PREFIX = "Standby-CMD@"
LINE_END = b"\r\n"

_SHOWN = 80
"""Characters of a line that are shown to people."""
_NOT_A_NAME = re.compile(r'[:"\x00-\x1f\x7f-\x9f\u2028\u2029]')
_UUID = re.compile("-".join(["([0-9a-fA-F]{1,32})"] * 5))
_UUID_LENGTH = 36
_UUID_SIZES = (4, 2, 2, 2, 6)


@dataclass(frozen=True)
class GetHead:
    """``h``: the record id of the persisted head."""

    @property
    def body(self) -> str:
        """Behind the colon."""
        return "h"


@dataclass(frozen=True)
class GetSegment:
    """``s.uuid``: the bytes of a segment."""

    segment: SegmentId

    @property
    def body(self) -> str:
        """Behind the colon."""
        return f"s.{text(self.segment)}"


@dataclass(frozen=True)
class GetReferences:
    """``r.uuid``: what a data segment refers to.

    `written` is the id as the standby wrote it, which the answer repeats.
    """

    segment: SegmentId
    written: str = field(default="", compare=False)

    @property
    def body(self) -> str:
        """Behind the colon."""
        return f"r.{self.written or text(self.segment)}"


@dataclass(frozen=True)
class GetBlob:
    """``b.id``: the bytes of a blob, whole."""

    blob: str

    @property
    def body(self) -> str:
        """Behind the colon."""
        return f"b.{self.blob}"


Request = GetHead | GetSegment | GetReferences | GetBlob


class Asked(NamedTuple):
    """A request, and the name that the standby gives itself."""

    client: str
    request: Request


class Ignored(NamedTuple):
    """A line that is no request: Oak passes over it, and so must we."""

    why: str


def client_name(name: str) -> str:
    """`name` without what ends it in a line, or breaks the name of a bean in Oak."""
    return _NOT_A_NAME.sub("#", name)


def line(client: str, request: Request) -> bytes:
    """The line of `request`; raises ProtocolError for one that Oak would not read."""
    written = f"{PREFIX}{client_name(client)}:{request.body}".encode("utf-8", "replace")
    if len(written) > MAX_LINE or b"\n" in written or b"\r" in written:
        raise ProtocolError(
            f"no line can ask for {printable(request.body[:_SHOWN])}: {len(written)} bytes"
        )
    return written + LINE_END


class LineParser:
    """Takes the bytes of one connection, gives its requests; keeps at most one line.

    Raises ProtocolError for a line that is too long, as soon as it is: Oak would swallow
    it for ever. After that it must not be fed any more.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def between(self) -> bool:
        """Whether nothing of a line has come that has not ended."""
        return not self._rest

    def feed(self, data: bytes) -> list[Asked | Ignored]:
        """The requests that `data` completes, in order."""
        *lines, rest = (self._rest + data).split(b"\n")
        found = [_parsed(_checked(each.removesuffix(b"\r"))) for each in lines]
        _checked(rest.removesuffix(b"\r"))
        self._rest = rest
        return found


def _checked(written: bytes) -> bytes:
    if len(written) > MAX_LINE:
        raise ProtocolError(f"a line of more than {MAX_LINE} bytes; is this an Oak standby?")
    return written


def _parsed(written: bytes) -> Asked | Ignored:
    told = written.decode("utf-8", "replace")
    if not told.startswith(PREFIX):
        return Ignored(f"{_shown(told)} does not begin with {PREFIX}")
    client, colon, body = told.removeprefix(PREFIX).partition(":")
    if not colon:
        return Ignored(f"{_shown(told)} has no colon behind the name of the client")
    request = _request(body)
    return request if isinstance(request, Ignored) else Asked(client, request)


def _request(body: str) -> Request | Ignored:
    if body in ("h", "H"):
        return GetHead()
    verb, written = body[:2], body[2:]
    if verb == "b.":
        return GetBlob(written)
    if verb not in ("s.", "r."):
        return Ignored(f"{_shown(body)} asks for nothing that is known")
    segment = _lenient(written)
    if segment is None:
        return Ignored(f"{_shown(written)} is not a UUID")
    return GetSegment(segment) if verb == "s." else GetReferences(segment, written)


def _lenient(written: str) -> SegmentId | None:
    """A UUID as Java reads it: five groups of hex digits, the low ones of each count."""
    match = _UUID.fullmatch(written) if len(written) <= _UUID_LENGTH else None
    if match is None:
        return None
    groups = zip(match.groups(), _UUID_SIZES, strict=True)
    return b"".join(bytes.fromhex(digits.zfill(2 * n)[-2 * n :]) for digits, n in groups)


def _shown(written: str) -> str:
    return printable(written[:_SHOWN])
