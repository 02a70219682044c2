"""Creates that must not happen twice: a client's `Idempotency-Key`, or an SDK's retry of an identical create.

The first attempt holds a lock on its fingerprint until it commits or dies; a second one waits there, even while the
first still runs, and then finds what the first one made.
"""

from dataclasses import dataclass
from typing import LiteralString

from manifold.store.connection import Connection
from manifold.store.rows import fetch_one


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an earlier attempt made."""

    resource_id: str
    body_hash: str


class Idempotency:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def earlier(self, fingerprint: str, within_seconds: int) -> Attempt | None:
        """Wait for a running attempt of the same fingerprint, and return the newest one that succeeded.

        To be called first in the transaction that creates: the lock lasts until its end.
        """
        await self._connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (fingerprint,))
        query: LiteralString = """
            SELECT resource_id, body_hash FROM idempotency
            WHERE fingerprint = %(fingerprint)s AND created_at > now() - make_interval(secs => %(seconds)s)
            ORDER BY created_at DESC LIMIT 1"""
        return await fetch_one(
            self._connection, Attempt, query, {"fingerprint": fingerprint, "seconds": within_seconds}
        )

    async def remember(self, fingerprint: str, resource_id: str, body_hash: str) -> None:
        """Note what this attempt made."""
        await self._connection.execute(
            "INSERT INTO idempotency (fingerprint, resource_id, body_hash) VALUES (%s, %s, %s)",
            (fingerprint, resource_id, body_hash),
        )

    async def forget(self, older_than_seconds: int) -> None:
        """Drop what no retry can mean any more."""
        await self._connection.execute(
            "DELETE FROM idempotency WHERE created_at < now() - make_interval(secs => %s)", (older_than_seconds,)
        )
