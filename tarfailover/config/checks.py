"""What is refused of settings that are good one by one and not together."""

from __future__ import annotations

from pathlib import Path

from tarfailover.access.listeners import is_loopback, is_loopback_endpoint
from tarfailover.config.master import MasterConfig
from tarfailover.config.slave import SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.tls import rules


def check(config: MasterConfig | SlaveConfig) -> None:
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
