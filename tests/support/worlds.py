"""What a cell of the fault matrix is made of: a slave, its master, and a proxy between them.

All of it in memory and on a `Clock`, with the defaults of both programs: a deadline of 15
minutes takes no time, and is held to the second.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from binaries import id_of
from blob_samples import put
from conversation import Tapped
from copies import every_head_is_whole, heads_of, same, sound
from failing import (
    BLACKHOLE,
    CUT,
    DELAY,
    DELAY_SECONDS,
    DOWN,
    HALF_OPEN,
    RESET,
    UP,
    Proxy,
    Side,
    Strike,
)
from format_samples import data_segment
from links import Connector, Rig
from sides import MasterSide, SlaveSide, store_of
from stores import (
    RECORD,
    QuickDisk,
    Sample,
    add_heads,
    bulk_id,
    content,
    data_id,
    head_in,
    leaf,
    tar_bytes,
)
from tls_made import HOST, Certs
from twisted.internet.address import IPv4Address

from tarfailover.config import MasterConfig
from tarfailover.format import journal as lines
from tarfailover.format import segment
from tarfailover.ids import RecordId
from tarfailover.master.security import MasterSecurity
from tarfailover.slave import status
from tarfailover.slave.security import SlaveSecurity
from tarfailover.store.blobs import DATA_STORE, BlobStore
from tarfailover.store.state import SlaveState

PLAIN_LINK, TLS_LINK, ZSTD_LINK, TLS_ZSTD_LINK = "plain", "TLS", "zstd", "TLS+zstd"
TOKEN_LINK = "TLS+token"
BLOBS_LINK, OAK_LINK = "binaries", "oak"
"""Kinds of links. With a token the slave shows no certificate, in all other TLS it does. The last
two bring external binaries too, behind the segments, and the last one speaks Oak's dialect."""

WELL = (status.CONNECTING, status.SYNCING, status.IN_SYNC)
WINDOW = 100_000
"""Bytes asked for ahead: a copy of `SAMPLES` takes several requests, one after the other."""

VALUE, NODE = segment.VALUE, segment.NODE
"""Types of records."""
BULKS = [Sample(bulk_id(n), content(n, 35_000).hex().encode("ascii")) for n in range(5)]
"""Of 70,000 bytes that shrink to half under compression."""
CHAIN = [leaf(0)]
for _number in range(1, 40):
    CHAIN.append(leaf(_number, [CHAIN[-1].segment], 100))


def root(number: int, references: Sequence[bytes], blobs: Sequence[str] = ()) -> Sample:
    """A segment for heads: it has the record that they name, and that is a node.

    It mentions the external binaries `blobs`.
    """
    values = [(VALUE, bytes([40]) + content(number, 40))] * RECORD
    ids = [(segment.BLOB_ID, (0xE000 | len(b)).to_bytes(2, "big") + b.encode()) for b in blobs]
    data = data_segment(records=[*values, (NODE, bytes(12)), *ids], references=references)
    return Sample(data_id(number), data, tuple(references))


SAMPLES = [
    *BULKS,
    *CHAIN,
    root(1000, [CHAIN[-1].segment, *(each.segment for each in BULKS)]),
]


BINARIES = [content(n, 10_000 + 2000 * n) for n in range(14)]
"""External ones: more of them than requests for segments."""


class Outcome(NamedTuple):
    """What became of a cell: the state first reached after the fault, and when."""

    state: str
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state} {self.seconds:.3g}"


class Setup(NamedTuple):
    """What all cells share: the master's store, of which each gets a copy, and certificates."""

    store: Path
    certs: Certs
    mentioning: Path
    """The same store, but its head's segment mentions external binaries."""
    blobs: BlobStore

    @classmethod
    def made(cls, directory: Path) -> Setup:
        """Made once, in `directory`."""
        certs = Certs(directory)
        (directory / "token").write_text("0123456789abcdef" * 2, "ascii")
        blobs = BlobStore(directory / "blobs", DATA_STORE, QuickDisk())
        last = root(1000, SAMPLES[-1].references, [put(blobs, each).text for each in BINARIES])
        mentioning = store_of(directory / "mentioning", [*SAMPLES[:-1], last])
        return cls(store_of(directory / "store", SAMPLES), certs, mentioning, blobs)

    def settings(self, link: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the master and of the slave of a kind of link."""
        both = {"compression": "zstd" if link in (ZSTD_LINK, TLS_ZSTD_LINK) else "none"}
        if link == OAK_LINK:
            return both, {**both, "dialect": "oak"}
        if not encrypted(link):
            return both, both
        ca = {"tls_ca": self.certs.path("good/ca.pem")}
        ours, theirs = self.certs.shows("good/master"), self.certs.shows("good/oak")
        if link == TOKEN_LINK:
            token = {"token_file": self.certs.path("token")}
            return {**both, **ours, **token}, {**both, **ca, **token}
        return {**both, **ours, **ca}, {**both, **theirs, **ca}


def encrypted(link: str) -> bool:
    """Whether a kind of link uses TLS."""
    return link not in (PLAIN_LINK, ZSTD_LINK, OAK_LINK)


def mentions(link: str) -> bool:
    """Whether a kind of link brings binaries."""
    return link in (BLOBS_LINK, OAK_LINK)


class FaultyRig(Rig):
    """A rig whose connections go through a proxy, and whose TLS is tapped and on its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy: Proxy
        self.at_connect = ""
        """What happens to the next attempt to connect."""
        self.before_connecting: Callable[[], None] = lambda: None

    def tap(self, security: MasterSecurity | SlaveSecurity, direction: str) -> None:
        """See what goes below the TLS of `security`."""
        security.factory._clock = self.clock
        make = security.contexts._connection

        def tapped(protocol: Any) -> Any:
            flow = getattr(self.proxy.pairs[-1], direction)
            return Tapped(make(protocol), flow.marks.add)

        security.contexts._connection = tapped  # type: ignore[method-assign]

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> Connector:  # noqa: N802
        """As the reactor's."""
        self.before_connecting()
        return super().connectTCP(host, port, factory, timeout)

    def attempted(self, connector: Connector) -> None:
        """Answer an attempt, unless something speaks against it."""
        does, self.at_connect = self.at_connect, ""
        if does:
            self.proxy.struck_at = self.seconds()
        if does == RESET:
            self.callLater(0, connector.refused)
        elif does == DELAY:
            self.callLater(DELAY_SECONDS, super().attempted, connector)
        elif does != BLACKHOLE:
            super().attempted(connector)
        if does in (CUT, HALF_OPEN):
            self.proxy.unreachable = does

    def advance(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until `reached`, from call to call; False if `seconds` were not enough."""
        end = self.seconds() + seconds
        self.settle()
        while not reached() and self.seconds() < end:
            times = [call.getTime() for call in self.clock.getDelayedCalls()]
            next_time = min([*times, end])
            self.clock.advance(max(next_time - self.seconds(), 1e-9))
            self.settle()
        return reached()


class World:
    """A master, a slave and a link between them that may fail."""

    def __init__(
        self, directory: Path, setup: Setup, link: str, strike: Strike | None = None
    ) -> None:
        self.store, self.copy, self.link = directory / "master", directory / "slave", link
        self.blobs: BlobStore | None = None
        """The slave's, if there are external binaries."""
        shutil.copytree(setup.mentioning if mentions(link) else setup.store, self.store)
        self.rig = FaultyRig()
        ours, theirs = setup.settings(link)
        if mentions(link):
            self.blobs = BlobStore(directory / "blobs", DATA_STORE)
            ours = {**ours, "blob_store": str(setup.blobs.path)}
            theirs = {**theirs, "blob_store": str(self.blobs.path)}
        self.master = MasterSide(self.rig, self.store, **ours)
        self.master.factory.blobs = setup.blobs if mentions(link) else None
        self.security: MasterSecurity | None = None
        if encrypted(link):
            config = MasterConfig(store=self.store, **ours)
            self.security = MasterSecurity(config, self.master.factory, self.rig)
            self.rig.tap(self.security, DOWN)
        self.proxy = Proxy(self.rig.clock, self._dial, strike, encrypted=encrypted(link))
        self.rig.proxy = self.proxy
        self.rig.master = self.proxy.accept
        self.slave = SlaveSide(self.rig, self.copy, **theirs)
        window = self.slave.service._window
        window.limit = window.size = WINDOW
        self.rig.before_connecting = self._connecting
        self.trace: list[Outcome] = []
        """Every state, when it was reached."""
        self.heads = [head_in(SAMPLES[-1].segment)]
        self.slave.service.status.watchers.append(self._moved)

    def _connecting(self) -> None:
        security = self.slave.service._security
        if security is not None:
            self.rig.tap(security, UP)

    def _moved(self) -> None:
        now = self.slave.service.status
        self.trace.append(Outcome(now.state, self.rig.seconds(), now.why))

    def _dial(self, far: Side) -> None:
        served = self.security.factory if self.security else self.master.factory
        address = IPv4Address("TCP", HOST, 40_000 + len(self.proxy.pairs))
        self.rig.join(far, served.buildProtocol(address))

    @property
    def in_sync(self) -> bool:
        """Whether the slave has the newest head, and says so."""
        copy = self.slave.service.copy
        has = copy is not None and copy.head == self.heads[-1]
        return has and self.slave.state == status.IN_SYNC

    @property
    def struck(self) -> bool:
        """Whether the fault has come about."""
        return self.proxy.struck_at is not None

    def failures(self) -> list[Outcome]:
        """The states since the fault that say that something is wrong, and when after it."""
        at = self.proxy.struck_at
        assert at is not None
        return [
            Outcome(each.state, each.seconds - at, each.why)
            for each in self.trace
            if each.seconds >= at and each.state not in WELL
        ]

    def move_head(self) -> RecordId:
        """Somebody commits to the master's store."""
        number = 2000 + len(self.heads)
        new = root(number, [self.heads[-1].segment, BULKS[0].segment])
        name = f"data{len(self.heads):05d}a.tar"
        (self.store / name).write_bytes(tar_bytes(name, [new]))
        add_heads(self.store, new.segment)
        self.heads.append(head_in(new.segment))
        self.master.refresh()
        return self.heads[-1]

    def nothing_wrong(self) -> None:
        """All that the copy has is the master's, and every head that it names is whole."""
        if not (self.copy / lines.NAME).exists():
            return
        true, mine = (self._lines(each) for each in (self.store, self.copy))
        assert mine <= true, "a line in the journal that the master never wrote"
        every_head_is_whole(self.copy)
        if self.blobs is not None:
            for each in map(self.blobs.parse, map(id_of, BINARIES)):
                assert self.blobs.has(each), "a head without its binaries"
                self.blobs.verify(each)
        state = SlaveState.load(self.copy)
        assert state is not None
        assert (state.epoch, state.repository) == (0, ""), "a lie about the master is kept"

    def _lines(self, store: Path) -> set[Any]:
        found = lines.parse((store / lines.NAME).read_bytes())
        # Oak's dialect does not tell the time of a head.
        return {each.head if self.link == OAK_LINK else each for each in found}

    def objects(self) -> list[Any]:
        """What must not outlive the cell."""
        ends = [end.protocol for link in self.rig.links for end in (link.slave, link.master)]
        return [self, self.slave.service, self.master.factory, *self.proxy.pairs, *ends]

    def abandon(self) -> None:
        """Let go of everything, whatever is wrong already."""
        self.slave.begin_to_stop()
        if self.security is not None:
            self.security.stop()
        self.proxy.cut()
        self.rig.settle()
        self.master.close()

    def close(self) -> None:
        """Stop everything; whatever is left then has leaked."""
        self.slave.stop()
        if self.security is not None:
            self.security.stop()
        self.proxy.cut()
        self.rig.settle()
        assert not self.proxy.open_ends, "ends of the proxy are still open"
        assert not self.rig.delayed, self.rig.delayed
        self.master.close()
        assert not any(link.alive for link in self.rig.links), "a connection is still open"
        assert not self.slave.fatal, self.slave.fatal
        same(self.store, self.copy)
        sound(self.copy)
        assert heads_of(self.copy)[-1] == self.heads[-1]
        self.nothing_wrong()
