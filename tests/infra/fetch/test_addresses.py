"""Which addresses are public: those that an oracle of its own says, to the address at each border."""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from infra.fetch import addresses
from infra.fetch.addresses import Address

# Every network whose border matters, of whichever side; what it is the oracle says in its own words.
NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2000::/3"),
    *("2001::/23", "2001::/32", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)


def oracle(address: Address) -> bool:
    """Say by its numbers whether an address is public."""
    if isinstance(address, IPv4Address):
        a, b, c, d = address.packed
        inside = a in (0, 10, 127) or (a == 172 and b // 16 == 1) or (a, b) in ((192, 168), (169, 254))
        shared = (a == 100 and b // 64 == 1) or (a == 198 and b in (18, 19)) or (a, b, c, d) == (168, 63, 129, 16)
        lists = {(192, 0, 0), (192, 0, 2), (192, 31, 196), (192, 52, 193), (192, 88, 99), (192, 175, 48)}
        lists |= {(198, 51, 100), (203, 0, 113)}
        return not (inside or shared or (a, b, c) in lists or a >= 224)
    first, second, third, *_ = struct.unpack("!8H", address.packed)
    if first == 0x2001:
        return second >= 0x0200 and second != 0x0DB8
    if first == 0x3FFF:
        return second >= 0x1000
    return 0x2000 <= first <= 0x3FFF and first != 0x2002 and (first, second, third) != (0x2620, 0x4F, 0x8000)


def borders() -> Iterator[Address]:
    """Yield the first and last address of each network and their neighbours."""
    for network in map(ip_network, NETWORKS):
        for edge in (network.network_address, network.broadcast_address):
            yield edge
            yield from (edge + step for step in (-1, 1) if 0 <= int(edge) + step < 2**edge.max_prefixlen)


def test_an_address_at_a_border_is_public_or_not_as_the_oracle_says() -> None:
    known = list(borders())
    assert {oracle(address) for address in known} == {True, False}
    assert [address for address in known if addresses.is_public(address) != oracle(address)] == []


@given(address=st.ip_addresses() | st.integers(2**125, 2**126 - 1).map(IPv6Address) | st.sampled_from([*borders()]))
@example(address=ip_address("8.8.8.8"))
@example(address=ip_address("2a00:1450:4001:800::200e"))
@hypothesis_settings(max_examples=500, deadline=None)
def test_an_address_is_public_exactly_when_the_oracle_says_so(address: Address) -> None:
    assert addresses.is_public(address) == oracle(address)
    assert addresses.may_be_reached(address, ()) == oracle(address)
    if addresses.is_public(address):
        assert address.is_global
        assert not address.is_multicast


@given(v4=st.ip_addresses(v=4), prefix=st.sampled_from(["::", "::ffff:", "64:ff9b::", "64:ff9b:1::"]))
def test_no_v4_address_is_reached_inside_a_v6_one(v4: IPv4Address, prefix: str) -> None:
    assert not addresses.may_be_reached(ip_address(f"{prefix}{v4}"), ())
    a, b, c, d = v4.packed
    tunneled = f"{a:02x}{b:02x}:{c:02x}{d:02x}"
    assert not addresses.may_be_reached(ip_address(f"2002:{tunneled}::1"), ())
    assert not addresses.may_be_reached(ip_address(f"2001:0:{tunneled}::1"), ())


@pytest.mark.parametrize("text", ["fe80::1%eth0", "::1%1", "2a00:1450:4001:800::200e%2", "fd12::1%lo"])
def test_an_address_with_a_scope_is_never_reached(text: str) -> None:
    assert not addresses.may_be_reached(ip_address(text), (ip_network("::/0"),))


def test_a_network_that_is_allowed_is_reached_to_its_borders_and_not_beyond() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd12::/64"))
    inside = ["10.1.0.0", "10.1.255.255", "fd12::", "fd12::ffff:ffff:ffff:ffff"]
    outside = ["10.0.255.255", "10.2.0.0", "fd11::", "fd12:0:0:1::", "::ffff:10.1.0.1", "64:ff9b::10.1.0.1"]
    assert [each for each in inside if not addresses.may_be_reached(ip_address(each), allowed)] == []
    assert [each for each in outside if addresses.may_be_reached(ip_address(each), allowed)] == []
