"""Where a provider may send a download on to: nowhere inside our network, and nowhere without TLS.

An address is looked up once, checked, and then connected to as it is: a name that resolves to something else a moment
later (DNS rebinding) gains nothing. https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
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
"""The addresses of a host, for a port; `OSError` or `UnicodeError` if it has none."""
Kind = Literal["public", "private", "loopback", "closed"]

PRIVATE = [ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")]
CLOSED = [
    ip_network(one)
    for one in (
        *("fd00:ec2::/32", "192.0.0.0/24", "168.63.129.16/32", "fec0::/10"),
        *("2002::/16", "2001::/32", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96"),
    )
]
"""Metadata of AWS by IPv6, of Oracle's and Azure's clouds; site-local addresses; and what may lead to any IPv4 address:
6to4, Teredo, a network's own NAT64, IPv4-compatible and IPv4-translated ones."""
NAT64 = IPv6Network("64:ff9b::/96")
"""How a network without IPv4 reaches all of it: such an address is what it holds (RFC 6052)."""


@dataclass(frozen=True, slots=True)
class Place:
    """The scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int


async def checked(target: Place, base: Place, resolve: Resolve) -> str:
    """The address to connect to; `ProviderRefused` if a deployment at `base` may not send us to `target`.

    Addresses that are private or loopback, and plain HTTP to them, are only for a deployment that is of this kind
    itself: one of a local stack, or of a VPC's inside.
    """
    for address in await _addresses(target, resolve):
        kind = kind_of(address)
        if kind == "public" and target.scheme == "https":
            return str(address)
        if kind in ("private", "loopback") and await _is_near(target, base, kind, resolve):
            return str(address)
    raise ProviderRefused("the provider points to an address that it may not point to", lasting=True)


async def system(host: str, port: int) -> Sequence[str]:
    """The system's own resolver."""
    async with asyncio.timeout(CONNECT_SECONDS):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def kind_of(address: Address) -> Kind:
    """Whose it is; what is none of ours and not everybody's, like a multicast or a metadata address, is `closed`."""
    address = _meant(address)
    if address.is_loopback:
        return "loopback"
    if _is_in(address, CLOSED) or address.is_multicast:
        return "closed"
    if _is_in(address, PRIVATE):
        return "private"
    return "public" if address.is_global else "closed"


async def _is_near(target: Place, base: Place, kind: Kind, resolve: Resolve) -> bool:
    if target.scheme not in ("https", base.scheme):
        return False
    return kind in [kind_of(address) for address in await _addresses(base, resolve)]


async def _addresses(place: Place, resolve: Resolve) -> list[Address]:
    """IPv4 first: a function without a way to IPv6 may have names that have both."""
    try:
        texts = await resolve(place.host, place.port)
    except (OSError, UnicodeError) as error:
        raise ProviderRefused(f"no address for the file's host: {type(error).__name__}") from error
    return sorted((ip_address(text.partition("%")[0]) for text in texts), key=lambda address: address.version)


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one is another form of."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


def _is_in(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
