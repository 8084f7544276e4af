"""The status page as a service, and the command that asks for it."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from beside import beside
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError

from tarfailover.cli import asking
from tarfailover.cli.app import main
from tarfailover.config import SlaveConfig
from tarfailover.errors import ConfigError, TarFailoverError
from tarfailover.status.service import StatusService

SLAVE = {
    "role": "slave",
    "state": "syncing",
    "why": "head x",
    "store": "/copy",
    "head": None,
    "head_time": None,
    "master": "oak1:8023",
    "lag_seconds": 1.5,
    "answer_age_seconds": None,
    "failures": 2,
    "last_failure": "no connection \x1b[31m",
    "transfer": {"seconds": 3.0, "bytes": 2**21, "bytes_left": 2**20},
    "tls": [{"what": "the certificate in slave.pem", "days": 12}],
}


class Shown:
    """A status page on a port that the system chose."""

    def __init__(self, report: Any = SLAVE, *, well: bool = True, **settings: Any) -> None:
        config = dataclasses.replace(SlaveConfig(store=Path("copy")), **settings)
        self.fatal: list[TarFailoverError] = []
        word = "ok" if well else "stalled"
        self.service = StatusService(
            config, reactor, lambda: report, lambda: (well, word), self.fatal.append
        )

    @property
    def port(self) -> int:
        assert self.service.port is not None
        number: int = self.service.port.getHost().port
        return number

    async def __aenter__(self) -> Shown:
        self.service.startService()
        return self

    async def __aexit__(self, *_: object) -> None:
        await maybeDeferred(self.service.stopService)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("well", [True, False])
async def test_the_command_tells_people(well: bool, capsys: pytest.CaptureFixture[str]) -> None:
    async with Shown(well=well) as shown:
        code = await beside(lambda: main(["status", "--port", str(shown.port)]))
    said = capsys.readouterr().out
    assert code == (0 if well else 1)
    assert "syncing: head x" in said
    assert "behind    1.5 s" in said
    assert "2.0 MiB came, 1.0 MiB known to be left, after 3.0 s" in said
    assert "the certificate in slave.pem: in 12 days" in said
    assert "binaries" not in said and "brought" not in said
    assert "\x1b" not in said


@pytest_twisted.ensureDeferred
async def test_the_command_tells_when_the_last_head_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    last = {"head": "h", "began": "b\x1b", "ended": "2023-11-14T22:13:32.000Z", "seconds": 12.0}
    async with Shown({**SLAVE, "last_transfer": last}) as shown:
        await beside(lambda: main(["status", "--port", str(shown.port)]))
    said = capsys.readouterr().out
    assert "brought   2023-11-14T22:13:32.000Z, within 12.0 s" in said
    assert "\x1b" not in said


@pytest_twisted.ensureDeferred
async def test_the_command_tells_of_external_binaries(capsys: pytest.CaptureFixture[str]) -> None:
    moving = {**SLAVE["transfer"], "blob_bytes": 2**22, "blob_bytes_left": 2**23}
    with_blobs = {**SLAVE, "blob_store": "/own\x1b", "blobs_missing": 3, "transfer": moving}
    async with Shown(with_blobs) as shown:
        await beside(lambda: main(["status", "--port", str(shown.port)]))
    said = capsys.readouterr().out
    assert "6.0 MiB came, 9.0 MiB known to be left" in said
    assert "3 missing" in said and "\x1b" not in said


@pytest_twisted.ensureDeferred
async def test_the_command_tells_programs(capsys: pytest.CaptureFixture[str]) -> None:
    async with Shown(well=False) as shown:
        url = f"http://127.0.0.1:{shown.port}"
        code = await beside(lambda: main(["status", "--json", url]))
    assert code == 1
    assert json.loads(capsys.readouterr().out) == {**SLAVE, "health": "stalled"}


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Twisted 22.10 leaves the socket open when it really is taken.
    taken = CannotListenError("127.0.0.1", 8024, OSError("Address already in use"))
    shown = Shown(status_port=8024)
    with monkeypatch.context() as patched:
        patched.setattr(reactor, "listenTCP", Mock(side_effect=taken))
        shown.service.startService()
    (error,) = shown.fatal
    assert isinstance(error, ConfigError)
    assert "Address already in use" in str(error) and "--status-port" in str(error)
    await maybeDeferred(shown.service.stopService)


@pytest_twisted.ensureDeferred
async def test_who_is_connected_does_not_keep_the_process() -> None:
    async with Shown() as shown:
        idle = await beside(lambda: socket.create_connection(("127.0.0.1", shown.port), 10))
    with idle:
        idle.settimeout(10)
        assert await beside(lambda: closed(idle))


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# what answers, and is not ours


@pytest.fixture
def answering() -> Iterator[Any]:
    """Makes a server that says `said` to whoever connects, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve(said: bytes, *, stay: bool = False) -> int:
            def answer() -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(10)
                    connection.recv(1000)
                    connection.sendall(said)
                    if stay:
                        closed(connection)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            threads.append(thread)
            port: int = listening.getsockname()[1]
            return port

        threads: list[threading.Thread] = []
        yield serve
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"SSH-2.0-OpenSSH\r\n", 20),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 20),
        (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n", 20),
        (b"", 23),
    ],
    ids=["ssh", "404", "headers", "nothing"],
)
def test_what_is_no_status_page(
    answering: Any, capsys: pytest.CaptureFixture[str], said: bytes, code: int
) -> None:
    assert main(["status", "--port", str(answering(said))]) == code
    assert "tarfailover: http://127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"])
def test_an_answer_that_does_not_end(
    answering: Any, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.1)
    assert main(["status", "--port", str(answering(said, stay=True))]) == 22


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("report", [[], {}, {"role": "slave"}, "text", 5])
async def test_json_that_is_no_report(report: Any) -> None:
    async with Shown(report) as shown:
        assert await beside(lambda: main(["status", "--port", str(shown.port)])) == 20


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert main(["status", "--port", str(port)]) == 23
    assert f"--status-port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1", "http://", "http://x:y", "http://[::1"])
def test_what_is_no_url(url: str) -> None:
    assert main(["status", url]) == 2
