"""The options of a command that asks a master: those of a slave's link."""

from __future__ import annotations

import argparse
import os

from tarfailover import config as configuration
from tarfailover.config import SlaveConfig
from tarfailover.settings import table

_SETTINGS = (
    "port",
    "tls_ca",
    "tls_server_name",
    "tls_pin",
    "tls_crl",
    "tls_certificate",
    "tls_key",
    "tls_key_passphrase_file",
    "tls_trust_anyone",
    "token_file",
    "deadline_connect",
    "deadline_answer",
    "deadline_idle",
    "compression",
    "rate_limit",
    "blob_store",
    "blob_store_kind",
)


def arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declare the options of a link; `names` are those for the host of the master."""
    link = parser.add_argument_group("the link, as a slave has it")
    link.add_argument(*names, dest="master_host", metavar="HOST", help="name or address")
    link.add_argument("--config", metavar="FILE", help="the file of a slave, for all of these")
    for row in table(SlaveConfig):
        if row.field in _SETTINGS and row.kind == "flag":
            link.add_argument(row.option, dest=row.field, action="store_true", help=row.doc)
        elif row.field in _SETTINGS:
            link.add_argument(row.option, dest=row.field, metavar="VALUE", help=row.doc)


def config_of(options: argparse.Namespace) -> SlaveConfig:
    """The settings of the link; raises ConfigError."""
    given: dict[str, str | int | None] = {"config": options.config, "store": str(options.store)}
    for field in ("master_host", *_SETTINGS):
        value = getattr(options, field)
        given[field.replace("_", "-")] = int(value) if isinstance(value, bool) else value
    return configuration.load(SlaveConfig, os.environ, given)
