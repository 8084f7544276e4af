"""The settings of a slave."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
    tls_subject_pattern: str = setting("pattern", "", SUBJECT.format("the master"), (0, 1000))
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
    compression: str = setting("compression", "auto", COMPRESSION)
    rate_limit: int = setting("rate", 0, f"bytes a second that are read; {RATE}", RATES)
    blob_store: str = setting(
        "text",
        "",
        "directory of the copy's external blob store; a head then only moves once all of its "
        "binaries are there; empty: binaries outside of the store are not looked after",
        FILE,
    )
    blob_store_kind: str = choice(BLOB_STORES, BLOB_KIND)
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
