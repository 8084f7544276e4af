"""A link of a given round trip and bandwidth, between two sockets on this machine.

    bench_proxy.py --target PORT [--round-trip MS] [--bandwidth MB/s]

Prints ``listening on PORT`` and forwards every connection to 127.0.0.1:TARGET. Each
direction is a line of its own: bytes enter it no faster than the bandwidth allows, and
leave it half a round trip later. When a connection is over it prints ``carried A B``: bytes
to the target, bytes back. At most `QUEUED_SECONDS` of bytes wait in front of the
line; then the sender is read no further, as with a full socket buffer.

What it does not do: lose or reorder, delay the making of the connection, or limit what
is under way as TCP's own windows do. Programs meet here the best that they can do on
such a link. It runs in a process of its own, until it is ended.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import socket
import sys
import threading
import time
from typing import NamedTuple

READ_SIZE = 256 * 1024
QUEUED_SECONDS = 0.01
HELD_LIMIT = 256 * 1024 * 1024
"""Bytes under way in one direction; more than bandwidth × delay of what is measured."""
SMALLEST_SLEEP = 0.0002
BUFFER = 4 * 1024 * 1024
"""Socket buffers asked for: a sleep must not empty or fill them."""


class Link(NamedTuple):
    """Seconds for one direction, and bytes a second in it; 0 is no limit."""

    delay: float
    bandwidth: float


class Line:
    """One direction of one connection: two threads, and the bytes between them."""

    def __init__(self, source: socket.socket, target: socket.socket, link: Link) -> None:
        self._source = source
        self._target = target
        self._link = link
        self._changed = threading.Condition()
        self._under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        self._held = 0
        self._broken = False
        self.carried = 0
        """Bytes that entered."""

    def start(self) -> list[threading.Thread]:
        """Begin to forward, in two threads that end with the connection."""
        threads = [threading.Thread(target=f, daemon=True) for f in (self._read, self._write)]
        for thread in threads:
            thread.start()
        return threads

    def _read(self) -> None:
        free_at = time.monotonic()
        data = b"first"
        while data and not self._broken:
            data = _received(self._source)
            self.carried += len(data)
            now = time.monotonic()
            free_at = max(now, free_at) + self._seconds(len(data))
            self._put(free_at + self._link.delay, data)
            _sleep_until(free_at - QUEUED_SECONDS)

    def _seconds(self, size: int) -> float:
        return size / self._link.bandwidth if self._link.bandwidth else 0.0

    def _put(self, due: float, data: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < HELD_LIMIT or self._broken)
            self._under_way.append((due, data))
            self._held += len(data)
            self._changed.notify_all()

    def _write(self) -> None:
        data = b"first"
        while data and not self._broken:
            with self._changed:
                self._changed.wait_for(lambda: self._under_way)
                due, data = self._under_way.popleft()
            _sleep_until(due)
            self._send(data)
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()

    def _send(self, data: bytes) -> None:
        """Send, or pass on that there will be no more; a broken end breaks the line."""
        try:
            if data:
                self._target.sendall(data)
            else:
                self._target.shutdown(socket.SHUT_WR)
        except OSError:
            self._broken = True
            with contextlib.suppress(OSError):
                self._source.shutdown(socket.SHUT_RD)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(READ_SIZE)
    except OSError:
        return b""


def _sleep_until(due: float) -> None:
    left = due - time.monotonic()
    if left > SMALLEST_SLEEP:
        time.sleep(left)


def serve(listening: socket.socket, target: int, link: Link) -> None:
    """Forward every connection made to `listening`, for ever."""
    while True:
        near, _ = listening.accept()
        threading.Thread(target=_forward, args=(near, target, link), daemon=True).start()


def _forward(near: socket.socket, target: int, link: Link) -> None:
    with near, socket.create_connection(("127.0.0.1", target)) as far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        there, back = Line(near, far, link), Line(far, near, link)
        for thread in there.start() + back.start():
            thread.join()
    print(f"carried {there.carried} {back.carried}", flush=True)


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--round-trip", type=float, default=0.0, help="milliseconds")
    parser.add_argument("--bandwidth", type=float, default=0.0, help="MB/s, 0 for no limit")
    given = parser.parse_args(arguments)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"listening on {listening.getsockname()[1]}", flush=True)
        serve(listening, given.target, Link(given.round_trip / 2000, given.bandwidth * 1e6))


if __name__ == "__main__":
    main(sys.argv[1:])
