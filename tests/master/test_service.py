"""The master as a service over real sockets: how it starts, looks, and stops."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import pytest_twisted
from services import START_SECONDS, Master, until, within
from sides import HELLO, NEXT_TAR, TAR, RawSlave, chain, large, store_of
from stores import add_heads, head_in, leaf, make_store, tar_bytes
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from tarfailover.config import MasterConfig
from tarfailover.errors import (
    ConfigError,
    DeadlineError,
    NotAStoreError,
    StoreIOError,
    TarFailoverError,
    UnsupportedStoreError,
)
from tarfailover.master.service import MasterService
from tarfailover.store.snapshot import Snapshot
from tarfailover.wire import messages as m

SAMPLES = chain(3)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


async def client(master: Master) -> RawSlave:
    """A slave that was welcomed over TCP."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", master.port)
    slave = await connectProtocol(endpoint, RawSlave())
    slave.ask(HELLO)
    await answers(slave, 1)
    assert isinstance(slave.take()[0], m.Welcome)
    return slave


async def answers(slave: RawSlave, count: int) -> None:
    await until(lambda: len(slave.answers) >= count or slave.lost is not None, f"{count} answers")


async def gone(slave: RawSlave) -> None:
    await until(lambda: slave.lost is not None, "the end of the connection")


async def fails_to_start(config: MasterConfig) -> TarFailoverError:
    """Why a master cannot start; nothing of it must be left."""
    fatal: list[TarFailoverError] = []
    service = MasterService(config, reactor, fatal.append)
    service.startService()
    await until(lambda: bool(fatal), "giving up")
    await service.stopService()
    assert service.port is None
    (error,) = fatal
    return error


class Taken:
    """An endpoint that somebody else has. (A real one leaks its socket in Twisted 22.10.)"""

    def listen(self, _: object) -> Deferred[IListeningPort]:
        """Fail."""
        return fail(CannotListenError("127.0.0.1", 8023, OSError("Address already in use")))


@pytest_twisted.ensureDeferred
async def test_an_address_in_use_is_fatal_with_a_remedy(store: Path) -> None:
    fatal: list[TarFailoverError] = []
    service = MasterService(MasterConfig(store=store, port=0), reactor, fatal.append)
    service._endpoint = Taken()
    service.startService()
    await until(lambda: bool(fatal), "giving up")
    await service.stopService()
    (error,) = fatal
    assert isinstance(error, ConfigError)
    assert "already in use" in str(error) and "--port" in str(error)


@pytest_twisted.ensureDeferred
async def test_no_store_is_fatal(tmp_path: Path) -> None:
    assert isinstance(await fails_to_start(MasterConfig(store=tmp_path / "no")), NotAStoreError)
    legacy = store_of(tmp_path / "legacy", SAMPLES)
    (legacy / "manifest").unlink()
    assert isinstance(await fails_to_start(MasterConfig(store=legacy)), UnsupportedStoreError)


@pytest_twisted.ensureDeferred
async def test_too_few_files_to_serve_anybody(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (300, 300))
    error = await fails_to_start(MasterConfig(store=store, port=0))
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "the limit of open files leaves room for 1 clients and 1 other connections beside the "
        "tars; raise it (LimitNOFILE)"
    )


@pytest_twisted.ensureDeferred
async def test_few_files_lower_the_limits_and_are_told(
    store: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    async with Master(store) as master:
        assert master.service.factory is not None
        assert master.service.factory.room == (527, 175)
    told = "warn the limit of open files leaves room for 527 clients and 175 other connections"
    assert sum(line.startswith(told) for line in log) == 1


@pytest_twisted.ensureDeferred
async def test_entries_that_surely_mean_something_else_are_told(
    store: Path, log: list[str]
) -> None:
    async with Master(store, allowed_client_ip_ranges="127.0.0.9-127.0.0.1,::1"):
        pass
    told = "127.0.0.9-127.0.0.1 ends before it begins, so it allows nobody; turn it round"
    assert f"warn allowed_client_ip_ranges: {told}" in log


def test_an_endpoint_that_is_none() -> None:
    config = MasterConfig(store=Path("nowhere"), endpoint="tcp:port=no:interface=127.0.0.1")
    with pytest.raises(ConfigError, match="endpoint"):
        MasterService(config, reactor, lambda _: None)


@pytest_twisted.ensureDeferred
async def test_an_endpoint_of_ones_own(store: Path, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    async with Master(store, endpoint=f"unix:{socket}"):
        slave = await connectProtocol(UNIXClientEndpoint(reactor, str(socket)), RawSlave())
        slave.ask(HELLO)
        await answers(slave, 1)
        assert isinstance(slave.take()[0], m.Welcome)
    await gone(slave)


@pytest_twisted.ensureDeferred
async def test_stopped_before_it_has_started(store: Path) -> None:
    fatal: list[TarFailoverError] = []
    service = MasterService(MasterConfig(store=store, port=0), reactor, fatal.append)
    service.startService()
    await service.stopService()
    assert service.port is None and not fatal


@pytest_twisted.ensureDeferred
async def test_clients_are_told_that_it_stops(store: Path) -> None:
    async with Master(store) as master:
        idle, waiting = await client(master), await client(master)
        waiting.ask(m.Head(HEAD, 60_000))
    for slave in (idle, waiting):
        await gone(slave)
        assert slave.error().code == m.ErrorCode.GOING_AWAY


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_is_not_waited_for_longer_than_the_drain(
    tmp_path: Path,
) -> None:
    samples = large(100)
    store = store_of(tmp_path / "big", samples)
    async with Master(store, deadline_drain=0.2, send_buffer=0) as master:
        slave = await client(master)
        slave.transport.pauseProducing()
        slave.ask(m.Get(tuple(each.segment for each in samples)))
        (protocol,) = master.service.factory.clients
        await until(lambda: protocol.sender.sent > 0, "an answer")
    assert not master.service.factory.clients
    slave.transport.resumeProducing()
    await gone(slave)


def threads_of_the_master() -> list[str]:
    return [each.name for each in threading.enumerate() if "tarfailover-master" in each.name]


@pytest_twisted.ensureDeferred
async def test_a_look_that_hangs_does_not_keep_the_process(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a dead file server: no thread comes back, and the stop is over all the same."""
    looking, over = threading.Event(), threading.Event()

    def hang() -> Snapshot:
        looking.set()
        over.wait(START_SECONDS)
        return snapshot

    fatal: list[TarFailoverError] = []
    config = MasterConfig(store=store, port=0, scan_interval=0.02, deadline_drain=0.2)
    service = MasterService(config, reactor, fatal.append)
    service.startService()
    await until(lambda: service.port is not None, "listening")
    snapshot = service.factory.snapshot
    monkeypatch.setattr(service._follower, "refresh", hang)
    await until(looking.is_set, "a look")
    await within(START_SECONDS / 2, "the stop", service.stopService())
    (error,) = fatal
    assert isinstance(error, DeadlineError) and error.name == "drain"
    over.set()
    await until(lambda: not threads_of_the_master(), "the threads' end")
    service._let_go(None)


@pytest_twisted.ensureDeferred
async def test_one_client_too_many_hears_why(store: Path) -> None:
    async with Master(store, max_clients=1) as master:
        await client(master)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", master.port)
        second = await connectProtocol(endpoint, RawSlave())
        second.ask(HELLO)
        await gone(second)
        assert second.error().code == m.ErrorCode.BUSY
        (first,) = master.service.factory.clients
        first.transport.loseConnection()
        await until(lambda: not master.service.factory.clients, "the first client gone")


@pytest_twisted.ensureDeferred
async def test_a_head_lost_and_found_again(store: Path) -> None:
    journal = store / "journal.log"
    lines = journal.read_bytes()
    async with Master(store) as master:
        slave = await client(master)
        slave.ask(m.Head(HEAD, 60_000))
        journal.write_bytes(b"")
        await answers(slave, 1)
        assert slave.error().code == m.ErrorCode.NOT_READY
        journal.write_bytes(lines)
        await until(lambda: master.service.factory.snapshot.head is not None, "the head again")
        slave.ask(m.Head(None, 0))
        await answers(slave, 1)
        (head,) = slave.take()
        assert isinstance(head, m.HeadIs) and head.head == HEAD
        slave.transport.loseConnection()
        await gone(slave)


@pytest_twisted.ensureDeferred
async def test_a_store_that_is_filled_later(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", {})
    async with Master(store) as master:
        slave = await client(master)
        slave.ask(m.Head(None, 0))
        await answers(slave, 1)
        assert slave.error().code == m.ErrorCode.NOT_READY
        (store / TAR).write_bytes(tar_bytes(TAR, SAMPLES))
        add_heads(store, HEAD.segment)
        await until(lambda: master.service.factory.snapshot.head is not None, "a head")
        slave.transport.loseConnection()
        await gone(slave)


@pytest_twisted.ensureDeferred
async def test_looks_that_fail_leave_the_last_snapshot_served(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Master(store) as master:
        slave = await client(master)
        failures: list[int] = []

        def refuse() -> None:
            failures.append(1)
            if len(failures) % 2:
                raise StoreIOError(f"{store}: cannot list: Too many open files")
            raise RuntimeError("a bug")

        with monkeypatch.context() as patched:
            patched.setattr(master.service._follower, "refresh", refuse)
            await until(lambda: len(failures) > 4, "some looks that fail")
            slave.ask(m.Get((HEAD.segment,)))
            await answers(slave, 2)
            assert [type(each) for each in slave.take()] == [m.Part, m.End]
        slave.ask(m.Head(HEAD, 60_000))
        new = leaf(50, [SAMPLES[0].segment])
        (store / NEXT_TAR).write_bytes(tar_bytes(NEXT_TAR, [new]))
        add_heads(store, new.segment)
        await answers(slave, 1)
        (head,) = slave.take()
        assert isinstance(head, m.HeadIs) and head.head == head_in(new.segment)
        slave.transport.loseConnection()
        await gone(slave)
