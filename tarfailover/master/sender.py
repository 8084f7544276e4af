"""Sends streamed answers under backpressure.

A pull producer: when the transport has sent what it had, the next chunk is written. It is
read at once if it is in the kernel's memory already; else a thread reads, and reads ahead.
A client that reads slowly costs a few chunks of memory and nobody else's time. Under a
throttle a chunk goes in slices, each when its time has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from tarfailover.deadline import Deadline
from tarfailover.errors import PeerError, StoreError
from tarfailover.master.balance import Taken
from tarfailover.master.packing import Packing
from tarfailover.master.sources import Source
from tarfailover.master.throttle import Lane
from tarfailover.wire.compression import Packer
from tarfailover.wire.messages import Error, ErrorCode, framed

BEAT = 5.0
"""Seconds after which a client is shown that its answer is still being worked on."""
_PREFIX = 4
READ_AHEAD = 2
"""Chunks in memory beside the one that the transport is sending."""
PATIENT = 8
"""Chunks for which threads are used, after one that was not in the kernel's memory."""

InThread = Callable[..., "Deferred[Any]"]
"""Runs a function in one of the master's threads."""


class Chunk(NamedTuple):
    """What a source gave."""

    data: bytes
    size: int = 0
    """Bytes of segments in it, before compression."""
    worked: float = 0.0
    """Seconds that a thread took."""
    packed: bool = False


class _Slices:
    """A chunk that is written in slices; knows where in it a frame ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._frame_end = 0

    @property
    def left(self) -> int:
        """Bytes that are not written yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or as many as there are."""
        begin, self._at = self._at, min(self._at + size, len(self._data))
        whole = begin == 0 and not self.left
        return self._data if whole else self._data[begin : self._at]

    def rest_of_frame(self) -> bytes:
        """The bytes up to where another frame may be written."""
        while self._frame_end < self._at:
            begin = self._frame_end
            length = int.from_bytes(self._data[begin : begin + _PREFIX], "big")
            self._frame_end = begin + _PREFIX + length
        return self.take(self._frame_end - self._at)


@implementer(IPullProducer)
class Sender:
    """All that goes to one client; streamed answers one after the other, in the order of requests.

    `stalled` must not be running; it runs while the transport holds bytes that the
    client has not taken. `disk` runs while a chunk is read for longer than its source
    asks for patience. `failed` is called with what no peer can be blamed for, `done`
    after each answer that was read, `drained` when the transport has taken them all.
    `packing` is set once compression was agreed on.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        in_thread: InThread,
        lane: Lane,
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
        self._ready: deque[Chunk] = deque()
        self._lane = lane
        self._asking = False
        """Whether the lane has yet to say when the next slice may go."""
        self._chunk: Chunk | None = None
        """The one that is being written, in `_slices`."""
        self._slices = _Slices(b"")
        self._since = self._starved = self._waited = 0.0
        self._hungry = False
        self._reading = False
        self._patient = 0
        """Chunks that threads are still to read, however fast it might go without them."""
        self._registered = False
        self._stopped = False
        self.drained: Callable[[], None] = _nothing
        self.packing: Packing | None = None
        self.sent = 0
        """Bytes of streamed answers as they went to the transport."""
        self.unpacked = 0
        """Bytes of segments in these, before compression."""

    @property
    def queued(self) -> int:
        """Answers that are not complete yet."""
        return len(self._sources)

    @property
    def busy(self) -> bool:
        """Whether the transport has not taken all yet."""
        return bool(self._sources or self._ready or self._chunk)

    def submit(self, source: Source) -> None:
        """Send the answer of `source` after those submitted before."""
        if self._stopped:
            source.close()
            return
        self._sources.append(source)
        if not self._registered:
            self._registered = True
            self._hungry = False
            self._since = self._starved = self._clock.seconds()
            self._transport.registerProducer(self, False)
        self._read()

    def say(self, frame: bytes) -> None:
        """Write a frame now, between two frames of what is under way; it is not held back."""
        rest = self._slices.rest_of_frame()
        self.sent += len(rest)
        self._lane.spent(len(rest) + len(frame))
        self._transport.write(rest + frame)

    # the transport calls these

    def resumeProducing(self) -> None:  # noqa: N802 - the interface's name
        """The transport has sent all it had: write what was read ahead, or be done."""
        self._hungry = True
        self._stalled.stop()
        self._advance()

    def stopProducing(self) -> None:  # noqa: N802 - the interface's name
        """The connection is gone."""
        self.stop()

    def stop(self) -> None:
        """Send no more, and let go of everything."""
        self._stopped = True
        self._stalled.stop()
        self._lane.leave()
        self._ready.clear()
        self._no_beat()
        if not self._reading:
            self._close_all()

    def _close_all(self) -> None:
        while self._sources:
            self._sources.popleft().close()

    # reading ahead and writing

    def _read(self) -> None:
        """Read ahead, in a thread, what is not to be read at once when its turn comes."""
        if self._reading or len(self._ready) >= READ_AHEAD or not self._sources:
            return
        source, packer = self._sources[0], self._packer()
        if self._at_once(source, packer):
            return
        self._reading = True
        self._patient = max(0, self._patient - 1)
        self._work_on(source, source.patience)
        reading = self._in_thread(_next, self._clock, source, packer)
        reading.addCallbacks(self._was_read, self._error)
        reading.addErrback(self._failed)

    def _packer(self) -> Packer | None:
        return self.packing.packer(self._lane.rate) if self.packing else None

    def _at_once(self, source: Source, packer: Packer | None) -> Callable[[], bytes | None] | None:
        """What reads the next chunk without a thread, if it is worth a try."""
        return source.at_once if packer is None and not self._patient else None

    def _read_now(self) -> None:
        """Have the next chunk ready if it is in the kernel's memory, or have a thread read it."""
        if self._reading or not self._sources:
            return
        at_once = self._at_once(self._sources[0], self._packer())
        if at_once is None:
            self._read()
            return
        reading = maybeDeferred(at_once)
        reading.addCallbacks(self._was_in_memory, self._refuse, (self._clock.seconds(),))
        reading.addErrback(self._failed)

    def _was_in_memory(self, data: bytes | None, began: float) -> None:
        if data is None:
            self._patient = PATIENT
            self._read()
        else:
            seconds = self._clock.seconds() - began
            self._have(Chunk(data, self._sources[0].size, seconds))

    def _work_on(self, source: Source, patience: float) -> None:
        """Send a sign of life every few seconds, as long as the source may take."""
        if patience >= BEAT:
            self._beat = self._clock.callLater(BEAT, self._sign_of_life, source, patience - BEAT)
        else:
            self._disk.start()

    def _sign_of_life(self, source: Source, patience: float) -> None:
        self._beat = None
        if self._hungry and not self._ready and self._chunk is None:
            self.say(source.sign_of_life)
        self._work_on(source, patience)

    def _read_ended(self) -> None:
        self._reading = False
        self._no_beat()

    def _no_beat(self) -> None:
        self._disk.stop()
        beat, self._beat = self._beat, None
        if beat is not None:
            beat.cancel()

    def _was_read(self, chunk: Chunk) -> None:
        self._read_ended()
        if self._stopped:
            self._close_all()
            return
        self._have(chunk)
        self._write()
        self._read()

    def _have(self, chunk: Chunk) -> None:
        self._ready.append(chunk)
        if self._sources[0].ended:
            self._sources.popleft().close()
            self._done()

    def _error(self, failure: Failure) -> None:
        self._read_ended()
        if self._stopped:
            self._close_all()
            return
        self._refuse(failure)
        self._write()
        self._read()

    def _refuse(self, failure: Failure) -> None:
        """An answer failed: the client is told, the answers behind it go on."""
        told = _told(failure)
        if self.packing is not None:
            self.packing.rest()  # what was packed last is perhaps not sent
        source = self._sources.popleft()
        source.close()
        self._ready.append(Chunk(framed(source.request, told)))
        self._done()

    def _advance(self) -> None:
        """Go on: the transport holds nothing any more."""
        if self._chunk is not None and not self._slices.left:
            self._taken_whole(self._chunk)
            self._chunk = None
        self._write()
        self._finish()

    def _write(self) -> None:
        if not self._hungry or self._stopped or self._asking:
            return
        if self._chunk is None and not self._begin_chunk():
            return
        self._asking = True
        self._lane.ask(self._slices.left, self._granted)

    def _begin_chunk(self) -> bool:
        """Take the next chunk for writing, if there is one."""
        if not self._ready:
            self._read_now()
        if not self._ready:
            return False
        self._chunk = self._ready.popleft()
        self._slices = _Slices(self._chunk.data)
        self._waited = self._clock.seconds() - self._starved
        self._read()
        return True

    def _granted(self, size: int) -> None:
        self._asking = False
        if self._stopped:
            return
        if not self._slices.left:  # it went with a frame that was not held back
            self._advance()
            return
        self._hungry = False
        data = self._slices.take(size)
        self.sent += len(data)
        self._stalled.start()
        self._transport.write(data)

    def _taken_whole(self, chunk: Chunk) -> None:
        """Measure: the transport has taken all of a chunk."""
        now = self._clock.seconds()
        seconds, self._since, self._starved = now - self._since, now, now
        self.unpacked += chunk.size
        if self.packing and chunk.size and chunk.packed == self.packing.balance.on:
            self.packing.balance.sent(
                Taken(chunk.size, len(chunk.data), seconds, self._waited, chunk.worked)
            )

    def _finish(self) -> None:
        """Unregister once everything was sent; not before, or a stall would go unseen."""
        if self._hungry and self._registered and not self.busy:
            if self.packing is not None:
                self.packing.rest()
            self._registered = False
            self._transport.unregisterProducer()
            self.drained()


def _nothing() -> None:
    pass


def _next(clock: IReactorTime, source: Source, packer: Packer | None) -> Chunk:
    """The next chunk of `source`; runs in a thread."""
    began = clock.seconds()
    data = source.next(packer)
    return Chunk(data, source.size, clock.seconds() - began, packer is not None)


def _told(failure: Failure) -> Error:
    """What the client is told of `failure`; raises what it cannot know anything about."""
    error = failure.value
    if isinstance(error, PeerError):
        return Error(error.code, error.text)
    if not isinstance(error, StoreError):
        failure.raiseException()
    return Error(ErrorCode.DAMAGED, str(error))
