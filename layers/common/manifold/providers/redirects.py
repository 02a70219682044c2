"""Checks where a provider may redirect a download to: not into our network, and not to a host without TLS.

`manifold.ip_addresses` has the rule of addresses; the connection goes to the address that was checked.
"""

from dataclasses import dataclass

from manifold.errors import ProviderRefused
from manifold.ip_addresses import Address, Kind, Resolve, addresses_of, kind_of


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


async def _is_same_kind(target: Origin, base: Origin, kind: Kind, resolve: Resolve) -> bool:
    if target.scheme not in ("https", base.scheme):
        return False
    return kind in [kind_of(address) for address in await _addresses(base, resolve)]


async def _addresses(origin: Origin, resolve: Resolve) -> list[Address]:
    try:
        return await addresses_of(origin.host, origin.port, resolve)
    except (OSError, UnicodeError) as error:
        raise ProviderRefused(f"no address for the file's host: {type(error).__name__}") from error
