"""A slow line between a slave and its master: forwards one TCP port to another.

Knows nothing of what it carries. Towards the slave it lets through so many bytes a second,
and, if told so, no more than so many in all: then it stands still until it is told otherwise.
So a copy can be caught in its middle on a machine of any speed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType

PIECE = 64 * 1024
LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10


class SlowLine:
    """Listens on the loopback port `port` and forwards each connection to `target`.

    `rate` is in bytes a second, towards the slave. A context manager; at its end every
    connection is cut and every thread has ended.
    """

    def __init__(self, target: int, rate: float) -> None:
        self.passed = 0
        """Bytes let through towards the slave, all connections together."""
        self._target = target
        self._rate = rate
        self._limit: int | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def limit(self, size: int | None) -> None:
        """Let no more than `size` bytes through in all; None: as many as come."""
        with self._changed:
            self._limit = size
            self._changed.notify_all()

    @property
    def stands(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and self.passed >= self._limit

    def __enter__(self) -> SlowLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            cut = [self._listener, *self._sockets]
        for each in cut:
            _cut(each)
        for thread in self._threads:
            thread.join()
        for each in cut:
            each.close()

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed: the end
            while True:
                slave, _ = self._listener.accept()
                self._connect(slave)

    def _connect(self, slave: socket.socket) -> None:
        try:
            master = socket.create_connection((LOOPBACK, self._target), CONNECT_SECONDS)
        except OSError:  # the master is not there: to the slave it looks just like that
            slave.close()
            return
        master.settimeout(None)
        with self._changed:
            self._sockets += [slave, master]
            closed = self._closed
        if closed:
            _cut(slave)
            _cut(master)
        self._start(self._forward, slave, master, False)
        self._start(self._forward, master, slave, True)

    def _forward(self, source: socket.socket, target: socket.socket, slowly: bool) -> None:
        with contextlib.suppress(OSError):  # one side is gone: so is the other, below
            while data := source.recv(PIECE):
                if slowly:
                    self._pass(len(data))
                target.sendall(data)
        _cut(source)
        _cut(target)

    def _pass(self, size: int) -> None:
        """Wait until `size` more bytes may pass; raises ConnectionError at the end."""
        time.sleep(size / self._rate)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self.stands)
            if self._closed:
                raise ConnectionAbortedError("the line is closed")
            self.passed += size


def _cut(each: socket.socket) -> None:
    """End both directions, which wakes whoever waits for this socket."""
    with contextlib.suppress(OSError):  # it is not connected any more
        each.shutdown(socket.SHUT_RDWR)
