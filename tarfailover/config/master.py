"""The settings of a master."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tarfailover.access.ranges import MAX_ENTRIES
from tarfailover.config.words import BLOB_KIND, BLOB_STORES, COMPRESSION, RATE, RATES, SUBJECT
from tarfailover.oakfiles import FILE
from tarfailover.settings import (
    DAY,
    GIB,
    MIB,
    NO_SECRET,
    Secret,
    choice,
    described,
    flag,
    seconds,
    setting,
)
from tarfailover.wire.compression import LEVELS


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
    tls_subject_pattern: str = setting("pattern", "", SUBJECT.format("a slave"), (0, 1000))
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
    compression: str = setting("compression", "auto", COMPRESSION)
    compression_level: int = setting(
        "whole", 1, "level of zstd; 3 takes twice the time of 1 and saves a tenth more", LEVELS
    )
    rate_limit: int = setting(
        "rate", 0, f"bytes a second that go to all clients together; {RATE}", RATES
    )
    blob_store: str = setting(
        "text",
        "",
        "directory of the repository's external blob store; its binaries are served to slaves "
        "that keep their own; it is only read",
        FILE,
    )
    blob_store_kind: str = choice(BLOB_STORES, BLOB_KIND)
    rate_limit_client: int = setting(
        "rate", 0, f"bytes a second that go to each client; {RATE}", RATES
    )
