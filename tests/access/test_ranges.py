"""Ranges of client addresses: the cases of Oak's own tests, networks, and what is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.access.ranges import MAX_ENTRIES, Ranges, address, entries

LOCALHOST = {address("127.0.0.1"), address("::1")}

# Fact: Oak's ClientIpFilterTest and FailoverIPRangeIT; localhost is looked up.
OAK = [
    ("", "127.0.0.1", True),
    ("", "::1", True),
    ("127.0.0.1", "127.0.0.1", True),
    ("::1", "::1", True),
    ("127.0.0.2", "127.0.0.1", False),
    ("::2", "::1", False),
    ("127.0.0.1-127.0.0.2", "127.0.0.1", True),
    ("127.0.0.0-127.0.0.1", "127.0.0.1", True),
    ("127.0.0.0-127.0.0.2", "127.0.0.1", True),
    ("127.0.0.2-127.0.0.1", "127.0.0.1", False),
    ("127-128,126.0.0.1,127.0.0.0-127.255.255.255", "127.0.0.1", True),
    ("122-126,::1,126.0.0.1,127.0.0.0-127.255.255.255", "127.0.0.1", True),
    ("126.0.0.1,::2,128.0.0.1-255.255.255.255,128.0.0.0-127.255.255.255", "127.0.0.1", False),
    ("127-128,0:0:0:0:0:0:0:1,126.0.0.1,127.0.0.0-127.255.255.255", "::1", True),
    ("122-126,::1,126.0.0.1,127.0.0.0-127.255.255.255", "::1", True),
    ("126.0.0.1,::2,128.0.0.1-255.255.255.255,128.0.0.0-127.255.255.255", "::1", False),
]
OURS = [
    (" , ", "10.0.0.1", True),
    ("10.0.0.0/8", "10.255.255.255", True),
    ("10.0.0.0/8", "11.0.0.0", False),
    ("10.0.0.1/32, 10.0.0.3", "10.0.0.2", False),
    ("10.0.0.0/255.0.0.0", "10.1.1.1", True),
    ("fd00::/8", "fdff::1", True),
    ("fd00::/8", "fe00::", False),
    ("0.0.0.0/0", "::1", False),
    ("::/0", "10.0.0.1", False),
    ("::/0", "fd00::1", True),
    ("10.0.0.1", "::ffff:10.0.0.1", True),
    ("::ffff:10.0.0.1", "10.0.0.1", True),
    ("::ffff:10.0.0.0/104", "10.9.9.9", True),
    ("::ffff:0:0/96", "10.9.9.9", True),
    ("::ffff:10.0.0.1-10.0.0.9", "10.0.0.5", True),
    ("fe80::1-fe80::9", "fe80::5%eth0", True),
    ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "255.255.255.255", False),
    ("0.0.0.127", "0.0.0.127", True),
    ("127", "0.0.0.127", True),
    ("10.1", "10.0.0.1", True),
    ("10.1.258", "10.1.1.2", True),
    ("10.0.0.1 - 10.0.0.3", "10.0.0.2", True),
]


@pytest.mark.parametrize(("listed", "client", "allowed"), OAK + OURS)
def test_who_may_connect(listed: str, client: str, allowed: bool) -> None:
    assert Ranges.parse(listed).allow(address(client)) is allowed


def test_names_allow_the_addresses_that_they_have() -> None:
    ranges = Ranges.parse("localhost, foo-bar,foo-bar-baz,db1-eu2,oak.example.org.,localhost")
    assert ranges.names == ("localhost", "foo-bar", "foo-bar-baz", "db1-eu2", "oak.example.org.")
    assert not ranges.spans and not ranges.everyone
    assert ranges.allow(address("127.0.0.1"), LOCALHOST)
    assert not ranges.allow(address("127.0.0.2"), LOCALHOST)
    assert not ranges.allow(address("127.0.0.1")), "an unknown name allows nobody"


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("10.0.0.1/8", r"'10.0.0.1/8': .* has host bits set; write 10.0.0.0/8$"),
        ("10.0.0.0/33", "'10.0.0.0/33'.*; write an address, a network"),
        ("oak/8", "'oak/8'"),
        ("10.0.0.1-", "one end is no address"),
        ("-10.0.0.1", "one end is no address"),
        ("10.0.0.1-oak", "one end is no address"),
        ("10.0.0.1-::1", "from one family to the other"),
        ("10.0.0.1-10.0.0.2-10.0.0.3", "one end is no address"),
        ("10.0.0.256", "no address and no name"),
        ("10.0.0.1.2", "no address and no name"),
        ("999999999", "no address and no name"),
        ("256.1", "no address and no name"),
        ("010.0.0.1", "no address and no name"),
        ("fe80::1%eth0", "no address and no name"),
        (":::1", "no address and no name"),
        ("*", "no address and no name"),
        ("10.0.0.*", "no address and no name"),
        ("oak 2", "no address and no name"),
        ("-oak", "no address and no name"),
        ("oäk", "no address and no name"),
        ("o" * 64, "no address and no name"),
        (".", "no address and no name"),
        ("a." * 130, "no address and no name"),
        ("1," * (MAX_ENTRIES + 1), "has 1001 entries; 1000 are allowed"),
    ],
)
def test_what_is_no_list(listed: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Ranges.parse(listed)


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("127.0.0.2-127.0.0.1", ["127.0.0.2-127.0.0.1 ends before it begins"]),
        ("127-128", ["127 is read as 0.0.0.127, as Oak", "128 is read as 0.0.0.128, as Oak"]),
        ("10.1", ["10.1 is read as 10.0.0.1, as Oak"]),
        ("127.0.0.1,::1,10.0.0.0/8,10.0.0.1-10.0.0.2,oak-2", []),
    ],
)
def test_what_surely_means_something_else_is_remarked_upon(listed: str, told: list[str]) -> None:
    remarks = Ranges.parse(listed).remarks
    assert len(remarks) == len(told)
    assert all(map(str.startswith, remarks, told))


addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(st.lists(addresses, min_size=3, max_size=3))
def test_a_range_holds_what_lies_between_its_ends(three: list[ipaddress.IPv4Address]) -> None:
    client, *ends = (address(str(each)) for each in three)
    if ends[0].version != ends[1].version:
        return
    low, high = sorted(ends, key=int)
    inside = client.version == low.version and int(low) <= int(client) <= int(high)
    assert Ranges.parse(f"{low}-{high}").allow(client) is inside
    assert Ranges.parse(f"{low}-{high}").allow(low)
    assert Ranges.parse(f"{low}-{high}").allow(high)


small = st.integers(0, 40).map(lambda n: address(f"10.0.0.{n}"))
smaller = st.integers(0, 40).map(lambda n: address(f"fd00::{n:x}"))
pairs = st.tuples(small, small) | st.tuples(smaller, smaller)


@given(st.lists(pairs, min_size=1, max_size=8), small | smaller)
def test_many_ranges_hold_what_any_of_them_holds(
    spans: list[tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]], client: ipaddress.IPv4Address
) -> None:
    inside = any(
        low.version == client.version and int(low) <= int(client) <= int(high)
        for low, high in spans
    )
    listed = ",".join(f"{low}-{high}" for low, high in spans)
    assert Ranges.parse(listed).allow(client) is inside


@given(addresses, addresses, st.integers(0, 128))
def test_a_network_is_what_the_library_says(
    within: ipaddress.IPv4Address, client: ipaddress.IPv4Address, bits: int
) -> None:
    network = ipaddress.ip_network((within, bits % (within.max_prefixlen + 1)), strict=False)
    client = network[int(client) % network.num_addresses] if bits % 2 else client
    ranges = Ranges.parse(str(network))
    if all(address(str(each)) == each for each in (client, network[0], network[-1])):
        assert ranges.allow(client) is (client in network)


def parsed_or_refused(listed: str) -> Ranges | ValueError:
    try:
        return Ranges.parse(listed)
    except ValueError as error:
        return error


@given(st.text("0123456789.:-/,%ab \n", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_list_or_is_refused(listed: str) -> None:
    ranges = parsed_or_refused(listed)
    if isinstance(ranges, ValueError):
        assert str(ranges).startswith("has ")
    else:
        assert len(ranges.spans) + len(ranges.names) <= len(entries(listed))
        assert ranges.everyone is (not entries(listed))
