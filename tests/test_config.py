"""The configuration of both sides: tables, precedence, refusals, and the examples in conf/."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.python import usage

from tarfailover import config, osgi
from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.settings import MIB, Setting

KINDS = [MasterConfig, SlaveConfig]
MODES = {MasterConfig: "master", SlaveConfig: "slave"}
PID = "org.apache.jackrabbit.oak.plugins.segment.failover.store.FailoverStoreService"
CONF = Path(__file__).parents[1] / "conf"
TABLE = [(kind, row) for kind in KINDS for row in config.settings(kind)]
IDS = [f"{MODES[kind]}-{row.field}" for kind, row in TABLE]


def from_text(kind: Any, text: str, *, options: Any = None, environ: Any = None) -> Any:
    return config.merge(
        kind, osgi.parse(text, "a.config"), environ or {}, options or {"store": "s"}
    )


# What else must be given for a setting to make sense.
WITH = {
    "master": {
        "tls_certificate": {"TARFAILOVER_TLS_KEY": "k"},
        "tls_key": {"TARFAILOVER_TLS_CERTIFICATE": "c"},
        "tls_key_passphrase_file": {
            "TARFAILOVER_TLS_CERTIFICATE": "c",
            "TARFAILOVER_TLS_KEY": "k",
        },
        "tls_ca": {"TARFAILOVER_TLS_CERTIFICATE": "c", "TARFAILOVER_TLS_KEY": "k"},
        "token_file": {"TARFAILOVER_TLS_CERTIFICATE": "c", "TARFAILOVER_TLS_KEY": "k"},
        "allowed_slaves": {
            "TARFAILOVER_TLS_CERTIFICATE": "c",
            "TARFAILOVER_TLS_KEY": "k",
            "TARFAILOVER_TLS_CA": "a",
        },
        "tls_crl": {
            "TARFAILOVER_TLS_CERTIFICATE": "c",
            "TARFAILOVER_TLS_KEY": "k",
            "TARFAILOVER_TLS_CA": "a",
        },
        "tls_subject_pattern": {
            "TARFAILOVER_TLS_CERTIFICATE": "c",
            "TARFAILOVER_TLS_KEY": "k",
            "TARFAILOVER_TLS_CA": "a",
        },
    },
    "slave": {
        "blob_store_shared": {"TARFAILOVER_BLOB_STORE": "b"},
        "blobs": {"TARFAILOVER_BLOB_STORE": "b"},
        "tls_server_name": {"TARFAILOVER_TLS_CA": "a"},
        "token_file": {"TARFAILOVER_TLS_CA": "a"},
        "tls_crl": {"TARFAILOVER_TLS_CA": "a"},
        "tls_subject_pattern": {"TARFAILOVER_TLS_CA": "a"},
        "tls_certificate": {"TARFAILOVER_TLS_CA": "a", "TARFAILOVER_TLS_KEY": "k"},
        "tls_key": {"TARFAILOVER_TLS_CA": "a", "TARFAILOVER_TLS_CERTIFICATE": "c"},
        "tls_key_passphrase_file": {
            "TARFAILOVER_TLS_CA": "a",
            "TARFAILOVER_TLS_CERTIFICATE": "c",
            "TARFAILOVER_TLS_KEY": "k",
        },
    },
}


def other_value(row: Setting) -> tuple[str, object]:
    """A good value of `row` that is not its default, as text and as merged."""
    default = row.default
    last = ("zstd", *row.choices)[-1]
    known: dict[str, tuple[str, object]] = {
        "flag": ("true", True),
        "path": ("elsewhere", Path("elsewhere")),
        "rate": ("1MiB", MIB),
        "tls_pin": ("ab" * 32, "ab" * 32),
        **dict.fromkeys(("text", "list", "ranges", "pattern"), ("localhost", "localhost")),
        **dict.fromkeys(("choice", "compression"), (last, last)),
    }
    if found := known.get(row.field) or known.get(row.kind):
        return found
    assert isinstance(default, (int, float))
    value = default + 1 if default + 1 <= row.highest else default - 1
    return f"{value:.15g}", value


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique(kind: Any) -> None:
    rows = config.settings(kind)
    for names in (
        [row.option for row in rows],
        [row.environment for row in rows],
        [row.osgi for row in rows],
        [row.short for row in rows if row.short] + ["c"],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize(("kind", "row"), TABLE, ids=IDS)
def test_defaults_lie_within_their_bounds(kind: Any, row: Setting) -> None:
    if row.required:
        assert row.field == "store"
    else:
        default: Any = row.default
        assert row.convert(default) == default
        assert type(default).__name__ == kind.__annotations__[row.field]
    assert row.doc and not row.doc.endswith(".")


def test_oaks_names_are_kept() -> None:
    assert {"mode", "port"} <= {row.osgi for row in config.settings(MasterConfig)}
    assert {"mode", "port", "master.host", "interval"} <= {
        row.osgi for row in config.settings(SlaveConfig)
    }


@pytest.mark.parametrize("name", ["master", "primary"])
@pytest.mark.parametrize("value", ['["::1", "oak2"]', '("::1,oak2",)', '" ::1 , oak2"'])
def test_oaks_list_of_addresses(name: str, value: str) -> None:
    quoted = value.replace(" ", "\\ ") if value.startswith('"') else value
    merged = from_text(MasterConfig, f"{name}.allowed-client-ip-ranges={quoted}")
    assert merged.allowed_client_ip_ranges == "::1,oak2"


def test_defaults_of_the_issue() -> None:
    master = MasterConfig(store=Path("s"))
    assert (master.port, master.interface) == (8023, "127.0.0.1")
    slave = SlaveConfig(store=Path("s"))
    assert (slave.master_host, slave.port, slave.interval) == ("127.0.0.1", 8023, 5.0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_given_is_the_defaults(kind: Any) -> None:
    merged = config.merge(kind, {}, {}, {"store": "s"})
    assert merged == kind(store=Path("s"))
    assert merged.mode == MODES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_must_be_given(kind: Any) -> None:
    with pytest.raises(ConfigError, match=r"no store .* --store, TARFAILOVER_STORE or a line"):
        config.merge(kind, {}, {}, {"store": None})


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_is_frozen(kind: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(store=Path("s")).port = 1


@pytest.mark.parametrize(("kind", "row"), TABLE, ids=IDS)
def test_each_source_wins_over_the_one_before(kind: Any, row: Setting) -> None:
    if row.kind == "mode":
        assert from_text(kind, f'mode="{MODES[kind]}"').mode == MODES[kind]
        return
    text, value = other_value(row)
    # With plaintext allowed, endpoint and interface may be anything.
    allowed = {"TARFAILOVER_ALLOW_PLAINTEXT_LISTEN": "true"} if kind is MasterConfig else {}
    if row.field == "allow_plaintext_listen":
        allowed = {}
    allowed = {**allowed, **WITH[MODES[kind]].get(row.field, {})}
    options: dict[str, Any] = {} if row.field == "store" else {"store": "s"}
    texts = dict.fromkeys(("text", "list", "ranges", "pattern"), "::1")
    first = {
        **texts,
        "path": "first",
        "flag": "false",
        "compression": "none",
        "choice": str(row.default),
    }.get(row.kind, f"{row.lowest:.15g}")
    first = {"retry_max": "1", "tls_pin": "cd" * 32}.get(row.field, first)
    file = osgi.parse(f'{row.osgi}="{first}"', "f")
    assert getattr(config.merge(kind, file, allowed, options), row.field) == row.convert(first)
    environ = {**allowed, row.environment: text}
    assert getattr(config.merge(kind, file, environ, options), row.field) == value
    name = row.option[2:]
    if row.kind == "flag":
        environ = {**allowed, row.environment: "false"}
        assert getattr(config.merge(kind, file, environ, {**options, name: 1}), row.field) is True
        assert getattr(config.merge(kind, file, environ, {**options, name: 0}), row.field) is False
    else:
        environ = {**allowed, row.environment: first}
        assert (
            getattr(config.merge(kind, file, environ, {**options, name: text}), row.field) == value
        )
        unset = {"store": "s", name: None} if row.field != "store" else {name: None}
        assert getattr(config.merge(kind, file, environ, unset), row.field) == row.convert(first)


def test_values_of_a_file_may_be_typed_or_text() -> None:
    text = (
        'mode="slave"\nport=I"1"\ninterval=L"7"\nretry.initial="0.25"\naccept.new.history=B"true"'
    )
    assert from_text(SlaveConfig, text) == SlaveConfig(
        store=Path("s"), port=1, interval=7.0, retry_initial=0.25, accept_new_history=True
    )


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (MasterConfig, '\nprot=I"1"', "a.config, line 2: unknown property prot; did you mean port"),
        (MasterConfig, 'zzzzzzzz="1"', "unknown property zzzzzzzz; known are mode, store, port"),
        (
            MasterConfig,
            'port=I"65536"',
            "line 1: port: 65536 is not a whole number from 0 to 65535",
        ),
        (SlaveConfig, 'port=I"0"', "line 1: port: 0 is not a whole number from 1 to 65535"),
        (SlaveConfig, '\n\ninterval="fast"', "line 3: interval: 'fast' is not a number of seconds"),
        (SlaveConfig, 'interval=D"5"', 'write interval="0.5"'),
        (SlaveConfig, 'store=["a","b"]', "line 1: store: ('a', 'b') is not a path"),
        (SlaveConfig, 'mode="master"', "mode: 'master' is the other side; this is the slave"),
        (SlaveConfig, 'mode="primary"', "mode: 'primary' is the other side; this is the slave"),
        (
            MasterConfig,
            'mode="master"\nmaster.allowed-client-ip-ranges=["::1","10.0.0.1/8"]',
            "line 2: master.allowed-client-ip-ranges: ('::1', '10.0.0.1/8') has the entry",
        ),
        (
            MasterConfig,
            'master.allowed-client-ip-ranges="::1"\nprimary.allowed-client-ip-ranges="::1"',
            "line 2: primary.allowed-client-ip-ranges is master.allowed-client-ip-ranges; remove",
        ),
    ],
)
def test_files_are_refused_with_place_and_remedy(kind: Any, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(kind, text)
    assert str(caught.value).startswith("a.config, line ")
    assert told in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_oak_knows_and_asks_for_nothing_may_stay(kind: Any) -> None:
    text = 'org.apache.sling.installer.configuration.persist=B"false"\nsecure=B"false"\n'
    text += 'standby.autoclean=B"true"\n'
    assert from_text(kind, text) == kind(store=Path("s"))


def test_a_bad_value_is_refused_also_where_it_is_overridden() -> None:
    with pytest.raises(ConfigError, match=r"a\.config, line 1: port"):
        from_text(MasterConfig, 'port=I"-1"', options={"store": "s", "port": "8023"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TARFAILOVER_PROT", "1", "unknown environment variable TARFAILOVER_PROT; did you mean"),
        ("TARFAILOVER_PROT", "1", "TARFAILOVER_PORT"),
        ("TARFAILOVER_MODE", "slave", "unknown environment variable TARFAILOVER_MODE"),
        ("TARFAILOVER_", "", "Otherwise unset it"),
        ("TARFAILOVER_PORT", "", "environment variable TARFAILOVER_PORT: '' is not a whole number"),
        ("TARFAILOVER_PORT", "http", "environment variable TARFAILOVER_PORT: 'http' is not"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_variables_are_refused_with_name_and_remedy(
    kind: Any, name: str, value: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.merge(kind, {}, {name: value}, {"store": "s"})
    assert told in str(caught.value)


def test_variables_of_the_other_side_and_of_others_are_passed_over() -> None:
    environ = {"TARFAILOVER_MASTER_HOST": "h", "TARFAILOVER_CONFIG": "f", "PATH": "p"}
    assert config.merge(MasterConfig, {}, environ, {"store": "s"}) == MasterConfig(store=Path("s"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"port": "-1"}, "option --port: '-1' is not a whole number"),
        ({"prot": "1"}, "unknown option --prot; did you mean --port"),
        ({"mode": "slave"}, "unknown option --mode"),
    ],
)
def test_options_are_refused_with_name_and_remedy(options: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.merge(MasterConfig, {}, {}, {"store": "s", **options})
    assert told in str(caught.value)


def test_retry_pauses_must_be_in_order() -> None:
    with pytest.raises(ConfigError, match="retry_max 1 s is shorter than retry_initial 2 s"):
        from_text(SlaveConfig, 'retry.initial="2" retry.max="1"')


@pytest.mark.parametrize(
    "options",
    [
        {"interface": "0.0.0.0"},
        {"interface": ""},
        {"endpoint": "tcp:8023"},
        {"endpoint": "systemd:domain=INET:index=0"},
        {"endpoint": "tcp:8023", "interface": "127.0.0.1"},
    ],
)
def test_a_listener_beyond_loopback_must_be_asked_for(options: Any) -> None:
    given_options = {"store": "s", **options}
    with pytest.raises(ConfigError, match=r"can be reached .* --allow-plaintext-listen"):
        config.merge(MasterConfig, {}, {}, given_options)
    allowed = config.merge(MasterConfig, {}, {}, {**given_options, "allow-plaintext-listen": 1})
    assert allowed.allow_plaintext_listen


def test_an_endpoint_replaces_the_interface() -> None:
    options = {"store": "s", "interface": "0.0.0.0", "endpoint": "tcp:1:interface=127.0.0.1"}
    assert config.merge(MasterConfig, {}, {}, options).endpoint == "tcp:1:interface=127.0.0.1"


def options_class(kind: Any) -> Any:
    class Options(usage.Options):
        optParameters = config.option_parameters(kind)  # noqa: N815 - Twisted's name
        optFlags = config.option_flags(kind)  # noqa: N815 - Twisted's name
        longdesc = config.HELP

    return Options()


@pytest.mark.parametrize("kind", KINDS)
def test_twisteds_options_are_built_from_the_table(kind: Any) -> None:
    options = options_class(kind)
    options.parseOptions(["--store", "s"])
    assert config.merge(kind, {}, {}, options) == kind(store=Path("s"))
    words = " ".join(str(options).split())
    for row in config.settings(kind):
        if row.option:
            assert row.option in words
            assert row.help in words


@pytest.mark.parametrize(("kind", "row"), TABLE, ids=IDS)
def test_every_option_reaches_its_field(kind: Any, row: Setting) -> None:
    if not row.option:
        return
    text, value = other_value(row)
    arguments = [row.option] if row.kind == "flag" else [row.option, text]
    if row.field in ("interface", "endpoint"):
        arguments.append("--allow-plaintext-listen")
    if row.field != "store":
        arguments += ["-s", "s"]
    options = options_class(kind)
    options.parseOptions(arguments)
    environ = WITH[MODES[kind]].get(row.field, {})
    assert getattr(config.merge(kind, {}, environ, options), row.field) == value


@given(
    st.dictionaries(
        st.sampled_from([row.osgi for row in config.settings(SlaveConfig)]) | st.text(),
        st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.just(("a",))),
        max_size=4,
    )
)
@example({"status.interface": "0"})  # 0.0.0.0, which no line alone makes wrong
def test_any_file_gives_a_configuration_or_an_error(values: dict[str, Any]) -> None:
    entries = {name: osgi.Entry(value, 3, "f") for name, value in values.items()}
    merged = merged_or_refused(entries)
    if isinstance(merged, ConfigError):
        between = ("retry_max ", "tls_", "token_file ", "blob_store", "blobs ", "status_interface ")
        assert str(merged).startswith(("f, line 3: ", *between))
        return
    for row in config.settings(SlaveConfig):
        if row.kind in ("whole", "bytes", "seconds"):
            assert row.lowest <= getattr(merged, row.field) <= row.highest


def merged_or_refused(entries: dict[str, osgi.Entry]) -> SlaveConfig | ConfigError:
    try:
        return config.merge(SlaveConfig, entries, {}, {"store": "s"})
    except ConfigError as error:
        return error


@pytest.mark.parametrize("kind", KINDS)
def test_load_reads_the_file_of_the_option_or_the_variable(kind: Any, tmp_path: Path) -> None:
    option, variable = tmp_path / "o.config", tmp_path / "v.config"
    option.write_text('store="/o"')
    variable.write_text('store="/v"')
    environ = {"TARFAILOVER_CONFIG": str(variable)}
    assert config.load(kind, environ, {"config": str(option)}).store == Path("/o")
    assert config.load(kind, environ, {"config": None}).store == Path("/v")
    assert config.load(kind, {}, {"store": "/p"}).store == Path("/p")


def test_load_makes_the_store_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load(SlaveConfig, {}, {"store": "s"}).store == tmp_path / "s"


@pytest.mark.parametrize(
    ("environ", "options"), [({"TARFAILOVER_CONFIG": ""}, {}), ({}, {"config": ""})]
)
def test_load_refuses_an_empty_file_name(environ: Any, options: Any) -> None:
    with pytest.raises(ConfigError, match="is empty; name a file"):
        config.load(SlaveConfig, environ, {"store": "s", **options})


@pytest.mark.parametrize("kind", KINDS)
def test_examples_hold_every_setting_and_the_defaults(kind: Any) -> None:
    path = CONF / MODES[kind] / f"{PID}.config"
    values = osgi.read(path)
    assert sorted(values) == sorted(row.osgi for row in config.settings(kind))
    merged = config.load(kind, {}, {"config": str(path)})
    assert merged == kind(store=merged.store)
    assert merged.store.is_absolute()


def test_the_endpoint_of_the_example_is_good() -> None:
    text = (CONF / "master" / f"{PID}.config").read_text(encoding="utf-8")
    (shown,) = [w for w in text.replace(",", " ").split() if w.startswith("tcp6:")]
    value = osgi.parse(f'endpoint="{shown}"', "f")
    merged = config.merge(MasterConfig, value, {}, {"store": "s"})
    assert merged.endpoint == "tcp6:8023:interface=\\:\\:1"


def test_sizes_of_the_buffers() -> None:
    assert MasterConfig(store=Path("s")).send_buffer == 4 * MIB
    assert SlaveConfig(store=Path("s")).window_max == 256 * MIB


@pytest.mark.parametrize("kind", [MasterConfig, SlaveConfig])
def test_the_manual_has_every_deadline_with_its_default(kind: type) -> None:
    text = (Path(__file__).parent.parent / "MANUAL.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines()]
    told = {row[0].strip("`"): row[1:3] for row in rows if row and row[0].startswith("`deadline.")}
    side = "master" if kind is MasterConfig else "slave"
    ours = {row.osgi: row for row in config.settings(kind) if "deadline_" in row.field}
    assert {name for name, (where, _) in told.items() if where in (side, "both")} == set(ours)
    for name, row in ours.items():
        assert told[name][1] == f"{row.default:g} s"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("interface", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("oak2", False)],
)
def test_a_status_page_beyond_loopback_must_be_asked_for(
    kind: Any, interface: str, local: bool
) -> None:
    options = {"store": "s", "status-interface": interface}
    allowed = config.merge(kind, {}, {}, {**options, "allow-remote-status": 1})
    assert allowed.status_interface == interface
    if local:
        assert not config.merge(kind, {}, {}, options).allow_remote_status
    else:
        with pytest.raises(ConfigError, match="--allow-remote-status"):
            config.merge(kind, {}, {}, options)
