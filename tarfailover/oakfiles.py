"""What the files of Oak's own services mean here.

An operator has such a file, for `StandbyStoreService` or for `FailoverStoreService` of
2014, and it starts a master or a slave as it is. Each of its properties does here what it
does in Oak, or is refused with the reason. What Oak reads on the other side alone is
checked and passed over, as in Oak; so is what the framework writes into such files.

Whatever has a name of ours as well, and is given by it anywhere, wins. Facts: standby
protocol, sections 2.9, 2.10 and 3.8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tarfailover import given
from tarfailover.access.ranges import MAX_ENTRIES
from tarfailover.errors import ConfigError
from tarfailover.osgi import Entry
from tarfailover.settings import NO_SECRET, Setting, setting, table
from tarfailover.tls.names import SYSTEM

FILE = (0, 4096)
"""The lengths of a file's name, where none may be named."""
TIMEOUT = (100, 86_400_000)
"""The values of standby.readtimeout, in milliseconds: 0.1 seconds to a day."""
_READ_TIMEOUTS = ("deadline_connect", "deadline_answer", "deadline_idle")
"""What Oak's one value is for: to connect, to have an answer, and to hear anything at all."""

Implied = Callable[["OakProperties", Mapping[str, Any]], Iterator[tuple[str, Any]]]
"""What follows for one side, beside what is given."""

_SERVICES = (".StandbyStoreService", ".FailoverStoreService")
_FRAMEWORK = ("service.bundleLocation", "felix.fileinstall.filename", "component.name")
_OURS_FOR = {
    "sslKeyFile": "tls.key",
    "sslChainFile": "tls.certificate",
    "sslKeyPassword": "tls.key.passphrase.file",
    "sslSubjectPattern": "tls.subject.pattern",
    "standby.autoclean": "no.cleanup",
}
"""Properties that say the same as one of ours: a file has one of the two."""


def _property(kind: Any, default: object, name: str, bounds: tuple[float, float] = (0, 0)) -> Any:
    return setting(kind, default, "", bounds, oak=(name,))


@dataclass(frozen=True, kw_only=True)
class OakProperties:
    """The properties of Oak's files, with Oak's defaults; those with a default of None are ours.

    The latter are settings of the one side, and nothing on the other.
    """

    persist: bool = _property("flag", False, "org.apache.sling.installer.configuration.persist")
    pid: str = _property("text", "", "service.pid", (0, 1000))
    host: str | None = setting("text", None, "", (1, 255), oak=("primary.host", "master.host"))
    interval: float | None = _property("seconds", None, "interval", (0.1, 86400))
    ranges: str | None = setting(
        "ranges",
        None,
        "",
        (0, MAX_ENTRIES),
        oak=("primary.allowed-client-ip-ranges", "master.allowed-client-ip-ranges"),
    )
    secure: bool = _property("flag", False, "secure")
    read_timeout: int | None = _property("whole", None, "standby.readtimeout", TIMEOUT)
    auto_clean: bool = _property("flag", True, "standby.autoclean")
    key: str = _property("text", "", "sslKeyFile", FILE)
    chain: str = _property("text", "", "sslChainFile", FILE)
    password: str = _property("secret", NO_SECRET, "sslKeyPassword", (0, 1000))
    validate_client: bool = _property("flag", False, "sslValidateClient")
    subject_pattern: str = _property("pattern", "", "sslSubjectPattern", (0, 1000))


_ROWS = table(OakProperties)
_NAMES = frozenset(name for row in _ROWS for name in row.oak)


def split(
    rows: tuple[Setting, ...], values: Mapping[str, Entry]
) -> tuple[dict[str, Entry], OakProperties]:
    """The properties in a file that are settings in `rows`, or unknown; and what Oak's say.

    Raises ConfigError.
    """
    ours = {name for row in rows for name in (row.osgi, *row.oak)}
    oaks = {name: entry for name, entry in values.items() if name in _NAMES - ours}
    rest = {
        name: entry
        for name, entry in values.items()
        if name not in oaks and name not in _FRAMEWORK and not name.startswith(":")
    }
    for name, other in _OURS_FOR.items():
        if name in oaks and other in rest:
            raise ConfigError(f"{oaks[name].where}: {name} is {other}; remove one of the two")
    found = OakProperties(**dict(given.from_file(_ROWS, oaks)))
    _check(found, oaks)
    return rest, found


def _check(found: OakProperties, entries: Mapping[str, Entry]) -> None:
    """Refuse what no file of a master or a slave may say; raises ConfigError."""
    if found.persist:
        name = "org.apache.sling.installer.configuration.persist"
        raise ConfigError(
            f"{entries[name].where}: {name}: true would write these settings into the repository, "
            "and a standby would pull those of its primary; set it to false"
        )
    if found.pid and not found.pid.endswith(_SERVICES):
        raise ConfigError(
            f"{entries['service.pid'].where}: this is the file of {found.pid}; name the one of "
            "StandbyStoreService or FailoverStoreService"
        )


def for_master(found: OakProperties, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that follow for a master, beside those that are `given`; raises ConfigError."""
    if not found.secure:
        return
    if not given.get("tls_certificate"):
        shown = dict(_identity(found, given))
        yield from shown.items() if shown else [("tls_self_signed", True)]
    if found.validate_client and not given.get("tls_ca"):
        raise ConfigError(
            "sslValidateClient has Oak verify clients by the trust store of Java, with all its "
            "public CAs; this master trusts those alone that are named: add --tls-ca with the CAs "
            "of the standbys"
        )
    if found.subject_pattern:
        yield "tls_subject_pattern", found.subject_pattern


def for_slave(found: OakProperties, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that follow for a slave, beside those that are `given`; raises ConfigError."""
    if given.get("mode") == "standby":
        # What such a file has followed up to now is an Oak primary.
        yield "dialect", "oak"
    yield "no_cleanup", not found.auto_clean
    if found.read_timeout is not None:
        for name in _READ_TIMEOUTS:
            yield name, found.read_timeout / 1000
    if not found.secure:
        return
    shown = {} if given.get("tls_certificate") else dict(_identity(found, given))
    yield from shown.items()
    if not any(given.get(name) for name in ("tls_ca", "tls_pin", "tls_trust_anyone")):
        # With a key of its own, Oak's client trusts Java's CAs, and anybody without one.
        yield ("tls_ca", SYSTEM) if shown else ("tls_trust_anyone", True)
    if found.subject_pattern:
        yield "tls_subject_pattern", found.subject_pattern


def _identity(found: OakProperties, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Certificate and key; nothing without either."""
    if not found.key and not found.chain:
        return
    if not found.key or not found.chain:
        raise ConfigError("sslKeyFile and sslChainFile belong together; name both or none")
    yield "tls_key", found.key
    yield "tls_certificate", found.chain
    if found.password and not given.get("tls_key_passphrase_file"):
        yield "tls_key_passphrase", found.password
