"""The files of Oak's own services: every property is honoured here, or refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tarfailover import config, osgi, osgi_json
from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.settings import Secret

CONF = Path(__file__).parents[1] / "conf"
SERVICE = "org.apache.jackrabbit.oak.segment.standby.store.StandbyStoreService"
KINDS = [MasterConfig, SlaveConfig]

# What the web console of Felix writes once somebody saved the form: all there is, on either side.
EVERYTHING = {
    "org.apache.sling.installer.configuration.persist": False,
    "port": 8023,
    "primary.host": "10.0.0.1",
    "interval": 7,
    "primary.allowed-client-ip-ranges": ("10.0.0.0/8", "oak2"),
    "secure": False,
    "standby.readtimeout": 45_000,
    "standby.autoclean": False,
    "sslKeyFile": "/k",
    "sslKeyPassword": "of the key",
    "sslChainFile": "/c",
    "sslValidateClient": True,
    "sslSubjectPattern": ".*oak.*",
    "service.pid": SERVICE,
    "service.bundleLocation": "launchpad:resources/install/oak.jar",
    "felix.fileinstall.filename": "file:/x.config",
    ":org.apache.felix.configadmin.revision:": 3,
}


def merged(kind: Any, values: dict[str, Any], **options: Any) -> Any:
    """The configuration from a file with `values`, and options beside it."""
    entries = {name: osgi.Entry(value, 3, "f") for name, value in values.items()}
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return config.merge(kind, entries, {}, {"store": "s", **named})


def what_is_set(found: Any) -> dict[str, Any]:
    """The fields that are not as by default."""
    return {
        field.name: getattr(found, field.name)
        for field in dataclasses.fields(found)
        if field.name != "store" and getattr(found, field.name) != field.default
    }


def test_a_file_of_a_primary_with_everything() -> None:
    found = merged(MasterConfig, {"mode": "primary", **EVERYTHING})
    assert what_is_set(found) == {
        "mode": "primary",
        "allowed_client_ip_ranges": "10.0.0.0/8,oak2",
    }


def test_a_file_of_a_standby_with_everything() -> None:
    found = merged(SlaveConfig, {"mode": "standby", **EVERYTHING})
    assert what_is_set(found) == {
        "mode": "standby",
        "dialect": "oak",
        "master_host": "10.0.0.1",
        "interval": 7.0,
        "no_cleanup": True,
        "deadline_connect": 45.0,
        "deadline_answer": 45.0,
        "deadline_idle": 45.0,
    }


@pytest.mark.parametrize("name", ["deadline.connect", "deadline.answer", "deadline.idle"])
def test_a_deadline_of_ours_wins_over_the_read_timeout(name: str) -> None:
    found = merged(SlaveConfig, {"standby.readtimeout": 45_000, name: "3"})
    seconds = {"deadline.connect": 45.0, "deadline.answer": 45.0, "deadline.idle": 45.0, name: 3.0}
    expected = {each.replace(".", "_"): value for each, value in seconds.items()}
    assert what_is_set(found) == expected


@pytest.mark.parametrize(("kind", "mode"), [(MasterConfig, "master"), (SlaveConfig, "slave")])
def test_a_file_of_2014(kind: Any, mode: str) -> None:
    values = {"mode": mode, "port": 8023, "master.host": "h", "interval": 5, "secure": False}
    found = merged(kind, {**values, "master.allowed-client-ip-ranges": ("::1",)})
    expected = {"allowed_client_ip_ranges": "::1"} if kind is MasterConfig else {"master_host": "h"}
    assert what_is_set(found) == expected


SECURE = {
    "secure": True,
    "sslKeyFile": "/k",
    "sslChainFile": "/c",
    "sslKeyPassword": "of the key",
}
SHOWN = {"tls_key": "/k", "tls_certificate": "/c", "tls_key_passphrase": "of the key"}


@pytest.mark.parametrize(
    ("kind", "values", "options", "expected"),
    [
        (MasterConfig, {"secure": True}, {}, {"tls_self_signed": True}),
        (
            MasterConfig,
            {"secure": True, "sslKeyFile": "", "sslChainFile": "", "sslKeyPassword": ""},
            {},
            {"tls_self_signed": True},
        ),
        (MasterConfig, SECURE, {}, SHOWN),
        (
            MasterConfig,
            {**SECURE, "sslValidateClient": True, "sslSubjectPattern": "CN=.*"},
            {"tls_ca": "/a"},
            {**SHOWN, "tls_ca": "/a", "tls_subject_pattern": "CN=.*"},
        ),
        (
            MasterConfig,
            SECURE,
            {"tls_key": "/o", "tls_certificate": "/p"},
            {"tls_key": "/o", "tls_certificate": "/p"},
        ),
        (
            MasterConfig,
            SECURE,
            {"tls_key_passphrase_file": "/w"},
            {"tls_key": "/k", "tls_certificate": "/c", "tls_key_passphrase_file": "/w"},
        ),
        (SlaveConfig, {"secure": True}, {}, {"tls_trust_anyone": True}),
        (SlaveConfig, {"secure": True}, {"tls_ca": "/a"}, {"tls_ca": "/a"}),
        (SlaveConfig, {"secure": True}, {"tls_pin": "ab" * 32}, {"tls_pin": "ab" * 32}),
        (SlaveConfig, SECURE, {}, {**SHOWN, "tls_ca": "system"}),
        (SlaveConfig, SECURE, {"tls_ca": "/a"}, {**SHOWN, "tls_ca": "/a"}),
        (
            SlaveConfig,
            {"secure": True, "sslSubjectPattern": "CN=.*"},
            {},
            {"tls_trust_anyone": True, "tls_subject_pattern": "CN=.*"},
        ),
    ],
)
def test_secure(kind: Any, values: Any, options: Any, expected: Any) -> None:
    assert what_is_set(merged(kind, values, **options)) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"org.apache.sling.installer.configuration.persist": True},
            "f, line 3: org.apache.sling.installer.configuration.persist: true would write",
        ),
        (
            {"service.pid": "org.apache.jackrabbit.oak.segment.SegmentNodeStoreService"},
            "f, line 3: this is the file of org.apache.jackrabbit.oak.segment.SegmentNodeStore",
        ),
        ({"mode": "author"}, "f, line 3: mode: 'author' is no mode"),
        ({"secure": "perhaps"}, "f, line 3: secure: 'perhaps' is neither true nor false"),
        ({"standby.readtimeout": 0}, "f, line 3: standby.readtimeout: 0 is not a whole number"),
        ({"standby.readtimeout": -1}, "from 100 to 86400000"),
        ({"primary.host": ("a", "b")}, "is not a text of 1 to 255 printable characters"),
        ({"primary.host": "a", "master.host": "b"}, "remove one of the two"),
        ({"interval": 0}, "f, line 3: interval: 0 is not a number of seconds"),
        ({"primary.allowed-client-ip-ranges": "10.0.0.1/8"}, "has the entry '10.0.0.1/8'"),
        ({"sslSubjectPattern": "*"}, "sslSubjectPattern: '*' is no regular expression"),
        ({"sslSubjectPattern": "[a&&[b]]"}, "is no regular expression that can be used here"),
        ({"sslKeyPassword": 12345}, "f, line 3: sslKeyPassword: the value is not a text"),
        ({"secure": True, "sslKeyFile": "/k"}, "sslKeyFile and sslChainFile belong together"),
        ({"secure": True, "sslChainFile": "/c"}, "sslKeyFile and sslChainFile belong together"),
        ({"sslKeyFile": "/k", "tls.key": "/k"}, "sslKeyFile is tls.key; remove one of the two"),
        ({"sslChianFile": "/k"}, "f, line 3: unknown property sslChianFile"),
    ],
)
def test_refused_with_place_and_reason(kind: Any, values: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(kind, values)
    assert told in str(caught.value)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({**SECURE, "sslValidateClient": True}, "by the trust store of Java"),
        ({**SECURE, "sslSubjectPattern": "CN=.*"}, "without tls_ca none shows any; name tls_ca"),
    ],
)
def test_refused_for_a_master(values: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        merged(MasterConfig, values)


def test_the_password_of_a_key_is_never_shown() -> None:
    found = merged(MasterConfig, SECURE)
    assert found.tls_key_passphrase == "of the key"
    assert "of the key" not in repr(found)
    assert (repr(Secret("x")), repr(Secret(""))) == ("'…'", "''")


EXAMPLES = [
    (MasterConfig, "primary", f"{SERVICE}.config"),
    (MasterConfig, "primary", f"{SERVICE}.cfg.json"),
    (SlaveConfig, "standby", f"{SERVICE}.config"),
    (SlaveConfig, "standby", f"{SERVICE}.cfg.json"),
]


@pytest.mark.parametrize(("kind", "mode", "name"), EXAMPLES)
def test_examples(kind: Any, mode: str, name: str) -> None:
    """Both forms of the example say the same, and start a master or a slave."""
    found = config.load(kind, {}, {"config": str(CONF / mode / name), "store": "/s"})
    assert found.mode == mode
    both = [config.read_file(path) for path in sorted((CONF / mode).iterdir())]
    assert len(both) == 2
    values = [{key: entry.value for key, entry in each.items()} for each in both]
    assert values[0] == values[1]


def test_json_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / f"x{osgi_json.SUFFIX}"
    path.write_text(json.dumps({"mode": "standby", "primary.host": "h", "port:Integer": 7}))
    found = config.load(SlaveConfig, {}, {"config": str(path), "store": "/s"})
    assert (found.mode, found.master_host, found.port) == ("standby", "h", 7)
