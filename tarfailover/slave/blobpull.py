"""Brings the external binaries of one head: drives a `BlobTransfer` over a connection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.errors import LinkError, PeerError
from tarfailover.ids import SegmentId
from tarfailover.slave.blobcopy import BlobCopy, Chunk, Look, Taken
from tarfailover.slave.link import Link
from tarfailover.slave.pull import BACKLOG_HIGH, BACKLOG_LOW, InThread
from tarfailover.sync import BlobTransfer, Slice, Unit, Window
from tarfailover.sync.blobs import BlobProgress
from tarfailover.wire.messages import ErrorCode

AT_ONCE = 128
"""Files that are stored in one call: each waits for the disk several times."""
BATCH = 8 * 1024 * 1024
"""Bytes that are written in one call, at the most about."""

NO_BLOBS = (
    "binaries of an external blob store are lacking, and the master gives none: name its "
    "blob_store there, or update it if it is too old; or remove this slave's blob_store"
)


class BlobPull:
    """One attempt to bring what the closure of the head in segment `head` lacks.

    `done` fires with the files that cannot be had, and why: {} if all is there. It fails with
    a LinkError or a StoreError; what came of a file stays, and the next attempt goes on there.
    `look` says what is looked up.
    """

    log = Logger()

    def __init__(
        self,
        link: Link,
        copy: BlobCopy,
        in_thread: InThread,
        head: SegmentId,
        window: Window,
        look: Look,
    ) -> None:
        self.done: Deferred[Mapping[str, str]] = Deferred(self._cancelled)
        self._link = link
        self._copy = copy
        self._in_thread = in_thread
        self._head = head
        self._look_for = look
        self._transfer = BlobTransfer(window, link.blob_step)
        self._chunks: list[Chunk] = []
        self._complete: list[str] = []
        self._backlog = 0
        self._busy = True
        """Whether the thread is at something of this."""
        self._finished = False
        self._here: dict[str, str] = {}
        """What a shared store lacks."""

    def start(self) -> Deferred[Mapping[str, str]]:
        """Begin; returns `done`."""
        begun = self._in_thread(self._copy.begin, self._head, self._look_for)
        begun.addCallback(self._look).addErrback(self._fail)
        return self.done

    def progress(self) -> BlobProgress:
        """How far it is."""
        return self._transfer.progress()

    # looking up

    def _look(self, _: object = None) -> None:
        if not self._finished:
            looked = self._in_thread(self._copy.look)
            looked.addCallback(self._looked).addErrback(self._fail)

    def _looked(self, units: list[Unit] | None) -> None:
        if units is None:
            self._busy = False
            self._go_on()
            return
        if self._copy.shared:
            why = f"it is not in the shared {self._copy.store.path}"
            self._here.update((unit.blob, why) for unit in units)
        elif units and not self._link.gives_blobs:
            raise PeerError(ErrorCode.NO_BLOBS, NO_BLOBS)
        else:
            self._transfer.wanted(units)
        self._look()

    # bringing

    def _go_on(self) -> None:
        """Ask for as much as may be asked for; hand over what came; see whether this was all."""
        if self._finished:
            return
        while (asked := self._next()) is not None:
            on_bytes = partial(self._came, [asked.offset], asked.blob)
            answer = self._link.blob(asked.blob, asked.offset, asked.most, on_bytes)
            answer.addCallbacks(
                self._answered, self._refused, callbackArgs=(asked,), errbackArgs=(asked,)
            ).addErrback(self._fail)
        self._complete += self._transfer.complete()
        self._hand_over()
        if self._transfer.idle and not self._busy:
            self._finished = True
            self.done.callback({**self._transfer.missing, **self._here})

    def _next(self) -> Slice | None:
        """What to ask for; a connection that is gone fails each request at once."""
        return None if self._finished else self._transfer.next_request()

    def _came(self, position: list[int], blob: str, data: bytes | bytearray) -> None:
        """Bytes of a slice, of which `position` holds where the next ones belong."""
        self._chunks.append(Chunk(blob, position[0], data))
        position[0] += len(data)
        if self._finished:
            return
        self._transfer.came(len(data))
        self._backlog += len(data)
        if self._backlog > BACKLOG_HIGH:
            self._link.hold()
        self._hand_over()

    def _answered(self, length: int, asked: Slice) -> None:
        self._transfer.answered(asked, length)
        self._go_on()

    def _refused(self, failure: Failure, asked: Slice) -> None:
        if not isinstance(failure.value, PeerError):
            failure.raiseException()
        self._transfer.refused(asked, failure.value)
        self._go_on()

    # the store

    def _hand_over(self) -> None:
        """Give the thread what came, unless it is at work: then that grows to a batch."""
        if self._busy or self._finished or not (self._chunks or self._complete):
            return
        chunks = self._cut()
        complete, self._complete = self._ready()
        self._busy = True
        taken = self._in_thread(self._copy.take, chunks, complete)
        taken.addCallback(self._taken, sum(len(each.data) for each in chunks))
        taken.addErrback(self._fail)

    def _cut(self) -> list[Chunk]:
        """The chunks of one batch, off the front of those that wait."""
        size = count = 0
        while count < len(self._chunks) and size < BATCH:
            size += len(self._chunks[count].data)
            count += 1
        cut, self._chunks = self._chunks[:count], self._chunks[count:]
        return cut

    def _ready(self) -> tuple[list[str], list[str]]:
        """The files to be stored now, and those that wait: for their bytes, or for their turn."""
        waiting = {each.blob for each in self._chunks}
        ready = [blob for blob in self._complete if blob not in waiting][:AT_ONCE]
        later = set(self._complete).difference(ready)
        return ready, [blob for blob in self._complete if blob in later]

    def _taken(self, taken: Taken, size: int) -> None:
        self._busy = False
        self._backlog -= size
        if self._backlog < BACKLOG_LOW:
            self._link.go_on()
        if self._finished:
            return
        for blob in taken.stored:
            self._transfer.stored(blob)
        for blob, why in taken.spoiled.items():
            self._transfer.spoiled(blob, why)
        self._transfer.wanted(taken.more)
        self._complete = [*taken.unfinished, *self._complete]
        self._go_on()

    # the end

    def _fail(self, failure: Failure) -> None:
        if self._finished:
            return
        self._finished = True
        self._link.go_on()
        chunks, self._chunks = self._chunks, []
        if chunks and isinstance(failure.value, LinkError):
            # However often a thin line breaks, each time there is less to bring.
            self._in_thread(self._copy.take, chunks, []).addErrback(self._not_kept)
        self._in_thread(self._copy.end).addBoth(self._failed, failure)

    def _failed(self, _: object, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)

    def _cancelled(self, _: Any) -> None:
        """Nobody waits for this any more; who gave it up opens the store anew."""
        self._finished = True
        self._chunks = []

    def _not_kept(self, failure: Failure) -> None:
        """The next cycle has the same trouble, and makes it a state."""
        self.log.warn("what had come is not kept: {why}", why=failure.getErrorMessage())
