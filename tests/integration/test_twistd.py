"""Both programs as operators run them: from a file, stopped by a signal, refused in a sentence."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_twisted
from beside import beside
from copies import closed, fingerprint, head_of, same, write
from daemons import LINE_SECONDS, Daemon
from proxies import Fault, Plan, Proxy
from services import Master, Slave

from tarfailover.store.lock import NAME as LOCK
from tarfailover.store.lock import RepositoryLock

CHECKOUT = Path(__file__).resolve().parents[2]
PID = "org.apache.jackrabbit.oak.plugins.segment.failover.store.FailoverStoreService.config"
MIDDLE = 1_500_000
NARROW = ("--window-max", "1MiB", "--receive-buffer", 0)


def by_file(side: str, *options: object) -> Daemon:
    """A process that reads the example file of its run mode."""
    return Daemon(f"tarfailover-{side}", "--config", CHECKOUT / "conf" / side / PID, *options)


def test_the_examples_run_and_stop_while_idle(sample: Path, tmp_path: Path) -> None:
    copy, before = tmp_path / "slave", fingerprint(sample)
    with (
        by_file("master", "--store", sample, "--port", 0) as master,
        by_file("slave", "--store", copy, "--port", master.port) as slave,
    ):
        slave.expect("in sync")
        slave.stop()
        master.stop()
    assert fingerprint(sample) == before
    closed(copy)
    same(sample, copy)


@pytest.mark.load
def test_an_end_by_the_keyboard_and_then_the_other_order(sample: Path, tmp_path: Path) -> None:
    """SIGINT counts as SIGTERM does; a master that goes first is no trouble for its slave."""
    copy = tmp_path / "slave"
    with Daemon.master(sample) as master, Daemon.slave(copy, master.port) as slave:
        slave.expect("in sync")
        master.signal(signal.SIGINT)
        assert master.end() == 0, master.output
        slave.expect("stalled: ")
        slave.signal(signal.SIGINT)
        assert slave.end() == 0, slave.output
    closed(copy)
    same(sample, copy)


@pytest.mark.load
def test_a_slave_that_follows_while_it_is_stopped(sample: Path, tmp_path: Path) -> None:
    """What was committed before the signal is there; the next start brings the rest."""
    copy = tmp_path / "slave"
    with Daemon.master(sample) as master:
        with Daemon.slave(copy, master.port) as slave:
            slave.expect("in sync")
            head = write(sample, seed=10)
            slave.expect(f"head {head} is durable")
            slave.stop()
        closed(copy)
        assert head_of(copy) == head
        head = write(sample, seed=11)
        with Daemon.slave(copy, master.port) as slave:
            slave.expect(f"head {head} is durable")
            slave.stop()
        master.stop()
    closed(copy)
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_slave_stopped_in_the_middle_of_its_first_copy(
    sample: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "slave"
    async with (
        Master(sample) as master,
        Proxy(master.port, [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
    ):
        with Daemon.slave(copy, proxy.port, *NARROW) as slave:
            await proxy.strikes()
            await beside(slave.stop)
        closed(copy)
        with Daemon.slave(copy, proxy.port, *NARROW) as slave:
            await beside(lambda: slave.expect("is durable"))
            await beside(slave.stop)
    closed(copy)
    same(sample, copy)


@pytest_twisted.ensureDeferred
async def test_a_master_stopped_in_the_middle_of_an_answer(sample: Path, tmp_path: Path) -> None:
    """Its slave takes nothing for as long as the drain lasts, and then goes on elsewhere."""
    copy, before = tmp_path / "slave", fingerprint(sample)
    with Daemon.master(sample, "--send-buffer", "256KiB", "--deadline-drain", 1) as first:
        port = await beside(lambda: first.port)
        async with (
            Proxy(port, [Plan(down=Fault(MIDDLE, "hold"))]) as proxy,
            Slave(copy, proxy.port, retry_initial=0.01, retry_max=0.05) as slave,
        ):
            await proxy.strikes()
            await beside(first.stop)
            assert fingerprint(sample) == before
            async with Master(sample) as second:
                proxy.target = second.port
                proxy.release()
                await slave.in_sync(head_of(sample))
    same(sample, copy)


# what is refused


class Refusal(NamedTuple):
    """How a program ends that cannot do what it was told to."""

    code: int
    words: str


def refused(daemon: Daemon) -> Refusal:
    """Its exit code and its last words that are not twistd's own."""
    with daemon:
        code = daemon.end(LINE_SECONDS)
    assert "Traceback" not in daemon.output
    said = [line for line in daemon.seen if "#critical]" in line]
    assert len(said) <= 1, "one sentence is enough"
    return Refusal(code, (said or daemon.seen)[-1].rpartition("#critical] ")[2])


def _missing(directory: Path) -> None:
    assert not directory.exists()


def _legacy(directory: Path) -> None:
    directory.mkdir()
    (directory / "data00000a.tar").write_bytes(bytes(1024))


def _without_journal(directory: Path) -> None:
    write(directory)
    (directory / "journal.log").unlink()


@pytest.mark.load
@pytest.mark.parametrize(
    ("side", "made", "code", "words"),
    [
        ("master", _missing, 11, "is no directory"),
        ("master", _legacy, 12, "migrate it with oak-upgrade"),
        ("slave", _legacy, 12, "migrate it with oak-upgrade"),
        ("slave", _without_journal, 14, "restore the journal from a copy"),
    ],
)
def test_a_directory_that_cannot_be_used(
    tmp_path: Path, side: str, made: Callable[[Path], None], code: int, words: str
) -> None:
    store = tmp_path / "store"
    made(store)
    before = fingerprint(store) if store.exists() else None
    said = refused(Daemon(f"tarfailover-{side}", "--store", store, "--port", 1))
    assert said.code == code
    assert str(store) in said.words and words in said.words
    names = sorted(p.name for p in store.iterdir() if p.name != LOCK) if before else None
    assert names == (sorted(set(before) - {store.name, LOCK}) if before else None)


@pytest.mark.load
def test_a_store_that_is_locked(sample: Path) -> None:
    """As by a second slave, or by Oak; the lock must be another process's to be felt."""
    with RepositoryLock.acquire(sample):
        said = refused(Daemon.slave(sample, 1))
    assert said.code == 15
    assert LOCK in said.words and "stop it first" in said.words


def test_a_port_that_is_taken(sample: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        said = refused(Daemon("tarfailover-master", "--store", sample, "--port", number))
    assert said.code == 2
    assert str(number) in said.words and "choose another --port" in said.words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no store is given; use --store"),
        (("--port", "many"), "option --port: 'many' is not a whole number"),
        (("--config", CHECKOUT / "conf" / "slave" / PID), "'slave' is the other side"),
    ],
)
def test_an_option_that_is_wrong(options: tuple[object, ...], words: str) -> None:
    """One sentence is all that is printed."""
    daemon = Daemon("tarfailover-master", *options)
    said = refused(daemon)
    assert said.code == 2
    assert words in said.words
    assert len(daemon.seen) == 1
