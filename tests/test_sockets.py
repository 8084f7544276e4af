"""Options of sockets: a buffer is set where the kernel gives it whole, and nowhere else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from tarfailover import sockets
from tarfailover.sockets import acknowledged, set_buffer, tune

OPTIONS = [socket.SO_SNDBUF, socket.SO_RCVBUF]
SIZE = 128 * 1024


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's limit of both buffers: a file, as in /proc."""
    path = tmp_path / "max"
    path.write_text(f"{SIZE}\n")
    monkeypatch.setattr(sockets, "_LIMITS", dict.fromkeys(OPTIONS, path))
    return path


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET) as handle:
        yield handle


def buffer_of(handle: socket.socket, option: int) -> int:
    return handle.getsockopt(socket.SOL_SOCKET, option)


class Connection:
    """What Twisted gives a protocol, with the options that were set."""

    def __init__(self, handle: object) -> None:
        self.handle = handle
        self.options: dict[str, bool] = {}

    def getHandle(self) -> object:  # noqa: N802 - Twisted's name
        return self.handle

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        self.options["no delay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        self.options["keep alive"] = enabled


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("option", OPTIONS)
def test_a_buffer_up_to_the_limit_is_set_whole(tcp: socket.socket, option: int) -> None:
    assert set_buffer(tcp, option, SIZE)
    # Linux gives twice as much, for its own book-keeping.
    assert buffer_of(tcp, option) in (SIZE, 2 * SIZE)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [0, SIZE + 1])
def test_a_buffer_beyond_the_limit_is_left_to_the_kernel(
    tcp: socket.socket, option: int, size: int
) -> None:
    before = buffer_of(tcp, option)
    assert not set_buffer(tcp, option, size)
    assert buffer_of(tcp, option) == before


@pytest.mark.parametrize("content", [None, "", "unlimited"])
def test_without_a_known_limit_the_buffer_is_left_to_the_kernel(
    limit: Path, tcp: socket.socket, content: str | None
) -> None:
    if content is None:
        limit.unlink()
    else:
        limit.write_text(content)
    before = buffer_of(tcp, socket.SO_RCVBUF)
    assert not set_buffer(tcp, socket.SO_RCVBUF, 4096)
    assert buffer_of(tcp, socket.SO_RCVBUF) == before


def test_the_limits_are_those_of_this_kernel() -> None:
    for option, path in sockets._LIMITS.items():
        if not path.exists():
            pytest.skip(f"this system has no {path}")
        assert sockets._limit(option) == int(path.read_text())


@pytest.mark.usefixtures("limit")
def test_a_connection_is_tuned(tcp: socket.socket) -> None:
    connection = Connection(tcp)
    tune(connection, socket.SO_RCVBUF, SIZE)
    assert connection.options == {"no delay": True, "keep alive": True}
    assert buffer_of(tcp, socket.SO_RCVBUF) in (SIZE, 2 * SIZE)


@pytest.mark.usefixtures("limit")
def test_a_unix_socket_stays_as_it_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        before = buffer_of(ours, socket.SO_SNDBUF)
        connection = Connection(ours)
        tune(connection, socket.SO_SNDBUF, SIZE)
        assert not set_buffer(ours, socket.SO_SNDBUF, SIZE)
        assert connection.options == {}
        assert buffer_of(ours, socket.SO_SNDBUF) == before


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("transport", [object(), Connection(None), Connection(object())])
def test_what_is_no_socket_stays_as_it_is(transport: Any) -> None:
    tune(transport, socket.SO_SNDBUF, SIZE)
    assert not getattr(transport, "options", {})
    assert not set_buffer(transport, socket.SO_SNDBUF, SIZE)


# what the other side has taken


def test_the_kernel_tells_what_the_other_side_has_taken() -> None:
    """And not what went into its own buffers: the peer here reads nothing."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        ours = socket.create_connection(listening.getsockname(), timeout=10)
        theirs, _ = listening.accept()
        with ours, theirs:
            ours.settimeout(10)
            ours.sendall(bytes(100))
            assert len(theirs.recv(100, socket.MSG_WAITALL)) == 100
            told = acknowledged(Connection(ours))
            if not told:
                pytest.skip("this kernel does not tell what was acknowledged")
            below_tls = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
            below_tls.transport = Connection(ours)
            assert acknowledged(below_tls) == told
            # The kernel counts the SYN as a byte.
            assert 100 <= told <= 101
            ours.setblocking(False)
            written = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    written += ours.send(bytes(65536))
            assert told <= acknowledged(Connection(ours)) < written
        assert acknowledged(Connection(ours)) == 0


@pytest.mark.parametrize("transport", [object(), Connection(None), Connection(object())])
def test_nothing_is_known_of_what_is_no_socket(transport: object) -> None:
    assert acknowledged(transport) == 0


def test_nothing_is_known_of_a_unix_socket_nor_of_an_old_kernels() -> None:
    class Old:
        def getsockopt(self, *_: object) -> bytes:
            return bytes(104)

    assert acknowledged(Connection(Old())) == 0
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert acknowledged(Connection(ours)) == 0
