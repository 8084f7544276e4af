"""Peers that nobody knows do their worst to a real master; honest slaves go on meanwhile."""

from __future__ import annotations

import itertools
import re
import resource
import selectors
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from copies import same, write
from daemons import Daemon
from tls_made import Certs

pytestmark = pytest.mark.load

STRANGERS = 10_000
"""Connections of the flood; fewer where the limit of open files is lower."""
DEFAULT = 500
"""Strangers that a master has at a time."""
MIB_EACH = 0.25
"""What one may cost a master that speaks TLS: MANUAL.md, *Who may connect*."""
PLAIN_MIB = 16
"""What all of them may cost one that does not."""
TOKEN = "0123456789abcdef" * 2
ROUNDS = 400

BEGINNINGS = [
    b"",  # idle
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a ClientHello that never ends
    b"\x16\x03\x01\xff\xff" + b"\xff" * 200,  # garbage in the shape of TLS
    b"\0\0\0\x10\1\0\0\0\1TARF",  # half a HELLO in plain text
]


@pytest.fixture
def many_files() -> Iterator[int]:
    """Open as many files as the system lets this process; gives how many connections that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(STRANGERS, (hard if hard != resource.RLIM_INFINITY else STRANGERS * 2) - 500)
    if most < STRANGERS:
        sys.stderr.write(f"the limit of {hard} open files allows {most} of {STRANGERS} strangers\n")
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stranger(number: int, port: int) -> socket.socket:
    """A connection from one of 250 addresses of this machine."""
    made = socket.socket()
    made.bind((f"127.1.{number % 5}.{1 + number % 50}", 0))
    made.connect(("127.0.0.1", port))
    return made


def memory(daemon: Daemon, name: str) -> float:
    """MiB that a process has (VmRSS), or ever had (VmHWM)."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    match = re.search(rf"{name}:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def sides(directory: Path, *, tls: bool) -> tuple[list[object], list[object]]:
    """The options of master and slave: plain text, or TLS and a token."""
    if not tls:
        return [], []
    certs, token = Certs(directory / "certs"), directory / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    shown = certs.shows("good/master")
    both = ["--token-file", token]
    ours = ["--tls-certificate", shown["tls_certificate"], "--tls-key", shown["tls_key"]]
    return [*ours, *both], ["--tls-ca", certs.path("good/ca.pem"), *both]


class Flood(threading.Thread):
    """Connections that say one of the `BEGINNINGS` and stay open; `count` of them."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self.sockets: list[socket.socket] = []
        self.failures: list[OSError] = []
        self._port = port
        self._count = count

    def run(self) -> None:
        """Open them all."""
        for number in range(self._count):
            try:
                self.sockets.append(stranger(number, self._port))
                self.sockets[-1].send(BEGINNINGS[number % len(BEGINNINGS)])
            except OSError as error:  # cut off before it could say anything
                self.failures.append(error)

    def __enter__(self) -> Flood:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        for each in self.sockets:
            each.close()


def test_ten_thousand_connections_that_say_nothing_good(
    sample: Path, tmp_path: Path, many_files: int
) -> None:
    """Half of a HELLO, half of a handshake, garbage, silence; one slave follows, one begins."""
    ours, theirs = sides(tmp_path, tls=True)
    with Daemon.master(sample, *ours) as master:
        port = master.port
        with Daemon.slave(tmp_path / "one", port, *theirs) as one:
            one.expect("in sync")
            before = memory(master, "VmRSS")
            with Flood(port, many_files) as flood:
                with Daemon.slave(tmp_path / "two", port, *theirs) as two:
                    two.expect("in sync")
                    for seed in itertools.count(100):
                        head = write(sample, seed=seed)
                        one.expect(rf"head {re.escape(str(head))} is durable")
                        two.expect(rf"head {re.escape(str(head))} is durable")
                        if not flood.is_alive():
                            break
                    two.stop()
                assert "refused" not in two.output and "stalled" not in two.output
            assert len(flood.failures) < many_files / 10
            one.stop()
        cost = memory(master, "VmHWM") - before
        assert cost <= DEFAULT * MIB_EACH, f"{cost:.0f} MiB for strangers"
        master.stop()
    assert "connections without HELLO (max_strangers)" in master.output
    assert master.output.count("\n") < 300, "a flood fills no log"
    same(sample, tmp_path / "one")
    same(sample, tmp_path / "two")


def oversized(number: int, *, tls: bool) -> bytes:
    """The beginning of a frame, or of a record, that is longer than allowed: up to the longest."""
    if tls:
        return b"\x16\x03\x01" + (0xFFFF - 1000 * number).to_bytes(2, "big") + bytes(64)
    return (8 * 1024 + 1 << min(number, 18)).to_bytes(4, "big") + bytes(64)


DRIPS = {False: b"\0\0\0\x40\1\0\0\0\1TARF", True: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}
GARBAGE = {False: b"\0\0\x1f\xff", True: b"\x16\x03\x01\x3f\xff"}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_slow_oversized_and_endless(sample: Path, tmp_path: Path, tls: bool) -> None:
    """Each is cut off by its deadline or its first frame, and none costs memory."""
    ours, theirs = sides(tmp_path, tls=tls)
    short = ("--deadline-hello", "1", "--deadline-tls-handshake", "1")
    with (
        Daemon.master(sample, *ours, *short) as master,
        Daemon.slave(tmp_path / "copy", master.port, *theirs) as slave,
    ):
        slave.expect("in sync")
        before = memory(master, "VmRSS")
        slow = [stranger(n, master.port) for n in range(200)]
        loud = [stranger(n, master.port) for n in range(200, 220)]
        long = [stranger(n, master.port) for n in range(220, 240)]
        for number, each in enumerate(long):
            each.sendall(oversized(number, tls=tls))
        garbage = GARBAGE[tls] + bytes(range(256)) * 256
        drip = itertools.chain(DRIPS[tls], itertools.repeat(0))
        for seed in range(100, 100 + ROUNDS):
            # The pace is that of a slave that follows: a byte from each for each new head.
            byte = bytes([next(drip)])
            slow = [each for each in slow if says(each, byte)]
            loud = [each for each in loud if says(each, garbage)]
            long = [each for each in long if says(each, b"")]
            if not slow + loud + long:
                break
            head = write(sample, seed=seed)
            slave.expect(rf"head {re.escape(str(head))} is durable")
        assert not slow + loud + long, "somebody is still connected"
        cost = memory(master, "VmHWM") - before
        assert cost <= (DEFAULT * MIB_EACH if tls else PLAIN_MIB), f"{cost:.0f} MiB"
        slave.stop()
        master.stop()
    same(sample, tmp_path / "copy")


def says(each: socket.socket, data: bytes) -> bool:
    """Send what the kernel takes; False, and closed, once the master has cut it off."""
    each.setblocking(False)
    try:
        each.send(data)
        while chunk := each.recv(4096):
            assert chunk[4:5] == b"\xff" or chunk[:1] == b"\x15", "no ERROR and no alert of TLS"
    except BlockingIOError:
        return True
    except OSError:  # reset: it was cut off with bytes unread
        pass
    each.close()
    return False


def test_no_file_left_does_not_end_the_listening(sample: Path, tmp_path: Path) -> None:
    """The limit is set so low that the master cannot have fitted its own to it."""
    with Daemon.master(sample) as master:
        port = master.port
        folder = Path(f"/proc/{master.process.pid}/fd")
        used = len(list(folder.iterdir()))
        resource.prlimit(master.process.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
        came = [stranger(n, port) for n in range(40)]
        with selectors.DefaultSelector() as selector:
            for each in came:
                selector.register(each, selectors.EVENT_READ)
            cut = selector.select(30)
        assert cut, "those for whom there is no file are cut off"
        for each in came:
            each.close()
        resource.prlimit(master.process.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
        with Daemon.slave(tmp_path / "copy", port) as slave:
            slave.expect("in sync")
            slave.stop()
        master.stop()
    same(sample, tmp_path / "copy")
