"""The master as a service: listens, looks at the directory, and stops cleanly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tarfailover.access import names
from tarfailover.access.listeners import is_loopback
from tarfailover.access.names import Names
from tarfailover.access.ranges import Ranges
from tarfailover.config import MasterConfig
from tarfailover.errors import ConfigError, DeadlineError, TarFailoverError
from tarfailover.master.factory import MasterFactory
from tarfailover.master.gate import Gate
from tarfailover.master.security import MasterSecurity
from tarfailover.stopping import take
from tarfailover.store.blobs import BlobStore, open_blob_store
from tarfailover.store.follower import Follower
from tarfailover.store.state import SlaveState
from tarfailover.tls import rules
from tarfailover.tls.files import Expiry
from tarfailover.watchdog import Wait, Watchdog
from tarfailover.wire.messages import ErrorCode
from tarfailover.workers import Workers

THREADS = 4
"""Threads that read from the disk, for all clients together."""

BACKLOG = 1024
"""Connections that wait for `accept` in the kernel, so that a flood is met here, by rules."""

LEAST_DRAIN = 0.5
"""Seconds for the threads to end, if the clients have used up all of the time to stop."""


_NAMING = ("allowed_client_ip_ranges", "names_refresh", "deadline_names")


class MasterService(Service):
    """Serves the store of `config`.

    `reactor` is passed in; `fatal` is called with what keeps the master from serving.
    """

    log = Logger()

    def __init__(
        self, config: MasterConfig, reactor: Any, fatal: Callable[[TarFailoverError], None]
    ) -> None:
        self.config = config
        self.started: float = reactor.seconds()
        self.factory: MasterFactory | None = None
        self.port: IListeningPort | None = None
        """What it listens on, once it does."""
        self._reactor = reactor
        self._fatal = fatal
        self._endpoint = _endpoint(config, reactor)
        self._security: MasterSecurity | None = None
        self._workers = Workers(reactor, THREADS, "tarfailover-master")
        self._in_thread = self._workers.run
        self.gate: Gate | None = None
        """What connections meet first, once it listens."""
        self._ranges = Ranges.parse(config.allowed_client_ip_ranges)
        self._names = self._names_of(config)
        self._follower: Follower | None = None
        self._looking: LoopingCall | None = None
        """Fires when no look is under way any more, once looking was stopped."""
        self._told = ""
        self.looks = 0
        """Looks that succeeded."""
        self._watchdog = Watchdog(reactor, self._watched, self._stuck, self._going)

    # what it is told

    def reconfigure(self, config: MasterConfig) -> None:
        """Use `config` from now on; what concerns a connection, from the next one on."""
        named = any(getattr(config, name) != getattr(self.config, name) for name in _NAMING)
        self.config, self._ranges = config, Ranges.parse(config.allowed_client_ip_ranges)
        if self.factory is not None:
            self.factory.reconfigure(config)
        if self._security is not None:
            self._security.reconfigure(config)
        if self._looking is not None:
            self._looking.interval = config.scan_interval
            if self._looking.running:
                self._looking.reset()
        if named:
            self._tell_remarks()
            self._look_up_anew()
        elif self.gate is not None:
            self.gate.reconfigure(config, self._names)

    def _tell_remarks(self) -> None:
        for remark in self._ranges.remarks:
            self.log.warn("allowed_client_ip_ranges: {remark}", remark=remark)

    def _look_up_anew(self) -> None:
        """Other host names may connect; until they were looked up, those before may."""
        before, self._names = self._names, self._names_of(self.config)
        before.stop()
        gate = self.gate
        if gate is not None:
            found = self._names.start()
            found.addCallback(lambda _: gate.reconfigure(self.config, self._names))
            found.addErrback(lambda failure: self.log.failure("looking names up failed", failure))

    def _names_of(self, config: MasterConfig) -> Names:
        return Names(
            self._ranges.names,
            self._reactor,
            Workers(self._reactor, names.THREADS, "tarfailover-names"),
            config.names_refresh,
            config.deadline_names,
        )

    # what it tells

    def seconds(self) -> float:
        """The time, in seconds since 1970."""
        return float(self._reactor.seconds())

    @property
    def where(self) -> str:
        """Where it listens; '' before it does."""
        return _where(self.port) if self.port else ""

    def expiries(self) -> list[Expiry]:
        """What of TLS ends, and when."""
        return self._security.expiries() if self._security else []

    # starting and stopping

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Open the store, listen, and begin to look at the directory."""
        super().startService()  # type: ignore[no-untyped-call]
        self._workers.start()
        self._watchdog.start()
        self._begin()

    def _begin(self) -> None:
        opened = self._in_thread(_open, self.config)
        opened.addCallback(self._opened)
        opened.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, TarFailoverError):
            self.log.failure("the master cannot start", failure)
            error = TarFailoverError(f"the master cannot start: {failure.getErrorMessage()}")
        self._fatal(error)

    def _opened(self, found: _Opened) -> Deferred[None] | None:
        follower, epoch, blobs = found
        if not self.running or self.factory is not None:
            follower.close()
            return None
        self._follower = follower
        self.factory = MasterFactory(self.config, follower, self._reactor, self._in_thread)
        self.factory.epoch, self.factory.blobs = epoch, blobs
        self._tell_head(self.factory)
        if rules.uses_tls(self.config):
            self._security = MasterSecurity(self.config, self.factory, self._reactor)
            self._security.start()
        self._check_room(self.factory)
        self._tell_remarks()
        served = self._security.factory if self._security else self.factory
        self.gate = Gate(served, self.config, self._names, self.factory)
        # Nobody is refused for want of an answer to the look-ups.
        return self._names.start().addCallback(self._listen, self.gate)

    def _check_room(self, factory: MasterFactory) -> None:
        """Tell if the limit of open files allows less than wanted; raises ConfigError."""
        room = factory.fit()
        if room == (self.config.max_clients, self.config.max_strangers):
            return
        why = (
            f"the limit of open files leaves room for {room.clients} clients and "
            f"{room.strangers} other connections beside the tars; raise it (LimitNOFILE)"
        )
        if not room.serves:
            raise ConfigError(why)
        self.log.warn("{why}, or lower max_clients and max_strangers", why=why)

    def _listen(self, _: object, gate: Gate) -> Deferred[None] | None:
        if not self.running:
            return None
        listening: Deferred[IListeningPort] = self._endpoint.listen(gate)
        return listening.addCallbacks(self._listening, self._not_listening)

    def _tell_head(self, factory: MasterFactory) -> None:
        head = factory.snapshot.head
        if head is None:
            self.log.error("no head can be served yet: {why}", why=factory.not_ready())
            return
        self.log.info(
            "serving {store}: head {head}, {n} segments",
            store=str(self.config.store),
            head=str(head.record),
            n=factory.snapshot.count,
        )
        for why in head.skipped:
            self.log.warn("stepped back in the journal over {why}", why=why)

    def _listening(self, port: IListeningPort) -> None:
        self.port = port
        self.log.info("listening on {where}", where=_where(port))
        if self.config.mode == "primary" and is_loopback(self.config.interface):
            self.log.warn(
                "with such a file Oak listens on every address, and this master for this machine "
                "alone; name an --interface for others"
            )
        self._look_on()

    def _look_on(self) -> None:
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        self._looking = LoopingCall(self._look)
        self._looking.clock = self._reactor
        self._looking.start(self.config.scan_interval, now=False)

    def _not_listening(self, failure: Failure) -> None:
        raise ConfigError(
            f"cannot listen: {failure.getErrorMessage()}; choose another --port or "
            "--interface, or stop the program that uses this one"
        )

    def _look(self) -> Deferred[None] | None:
        """One look at the directory; whatever fails, the last snapshot goes on being served."""
        if self.factory is None:
            return None
        return self.factory.refresh().addCallbacks(self._looked, self._look_failed)

    def _looked(self, _: None) -> None:
        self.looks += 1
        self._told = ""

    def _look_failed(self, failure: Failure) -> None:
        why = failure.getErrorMessage()
        if why == self._told:
            return
        self._told = why
        if isinstance(failure.value, TarFailoverError):
            self.log.error("cannot look at the store: {why}", why=why)
        else:
            self.log.failure("looking at the store failed", failure)

    def _watched(self) -> Wait:
        config = self.config
        what = "a look at the store" if self.factory else "the store to be opened"
        return Wait(what, self.looks, config.scan_interval + config.deadline_disk)

    def _stuck(self, wait: Wait, seconds: float) -> None:
        """A head that may have moved long ago is not served as the head."""
        error = DeadlineError("disk", seconds, wait.what)
        why = f"{error}: {self.config.store}: {self._told or 'the disk does not answer'}"
        self.log.error("{why}", why=why)
        if self.factory is not None:
            self.factory.go_blind(why)
        if self._workers.longest() is None:
            # Nobody is at it any more: what came of it was lost.
            (self._look_on if self.port else self._begin)()

    def _going(self) -> None:
        self.log.info("{store} can be looked at again", store=str(self.config.store))
        if self.factory is not None:
            self.factory.blind = ""

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Tell the clients, let answers end until the drain deadline, and close the store."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stop_by = self._reactor.seconds() + self.config.deadline_drain
        ended = take(self.log, *self._steps())
        ended.addTimeout(self.config.deadline_drain + LEAST_DRAIN, self._reactor)
        return ended.addBoth(self._close)

    def _steps(self) -> Iterator[Callable[[], object]]:
        """What ends when it stops."""
        yield self._watchdog.stop
        if self._security is not None:
            yield self._security.stop
        if self.factory is not None:
            yield partial(self._drain, self.factory)
        yield self._names.stop
        if self._looking is not None and self._looking.running:
            # A look that is under way ends with its thread.
            yield self._looking.stop
        if self.port is not None:
            yield self.port.stopListening

    def _drain(self, factory: MasterFactory) -> Deferred[Any]:
        late = self._reactor.callLater(self.config.deadline_drain, self._abort, factory)
        why = ErrorCode.GOING_AWAY, "the master stops"
        take(self.log, *(partial(client.end, *why) for client in list(factory.clients)))
        drained = factory.emptied()
        return drained.addCallback(lambda _: late.active() and late.cancel())

    def _abort(self, factory: MasterFactory) -> None:
        take(self.log, *(client.transport.abortConnection for client in list(factory.clients)))

    def _close(self, _: object) -> Deferred[None]:
        left = self._stop_by - self._reactor.seconds()
        stopped = self._workers.stop(max(left, LEAST_DRAIN))
        return stopped.addCallbacks(self._let_go, self._failed)

    def _let_go(self, _: None) -> None:
        if self.factory is not None:
            take(self.log, self.factory.snapshot.release)
        follower, self._follower = self._follower, None
        if follower is not None:
            take(self.log, follower.close)


class _Opened(NamedTuple):
    """What is served."""

    follower: Follower
    epoch: int
    """What the store's directory states; 0 if nothing."""
    blobs: BlobStore | None


def _open(config: MasterConfig) -> _Opened:
    state = SlaveState.load(config.store)
    blobs = None
    if config.blob_store:
        blobs = open_blob_store(config.blob_store, config.blob_store_kind)
    return _Opened(Follower.open(config.store), state.epoch if state else 0, blobs)


def _endpoint(config: MasterConfig, reactor: Any) -> IStreamServerEndpoint:
    written = config.endpoint
    if not written:
        interface = config.interface.replace(":", "\\:")
        family = "tcp6" if ":" in interface else "tcp"
        written = f"{family}:{config.port}:interface={interface}:backlog={BACKLOG}"
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, written)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"endpoint {written!r} cannot be used ({error}); write it as in tcp:8023:interface=…"
        ) from error
    return endpoint


def _where(port: IListeningPort) -> str:
    address = port.getHost()
    host, number = getattr(address, "host", None), getattr(address, "port", None)
    return str(address) if host is None else f"{host}:{number}"
