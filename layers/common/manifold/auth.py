"""Authentication: from the key of a request to its `Caller`."""

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict

import orjson

from manifold.access import Caller, Credential
from manifold.errors import WRONG_KEY, AuthenticationFailed, PermissionDenied
from manifold.limits import Holder, batch_limited_holder, limited_holder


class Allowance(TypedDict):
    """What a key, a user or a team may use."""

    models: list[str]
    blocked: bool
    limits: dict[str, Any]
    """The members of `Limits`; the budget is text, to keep its digits."""
    retry_failed_lines: int | None


class KeyGrant(NamedTuple):
    """What a virtual key with its user and its team may do: the members of the text that the database writes."""

    key_id: str
    user_id: str | None
    team_id: str | None
    aliases: dict[str, str]
    expired: bool
    key: Allowance
    user: Allowance | None = None
    team: Allowance | None = None


FindGrant = Callable[[str], Awaitable[str | None]]
"""Returns the text of a `KeyGrant`, a JSON object; `None` if there is no such key."""

MAX_REMEMBERED = 1_000
"""Keys that a `KeyMemory` holds; the oldest is dropped for the next."""


class KeyMemory:
    """Callers whose keys the database was asked for less than `seconds` ago. With 0 seconds, nothing is remembered.

    Whoever gives an unverified caller something has the database say once more what its key may do, and tells it here.
    """

    def __init__(self, find: FindGrant, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._find = find
        self._seconds = seconds
        self._clock = clock
        self._remembered: dict[str, _Remembered] = {}

    async def caller(self, token_hash: str) -> Caller:
        """The caller of the key with this hash, remembered or looked up. Raises as `authenticate` does."""
        known = self._remembered.get(token_hash)
        if known is not None and self._clock() < known.until:
            return known.again
        return await self.look_up(token_hash)

    async def look_up(self, token_hash: str) -> Caller:
        """The caller of the key with this hash, as the database says now."""
        return self.note(token_hash, await self._find(token_hash))

    def note(self, token_hash: str, grant: str | None) -> Caller:
        """The caller by what the database says of its key now.

        Raises as `authenticate` does, and forgets the key then.
        """
        known = self._remembered.pop(token_hash, None)
        if known is None or known.grant != grant:
            caller = caller_of(grant, token_hash)
            known = _Remembered(caller, replace(caller, credential=Credential(token_hash, grant or "", True)))
        if self._seconds > 0:
            if len(self._remembered) >= MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]  # the oldest
            known.until = self._clock() + self._seconds
            self._remembered[token_hash] = known
        return known.caller


@dataclass(slots=True)
class _Remembered:
    """Whom a key was found to belong to, and until when that holds."""

    caller: Caller
    again: Caller
    """The same for a later request."""
    until: float = 0.0

    @property
    def grant(self) -> str | None:
        return None if self.caller.credential is None else self.caller.credential.grant


def key_hash(key: str) -> str:
    """The hash that is stored of a key. Keys are 256 random bits, so an unsalted SHA-256 cannot be reversed."""
    return hashlib.sha256(key.encode()).hexdigest()


async def authenticate(key: str, master_key: str, find: Callable[[str], Awaitable[Caller]]) -> Caller:
    """The caller of a key; `find` returns that of the virtual key with a hash.

    Raises `AuthenticationFailed`, or `PermissionDenied` for a blocked key, user or team.
    """
    token_hash = hash_unless_master(key, master_key)
    return Caller(admin=True) if token_hash is None else await find(token_hash)


def hash_unless_master(key: str, master_key: str) -> str | None:
    """The hash of a virtual key; `None` for the master key."""
    return None if hmac.compare_digest(key.encode(), master_key.encode()) else key_hash(key)


def caller_of(grant: str | None, token_hash: str) -> Caller:
    """The caller of the key with this hash, by its grant. Raises as `authenticate` does."""
    if grant is None:
        raise AuthenticationFailed(f"{WRONG_KEY}: it is not known. Check it, or ask an admin for a new one.")
    return _caller(grant, Credential(token_hash, grant))


async def authorize(key_id: str | None, find: FindGrant) -> Caller:
    """The caller of the key with this id, of the master key for `None`, in whose name a worker acts.

    `find` is by id. Raises as `authenticate` does, also for a key that was deleted.
    """
    if key_id is None:
        return Caller(admin=True)
    grant = await find(key_id)
    if grant is None:
        raise AuthenticationFailed("The key that sent this was deleted. Send it again with another one.")
    return _caller(grant)


def _caller(text: str, credential: Credential | None = None) -> Caller:
    grant = KeyGrant(**orjson.loads(text))
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
        credential=credential,
    )


def _holders(grant: KeyGrant) -> Iterator[tuple[Holder, str | None, dict[str, Any] | None]]:
    yield "key", grant.key_id, grant.key["limits"]
    yield "user", grant.user_id, grant.user and grant.user["limits"]
    yield "team", grant.team_id, grant.team and grant.team["limits"]
