"""A token in the place of client certificates, between a real master and real slaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from services import Master, until
from sides import chain, store_of
from tls_made import Certs
from twisted.logger import eventAsText, formatEvent, globalLogPublisher

from tarfailover.config import MasterConfig, SlaveConfig, check_listener
from tarfailover.errors import ConfigError
from tarfailover.slave import status
from tarfailover.tls import rules
from tarfailover.wire.messages import ErrorCode

GOOD, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
QUIET = {"retry_initial": 60.0, "retry_max": 60.0}


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return Certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged, with all that belongs to it."""
    lines: list[str] = []

    def keep(event: Any) -> None:
        lines.append(f"{formatEvent(event)} {eventAsText(event)}")

    globalLogPublisher.addObserver(keep)
    yield lines
    globalLogPublisher.removeObserver(keep)


def token(path: Path, text: str) -> str:
    """A file with a token."""
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


@pytest_twisted.ensureDeferred
async def test_who_has_the_token_is_served_and_who_has_not_is_told(
    certs: Certs, tmp_path: Path, log: list[str]
) -> None:
    store = store_of(tmp_path / "original", chain(3))
    ours = token(tmp_path / "ours", GOOD)
    trusting = {"tls_ca": certs.path("good/ca.pem"), **QUIET}
    async with Master(store, **certs.shows("good/master"), token_file=ours) as served:
        factory = served.service.factory
        assert factory is not None
        theirs = token(tmp_path / "theirs", GOOD)
        async with served.slave(tmp_path / "one", **trusting, token_file=theirs) as one:
            await one.in_sync()
            token(tmp_path / "ours", OTHER + OTHER)
            for name, more, told in (
                ("two", {"token_file": theirs}, "the token of the slave is not that of the master"),
                ("three", {}, "this master demands a token, and the slave has none"),
            ):
                async with served.slave(tmp_path / name, **trusting, **more) as refused:
                    await refused.in_state(status.REFUSED)
                    assert told in refused.service.status.why
                    assert refused.service.copy is not None
                    assert refused.service.copy.head is None
                await until(lambda: len(factory.clients) == 1, "the refused one gone")
                assert any("disconnecting" in line and told in line for line in log)
            assert one.service.status.state == status.IN_SYNC, "open connections go on"
        token(tmp_path / "theirs", OTHER + OTHER)
        async with served.slave(tmp_path / "two", **trusting, token_file=theirs) as two:
            await two.in_sync()
        assert factory.errors == {ErrorCode.NOT_ALLOWED: 2}
    assert any("TLS is on; clients must show the token" in line for line in log)
    assert not any(GOOD in line or OTHER in line for line in log)


TLS = {"tls_certificate": "c", "tls_key": "k"}


def merged(kind: Any, **settings: Any) -> Any:
    return kind(store=Path("s"), **settings)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (merged(MasterConfig, token_file="t"), "never sent in plain text; name tls_certificate"),
        (merged(SlaveConfig, token_file="t"), "never sent in plain text; name tls_ca or tls_pin"),
        (
            merged(SlaveConfig, token_file="t", tls_trust_anyone=True),
            "tls_trust_anyone would show the token to whoever answers",
        ),
        (
            merged(MasterConfig, **TLS, token_file="t", allowed_slaves="oak2"),
            "allowed_slaves are names in certificates, and without tls_ca no slave shows any",
        ),
    ],
)
def test_what_a_token_and_names_of_slaves_need(config: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        rules.check(config)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "neither encrypted nor authenticated; use --tls-certificate, --tls-key and --tls-ca"),
        (TLS, "no client is authenticated; demand certificates .* or a token with --token-file"),
        ({**TLS, "tls_ca": "a"}, None),
        ({**TLS, "token_file": "t"}, None),
        ({"allow_plaintext_listen": True}, None),
        ({**TLS, "endpoint": "tcp:8023"}, "endpoint 'tcp:8023' can be reached from other machines"),
        ({**TLS, "token_file": "t", "endpoint": "tcp:8023"}, None),
        ({"endpoint": "ssl:8023:privateKey=k"}, "neither encrypted nor authenticated"),
    ],
)
def test_beyond_loopback_clients_are_known_or_it_was_asked_for(
    settings: dict[str, Any], told: str | None
) -> None:
    config = merged(MasterConfig, **{"interface": "0.0.0.0", **settings})
    rules.check(config)
    if told is None:
        check_listener(config)
        return
    with pytest.raises(ConfigError, match=told):
        check_listener(config)
