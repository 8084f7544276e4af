"""What a master and a slave are told, merged from defaults < file < environment < options.

A field of `MasterConfig` or `SlaveConfig` is the one declaration of a setting; all its
names follow from the field's (see `tarfailover.settings`). Where Oak has the setting,
the file has Oak's name for it.

Everything given is checked, also what a stronger source overrides: an unknown name or
a bad value is a ConfigError that names the place and the remedy. Nothing of the
process is read here but the file that `load` is pointed to: the environment and the
options are arguments.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tarfailover import given, oakfiles, osgi, osgi_json
from tarfailover.access.listeners import is_loopback, is_loopback_endpoint
from tarfailover.access.ranges import MAX_ENTRIES
from tarfailover.bandwidth import LEAST_RATE
from tarfailover.errors import ConfigError
from tarfailover.oakfiles import FILE
from tarfailover.settings import (
    DAY,
    GIB,
    MIB,
    NO_SECRET,
    PREFIX,
    Secret,
    Setting,
    choice,
    described,
    flag,
    seconds,
    setting,
    table,
)
from tarfailover.tls import rules
from tarfailover.wire.compression import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_VARIABLE = PREFIX + "CONFIG"
"""The environment variable that names the file, as --config does."""

_COMPRESSION = (
    "auto: where the link is slower than the compressor, zstd: wherever bytes get fewer, none"
)
_SUBJECT = (
    "regular expression that all of the subject in the certificate of {} must match, as in "
    "Oak's sslSubjectPattern"
)
_RATE = f"0 means no limit, {LEAST_RATE // 1024}KiB is the least"
RATES = (LEAST_RATE, 100 * GIB)
BLOB_STORES = ("file", "blocks")
_KIND = "what blob_store is: file for a FileDataStore, blocks for a FileBlobStore"

HELP = (
    "Every option can also stand in the file of --config, with dots for the dashes "
    '(master.host="10.0.0.1"), and in the environment (TARFAILOVER_MASTER_HOST=10.0.0.1). '
    "An option wins over the environment, the environment over the file."
)
"""The end of --help: the `longdesc` of both programs."""


@dataclass(frozen=True, kw_only=True)
class MasterConfig:
    """What a master is told; times in seconds, sizes in bytes."""

    mode: str = setting("mode", "master", "run mode of the file; must be master")
    store: Path = field(
        metadata=described(
            "path",
            "directory of the segment store to serve; it is only read, also beside a live writer",
            short="s",
        )
    )
    port: int = setting(
        "whole", 8023, "TCP port to listen on; 0 lets the system choose", (0, 65535), "p"
    )
    interface: str = setting(
        "text", "127.0.0.1", "local address to listen on; empty means every address", (0, 255)
    )
    endpoint: str = setting(
        "text",
        "",
        "Twisted server endpoint to listen on, such as tcp6:8023:interface=\\:\\:1; "
        "replaces port and interface",
        (0, 1000),
    )
    allow_plaintext_listen: bool = flag(
        "listen beyond loopback although nothing is encrypted or no client is authenticated"
    )
    allowed_client_ip_ranges: str = setting(
        "ranges",
        "",
        "addresses, networks, ranges and host names that may connect, with commas; empty: all",
        (0, MAX_ENTRIES),
        oak=("master.allowed-client-ip-ranges", "primary.allowed-client-ip-ranges"),
    )
    names_refresh: float = seconds(
        60.0, "time between two look-ups of the host names among the allowed clients", (1, DAY)
    )
    deadline_names: float = seconds(
        5.0, "time for the look-up of a host name; after it the last answer counts"
    )
    tls_certificate: str = setting(
        "text", "", "PEM file with the certificate of this master; it turns TLS on", FILE
    )
    tls_key: str = setting("text", "", "PEM file with the key of tls_certificate", FILE)
    tls_key_passphrase_file: str = setting(
        "text", "", "file whose first line is the passphrase of tls_key", FILE
    )
    tls_key_passphrase: Secret = field(default=NO_SECRET, repr=False)
    tls_self_signed: bool = flag(
        "use TLS with a certificate that is made at each start, which no slave can verify"
    )
    tls_ca: str = setting(
        "text", "", "PEM file with the CAs of the slaves; each must show a certificate", FILE
    )
    tls_subject_pattern: str = setting("pattern", "", _SUBJECT.format("a slave"), (0, 1000))
    tls_crl: str = setting("text", "", "PEM file with the revocation lists of tls_ca", FILE)
    allowed_slaves: str = setting(
        "list",
        "",
        "names in the certificates of slaves that are served, with commas; empty: all of tls_ca",
        (0, MAX_ENTRIES),
    )
    tls_refresh: float = seconds(
        60.0,
        "time between two looks at the files of TLS; a connection whose certificate was revoked "
        "is cut by then",
        (1, DAY),
    )
    token_file: str = setting(
        "text", "", "file whose first line is the token that slaves must show; needs TLS", FILE
    )
    scan_interval: float = seconds(
        0.05, "time between two looks into the directory for a new head", (0.01, 3600)
    )
    repository: str = setting(
        "text", "", "name that you give to this repository; the slaves are told it", (0, 255)
    )
    deadline_tls_handshake: float = seconds(10.0, "time for the TLS handshake of a new client")
    deadline_hello: float = seconds(10.0, "time for a new client to introduce itself")
    deadline_request: float = seconds(
        30.0, "time in which a KiB of a request that has begun must come, or the rest of it"
    )
    deadline_idle_client: float = seconds(
        900.0, "time without a request after which a client is disconnected"
    )
    deadline_idle_standby: float = seconds(
        43200.0,
        "time without a request after which an Oak standby is disconnected; it walks its own tree "
        "meanwhile, which may take hours",
    )
    deadline_slow_reader: float = seconds(
        60.0, "time in which a client must take a KiB of its answer, or is disconnected"
    )
    deadline_disk: float = seconds(
        60.0, "time for the store's disk to answer; after that clients are told, and none waits"
    )
    deadline_drain: float = seconds(
        4.0, "time for answers under way to end when the master is stopped", (0, DAY)
    )
    max_clients: int = setting(
        "whole", 1000, "number of clients at a time; one more is refused", (1, 100_000)
    )
    max_clients_per_address: int = setting(
        "whole", 100, "number of clients from one address (of IPv6, from one /64)", (1, 100_000)
    )
    max_strangers: int = setting(
        "whole",
        500,
        "number of connections not introduced yet; for one more another is cut off",
        (1, 100_000),
    )
    max_requests: int = setting(
        "whole", 128, "requests of one client that wait; then no more of it are read", (1, 10_000)
    )
    max_queued: int = setting(
        "bytes",
        4 * MIB,
        "bytes of requests and of short answers that wait for one client; then no more are read",
        (64 * 1024, GIB),
    )
    connect_rate: int = setting(
        "whole", 50, "connections a second from one address, in the long run", (1, 100_000)
    )
    connect_burst: int = setting(
        "whole", 500, "connections at once from one address", (1, 1_000_000)
    )
    send_buffer: int = setting(
        "bytes",
        4 * MIB,
        "the kernel's send buffer for each client; 0 leaves it to the system",
        (0, GIB),
    )
    status_port: int = setting(
        "whole", 0, "TCP port of the status page over HTTP; 0 means none", (0, 65535)
    )
    status_interface: str = setting(
        "text", "127.0.0.1", "local address of the status page", (1, 255)
    )
    status_names: str = setting(
        "text",
        "",
        "names by which the status page may be asked, beside addresses and localhost",
        (0, 1000),
    )
    allow_remote_status: bool = flag(
        "show the status beyond loopback, to whoever reaches status_interface"
    )
    compression: str = setting("compression", "auto", _COMPRESSION)
    compression_level: int = setting(
        "whole", 1, "level of zstd; 3 takes twice the time of 1 and saves a tenth more", LEVELS
    )
    rate_limit: int = setting(
        "rate", 0, f"bytes a second that go to all clients together; {_RATE}", RATES
    )
    blob_store: str = setting(
        "text",
        "",
        "directory of the repository's external blob store; its binaries are served to slaves "
        "that keep their own; it is only read",
        FILE,
    )
    blob_store_kind: str = choice(BLOB_STORES, _KIND)
    rate_limit_client: int = setting(
        "rate", 0, f"bytes a second that go to each client; {_RATE}", RATES
    )


DIALECTS = ("native", "oak")


@dataclass(frozen=True, kw_only=True)
class SlaveConfig:
    """What a slave is told; times in seconds, sizes in bytes."""

    mode: str = setting("mode", "slave", "run mode of the file; must be slave")
    store: Path = field(
        metadata=described(
            "path",
            "directory of the copy, which nobody else may write; made if it is not there",
            short="s",
        )
    )
    master_host: str = setting(
        "text",
        "127.0.0.1",
        "name or address of the master",
        (1, 255),
        "m",
        oak=("master.host", "primary.host"),
    )
    port: int = setting("whole", 8023, "TCP port of the master", (1, 65535), "p")
    dialect: str = choice(
        DIALECTS,
        "what the master speaks: native: ours; oak: the standby protocol of an Oak primary",
    )
    tls_ca: str = setting(
        "text",
        "",
        "PEM file with the CAs of the master, or system for those of this machine; turns TLS on",
        FILE,
    )
    tls_server_name: str = setting(
        "text",
        "",
        "name or address in the master's certificate, if it is not master_host",
        (0, 255),
    )
    tls_pin: str = setting(
        "text", "", "SHA-256 fingerprints of the master's certificate; turns TLS on", (0, 1000)
    )
    tls_crl: str = setting("text", "", "PEM file with the revocation lists of tls_ca", FILE)
    tls_certificate: str = setting(
        "text", "", "PEM file with the certificate that this slave shows to the master", FILE
    )
    tls_key: str = setting("text", "", "PEM file with the key of tls_certificate", FILE)
    tls_key_passphrase_file: str = setting(
        "text", "", "file whose first line is the passphrase of tls_key", FILE
    )
    tls_key_passphrase: Secret = field(default=NO_SECRET, repr=False)
    tls_subject_pattern: str = setting("pattern", "", _SUBJECT.format("the master"), (0, 1000))
    tls_trust_anyone: bool = flag(
        "use TLS and accept any certificate: whoever answers is taken for the master"
    )
    tls_refresh: float = seconds(
        60.0,
        "time between two looks at the files of TLS; a connection whose certificate was revoked "
        "is cut by then",
        (1, DAY),
    )
    token_file: str = setting(
        "text", "", "file whose first line is the token to show to the master; needs TLS", FILE
    )
    interval: float = seconds(
        5.0, "time from the start of one cycle of asking and pulling to the next", short="i"
    )
    poll_wait: float = seconds(
        20.0,
        "time that the master may wait for its head to move before it answers; 0 means none",
        (0, 600),
    )
    deadline_connect: float = seconds(10.0, "time for a connection to the master to be made")
    deadline_tls_handshake: float = seconds(10.0, "time for the TLS handshake with the master")
    deadline_hello: float = seconds(10.0, "time for the master to introduce itself")
    deadline_answer: float = seconds(30.0, "time for the first bytes of an answer")
    deadline_idle: float = seconds(
        30.0, "time in which a KiB must come, or a piece of an answer, while one is due"
    )
    deadline_write_stall: float = seconds(
        60.0, "time in which the master must take a KiB of what is asked"
    )
    deadline_progress: float = seconds(
        120.0,
        "time without any progress after which what the slave is at is told, and begun anew; "
        "beside the other deadlines, for a disk that hangs and for the unforeseen",
        (1, DAY),
    )
    deadline_drain: float = seconds(
        4.0, "time for the work under way to end when the slave is stopped", (0, DAY)
    )
    retry_initial: float = seconds(
        0.5, "pause before the first new attempt to connect; later ones grow", (0.01, 3600)
    )
    retry_max: float = seconds(60.0, "longest pause between two attempts to connect", (0.01, DAY))
    window_max: int = setting(
        "bytes",
        256 * MIB,
        "most bytes asked for ahead of what has come; a long fat line needs many",
        (MIB, 64 * GIB),
    )
    receive_buffer: int = setting(
        "bytes", 4 * MIB, "the kernel's receive buffer; 0 leaves it to the system", (0, GIB)
    )
    scrub_rate: int = setting(
        "rate",
        4 * MIB,
        "bytes a second of the copy's tars that are read again and verified, in the background; "
        "what rotted is fetched anew; 0 means never",
        RATES,
    )
    scrub_interval: float = seconds(
        7 * DAY, "time from the end of one reading of all tars to the next", (1, 365 * DAY)
    )
    no_cleanup: bool = flag(
        "keep the segments of older generations; otherwise they are removed after a compaction"
    )
    status_port: int = setting(
        "whole", 0, "TCP port of the status page over HTTP; 0 means none", (0, 65535)
    )
    status_interface: str = setting(
        "text", "127.0.0.1", "local address of the status page", (1, 255)
    )
    status_names: str = setting(
        "text",
        "",
        "names by which the status page may be asked, beside addresses and localhost",
        (0, 1000),
    )
    allow_remote_status: bool = flag(
        "show the status beyond loopback, to whoever reaches status_interface"
    )
    compression: str = setting("compression", "auto", _COMPRESSION)
    rate_limit: int = setting("rate", 0, f"bytes a second that are read; {_RATE}", RATES)
    blob_store: str = setting(
        "text",
        "",
        "directory of the copy's external blob store; a head then only moves once all of its "
        "binaries are there; empty: binaries outside of the store are not looked after",
        FILE,
    )
    blob_store_kind: str = choice(BLOB_STORES, _KIND)
    blob_store_shared: bool = flag(
        "blob_store is the master's own, on a shared disk: nothing is written there, binaries "
        "are only waited for"
    )
    blobs: str = choice(
        ("require", "warn"),
        "what a binary that the master lacks does: require: the head stays where it is; warn: "
        "it moves, and the binary is listed as missing until it is there",
    )
    accept_new_history: bool = flag("follow a master that does not know the head of this copy")


Config = TypeVar("Config", MasterConfig, SlaveConfig)
AnyKind = type[MasterConfig] | type[SlaveConfig]
_IMPLIED: dict[type, oakfiles.Implied] = {
    MasterConfig: oakfiles.for_master,
    SlaveConfig: oakfiles.for_slave,
}


def settings(kind: AnyKind) -> tuple[Setting, ...]:
    """Return the table of the settings of `kind`, in the order of --help."""
    return table(kind)


def option_parameters(kind: AnyKind) -> list[list[str | None]]:
    """Return `optParameters` for twisted.python.usage: name, short name, None, help.

    The default is None throughout, which tells an option that was not given.
    """
    rows: list[list[str | None]] = [
        ["config", "c", None, "file with settings, .config or .cfg.json, or one of Oak's service"]
    ]
    return rows + [
        [row.option[2:], row.short, None, row.help]
        for row in settings(kind)
        if row.kind not in ("mode", "flag")
    ]


def option_flags(kind: AnyKind) -> list[list[str | None]]:
    """Return `optFlags` for twisted.python.usage: name, short name, help."""
    return [[row.option[2:], row.short, row.help] for row in settings(kind) if row.kind == "flag"]


def load(
    kind: type[Config], environ: Mapping[str, str], options: Mapping[str, str | int | None]
) -> Config:
    """Read the file of --config or TARFAILOVER_CONFIG, if one is named, and merge.

    Relative paths become absolute, because a daemon changes its directory.
    Arguments and errors as for `merge`.
    """
    path = options.get("config")
    if path is None:
        path = environ.get(CONFIG_VARIABLE)
    if path == "":
        raise ConfigError(f"--config or {CONFIG_VARIABLE} is empty; name a file or leave it out")
    values = {} if path is None else read_file(Path(str(path)))
    config = merge(kind, values, environ, options)
    files: dict[str, Any] = rules.absolute(config)
    if config.blob_store:
        files["blob_store"] = str(Path(config.blob_store).absolute())
    return dataclasses.replace(config, store=config.store.absolute(), **files)


def read_file(path: Path) -> dict[str, osgi.Entry]:
    """The properties in a file: ``.cfg.json`` by its name, else ``.config``; raises ConfigError."""
    return osgi_json.read(path) if path.name.endswith(osgi_json.SUFFIX) else osgi.read(path)


def merge(
    kind: type[Config],
    file_values: Mapping[str, osgi.Entry],
    environ: Mapping[str, str],
    options: Mapping[str, str | int | None],
) -> Config:
    """Return the configuration of `kind` from defaults < file < environment < options.

    `options` are those of twisted.python.usage, by long name without the dashes: None
    is an option that was not given, 0 a flag that was not. Raises ConfigError.
    """
    rows = settings(kind)
    ours, oaks = oakfiles.split(rows, file_values)
    found: dict[str, Any] = {}
    found.update(given.from_file(rows, ours))
    found.update(given.from_environment(rows, environ, _other_variables()))
    found.update(given.from_options(rows, options))
    found = {**dict(_IMPLIED[kind](oaks, found)), **found}
    for row in rows:
        if row.required and row.field not in found:
            raise ConfigError(
                f"no {row.field} is given; use {row.option}, {row.environment} "
                f'or a line {row.osgi}="..." in the file of --config'
            )
    config = kind(**found)
    _check(config)
    return config


def _other_variables() -> set[str]:
    """One environment may serve a master and a slave: what the other knows is passed over."""
    both = (MasterConfig, SlaveConfig)
    return {CONFIG_VARIABLE, *(row.environment for each in both for row in settings(each))}


def _check(config: MasterConfig | SlaveConfig) -> None:
    """Refuse settings that are good one by one and not together; raises ConfigError."""
    rules.check(config)
    _check_status(config)
    _check_blobs(config)
    if isinstance(config, MasterConfig):
        check_listener(config)
        return
    if config.dialect == "oak" and config.token_file:
        raise ConfigError(
            "token_file cannot be used with dialect oak: an Oak primary asks for no token; remove "
            "--token-file, or show it a certificate with --tls-certificate"
        )
    if config.retry_max < config.retry_initial:
        raise ConfigError(
            f"retry_max {config.retry_max:g} s is shorter than retry_initial "
            f"{config.retry_initial:g} s; raise --retry-max or lower --retry-initial"
        )


def _check_blobs(config: MasterConfig | SlaveConfig) -> None:
    """Refuse what makes no sense without a blob store, or beside the segments."""
    if not config.blob_store:
        if isinstance(config, SlaveConfig) and (config.blob_store_shared or config.blobs == "warn"):
            given = "blob_store_shared" if config.blob_store_shared else "blobs"
            raise ConfigError(
                f"{given} is given without blob_store; name its directory, or remove {given}"
            )
    elif Path(config.blob_store).absolute() == config.store.absolute():
        raise ConfigError(
            f"blob_store and store are both {config.blob_store!r}; a blob store is a directory "
            "of its own"
        )


def _check_status(config: MasterConfig | SlaveConfig) -> None:
    """Refuse a status page beyond loopback that was not asked for; raises ConfigError."""
    if config.allow_remote_status or is_loopback(config.status_interface):
        return
    raise ConfigError(
        f"status_interface {config.status_interface!r} can be reached from other machines, and "
        "whoever reaches it sees all that the status tells; use 127.0.0.1, or accept it with "
        "--allow-remote-status"
    )


def check_listener(config: MasterConfig) -> None:
    """Refuse a listener beyond loopback that was not asked for; raises ConfigError."""
    if config.endpoint:
        local, what = is_loopback_endpoint(config.endpoint), f"endpoint {config.endpoint!r}"
    else:
        local, what = is_loopback(config.interface), f"interface {config.interface!r}"
    if local or config.allow_plaintext_listen or rules.authenticated(config):
        return
    raise ConfigError(
        f"{what} can be reached from other machines, and {rules.lacking(config)}, or listen on "
        "127.0.0.1 behind a tunnel, or accept it with --allow-plaintext-listen"
    )
