"""Whom a request counts for: only what trusted proxies wrote is believed."""

from typing import Any, cast

import pytest

from api.peers import address_of

PEER = "198.51.100.7"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, [], PEER),
        (0, ["192.0.2.1"], PEER),
        (1, [], PEER),
        (1, [""], PEER),
        (1, ["192.0.2.1"], "192.0.2.1"),
        (1, ["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (1, ["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (1, ["203.0.113.9,192.0.2.1 "], "192.0.2.1"),
        (2, ["203.0.113.9, 192.0.2.1, 10.0.0.1"], "192.0.2.1"),
        (2, ["192.0.2.1"], "192.0.2.1"),
        (3, ["192.0.2.1, 10.0.0.1"], "192.0.2.1"),
        (1, ["192.0.2.1, unknown"], PEER),
        (1, ["192.0.2.1, "], PEER),
        (1, ["192.0.2.1, 192.0.2.256"], PEER),
        (1, ["192.0.2.1, 192.0.2.2; DROP"], PEER),
        (1, ["\xff\xfe"], PEER),
        (1, ["192.0.2.1:51234"], "192.0.2.1"),
        (1, ["[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::/64"),
        (1, ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        (1, ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        (1, ["::ffff:192.0.2.1"], "192.0.2.1"),
        (1, ["fe80::1%eth0"], "fe80::/64"),
        (1, ["1" * 5000], PEER),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_saw(proxies: int, forwarded: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    scope = {"client": (PEER, 1234), "headers": [(b"host", b"x"), *headers]}
    assert address_of(cast("Any", scope), proxies) == address


def test_a_peer_with_many_addresses_of_one_network_is_one() -> None:
    scopes: list[Any] = [{"client": (f"2001:db8::{n:x}", 1), "headers": []} for n in range(9)]
    assert {address_of(scope, 0) for scope in scopes} == {"2001:db8::/64"}


def test_a_peer_behind_a_unix_socket_has_none() -> None:
    assert address_of(cast("Any", {"client": None, "headers": []}), 0) == ""
