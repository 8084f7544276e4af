"""The dialects that a slave can speak; nobody else needs to know which one it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from tarfailover.config import SlaveConfig
from tarfailover.errors import LinkError
from tarfailover.slave.link import Link
from tarfailover.slave.oak.protocol import Memory, OakProtocol
from tarfailover.slave.protocol import SlaveProtocol
from tarfailover.slave.told import Introduction
from tarfailover.wire.messages import Hello
from tarfailover.wire.negotiate import BLOBS, FOLLOW, compression_offered

Welcomed = Callable[[Link, Introduction], None]
Lost = Callable[[Link, LinkError], None]


class Dialect:
    """Makes the slave's end of each connection; what must outlive one is kept here."""

    token: Callable[[], str] = str
    """What gives the token that each connection shows; none by default."""

    def link(
        self, config: SlaveConfig, clock: IReactorTime, welcomed: Welcomed, lost: Lost
    ) -> Link:
        """The protocol for a connection that was made."""
        raise NotImplementedError


class Native(Dialect):
    """Ours."""

    def __init__(self, config: SlaveConfig, client: str) -> None:
        self._hello = Hello(client, _features(config))

    def link(
        self, config: SlaveConfig, clock: IReactorTime, welcomed: Welcomed, lost: Lost
    ) -> Link:
        """As `Dialect.link`."""
        hello = dataclasses.replace(self._hello, token=self.token())
        return SlaveProtocol(config, clock, hello, welcomed, lost)


def _features(config: SlaveConfig) -> tuple[str, ...]:
    own = config.blob_store and not config.blob_store_shared
    return (FOLLOW, *compression_offered(config.compression), *((BLOBS,) if own else ()))


class Oak(Dialect):
    """That of Oak's cold standby."""

    def __init__(self, config: SlaveConfig, client: str) -> None:
        del config
        self._client = client
        self._memory: Memory | None = None

    def link(
        self, config: SlaveConfig, clock: IReactorTime, welcomed: Welcomed, lost: Lost
    ) -> Link:
        """As `Dialect.link`."""
        self._memory = self._memory or Memory(clock.seconds)
        return OakProtocol(config, clock, self._client, welcomed, lost, self._memory)


_DIALECTS: dict[str, type[Native | Oak]] = {"native": Native, "oak": Oak}


def dialect(config: SlaveConfig, client: str) -> Dialect:
    """The one that `config` names, for a slave that calls itself `client`."""
    return _DIALECTS[config.dialect](config, client)
