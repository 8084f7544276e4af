"""``status``: asks a running master or slave how it is."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

from tarfailover.cli import commands
from tarfailover.cli.commands import Subparsers
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import Document, size
from tarfailover.errors import ConfigError, ConnectionLostError, DeadlineError, ProtocolError

NOT_WELL = 1
"""Exit code for a master or slave that answers and is not well."""
PORT = 8024
"""Where the examples have the status page."""
SECONDS = 10.0
"""For one page."""
LIMIT = 16 * 1024 * 1024
"""Bytes of an answer: a master with 10,000 clients has less."""

_WELL = 200
_NOT_WELL = 503


def declare(group: Subparsers) -> None:
    """Add the command of this module."""
    parser = commands.add(
        group,
        "status",
        _status,
        "Ask a running master or slave how it is",
        description="It must have a status page: see --status-port of master and slave. Asks for "
        "nothing but that page.",
        examples=(
            f"tarfailover status --port {PORT}",
            "tarfailover status --json http://10.0.0.2:8024",
            "tarfailover status || mail -s 'the copy is not well' ops@example.org",
        ),
        raises=(ProtocolError, DeadlineError, ConnectionLostError),
        found="it answers and is not well",
    )
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="the beginning of the page's address, such as http://127.0.0.1:8024",
    )
    parser.add_argument(
        "--port",
        type=commands.number(1),
        default=PORT,
        metavar="N",
        help=f"the port of the page on this machine, in place of a URL (default {PORT})",
    )


def _status(options: argparse.Namespace, output: Output) -> int:
    host, port = _where(options)
    _, body = _asked(host, port, "/status")
    code, word = _asked(host, port, "/health")
    try:
        report = json.loads(body)
        shown = {**report, "health": word.decode("ascii").strip()}
        _tell(report, output)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"{host}:{port} answers what is no status of ours") from error
    output.document(shown)
    return 0 if code == _WELL else NOT_WELL


def _where(options: argparse.Namespace) -> tuple[str, int]:
    """Host and port to ask; raises ConfigError."""
    if options.url is None:
        return "127.0.0.1", options.port
    try:
        parts = urlsplit(options.url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{options.url!r} is no URL: {error}") from error
    if parts.scheme != "http" or not host:
        raise ConfigError(f"{options.url!r} is no URL like http://127.0.0.1:{PORT}")
    return host, port or PORT


def _asked(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Code and body of one page; raises LinkError."""
    where = f"http://{host}:{port}{path}"
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    late = threading.Event()
    timer = threading.Timer(SECONDS, _cut, (connection, late))
    timer.daemon = True
    timer.start()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(LIMIT)
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise DeadlineError("status", SECONDS, where) from error
        if not isinstance(error, (OSError, UnicodeError)):
            raise ProtocolError(f"{where}: no HTTP answer: {error!r}") from error
        raise ConnectionLostError(
            f"{where}: {error}; is it running, with --status-port {port}?"
        ) from error
    finally:
        timer.cancel()
        connection.close()
    if late.is_set():
        raise DeadlineError("status", SECONDS, where)
    if answer.status not in (_WELL, _NOT_WELL):
        first = body[:200].decode("utf-8", "replace").split("\n")[0]
        raise ProtocolError(f"{where}: {answer.status} {answer.reason}: {first}")
    return answer.status, body


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """Whoever answers byte by byte has as long as whoever does not answer."""
    late.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _plain(text: str) -> str:
    """What a terminal takes for text: some of it was said by whoever connected."""
    return text if text.isprintable() else ascii(text)


def _tell(report: Document, output: Output) -> None:
    why = f": {report['why']}" if report["why"] else ""
    facts = [
        (report["role"], f"{report['state']}{why}"),
        ("store", report["store"]),
        ("head", f"{report.get('head') or 'none'}  {report.get('head_time') or ''}".rstrip()),
    ]
    facts += _of_slave(report) if report["role"] == "slave" else _of_master(report)
    if report.get("blob_store"):
        missing = report.get("blobs_missing")
        facts.append(
            ("binaries", f"{report['blob_store']}{f', {missing} missing' * bool(missing)}")
        )
    facts += [("ends", f"{each['what']}: in {each['days']} days") for each in report["tls"]]
    output.facts([(name, _plain(value)) for name, value in facts])
    clients = report.get("clients")
    if clients:
        rows = [
            [_plain(c["name"]), _plain(c["address"]), _plain(c["state"]), size(c["bytes_sent"])]
            for c in clients
        ]
        columns = [Column("name"), Column("address"), Column("state"), Column("sent", right=True)]
        output.line()
        output.table(columns, rows)


def _of_slave(report: Document) -> list[tuple[str, str]]:
    facts = [
        ("master", report["master"]),
        ("behind", _seconds(report["lag_seconds"])),
        ("answered", f"{_seconds(report['answer_age_seconds'])} ago"),
        ("failures", f"{report['failures']} {report['last_failure']}".rstrip()),
    ]
    facts += _scrub(report.get("scrub"))
    moving = report["transfer"]
    if moving:
        came = moving["bytes"] + moving.get("blob_bytes", 0)
        more = moving["bytes_left"] + moving.get("blob_bytes_left", 0)
        left = f"{size(came)} came, {size(more)} known to be left"
        facts.append(("transfer", f"{left}, after {_seconds(moving['seconds'])}"))
    last = report.get("last_transfer")
    if last:
        facts.append(("brought", f"{last['ended']}, within {_seconds(last['seconds'])}"))
    return facts


def _scrub(scrub: Document | None) -> list[tuple[str, str]]:
    """How the reading of the copy's tars is, and the first damage that is left."""
    if scrub is None or (scrub["state"] == "off" and not scrub["damaged"]):
        return []
    last = scrub["last_complete"] or "not yet complete"
    facts = [("scrub", f"{scrub['state']}, {last}, {scrub['repaired']} repaired")]
    for left in scrub["left"][:1]:
        more = f"; and {scrub['damaged'] - 1} more" if scrub["damaged"] > 1 else ""
        facts.append(("damaged", f"{left['file']}, offset {left['offset']}: {left['why']}{more}"))
    return facts


def _of_master(report: Document) -> list[tuple[str, str]]:
    return [
        ("listening", report["listening"] or "not yet"),
        ("clients", str(len(report.get("clients", ())))),
        ("sent", size(report.get("bytes_sent", 0))),
    ]


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"
