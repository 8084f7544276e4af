"""A master and slaves as services of this process, over real sockets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred

from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import TarFailoverError
from tarfailover.master.service import MasterService
from tarfailover.slave import status
from tarfailover.slave.service import SlaveService

IN_SYNC_SECONDS = 60.0
"""Until a slave has caught up."""
STOP_SECONDS = 30.0
"""For a service to stop, on a busy machine."""
START_SECONDS = 10.0
"""Until a master listens."""


async def within(seconds: float, what: str, waited: Deferred[Any]) -> Any:
    """The result of `waited`, or a failure that says what did not happen."""

    def late(*_: object) -> None:
        raise AssertionError(f"{what} did not happen within {seconds:g} s")

    return await waited.addTimeout(seconds, reactor, late)


class Master:
    """A running master, stopped at the end of the block."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        config = MasterConfig(store=directory, port=0, scan_interval=0.02)
        self.fatal: list[TarFailoverError] = []
        self.service = MasterService(
            dataclasses.replace(config, **settings), reactor, self._give_up
        )

    def _give_up(self, error: TarFailoverError) -> None:
        self.fatal.append(error)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.service.port is not None
        number: int = self.service.port.getHost().port
        return number

    def slave(self, directory: Path, **settings: Any) -> Slave:
        """A slave of this master."""
        return Slave(directory, self.port, **settings)

    async def __aenter__(self) -> Master:
        self.service.startService()
        await until(lambda: self.service.port is not None or bool(self.fatal), "listening")
        assert not self.fatal, f"the master gave up: {self.fatal[0]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await within(STOP_SECONDS, "the master's stop", maybeDeferred(self.service.stopService))
        assert not self.fatal, f"the master gave up: {self.fatal[0]}"


class Slave:
    """A running slave, stopped at the end of the block."""

    def __init__(self, directory: Path, port: int, **settings: Any) -> None:
        config = SlaveConfig(store=directory, port=port, retry_initial=0.02, scrub_rate=0)
        self.fatal: list[TarFailoverError] = []
        self.service = SlaveService(
            dataclasses.replace(config, **settings), reactor, self.fatal.append
        )
        self.states: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.service.status.watchers.append(self._moved)

    def _moved(self) -> None:
        self.states.append(self.service.status.state)
        for waiting in list(self._waiting):
            if waiting[0]():
                self._waiting.remove(waiting)
                reactor.callLater(0, waiting[1].callback, None)

    async def reaches(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds, looked at whenever the slave's state changes."""
        if not condition():
            waited: Deferred[None] = Deferred()
            self._waiting.append((condition, waited))
            await within(IN_SYNC_SECONDS, f"{what} (now {self.service.status})", waited)

    async def in_sync(self, head: object = None) -> None:
        """Wait until it is in sync, with `head` if that is given."""

        def reached() -> bool:
            copy = self.service.copy
            same = head is None or (copy is not None and copy.head == head)
            return same and self.service.status.state == status.IN_SYNC

        await self.reaches(reached, "the slave in sync")

    async def in_state(self, state: str) -> None:
        """Wait until it is in `state`."""
        await self.reaches(lambda: self.service.status.state == state, f"the slave {state}")

    async def __aenter__(self) -> Slave:
        self.service.startService()
        return self

    async def __aexit__(self, *_: object) -> None:
        await within(STOP_SECONDS, "the slave's stop", maybeDeferred(self.service.stopService))
        assert not self.fatal, f"the slave gave up: {self.fatal[0]}"


async def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until `condition` holds, looked at in every turn of the reactor."""
    end = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < end, f"{what} did not happen within {seconds:g} s"
        turned: Deferred[None] = Deferred()
        reactor.callLater(0.005, turned.callback, None)
        await turned
