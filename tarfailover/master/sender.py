"""Sends streamed answers under backpressure.

A pull producer: when the transport has sent what it had, the next chunk is written, and
the one after it is read ahead in a thread. A client that reads slowly costs
a few chunks of memory and nobody else's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from tarfailover.deadline import Deadline
from tarfailover.errors import PeerError, StoreError
from tarfailover.master.sources import Source
from tarfailover.wire.messages import Error, ErrorCode, framed

BEAT = 5.0
"""Seconds after which a client is shown that its answer is still being worked on."""
READ_AHEAD = 2
"""Chunks in memory beside the one that the transport is sending."""

InThread = Callable[..., "Deferred[Any]"]
"""Runs a function in one of the master's threads."""


@implementer(IPullProducer)
class Sender:
    """The streamed answers of one client, one after the other in the order of requests.

    `stalled` must not be running; it runs while the transport holds bytes that the
    client has not taken. `disk` runs while a chunk is read for longer than its source
    asks for patience. `failed` is called with what no peer can be blamed for, `done`
    after each answer.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        in_thread: InThread,
        stalled: Deadline,
        disk: Deadline,
        failed: Callable[[Failure], None],
        done: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._beat: IDelayedCall | None = None
        self._in_thread = in_thread
        self._stalled = stalled
        self._disk = disk
        self._failed = failed
        self._done = done
        self._sources: deque[Source] = deque()
        self._ready: deque[bytes] = deque()
        self._hungry = False
        self._reading = False
        self._registered = False
        self._stopped = False
        self.sent = 0

    @property
    def queued(self) -> int:
        """Answers that are not complete yet."""
        return len(self._sources)

    def submit(self, source: Source) -> None:
        """Send the answer of `source` after those submitted before."""
        if self._stopped:
            source.close()
            return
        self._sources.append(source)
        if not self._registered:
            self._registered = True
            self._hungry = False
            self._transport.registerProducer(self, False)
        self._read()

    # the transport calls these

    def resumeProducing(self) -> None:  # noqa: N802 - the interface's name
        """The transport has sent all it had: write what was read ahead, or be done."""
        self._hungry = True
        self._stalled.stop()
        self._write()
        self._finish()

    def stopProducing(self) -> None:  # noqa: N802 - the interface's name
        """The connection is gone."""
        self.stop()

    def stop(self) -> None:
        """Send no more, and let go of everything."""
        self._stopped = True
        self._stalled.stop()
        self._ready.clear()
        self._no_beat()
        if not self._reading:
            self._close_all()

    def _close_all(self) -> None:
        while self._sources:
            self._sources.popleft().close()

    # reading ahead and writing

    def _read(self) -> None:
        if self._reading or len(self._ready) >= READ_AHEAD or not self._sources:
            return
        self._reading = True
        self._work_on(self._sources[0], self._sources[0].patience)
        reading = self._in_thread(self._sources[0].next)
        reading.addCallbacks(self._chunk, self._error)
        reading.addErrback(self._failed)

    def _work_on(self, source: Source, patience: float) -> None:
        """Send a sign of life every few seconds, as long as the source may take."""
        if patience >= BEAT:
            self._beat = self._clock.callLater(BEAT, self._sign_of_life, source, patience - BEAT)
        else:
            self._disk.start()

    def _sign_of_life(self, source: Source, patience: float) -> None:
        self._beat = None
        if self._hungry and not self._ready:
            self._transport.write(source.sign_of_life)
        self._work_on(source, patience)

    def _read_ended(self) -> None:
        self._reading = False
        self._no_beat()

    def _no_beat(self) -> None:
        self._disk.stop()
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.cancel()

    def _chunk(self, chunk: bytes) -> None:
        self._read_ended()
        if self._stopped:
            self._close_all()
            return
        self._ready.append(chunk)
        if self._sources[0].ended:
            self._sources.popleft().close()
            self._done()
        self._write()
        self._read()

    def _error(self, failure: Failure) -> None:
        """An answer failed: the client is told, the answers behind it go on."""
        self._read_ended()
        if self._stopped:
            self._close_all()
            return
        told = _told(failure)
        source = self._sources.popleft()
        source.close()
        self._ready.append(framed(source.request, told))
        self._done()
        self._write()
        self._read()

    def _write(self) -> None:
        if not self._hungry or not self._ready or self._stopped:
            return
        chunk, self._hungry = self._ready.popleft(), False
        self.sent += len(chunk)
        self._stalled.start()
        self._transport.write(chunk)
        self._read()

    def _finish(self) -> None:
        """Unregister once everything was sent; not before, or a stall would go unseen."""
        if self._hungry and not self._sources and not self._ready and self._registered:
            self._registered = False
            self._transport.unregisterProducer()


def _told(failure: Failure) -> Error:
    """What the client is told of `failure`; raises what it cannot know anything about."""
    error = failure.value
    if isinstance(error, PeerError):
        return Error(error.code, error.text)
    if not isinstance(error, StoreError):
        failure.raiseException()
    return Error(ErrorCode.DAMAGED, str(error))
