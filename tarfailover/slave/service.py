"""The slave as a service: one cycle after the other, each of them total.

A `LoopingCall` begins a cycle every `interval` seconds unless one is under way. A cycle
asks for the head; the master may hold its answer back until the head moves, so that a
new head is followed at once and the interval is only the floor under it. Whatever goes
wrong in a cycle becomes a state; nothing is raised into the loop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import DeadlineError, LinkError, TarFailoverError
from tarfailover.slave import status
from tarfailover.slave.copy import Copy
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.pull import Pull
from tarfailover.slave.security import SlaveSecurity
from tarfailover.slave.status import Status, progress_line
from tarfailover.store.durable import Disk
from tarfailover.sync import Window
from tarfailover.tls import rules
from tarfailover.wire.messages import HeadIs, Hello, Welcome
from tarfailover.workers import Workers

PROGRESS_EVERY = 5.0
"""Seconds between two lines on a long copy."""


class SlaveService(Service):
    """Keeps the store of `config` equal to its master's.

    `reactor` is passed in; `fatal` is called with what keeps the slave from starting.
    """

    log = Logger()

    def __init__(
        self, config: SlaveConfig, reactor: Any, fatal: Callable[[TarFailoverError], None]
    ) -> None:
        self.config = config
        self.status = Status()
        self.copy: Copy | None = None
        self._reactor = reactor
        self._fatal = fatal
        self._workers = Workers(reactor, 1, "tarfailover-store")
        self._in_thread = self._workers.run
        self._factory = SlaveFactory(
            config, reactor, Hello(socket.gethostname()), self._welcomed, self._lost
        )
        self._security: SlaveSecurity | None = None
        self._protocol: SlaveProtocol | None = None
        self._window = Window(config.window_max)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._disk = Disk()
        self._busy = False
        self._cycles: Deferred[None] = succeed(None)
        self._pull: Pull | None = None
        self._first = True
        self._link_error: LinkError | None = None
        """Why the last connection ended."""

    # starting and stopping

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Open the copy, then connect."""
        super().startService()  # type: ignore[no-untyped-call]
        self._workers.start()
        opened = self._open()
        opened.addCallback(self._start)
        opened.addErrback(self._cannot_start)

    def _open(self) -> Deferred[None]:
        opening = self._in_thread(
            Copy.open,
            self.config.store,
            accept_new_history=self.config.accept_new_history,
            disk=self._disk,
        )
        return opening.addCallback(self._opened)

    def _opened(self, copy: Copy) -> None:
        self.copy = copy
        for repair in copy.writer.repairs:
            self.log.warn("{store}: {repair}", store=str(copy.directory), repair=repair)
        head = f"head {copy.head}" if copy.head else "no head yet"
        self.log.info("{store}: {head}", store=str(copy.directory), head=head)

    def _start(self, _: object) -> None:
        if not self.running:
            return
        if rules.uses_tls(self.config):
            self._security = SlaveSecurity(self.config, self._factory, self._reactor, self._lost)
            self._security.start()
        self._reactor.connectTCP(
            self.config.master_host,
            self.config.port,
            self._security.factory if self._security else self._factory,
            timeout=self.config.deadline_connect,
        )
        self._ticking.start(self.config.interval)

    def _cannot_start(self, failure: Failure) -> None:
        self._fatal(_told(failure, self.log))

    async def _stop(self) -> None:
        if self._ticking.running:
            self._ticking.stop()
        self._factory.stop()
        if self._security is not None:
            self._security.stop()
        await self._cycles
        # The thread takes calls in order: a store that is being opened is open after this.
        await self._in_thread(_nothing)
        await self._close()
        await self._workers.stop(self.config.deadline_drain)

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Give the cycle up, let the store finish what it is writing, and close it."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._protocol is not None:
            self._protocol.fail(LinkError("the slave stops"))
        stopped: Deferred[None] = Deferred()
        late = self._reactor.callLater(self.config.deadline_drain, self._late, stopped)

        def in_time(_: None) -> None:
            if late.active():
                late.cancel()
                stopped.callback(None)

        stopping = Deferred.fromCoroutine(self._stop()).addErrback(self._cannot_start)
        stopping.addCallback(in_time)
        return stopped

    def _late(self, stopped: Deferred[None]) -> None:
        """A thread hangs in the disk; what is not finished is mended by the next start."""
        seconds = self.config.deadline_drain
        self._fatal(DeadlineError("drain", seconds, "the store to be closed"))
        stopped.callback(None)

    async def _close(self) -> None:
        copy, self.copy = self.copy, None
        if copy is None:
            return
        try:
            await self._in_thread(copy.close)
        except Exception:  # noqa: BLE001 - whatever it is, the store was let go
            error = _told(Failure(), self.log)
            self.log.error("{error}; the next start mends it", error=str(error))

    # the connection

    def _welcomed(self, protocol: SlaveProtocol, welcome: Welcome) -> None:
        self.log.info("connected to {software}", software=welcome.software)
        self._protocol = protocol
        self._welcome = welcome
        self._first = True
        self._tick()

    def _lost(self, protocol: SlaveProtocol | None, error: LinkError) -> None:
        if protocol is self._protocol:
            self._protocol = None
            self._link_error = error
        if self.running and not self._busy and str(error) != self.status.why:
            self.status.fail(error)

    # cycles

    def _tick(self) -> None:
        """Begin a cycle unless one is under way; never raises."""
        if not self._busy and self._protocol is not None and self.running:
            self._busy = True
            self._cycles = Deferred.fromCoroutine(self._run(self._protocol))

    async def _run(self, protocol: SlaveProtocol) -> None:
        """Cycles, one after the other, as long as the next may begin at once."""
        again = True
        while again and self.running and protocol is self._protocol:
            again = await self._total(protocol)
        self._busy = False
        lost = self._link_error if self._protocol is None else None
        if self.running and lost and self.status.state in (status.IN_SYNC, status.SYNCING):
            self.status.fail(lost)

    async def _total(self, protocol: SlaveProtocol) -> bool:
        """One cycle, whose outcome becomes the status, whatever it is."""
        self.status.cycles += 1
        try:
            again = await self._one_cycle(protocol)
        except Exception as error:  # noqa: BLE001 - a cycle is total: every outcome is a state
            await self._failed(protocol, _told(Failure(), self.log), error)
            return False
        self._factory.worked()
        return again

    async def _failed(
        self, protocol: SlaveProtocol, told: TarFailoverError, error: Exception
    ) -> None:
        """Begin anew from the connection on, and from the store on if that is at fault."""
        if self.running:
            self.status.fail(told)
        if Status.needs_new_connection(told):
            protocol.fail(told if isinstance(told, LinkError) else LinkError(str(error)))
        if Status.needs_new_store(told):
            await self._close()

    async def _one_cycle(self, protocol: SlaveProtocol) -> bool:
        """Ask, pull, commit; tells whether the next cycle may begin at once."""
        if self.copy is None:
            await self._open()
        copy = self.copy
        if copy is None:
            return False
        if self._first:
            await self._in_thread(copy.meet, self._welcome)
        wait = 0.0 if self._first else self.config.poll_wait
        asked = self._reactor.seconds()
        head = await protocol.head(copy.head, wait)
        self._first = False
        if head.head == copy.head:
            self.status.become(status.IN_SYNC)
            # An answer that came too soon is no long poll: then the interval is the pause.
            return self.config.poll_wait > 0 and self._reactor.seconds() - asked >= wait / 2
        copy.check_known(head, accept_new_history=self.config.accept_new_history)
        await self._bring(protocol, copy, head)
        return True

    async def _bring(self, protocol: SlaveProtocol, copy: Copy, head: HeadIs) -> None:
        self.status.become(status.SYNCING, f"head {head.head}, generation {head.generation}")
        began = self._reactor.seconds()
        pull = Pull(
            protocol,
            copy.receiver,
            self._in_thread,
            head.head.segment,
            self._window,
            copy.cursor if copy.head else b"",
        )
        telling = LoopingCall(self._tell, pull, began)
        telling.clock = self._reactor
        telling.start(PROGRESS_EVERY, now=False)
        try:
            cursor = await pull.start()
            await self._in_thread(copy.commit, head, cursor)
        finally:
            telling.stop()
        line = progress_line(pull.progress(), self._reactor.seconds() - began)
        self.log.info("head {head} is durable, {line}", head=str(head.head), line=line)
        self.status.become(status.IN_SYNC)

    def _tell(self, pull: Pull, began: float) -> None:
        line = progress_line(pull.progress(), self._reactor.seconds() - began)
        self.log.info("{line}", line=line)


def _nothing() -> None:
    """Takes its place in the thread's queue."""


def _told(failure: Failure, log: Logger) -> TarFailoverError:
    """What a user is told of `failure`; what nobody foresaw goes into the log whole."""
    error = failure.value
    if isinstance(error, TarFailoverError):
        return error
    log.failure("something unforeseen", failure)
    return TarFailoverError(f"{type(error).__name__}: {failure.getErrorMessage()}")
