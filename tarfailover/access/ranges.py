"""Ranges of client addresses, in the syntax of Oak's `allowed-client-ip-ranges` and beyond it.

An entry is one of::

    10.0.0.1  ::1              an address
    10.0.0.1-10.0.0.9          all addresses from one to the other; so for IPv6
    10.0.0.0/8  fd00::/8       a network; this form is ours
    oak2.example.org           a host name, whatever addresses it has at the time

Facts about Oak (`ClientIpFilter`): no entry at all allows everyone; the families never
match each other; an IPv4 address inside IPv6 (``::ffff:10.0.0.1``) is that IPv4 address;
``127`` is 0.0.0.127; a range that ends before it begins matches nothing. The last two are
kept so that Oak's files mean here what they mean there, and are remarked upon.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ENTRIES = 1000
"""Entries of one list."""
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_LETTER = re.compile(r"[A-Za-z]")
_SHORT = re.compile(r"([0-9]{1,8})(?:\.([0-9]{1,8}))?(?:\.([0-9]{1,5}))?")
_REMEDY = "write an address, a network as in 10.0.0.0/8, a range as in 10.0.0.1-10.0.0.9, or a name"


def address(text: str) -> Address:
    """The address in `text` without its zone; IPv4 if it is IPv4 in IPv6. Raises ValueError."""
    return _plain(ipaddress.ip_address(text.partition("%")[0]))


def _plain(found: Address) -> Address:
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def entries(text: str) -> list[str]:
    """The entries of a list with commas between them; empty ones are none."""
    return [entry for part in text.split(",") if (entry := part.strip())]


@dataclass(frozen=True)
class Ranges:
    """A list of entries, read: `spans` of addresses, both ends included, and host `names`.

    `remarks` are sentences about entries that surely mean something else to a reader.
    """

    spans: tuple[tuple[Address, Address], ...] = ()
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Ranges:
        """From entries with commas between them; raises ValueError that names the entry."""
        found = entries(text)
        if len(found) > MAX_ENTRIES:
            raise ValueError(f"has {len(found)} entries; {MAX_ENTRIES} are allowed")
        spans: list[tuple[Address, Address]] = []
        names: list[str] = []
        remarks: list[str] = []
        for entry in found:
            span = _span(entry)
            if span is None:
                names.append(_name(entry))
            else:
                spans.append(span)
                remarks += _remarks(entry, *span)
        return cls(tuple(spans), tuple(dict.fromkeys(names)), tuple(remarks))

    @property
    def everyone(self) -> bool:
        """Whether there is no entry, which allows every address."""
        return not self.spans and not self.names

    def allow(self, client: Address, named: Collection[Address] = ()) -> bool:
        """Whether `client` may connect; `named` are the addresses of the names now."""
        if self.everyone or client in named:
            return True
        begins, ends = self._merged[client.version]
        place = bisect_right(begins, int(client)) - 1
        return place >= 0 and int(client) <= ends[place]

    @cached_property
    def _merged(self) -> dict[int, tuple[list[int], list[int]]]:
        """First and last numbers of each stretch of addresses, by the version of IP, in order.

        A flood of refused connections costs a binary search each, however long the list.
        """
        found: dict[int, tuple[list[int], list[int]]] = {4: ([], []), 6: ([], [])}
        spans = ((low.version, int(low), int(high)) for low, high in self.spans)
        for version, low, high in sorted(span for span in spans if span[1] <= span[2]):
            begins, ends = found[version]
            if ends and low <= ends[-1]:
                ends[-1] = max(ends[-1], high)
            else:
                begins.append(low)
                ends.append(high)
        return found


def _span(entry: str) -> tuple[Address, Address] | None:
    """The addresses of an entry that is no host name; raises ValueError."""
    if "/" in entry:
        return _network(entry)
    single = _address(entry)
    if single is not None:
        return single, single
    low, dash, high = (part.strip() for part in entry.partition("-"))
    first, last = _address(low), _address(high)
    if not dash or (first is None and last is None):
        return None
    if first is None or last is None:
        if _SHORT.fullmatch(high if first is None else low) and _LETTER.search(entry):
            return None  # such as oak-2
        raise ValueError(f"has the entry {entry!r}, of which one end is no address; {_REMEDY}")
    if first.version != last.version:
        raise ValueError(f"has the entry {entry!r} from one family to the other; {_REMEDY}")
    return first, last


def _network(entry: str) -> tuple[Address, Address]:
    try:
        network = ipaddress.ip_network(entry)
    except ValueError as error:
        raise ValueError(f"has the entry {entry!r}: {error}; {_meant(entry)}") from error
    low, high = _plain(network[0]), _plain(network[-1])
    # ::/0 begins in IPv6 and holds all of IPv4: only what lies in IPv4 as a whole is IPv4.
    return (low, high) if low.version == high.version else (network[0], network[-1])


def _meant(entry: str) -> str:
    """The network that an entry with bits behind its prefix lies in, as a remedy."""
    try:
        return f"write {ipaddress.ip_network(entry, strict=False)}"
    except ValueError:
        return _REMEDY


def _address(text: str) -> Address | None:
    """An address, also one cut short as Java reads it; None for what is none."""
    if "%" in text:
        return None
    try:
        return address(text)
    except ValueError:
        match = _SHORT.fullmatch(text)
    if match is None:
        return None
    *front, rest = (int(part) for part in match.groups() if part is not None)
    if any(part > 255 for part in front) or rest >= 1 << 8 * (4 - len(front)):
        return None
    value = sum(part << 8 * (3 - place) for place, part in enumerate(front)) + rest
    return ipaddress.IPv4Address(value)


def _remarks(entry: str, low: Address, high: Address) -> Iterator[str]:
    if int(low) > int(high):
        yield f"{entry} ends before it begins, so it allows nobody; turn it round"
    halves = entry.split("-") if "/" not in entry else []
    for half, end in zip(halves, (low, high), strict=False):
        if _SHORT.fullmatch(half.strip()):
            yield f"{half.strip()} is read as {end}, as Oak reads it; write the whole address"


def _name(entry: str) -> str:
    """A host name; raises ValueError for what is none."""
    labels = entry.removesuffix(".").split(".")
    good = len(entry) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    if not good or not _LETTER.search(entry):
        raise ValueError(f"has the entry {entry!r}, which is no address and no name; {_REMEDY}")
    return entry
