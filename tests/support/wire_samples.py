"""Vectors, messages, strategies and a receiver for the tests of the native dialect."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from format_samples import ids, numbers
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver

from tarfailover.errors import ProtocolError
from tarfailover.ids import Generation, RecordId
from tarfailover.wire import messages as m

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "wire"

T = TypeVar("T")

DATA = bytes.fromhex("c7c4568a55a24052ab61df77298103ae")
BULK = bytes.fromhex("87c4568a55a24052bb61df77298103ae")
HEAD = RecordId(DATA, 5)
BLOB = "28b4f41a7f3ee6d8cc87272db6e09c6d3566551fd4d18702b041a21658272a85#1048582"
_ONES = 2**32 - 1
ZSTD_HEADER = bytes.fromhex("28b52ffd 00 48")
"""RFC 8878, 3.1.1.1: the magic number, no size of the content, a window of 2^19 bytes."""

MESSAGES: dict[str, tuple[int, m.Request | m.Answer]] = {
    "hello": (1, m.Hello("standby-1", ("zstd", "blobs-by-digests"), 1, 3)),
    "hello without a name": (0, m.Hello("")),
    "hello with a token": (1, m.Hello("oak", (), 1, 1, "open sesame")),
    "welcome": (1, m.Welcome(1, ("zstd",), "café author", 7, "tarfailover 1.0.0")),
    "head of a fresh slave": (2, m.Head(None, 0)),
    "head of a slave that follows": (3, m.Head(HEAD, 600_000)),
    "head is": (3, m.HeadIs(HEAD, 1786478610385, Generation(2, 1, compacted=True), known=False)),
    "head is, all bits set": (
        _ONES,
        m.HeadIs(
            RecordId(b"\xff" * 16, _ONES),
            2**64 - 1,
            Generation(_ONES, _ONES, compacted=True),
            known=True,
        ),
    ),
    "follow": (3, m.Follow(HEAD, 20_000, struct.pack(">IcQ", 0, b"a", 0x4A00))),
    "follow without a cursor": (3, m.Follow(HEAD, 0, b"", 0)),
    "list of all": (4, m.List(DATA)),
    "list of what is new": (5, m.List(DATA, struct.pack(">IcQ", 0, b"a", 0x4A00))),
    "listed": (4, m.Listed(2, 384, BULK + b"\0\0\0\xc0" + DATA + b"\0\0\0\xc0")),
    "listed nothing": (5, m.Listed(0, 0, b"")),
    "list end": (4, m.ListEnd(struct.pack(">IcQ", 0, b"b", 0x1400))),
    "get": (6, m.Get((BULK, DATA))),
    "digest": (8, m.Digest((BULK, DATA), bytes(range(16)))),
    "part": (6, m.Part(BULK[:6])),
    "packed": (6, m.Packed(True, ZSTD_HEADER + b"\x30\0\0abcdef")),
    "packed, going on": (6, m.Packed(False, b"\x52\0\0x\x30\0\0ghijkl")),
    "end": (6, m.End(2, 432)),
    "ping": (7, m.Ping()),
    "pong": (7, m.Pong()),
    "blob": (8, m.Blob(BLOB, 2**20, 2**20)),
    "blob end": (8, m.BlobEnd(2**20 + 6, 6, 0x5E1A3B2C)),
    "blob end of an empty one": (9, m.BlobEnd(0, 0, 0)),
    "error": (6, m.Error(m.ErrorCode.SEGMENT_GONE, "the segment was compacted")),
    "error of a newer master": (0, m.Error(0xFFFF, "?")),
}
"""Number of the request, and message, of every vector in ``messages.hex``."""


def vectors(name: str) -> list[tuple[str, bytes]]:
    """The heading and the bytes of every vector in ``tests/vectors/wire/NAME.hex``.

    Behind a line ``== HEADING`` come lines of hex digits or text in double quotes; a
    comment begins with the hash sign.
    """
    found: list[tuple[str, bytes]] = []
    for line in (VECTORS / f"{name}.hex").read_text("utf-8").splitlines():
        if line.startswith("== "):
            found.append((line[3:], b""))
            continue
        pieces = line.partition("#")[0].split('"')
        data = b"".join(p.encode() if at % 2 else bytes.fromhex(p) for at, p in enumerate(pieces))
        if data:
            found[-1] = found[-1][0], found[-1][1] + data
    return found


def value_or_refusal(decode: Callable[[], T]) -> T | None:
    """What `decode` returns, or None if it raises ProtocolError; any other exception passes."""
    try:
        return decode()
    except ProtocolError as error:
        refused = error
    assert str(refused)
    return None


class Receiver(Int32StringReceiver):
    """Keeps the frames that Twisted's framing finds, and the lengths that it refuses."""

    def __init__(self, limit: int) -> None:
        self.MAX_LENGTH = limit
        self.frames: list[bytes] = []
        self.refused: list[int] = []

    def stringReceived(self, string: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Keep a frame."""
        self.frames.append(string)

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802 -- Twisted's name
        """Keep a length."""
        self.refused.append(length)


def frames(data: bytes, limit: int = m.MAX_ANSWER_FRAME) -> list[bytes]:
    """The frames that Twisted finds in `data`, all of it at once, and nothing besides."""
    receiver = Receiver(limit)
    receiver.dataReceived(data)
    assert sum(4 + len(frame) for frame in receiver.frames) == len(data)
    return receiver.frames


def sent(frame: bytes) -> bytes:
    """What Twisted writes for `frame`."""
    receiver, transport = Receiver(0), StringTransport()
    receiver.makeConnection(transport)
    receiver.sendString(frame)
    return transport.value()


longs = st.integers(0, 2**64 - 1)
shorts = st.integers(0, 2**16 - 1)
texts = st.text(max_size=256)
"""Up to 1024 bytes of UTF-8."""
features = st.lists(st.text(max_size=16), max_size=32).map(tuple)
"""Up to 64 bytes of UTF-8 each."""
tokens = st.text(max_size=64)
"""Up to 256 bytes of UTF-8."""
blob_ids = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1024)
cursors = st.binary(max_size=64)
records = st.builds(RecordId, ids, numbers)
generations = st.builds(Generation, numbers, numbers, st.booleans())
ranges = st.lists(shorts, min_size=2, max_size=2).map(sorted)

hellos = ranges.flatmap(
    lambda both: st.builds(m.Hello, texts, features, *map(st.just, both), tokens)
)
requests = st.one_of(
    hellos,
    st.builds(m.Head, st.none() | records, st.integers(0, 600_000)),
    st.builds(m.Follow, records, st.integers(0, 600_000), cursors, st.integers(0, m.MAX_AHEAD)),
    st.builds(m.List, ids, cursors),
    st.builds(m.Get, st.lists(ids, min_size=1, max_size=40).map(tuple)),
    st.builds(
        m.Digest,
        st.lists(ids, min_size=1, max_size=40).map(tuple),
        st.binary(min_size=m.SALT_SIZE, max_size=m.SALT_SIZE),
    ),
    st.just(m.Ping()),
    st.builds(m.Blob, blob_ids, longs, st.integers(1, 2**20)),
)
answers = st.one_of(
    st.builds(m.Welcome, shorts, features, texts, longs, texts),
    st.builds(m.HeadIs, records, longs, generations, st.booleans()),
    st.builds(
        m.Listed, numbers, longs, st.lists(st.binary(min_size=20, max_size=20)).map(b"".join)
    ),
    st.builds(m.ListEnd, cursors),
    st.builds(m.Part, st.binary(min_size=1)),
    st.builds(m.Packed, st.booleans(), st.binary(min_size=1)),
    st.builds(m.End, numbers, longs),
    st.just(m.Pong()),
    st.builds(m.BlobEnd, longs, st.integers(0, 2**20), numbers),
    st.builds(m.Error, shorts, texts),
)
