"""Authentication: from the key of a request to its `Caller`."""

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import orjson

from manifold.access import Caller
from manifold.errors import WRONG_KEY, AuthenticationFailed, PermissionDenied
from manifold.limits import Holder, batch_limited_holder, limited_holder


class Allowance(TypedDict):
    """What a key, a user or a team may use, as the store returns it."""

    models: list[str]
    blocked: bool
    limits: dict[str, Any]
    """The members of `Limits`; the budget is text, to keep its digits."""
    retry_failed_lines: int | None


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """A virtual key with its user and its team, as one query returns them."""

    key_id: str
    user_id: str | None
    team_id: str | None
    aliases: dict[str, str]
    expired: bool
    key: Allowance
    user: Allowance | None = None
    team: Allowance | None = None


FindKey = Callable[[str], Awaitable[KeyGrant | None]]

MAX_CACHED_KEYS = 1_000
"""Keys that a `KeyCache` holds; the oldest is dropped for the next."""


class KeyCache:
    """Returns a grant that was found less than `seconds` ago without a query, so an admin's changes come that late.

    A key that was not found is not cached, so a new key works at once. With 0 seconds, nothing is cached.
    """

    def __init__(self, find: FindKey, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._find = find
        self._seconds = seconds
        self._clock = clock
        self._cached: dict[str, tuple[float, KeyGrant]] = {}

    async def __call__(self, token_hash: str) -> KeyGrant | None:
        until, known = self._cached.get(token_hash, (0.0, None))
        if self._clock() < until:
            return known
        grant = await self._find(token_hash)
        self._cached.pop(token_hash, None)
        if grant is not None and self._seconds > 0:
            if len(self._cached) >= MAX_CACHED_KEYS:
                del self._cached[next(iter(self._cached))]  # the oldest
            self._cached[token_hash] = (self._clock() + self._seconds, grant)
        return grant


def key_hash(key: str) -> str:
    """The hash that is stored of a key. Keys are 256 random bits, so an unsalted SHA-256 cannot be reversed."""
    return hashlib.sha256(key.encode()).hexdigest()


async def authenticate(key: str, master_key: str, find: FindKey) -> Caller:
    """The caller of a key. Raises `AuthenticationFailed`, or `PermissionDenied` for a blocked key, user or team."""
    token_hash = hash_unless_master(key, master_key)
    return Caller(admin=True) if token_hash is None else _known(await find(token_hash))


def hash_unless_master(key: str, master_key: str) -> str | None:
    """The hash of a virtual key; `None` for the master key."""
    return None if hmac.compare_digest(key.encode(), master_key.encode()) else key_hash(key)


def caller_of(grant: str | None) -> Caller:
    """The caller by the text of its key's `KeyGrant`, which a read has found. Raises as `authenticate` does."""
    return _known(None if grant is None else KeyGrant(**orjson.loads(grant)))


async def authorize(key_id: str | None, find: FindKey) -> Caller:
    """The caller of the key with this id, of the master key for `None`, in whose name a worker acts.

    `find` is by id. Raises as `authenticate` does, also for a key that was deleted.
    """
    if key_id is None:
        return Caller(admin=True)
    grant = await find(key_id)
    if grant is None:
        raise AuthenticationFailed("The key that sent this was deleted. Send it again with another one.")
    return _caller(grant)


def _known(grant: KeyGrant | None) -> Caller:
    if grant is None:
        raise AuthenticationFailed(f"{WRONG_KEY}: it is not known. Check it, or ask an admin for a new one.")
    return _caller(grant)


def _caller(grant: KeyGrant) -> Caller:
    if grant.expired:
        raise AuthenticationFailed(f"{WRONG_KEY}: it has expired. Ask an admin for a new one.", code="expired_api_key")
    allowances = [one for one in (grant.key, grant.user, grant.team) if one is not None]
    if any(one["blocked"] for one in allowances):
        raise PermissionDenied(f"{WRONG_KEY}: it is blocked. Ask an admin to unblock it.", code="blocked_api_key")
    retries = (one["retry_failed_lines"] for one in allowances)
    return Caller(
        key_id=grant.key_id,
        user_id=grant.user_id,
        team_id=grant.team_id,
        allowed=tuple(frozenset(one["models"]) for one in allowances if one["models"]),
        aliases=grant.aliases,
        limited=tuple(one for holder in _holders(grant) for one in limited_holder(*holder)),
        batch_limited=tuple(one for holder in _holders(grant) for one in batch_limited_holder(*holder)),
        retry_failed_lines=next((times for times in retries if times is not None), None),
    )


def _holders(grant: KeyGrant) -> Iterator[tuple[Holder, str | None, dict[str, Any] | None]]:
    yield "key", grant.key_id, grant.key["limits"]
    yield "user", grant.user_id, grant.user and grant.user["limits"]
    yield "team", grant.team_id, grant.team and grant.team["limits"]
