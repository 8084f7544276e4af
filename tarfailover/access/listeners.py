"""Who can reach a listener: only this machine, or others too.

Everything is decided from the text of the configuration; no name is looked up and no
socket is opened. What cannot be decided counts as reachable from outside.
"""

from __future__ import annotations

import ipaddress
import re

from tarfailover.errors import ConfigError

# The place of the interface among the unnamed parameters of an endpoint string, and its
# default. Fact: the parsers in twisted.internet.endpoints.
_INTERFACE = {"tcp": (2, ""), "tcp6": (3, "::"), "ssl": (5, "")}
_PARAMETER = re.compile(r"((?:[^:=\\]|\\.)*)(?:=((?:[^:\\]|\\.)*))?(:|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def is_loopback(interface: str) -> bool:
    """Tell whether only this machine reaches a socket bound to `interface`.

    `interface` is an address or ``localhost``; the empty text, which means every
    address, and any other host name are not loopback.
    """
    if interface == "localhost":
        return True
    try:
        address = ipaddress.ip_address(interface)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_loopback_endpoint(endpoint: str) -> bool:
    """Tell whether only this machine reaches the Twisted server endpoint `endpoint`.

    Known are tcp, tcp6 and ssl, by their interface, and unix; every other kind counts
    as reachable from outside. Raises ConfigError if the text is no endpoint string.
    """
    unnamed, named = _parameters(endpoint)
    kind = unnamed[0] if unnamed else ""
    if kind == "unix":
        return True
    if kind not in _INTERFACE:
        return False
    place, default = _INTERFACE[kind]
    return is_loopback(named.get("interface", dict(enumerate(unnamed)).get(place, default)))


def _parameters(endpoint: str) -> tuple[list[str], dict[str, str]]:
    """Split `endpoint` as Twisted does: ``:`` between, ``=`` after a name, backslash escapes."""
    unnamed: list[str] = []
    named: dict[str, str] = {}
    at, more = 0, ":"
    while more:
        match = _PARAMETER.match(endpoint, at)
        if match is None:
            raise ConfigError(
                f"endpoint {endpoint!r} ends in a backslash; write \\\\ for a backslash"
            )
        first, value, more = match.groups()
        at = match.end()
        if value is None:
            unnamed.append(_ESCAPED.sub(r"\1", first))
        else:
            named[_ESCAPED.sub(r"\1", first)] = _ESCAPED.sub(r"\1", value)
    return unnamed, named
