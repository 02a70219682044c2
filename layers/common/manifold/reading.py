"""Reads for the holder of a request's key: one statement finds what the key may do, and the rows."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from manifold.access import Caller, PresentedKey
from manifold.auth import caller_of, hash_unless_master
from manifold.errors import Unavailable
from manifold.store import Store
from manifold.store.reads import Read, Reads

Seen = TypeVar("Seen")


class Reading:
    """What one request reads. Holds the store, the request's key and the master key."""

    def __init__(self, store: Store, key: PresentedKey, master_key: str) -> None:
        self._store = store
        self._key = key
        self._master_key = master_key

    async def read(self, rows: Callable[[Reads], Awaitable[Read[Seen]]]) -> tuple[Caller, Seen]:
        """The key's caller, and what that caller sees of what `rows` reads.

        Raises what `manifold.auth.authenticate` raises for a key that may read nothing, `Unavailable`, and
        `InvalidRequest` for a parameter that Postgres cannot take; the key is not looked up then.
        """
        token_hash = hash_unless_master(self._key.value, self._master_key)
        try:
            grant, seen = await rows(Reads(self._store.database.fetch_text, token_hash))
        except Unavailable:
            self._key.looked_up = True  # another look-up would have to wait as long
            raise
        self._key.looked_up = True
        return Caller(admin=True) if token_hash is None else caller_of(grant, token_hash), seen
