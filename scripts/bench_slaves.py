"""Many slaves in one process: connections that follow a master, and store nothing.

    bench_slaves.py --port PORT --slaves N [OPTIONS OF A SLAVE]

Each is the protocol of a real slave, with its TLS, and asks for the head as a slave does that is in
sync: the master holds its answer back until the head moves, or 20 s are over. Prints ``all have
HEAD`` whenever all know of the same head, and every second ``bytes UP DOWN``: all that went over
their connections so far, TLS included. Runs until it is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import succeed
from twisted.internet.task import LoopingCall

from tarfailover.config import SlaveConfig, merge
from tarfailover.ids import RecordId
from tarfailover.slave.dialects import dialect
from tarfailover.slave.factory import SlaveFactory
from tarfailover.slave.link import Link
from tarfailover.slave.security import SlaveSecurity
from tarfailover.slave.told import ToldHead
from tarfailover.tls import rules

reactor: Any = the_reactor
AT_ONCE = 20
"""Connections that are being made; handshakes have deadlines, and one processor here."""
POLL_WAIT = 20.0
_COUNTERS = struct.Struct("120x2Q")
"""Of Linux's ``struct tcp_info``: bytes that were confirmed, and bytes that came."""


class Slaves:
    """All of them; `count` connections of one factory."""

    def __init__(self, config: SlaveConfig, count: int) -> None:
        self._config = config
        self._count = count
        made = dialect(config, "bench")
        factory = SlaveFactory(config, reactor, made, self._welcomed, self._lost, _nothing)
        tls = rules.uses_tls(config)
        self._factory: Any = (
            SlaveSecurity(config, factory, reactor, self._lost).factory if tls else factory
        )
        self._begun = 0
        self._heads: dict[Link, RecordId | None] = {}
        self._told: RecordId | None = None

    def connect(self) -> None:
        """Make one more connection, if one is left to be made."""
        if self._begun < self._count:
            self._begun += 1
            reactor.connectTCP(self._config.master_host, self._config.port, self._factory)

    def _welcomed(self, link: Link, _: object) -> None:
        self._heads[link] = None
        link.head(None, 0).addCallback(self._first, link).addErrback(_broken)
        self.connect()

    def _first(self, head: ToldHead, link: Link) -> None:
        self._list(head, link, b"")

    def _list(self, head: ToldHead, link: Link, cursor: bytes) -> None:
        listed: Any = link.list(head.head.segment, cursor, _nothing, succeed)
        listed.addCallback(self._follow, link, head.head).addErrback(_broken)

    def _follow(self, cursor: bytes, link: Link, have: RecordId) -> None:
        self._heads[link] = have
        self._tell(have)
        told = link.follow(have, POLL_WAIT, cursor)
        told.addCallback(self._moved, link, have, cursor).addErrback(_broken)

    def _moved(self, head: ToldHead, link: Link, have: RecordId, cursor: bytes) -> None:
        if head.head == have:
            self._follow(cursor, link, have)
        else:
            self._list(head, link, cursor)

    def _tell(self, head: RecordId) -> None:
        if head != self._told and list(self._heads.values()).count(head) == self._count:
            self._told = head
            print(f"all have {head}", flush=True)

    def tell_bytes(self) -> None:
        """Print how many bytes went over all connections."""
        up = down = 0
        for link in self._heads:
            with contextlib.suppress(OSError, struct.error):  # gone, or an old kernel
                told = _socket(link).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                sent, came = _COUNTERS.unpack_from(told)
                up, down = up + sent, down + came
        print(f"bytes {up} {down}", flush=True)

    def _lost(self, _: object, error: Exception) -> None:
        print(f"error: a slave lost its connection: {error}", flush=True)


def _socket(link: Link) -> socket.socket:
    transport = link.transport
    transport = getattr(transport, "transport", transport)
    found: socket.socket = (
        transport.getHandle() if transport is link.transport else transport.socket
    )
    return found


def _broken(failure: Any) -> None:
    print(f"error: {failure.getErrorMessage()}", flush=True)


def _nothing(*_: object) -> None:
    pass


def main(given: list[str]) -> None:
    """Connect all, and follow until ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", required=True)
    parser.add_argument("--slaves", type=int, required=True)
    options, more = parser.parse_known_args(given)
    settings = dict(option[2:].split("=", 1) for option in more)
    nowhere = {"store": str(Path("nowhere")), "port": options.port}
    slaves = Slaves(merge(SlaveConfig, {}, {}, {**nowhere, **settings}), options.slaves)
    for _ in range(AT_ONCE):
        slaves.connect()
    LoopingCall(slaves.tell_bytes).start(1.0, now=False)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
