"""Who is at the other end: the address that limits count by, of which a client can forge nothing."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from litestar.types import Scope

_FORWARDED = b"x-forwarded-for"
_IPV6_PREFIX = 64  # what one subscriber is given, and may take any address of


def address_of(scope: Scope, proxies: int) -> str:
    """Return the client's address (IPv6: its /64) as the outermost of `proxies` trusted proxies saw it.

    Each proxy appends to `X-Forwarded-For` whom it heard; what stands further left was sent by the client itself. An
    entry that is no address counts as none, and the peer of the connection is taken.
    """
    client = scope["client"]
    peer = client[0] if client else ""
    if proxies:
        said = b",".join(value for name, value in scope["headers"] if name == _FORWARDED)
        if said:
            hops = said.rsplit(b",", proxies)
            seen = _counted(hops[-proxies if len(hops) > proxies else 0].decode("latin-1").strip())
            if seen:
                return seen
    return _counted(peer) or peer


@lru_cache(maxsize=16_384)
def _counted(text: str) -> str:
    """Return the form that an address is counted under; empty when it is none."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, _IPV6_PREFIX), strict=False))
        address = address.ipv4_mapped
    return str(address)
