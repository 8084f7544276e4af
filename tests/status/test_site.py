"""The status page: what it answers, and what it does not do for strangers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tarfailover.status.site import IDLE_SECONDS, LIFE_SECONDS, MAX_CONNECTIONS, StatusSite

REPORT = {"role": "slave", "state": "in sync", "why": "ünicode"}


class Page:
    """A site on a clock, whose browsers are in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.well = True
        self.report: Any = REPORT
        self.site = StatusSite(
            self.clock,
            lambda: self.report,
            lambda: (self.well, "ok" if self.well else "stalled"),
            frozenset({"oak2.example.org"}),
        )
        self.site.startFactory()
        self.open: list[tuple[Any, StringTransport]] = []

    def connect(self) -> tuple[Any, StringTransport]:
        channel = self.site.buildProtocol(None)
        transport = StringTransport()
        channel.makeConnection(transport)
        self.open.append((channel, transport))
        return channel, transport

    def ask(self, request: str) -> tuple[int, dict[str, str], str]:
        """Code, headers and body of the answer."""
        channel, transport = self.connect()
        channel.dataReceived(request.encode("latin-1"))
        head, _, body = transport.value().decode("utf-8").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, body

    def get(self, path: str, host: str = "localhost:8024", method: str = "GET") -> Any:
        return self.ask(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")

    def close(self) -> None:
        for channel, transport in self.open:
            del transport
            channel.connectionLost(Failure(ConnectionDone()))
        self.site.stopFactory()


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page()
    yield made
    made.close()
    assert not made.clock.getDelayedCalls()
    assert not made.site.channels


def test_the_report_is_json(page: Page) -> None:
    code, headers, body = page.get("/status")
    assert (code, json.loads(body)) == (200, REPORT)
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "tarfailover"


@pytest.mark.parametrize(("well", "code", "word"), [(True, 200, "ok"), (False, 503, "stalled")])
def test_health_is_one_word(page: Page, well: bool, code: int, word: str) -> None:
    page.well = well
    found, _, body = page.get("/health")
    assert (found, body) == (code, f"{word}\n")


def test_the_root_says_what_there_is(page: Page) -> None:
    code, _, body = page.get("/")
    assert code == 200 and "/status" in body and "/health" in body


@pytest.mark.parametrize("path", ["/x", "/status/x", "/health/..", "/../etc/passwd", "/%00", "//"])
def test_there_is_nothing_else(page: Page, path: str) -> None:
    code, _, body = page.get(path)
    assert code == 404 and "passwd" not in body


def test_head_has_no_body(page: Page) -> None:
    code, headers, body = page.get("/status", method="HEAD")
    assert (code, body) == (200, "")
    assert int(headers["content-length"]) > 10


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
@pytest.mark.parametrize("path", ["/status", "/health"])
def test_nothing_can_be_done_but_look(page: Page, method: str, path: str) -> None:
    code, headers, _ = page.get(path, method=method)
    assert code == 405
    assert headers["allow"] == "get, head"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8024",
        "127.0.0.1:8024",
        "10.0.0.2",
        "[::1]:8024",
        "oak2.example.org:8024",
        "oak2.example.org.",
    ],
)
def test_who_is_meant(page: Page, host: str) -> None:
    assert page.get("/status", host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[evil]", "1.2.3"]
)
def test_a_page_whose_name_was_bound_to_this_machine_learns_nothing(page: Page, host: str) -> None:
    for path in ("/status", "/health", "/", "/x"):
        code, _, body = page.get(path, host)
        assert code == 403 and "role" not in body and "ok" not in body


def test_a_request_of_the_first_http_names_nobody(page: Page) -> None:
    assert page.ask("GET /health HTTP/1.0\r\n\r\n")[0] == 200


@pytest.mark.parametrize("size", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_body_is_not_read(page: Page, size: str) -> None:
    channel, transport = page.connect()
    request = f"GET /status HTTP/1.1\r\nHost: localhost\r\n{size}\r\n\r\n"
    channel.dataReceived(request.encode())
    for _ in range(5):
        channel.dataReceived(b"5\r\nhello\r\n")
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert b"role" not in transport.value()
    assert transport.disconnecting


def test_a_header_without_end(page: Page) -> None:
    channel, transport = page.connect()
    channel.dataReceived(b"GET /status HTTP/1.1\r\n")
    for _ in range(200):
        channel.dataReceived(b"X: " + b"x" * 1000)
    assert transport.disconnecting or transport.value().startswith(b"HTTP/1.1 400")


def test_whoever_says_nothing_is_cut_off(page: Page) -> None:
    _, transport = page.connect()
    page.clock.pump([1] * int(IDLE_SECONDS + 1))
    assert transport.disconnecting


def test_whoever_goes_on_and_on_is_cut_off(page: Page) -> None:
    """A line of a header now and then, and each is a sign of life."""
    channel, transport = page.connect()
    channel.dataReceived(b"GET /status HTTP/1.1\r\n")
    for _ in range(int(LIFE_SECONDS) - 1):
        page.clock.advance(1)
        channel.dataReceived(b"X: x\r\n")
    assert not transport.disconnecting
    page.clock.advance(2)
    assert transport.disconnecting


def test_one_connection_too_many(page: Page) -> None:
    for _ in range(MAX_CONNECTIONS):
        page.connect()
    assert page.site.buildProtocol(None) is None
    channel, transport = page.open.pop()
    channel.connectionLost(Failure(ConnectionDone()))
    del transport
    page.connect()


def test_two_requests_over_one_connection(page: Page) -> None:
    channel, transport = page.connect()
    for _ in range(2):
        channel.dataReceived(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert transport.value().count(b"HTTP/1.1 200 OK") == 2


def test_a_report_that_fails_is_no_traceback_for_strangers(page: Page) -> None:
    page.report = {"not json": object()}
    code, _, body = page.get("/status")
    assert code == 500
    assert "object" not in body and "Traceback" not in body
