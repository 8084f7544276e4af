"""The slave as a service: one cycle after the other, each of them total.

A `LoopingCall` begins a cycle every `interval` seconds unless one is under way. A cycle
asks for the head; the master may hold its answer back until the head moves, so that a
new head is followed at once and the interval is only the floor under it. Whatever goes
wrong in a cycle becomes a state; nothing is raised into the loop. A cycle that neither
ends nor gets on is noticed by the watchdog, given up, and begun anew.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.config import SlaveConfig
from tarfailover.errors import DeadlineError, LinkError, TarFailoverError
from tarfailover.slave import status
from tarfailover.slave.bringing import Bringing
from tarfailover.slave.cleaning import Cleaning
from tarfailover.slave.copy import Copy
from tarfailover.slave.dialects import dialect
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.keeper import Keeper, nothing
from tarfailover.slave.link import Link
from tarfailover.slave.pauses import Again, Pauses, in_time
from tarfailover.slave.scrubbing import Scrubbing
from tarfailover.slave.security import SlaveSecurity
from tarfailover.slave.status import Status, told
from tarfailover.slave.telling import Telling
from tarfailover.slave.told import Introduction, ToldHead, in_words
from tarfailover.stopping import take
from tarfailover.sync import Window
from tarfailover.tls import rules
from tarfailover.tls.files import Expiry
from tarfailover.watchdog import Wait, Watchdog
from tarfailover.wire.messages import printable
from tarfailover.workers import Workers

T = TypeVar("T")


class SlaveService(Service):
    """Keeps the store of `config` equal to its master's.

    `reactor` is passed in; `fatal` is called with what keeps the slave from starting.
    """

    log = Logger()

    def __init__(
        self, config: SlaveConfig, reactor: Any, fatal: Callable[[TarFailoverError], None]
    ) -> None:
        self.config = config
        self.status = Status(seconds=reactor.seconds)
        self.copy: Copy | None = None
        self._reactor = reactor
        self._fatal = fatal
        self._workers = Workers(reactor, 1, "tarfailover-store")
        self._in_thread = self._workers.run
        self._factory = SlaveFactory(
            config,
            reactor,
            dialect(config, socket.gethostname()),
            self._welcomed,
            self._lost,
            self.status.connecting,
        )
        self._security: SlaveSecurity | None = None
        self._protocol: Link | None = None
        self.started = self.seconds()
        self._received = 0  # bytes of the connections that ended
        self.welcome: Introduction | None = None
        """What the master said of itself last."""
        self._window = Window(config.window_max)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._keeper = Keeper()
        self._busy, self._first = False, True
        self._cycles: Deferred[None] = succeed(None)
        self._step = ("", 0.0)
        """What the cycle waits for, and how many seconds that may take beside the deadline."""
        self._watchdog = Watchdog(reactor, self._look, self._stuck, self.status.go_on)
        self._given_up: DeadlineError | None = None
        """Why the watchdog ends the cycle."""
        self._again = Again(reactor, Pauses(config.retry_initial, config.interval), self._tick)
        self._cleaning = Cleaning(
            config, self.status, lambda copy: self._in_thread(copy.clean), reactor.seconds
        )
        self.scrubbing = Scrubbing(
            config, reactor, self._workers.aside, self.status, lambda: (self.copy, self._protocol)
        )
        self.bringing = Bringing(self._window, self._wait, reactor.seconds)
        self.transfer: Telling | None = None
        """The last transfer of segments; under way as long as the state is `syncing`."""
        self.wanted: ToldHead | None = None
        """The newest head of the master's that is known."""
        self.answered: float | None = None
        """When the master answered last, in seconds since 1970."""
        self._link_error: LinkError | None = None
        """Why the last connection ended."""
        self._counted: LinkError | None = None
        """What a cycle ended with: it ends the connection too, and is one failure."""

    # what it is told

    def reconfigure(self, config: SlaveConfig) -> None:
        """Use `config` from now on; the deadlines of a connection, from the next one on."""
        self.config = config
        self._factory.reconfigure(config)
        if self._security is not None:
            self._security.reconfigure(config)
        self._window.limit = config.window_max
        self._again.pauses = Pauses(config.retry_initial, config.interval)
        if self._protocol is not None:
            self._protocol.reconfigure(config)
        self.scrubbing.reconfigure(config)
        self._ticking.interval = config.interval
        if self._ticking.running:
            self._ticking.reset()

    # what it tells

    def seconds(self) -> float:
        """The time, in seconds since 1970."""
        return float(self._reactor.seconds())

    @property
    def received(self) -> int:
        """Bytes that came from masters."""
        return self._received + (self._protocol.received if self._protocol else 0)

    @property
    def attempts(self) -> int:
        """Attempts to connect."""
        return self._factory.attempts

    def expiries(self) -> list[Expiry]:
        """What of TLS ends, and when."""
        return self._security.expiries() if self._security else []

    # starting and stopping

    @property
    def _started(self) -> bool:
        return self.attempts > 0  # the copy was opened, and a connection begun

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Open the copy, then connect."""
        super().startService()  # type: ignore[no-untyped-call]
        self._workers.start()
        self._watchdog.start()
        self._begin()

    def _begin(self) -> None:
        opened = self._in_thread(self._keeper.open, self.config).addCallback(self._opened)
        opened.addCallback(self._start)
        opened.addErrback(self._cannot_start)

    def _opened(self, copy: Copy) -> None:
        self.copy, store = copy, str(copy.directory)
        for repair in copy.writer.repairs:
            self.log.warn("{store}: {repair}", store=store, repair=repair)
        head = f"head {copy.head}" if copy.head else "no head yet"
        self.log.info("{store}: {head}", store=store, head=head)

    def _start(self, _: object) -> None:
        if not self.running or self._started:
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
        self.scrubbing.start()

    def _cannot_start(self, failure: Failure) -> None:
        self._fatal(told(failure, self.log))

    def _steps(self) -> Iterator[Callable[[], object]]:
        """What ends at once when it stops."""
        yield self._watchdog.stop
        yield self._again.forget
        if self._ticking.running:
            yield self._ticking.stop
        if self._protocol is not None:
            yield partial(self._protocol.fail, LinkError("the slave stops"))
        yield self._factory.stop
        if self._security is not None:
            yield self._security.stop

    async def _stop(self) -> None:
        await take(self.log, *self._steps())
        await take(self.log, lambda: self._cycles)
        await take(self.log, lambda: Deferred.fromCoroutine(self.scrubbing.stop()))
        # The thread takes calls in order: a store that is being opened is open after this.
        await take(self.log, lambda: self._in_thread(nothing))
        await self._close()
        await self._workers.stop(self.config.deadline_drain)

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Give the cycle up, let the store finish what it is writing, and close it."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopping = Deferred.fromCoroutine(self._stop()).addErrback(self._cannot_start)
        return in_time(self._reactor, self.config.deadline_drain, stopping, self._late)

    def _late(self, seconds: float) -> None:
        """A thread hangs in the disk; what is not finished is mended by the next start."""
        self._fatal(DeadlineError("drain", seconds, "the store to be closed"))

    async def _close(self) -> None:
        self.copy = None
        try:
            await self._wait("the store to be closed", self._in_thread(self._keeper.close))
        except Exception:  # noqa: BLE001 - whatever it is, the store was let go
            error = told(Failure(), self.log)
            self.log.error("{error}; the next start mends it", error=str(error))

    # the connection

    def _welcomed(self, protocol: Link, welcome: Introduction) -> None:
        self.log.info("connected to {software}", software=printable(welcome.software))
        self._protocol = protocol
        self.welcome = welcome
        self._first = True
        self._tick()

    def _lost(self, protocol: Link | None, error: LinkError) -> None:
        self._again.forget()
        self._received += protocol.received if protocol else 0
        if protocol is self._protocol:
            self._protocol = None
            self._link_error = error
        if self.running and not self._busy and error is not self._counted:
            self.status.fail(error)

    # cycles

    def _tick(self) -> None:
        """Begin a cycle unless one is under way; never raises."""
        self._again.forget()
        if not self._busy and self._protocol is not None and self.running:
            self._busy = True
            self._cycles = Deferred.fromCoroutine(self._run(self._protocol))
        elif self._protocol is None and self.copy is not None:
            self._cleaning.begin(self.copy, lambda: self._protocol is None and bool(self.running))

    async def _wait(self, what: str, waited: Awaitable[T], seconds: float = 0.0) -> T:
        """Wait for what may take `seconds` beside the watchdog's deadline."""
        self._step = what, seconds
        return await waited

    async def _run(self, protocol: Link) -> None:
        """Cycles, one after the other, as long as the next may begin at once."""
        again = True
        try:
            while again and self.running and protocol is self._protocol:
                again = await self._total(protocol)
        finally:
            self._busy = False
        lost = self._link_error if self._protocol is None else None
        if self.running and lost and self.status.state in (status.IN_SYNC, status.SYNCING):
            self.status.fail(lost)

    async def _total(self, protocol: Link) -> bool:
        """One cycle, whose outcome becomes the status, whatever it is."""
        self.status.cycles += 1
        self._given_up = None
        try:
            again = await self._one_cycle(protocol)
        except Exception:  # noqa: BLE001 - a cycle is total: every outcome is a state
            await self._failed(protocol, self._outcome(Failure()))
            return False
        self._factory.worked()
        self._again.pauses.reset()
        return again

    def _outcome(self, failure: Failure) -> TarFailoverError:
        """What ended a cycle: if it was given up, the deadline that passed."""
        if isinstance(failure.value, CancelledError) and self._given_up is not None:
            return self._given_up
        return told(failure, self.log)

    async def _failed(self, protocol: Link, error: TarFailoverError) -> None:
        """Begin anew from the connection on, and from the store on if that is at fault."""
        if self.running:
            self.status.fail(error)
        self._counted = error if isinstance(error, LinkError) else LinkError(str(error))
        if Status.needs_new_connection(error):
            protocol.fail(self._counted)
        elif self.running and protocol is self._protocol:
            self._again.plan()
        if Status.needs_new_store(error) or error is self._given_up:
            await self._close()

    async def _one_cycle(self, protocol: Link) -> bool:
        """Ask, pull, commit; tells whether the next cycle may begin at once."""
        if self.copy is None:
            opening = self._in_thread(self._keeper.open, self.config)
            self._opened(await self._wait("the store to be opened", opening))
        copy = self.copy
        if copy is None:
            return False
        await self._wait("a look at the copy", self._in_thread(copy.check_alone))
        if self._first:
            accept = self.config.accept_new_history
            met = self._in_thread(copy.meet, self.welcome, accept_new_history=accept)
            await self._wait("what is known of the master to be kept", met)
        elif self._cleaning.due(copy):
            self._step = "a part of the cleanup", 0.0
            await self._cleaning.part(copy)
        wait = 0.0 if self._first or self._cleaning.due(copy) else self.config.poll_wait
        asked, following = self._reactor.seconds(), self.bringing.ask(protocol, copy, wait)
        head = await self._wait("the answer to HEAD", following, wait)
        self._first, self.wanted, self.answered = False, head, self._reactor.seconds()
        if head.head == copy.head:
            if self.bringing.blobs.due(copy.blobs, copy.head):
                await self._bring(protocol, copy, head)
            self.status.become(status.IN_SYNC)
            if self._cleaning.due(copy):
                return True
            # An answer that came too soon is no long poll: then the interval is the pause.
            return self.config.poll_wait > 0 and self._reactor.seconds() - asked >= wait / 2
        copy.check_known(head, accept_new_history=self.config.accept_new_history)
        await self._bring(protocol, copy, head)
        return True

    async def _bring(self, protocol: Link, copy: Copy, head: ToldHead) -> None:
        """Bring `head`, or, if it is set already, the binaries that it lacks."""
        new, warn = head.head != copy.head, self.config.blobs == "warn"
        if new or not self.bringing.blobs.repairs(copy.blobs, copy.head):
            self.status.become(status.SYNCING, in_words(head))
        bring = self.bringing.head if new else self.bringing.binaries
        with Telling(self._reactor, self.bringing.progress) as self.transfer:
            await bring(protocol, copy, head, self._in_thread, warn=warn)
        if new:
            line = self.transfer.line()
            self.log.info("head {head} is durable, {line}", head=str(head.head), line=line)
        self.status.become(status.IN_SYNC)

    # the watchdog

    def _look(self) -> Wait:
        """What is waited for now, and a mark that changes with all that gets on."""
        config = self.config
        job = self._workers.longest()
        if job is not None:
            return Wait(f"the store's thread, at {job.name}", job, config.deadline_progress, True)
        protocol, done = self._protocol, self._workers.done
        mark: list[object] = [self.status.cycles, self._step, done, self.attempts]
        if not self._started:
            what, more = "the store to be opened", 0.0
        elif protocol is None:
            what, more = "a connection", 2 * config.retry_max + config.deadline_connect
            more += config.deadline_tls_handshake + config.deadline_hello
        elif self._busy:
            what, more = self._step
            mark.append(protocol.received)
        else:
            what, more = "the next cycle", config.interval
        return Wait(what, mark, config.deadline_progress + more)

    def _stuck(self, wait: Wait, seconds: float) -> None:
        error = DeadlineError("progress", seconds, wait.what)
        if wait.thread:
            # Nobody can stop a thread, and nothing is written without it: tell, and go on telling.
            self.status.hang(error)
            return
        self.log.error("{error}; beginning anew", error=str(error))
        self._given_up = error
        if self._protocol is not None:
            self._protocol.fail(error)
        if self._busy:
            self._cycles.cancel()
        elif self._protocol is None:
            self.status.fail(error)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Whatever should have begun the next cycle, or made the next connection, did not."""
        if not self._started:
            self._begin()
            return
        if self._protocol is None:
            self._factory.connect_now()
        if self._ticking.running:
            self._ticking.stop()
        self._ticking.start(self.config.interval, now=False)
