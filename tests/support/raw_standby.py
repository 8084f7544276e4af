"""A standby on a plain socket, for beside real Oak: says any line, and keeps what comes."""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from tarfailover.wire.oak.answers import HEAD
from tarfailover.wire.oak.snappy import Unpacker

SECONDS = 20.0
"""For each byte that must come."""
_LENGTH = struct.Struct(">I")
_KIND = 4
"""Where in a frame its type is."""


class RawSocket:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._unpacker = Unpacker()
        self._plain = bytearray()

    def ask(self, *bodies: str) -> list[bytes]:
        """The frames that answer `bodies` and a question for the head behind them.

        The last one answers that question, unless the connection ended before.
        """
        asked = [*bodies, "h"]
        self._socket.sendall(b"".join(f"Standby-CMD@raw:{each}\r\n".encode() for each in asked))
        frames: list[bytes] = []
        heads = sum(each in ("h", "H") for each in asked)
        while heads:
            while (frame := self._frame()) is None:
                if not self._read():
                    return frames
            frames.append(frame)
            heads -= frame[_KIND] == HEAD
        return frames

    def _read(self) -> bool:
        """More bytes; False if there are no more."""
        try:
            data = self._socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        for piece in self._unpacker.feed(data):
            self._plain += piece
        return bool(data)

    def _frame(self) -> bytes | None:
        if len(self._plain) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._plain)[0]
        if len(self._plain) < end:
            return None
        frame = bytes(self._plain[:end])
        del self._plain[:end]
        return frame

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def answered(port: int, *bodies: str) -> list[bytes]:
    """`RawSocket.ask` on a connection of its own."""
    with RawSocket(port) as standby:
        return standby.ask(*bodies)
