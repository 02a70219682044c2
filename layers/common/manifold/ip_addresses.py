"""IP addresses: which are public, and which lead into a network of ours. For all URLs that others give us.

A host is resolved once, and the connection goes to the IP address that was checked, so that DNS rebinding (a name that
resolves to another address a moment later) has no effect. https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM, getaddrinfo
from typing import Literal

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
RESOLVE_SECONDS = 10.0


def resolver(threads: Executor | None = None) -> Resolve:
    """The system's own resolver. It may hang, and then holds one of these threads; `None`: one of the event loop's."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(RESOLVE_SECONDS):
            entries = await loop.run_in_executor(threads, lambda: getaddrinfo(host, port, type=SOCK_STREAM))
        return [str(address[0]) for *_, address in entries]

    return resolve


system = resolver()
"""The resolver of programs that look up few hosts, such as providers'."""


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


def may_receive_events(kind: Kind, *, private: bool) -> bool:
    """Whether a webhook may be at such an address; `private` is the operator's choice to allow its own networks."""
    return kind == "public" or (private and kind in ("private", "loopback"))


async def addresses_of(host: str, port: int, resolve: Resolve) -> list[Address]:
    """The addresses of a host, IPv4 first: a function without IPv6 may resolve names that have both.

    Raises `OSError` or `UnicodeError` if it has none.
    """
    texts = await resolve(host, port)
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
