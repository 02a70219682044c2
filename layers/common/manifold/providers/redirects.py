"""Checks where a provider may redirect a download to: not into our network, and not to a host without TLS.

The host is resolved once, and the connection goes to the IP address that was checked, so that DNS rebinding (a name
that resolves to another address a moment later) has no effect. https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

from manifold.errors import ProviderRefused
from manifold.providers.http_call import CONNECT_SECONDS

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and port to IP addresses; `OSError` or `UnicodeError` if it has none."""
Kind = Literal["public", "private", "loopback", "closed"]

PRIVATE = [ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")]
CLOSED = [
    ip_network(one)
    for one in (
        *("fd00:ec2::/32", "192.0.0.0/24", "168.63.129.16/32", "fec0::/10"),
        *("2002::/16", "2001::/32", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"),
    )
]
"""Metadata services of AWS (IPv6), Oracle and Azure; site-local addresses; and IPv6 addresses that may lead to any IPv4
address: 6to4, Teredo, a network's own NAT64, IPv4-compatible and IPv4-translated ones."""
NAT64 = IPv6Network("64:ff9b::/96")
"""How a network without IPv4 reaches IPv4 addresses: each of these holds one (RFC 6052)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int


async def checked(target: Origin, base: Origin, resolve: Resolve) -> str:
    """The IP address to connect to; `ProviderRefused` if a deployment at `base` may not redirect to `target`.

    Private and loopback addresses, and plain HTTP to them, are allowed only to a deployment that has such an address
    itself: in a local stack, or within a VPC.
    """
    for address in await _addresses(target, resolve):
        kind = kind_of(address)
        if kind == "public" and target.scheme == "https":
            return str(address)
        if kind in ("private", "loopback") and await _is_same_kind(target, base, kind, resolve):
            return str(address)
    raise ProviderRefused("the provider redirects to an address that it may not redirect to", lasting=True)


async def system(host: str, port: int) -> Sequence[str]:
    """The system's own resolver."""
    async with asyncio.timeout(CONNECT_SECONDS):
        entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in entries]


def kind_of(address: Address) -> Kind:
    """The kind of an address. `closed` is any that is neither private nor public, such as multicast and metadata."""
    address = _embedded_ipv4(address)
    if address.is_loopback:
        return "loopback"
    if _is_in(address, CLOSED) or address.is_multicast:
        return "closed"
    if _is_in(address, PRIVATE):
        return "private"
    return "public" if address.is_global else "closed"


async def _is_same_kind(target: Origin, base: Origin, kind: Kind, resolve: Resolve) -> bool:
    if target.scheme not in ("https", base.scheme):
        return False
    return kind in [kind_of(address) for address in await _addresses(base, resolve)]


async def _addresses(origin: Origin, resolve: Resolve) -> list[Address]:
    """IPv4 first: a function without IPv6 may resolve names that have both."""
    try:
        texts = await resolve(origin.host, origin.port)
    except (OSError, UnicodeError) as error:
        raise ProviderRefused(f"no address for the file's host: {type(error).__name__}") from error
    return sorted((ip_address(text.partition("%")[0]) for text in texts), key=lambda address: address.version)


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


def _is_in(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
