"""Which listeners others can reach, decided from the text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints

from tarfailover.access.listeners import is_loopback, is_loopback_endpoint
from tarfailover.errors import ConfigError


@pytest.mark.parametrize(
    "interface",
    ["127.0.0.1", "127.1.2.3", "localhost", "::1", "0:0:0:0:0:0:0:1", "::1%lo", "::ffff:127.0.0.1"],
)
def test_loopback(interface: str) -> None:
    assert is_loopback(interface)


@pytest.mark.parametrize(
    "interface",
    [
        "",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "192.168.1.2",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "128.0.0.1",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "127.1",
        " 127.0.0.1",
        "lo",
    ],
)
def test_not_loopback(interface: str) -> None:
    assert not is_loopback(interface)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:8023:interface=127.0.0.1",
        "tcp:interface=127.0.0.1:port=8023",
        "tcp:port=8023:interface=localhost:backlog=5",
        "tcp:8023:127.0.0.1",
        "tcp6:8023:interface=\\:\\:1",
        "tcp6:8023:50:\\:\\:1",
        "ssl:8023:privateKey=a.pem:interface=127.0.0.1",
        "ssl:8023:a.pem:a.pem:TLS_METHOD:127.0.0.1",
        "unix:/run/tarfailover.sock",
        "unix:address=/run/a\\:b.sock:mode=660",
    ],
)
def test_loopback_endpoint(endpoint: str) -> None:
    assert is_loopback_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp",
        "tcp:8023",
        "tcp:8023:interface=",
        "tcp:8023:interface=0.0.0.0",
        "tcp:8023:interface=10.0.0.1",
        "tcp:8023:iface=127.0.0.1",
        "tcp:8023:10.0.0.1",
        "tcp:8023:backlog=127.0.0.1",
        "tcp:8023:interface=127.0.0.1:interface=0.0.0.0",
        "tcp6:8023",
        "tcp6:8023:interface=\\:\\:",
        "ssl:8023:privateKey=a.pem",
        "ssl:8023:127.0.0.1",
        "tls:8023:interface=127.0.0.1",
        "systemd:domain=INET:index=0",
        "haproxy:tcp:8023:interface=127.0.0.1",
        "tcp=8023:interface=127.0.0.1",
        "unixx:/run/a.sock",
    ],
)
def test_not_loopback_endpoint(endpoint: str) -> None:
    assert not is_loopback_endpoint(endpoint)


@pytest.mark.parametrize("endpoint", ["\\", "tcp:8023\\", "tcp:8023:interface=127.0.0.1\\"])
def test_a_backslash_at_the_end_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="ends in a backslash"):
        is_loopback_endpoint(endpoint)


@given(st.text("tcpunix:=\\6.127", max_size=30))
def test_any_text_gives_an_answer_or_an_error(endpoint: str) -> None:
    try:
        assert is_loopback_endpoint(endpoint) in (True, False)
    except ConfigError:
        assert endpoint.endswith("\\")


@given(st.text(max_size=20), st.integers(0, 65535))
def test_twisted_reads_the_same_interface(interface: str, port: int) -> None:
    """Twisted's own parser is the judge of what an endpoint string binds."""
    escaped = endpoints.quoteStringArgument(interface)
    text = f"tcp:{port}:interface={escaped}"
    _, _, named = endpoints._parseServer(text, None)
    assert named["interface"] == interface
    assert is_loopback_endpoint(text) == is_loopback(interface)
