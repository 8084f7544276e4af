"""Which settings of TLS make sense together; decided from the settings, no file is opened.

The configuration imports this module, so a configuration is any object with its fields.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tarfailover.errors import ConfigError
from tarfailover.tls.names import SYSTEM

FILES = (
    "tls_certificate",
    "tls_key",
    "tls_key_passphrase_file",
    "tls_ca",
    "tls_crl",
    "token_file",
)
_PIN = re.compile(r"[0-9a-f]{64}")


def is_master(config: Any) -> bool:
    """Whether `config` is that of a master."""
    return not hasattr(config, "tls_pin")


def uses_tls(config: Any) -> bool:
    """Whether the connections of `config` are encrypted."""
    if is_master(config):
        return bool(config.tls_certificate or config.tls_self_signed)
    return bool(config.tls_ca or config.tls_pin or config.tls_trust_anyone)


def authenticated(config: Any) -> bool:
    """Whether a master with `config` serves nobody but holders of a certificate or the token."""
    return bool(uses_tls(config) and (config.tls_ca or config.token_file))


def lacking(config: Any) -> str:
    """What a master that does not authenticate its clients lacks, and the remedy."""
    if uses_tls(config):
        return (
            "no client is authenticated; demand certificates of the slaves with --tls-ca, or a "
            "token with --token-file"
        )
    return (
        "the link is neither encrypted nor authenticated; use --tls-certificate, --tls-key and "
        "--tls-ca, or --token-file in place of the last"
    )


def pins(config: Any) -> frozenset[str]:
    """The fingerprints in `tls_pin`, as 64 hexadecimal digits; raises ConfigError."""
    found = [each.replace(":", "").lower() for each in config.tls_pin.replace(",", " ").split()]
    for each in found:
        if not _PIN.fullmatch(each):
            raise ConfigError(
                f"tls_pin {each!r} is no SHA-256 fingerprint of 64 hexadecimal digits; see "
                "`openssl x509 -noout -fingerprint -sha256 -in FILE`"
            )
    return frozenset(found)


def check(config: Any) -> None:
    """Refuse settings of TLS that make no sense together; raises ConfigError."""
    if config.tls_key and not config.tls_certificate:
        raise ConfigError("tls_key is given without tls_certificate; name both or none")
    if config.tls_certificate and not config.tls_key:
        raise ConfigError("tls_certificate is given without tls_key; name both or none")
    if config.tls_key_passphrase_file and not config.tls_key:
        raise ConfigError("tls_key_passphrase_file is given without tls_key; remove it")
    if config.tls_key_passphrase and config.tls_key_passphrase_file:
        raise ConfigError(
            "sslKeyPassword and tls_key_passphrase_file say the same; remove one of the two"
        )
    if config.tls_crl and (not config.tls_ca or config.tls_ca == SYSTEM):
        raise ConfigError("tls_crl revokes certificates of tls_ca: name a file there")
    if config.token_file and not uses_tls(config):
        named = "tls_certificate and tls_key" if is_master(config) else "tls_ca or tls_pin"
        raise ConfigError(
            f"token_file is given without TLS, and a token is never sent in plain text; name "
            f"{named}, or remove it"
        )
    if is_master(config):
        _check_master(config)
    else:
        _check_slave(config)


def _check_master(config: Any) -> None:
    if config.tls_ca == SYSTEM:
        raise ConfigError(
            "tls_ca of a master must be a file: whoever has any certificate of a public CA "
            "would be let in with system"
        )
    if config.tls_self_signed and config.tls_certificate:
        raise ConfigError("tls_self_signed and tls_certificate exclude each other; remove one")
    if config.tls_subject_pattern and not config.tls_ca:
        raise ConfigError(
            "tls_subject_pattern (sslSubjectPattern) is for the certificates of slaves, and "
            "without tls_ca none shows any; name tls_ca"
        )
    if config.tls_ca and not uses_tls(config):
        raise ConfigError(
            "tls_ca demands certificates of the slaves, which needs TLS: name tls_certificate "
            "and tls_key of the master too"
        )
    if config.allowed_slaves and not config.tls_ca:
        raise ConfigError(
            "allowed_slaves are names in certificates, and without tls_ca no slave shows any; "
            "name tls_ca"
        )
    if uses_tls(config) and config.endpoint.startswith(("ssl:", "tls:")):
        raise ConfigError(
            "an endpoint of its own TLS and tls_certificate exclude each other; write tcp:"
        )


def _check_slave(config: Any) -> None:
    if config.tls_trust_anyone and (config.tls_ca or pins(config)):
        raise ConfigError(
            "tls_trust_anyone accepts every certificate, and tls_ca or tls_pin does not; remove one"
        )
    if config.tls_trust_anyone and config.token_file:
        raise ConfigError(
            "tls_trust_anyone would show the token to whoever answers; name tls_ca or tls_pin "
            "instead, or remove token_file"
        )
    pins(config)
    if config.tls_certificate and not uses_tls(config):
        raise ConfigError(
            "tls_certificate is given, and nothing says whom to trust; name tls_ca or tls_pin"
        )
    if config.tls_subject_pattern and not uses_tls(config):
        raise ConfigError("tls_subject_pattern is given without TLS; name tls_ca or tls_pin")
    if config.tls_server_name and not config.tls_ca:
        raise ConfigError("tls_server_name is only checked with tls_ca; name that, or remove it")


def absolute(config: Any) -> dict[str, str]:
    """The names of the files of `config`, made absolute."""
    named = {field: getattr(config, field) for field in FILES}
    return {
        field: name if name in ("", SYSTEM) else str(Path(name).absolute())
        for field, name in named.items()
    }
