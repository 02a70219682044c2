"""Creates that must not happen twice: with a client's `Idempotency-Key`, or as an SDK's retry of an identical create.

The first attempt holds a lock on its fingerprint until it commits or dies. A second attempt waits for the lock, and
then finds what the first one made. Times are those of the change, not of the transaction, which began before the wait.
"""

from manifold.idempotency import CreateAttempt
from manifold.store.connection import Connection


class Idempotency:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def earlier(self, create: CreateAttempt) -> str | None:
        """The id of what an earlier attempt at this create made, after waiting for one that still runs.

        To be called first in the transaction that creates: the lock lasts until its end. Also a create that means no
        earlier one takes it, so that its own retry waits. Raises `InvalidRequest` if an Idempotency-Key comes with
        another body.
        """
        await self._connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (create.fingerprint,))
        if not create.window:
            return None
        cursor = await self._connection.execute(
            """SELECT resource_id, body_hash FROM idempotency
               WHERE fingerprint = %s AND created_at > clock_timestamp() - make_interval(secs => %s)
               ORDER BY created_at DESC LIMIT 1""",
            (create.fingerprint, create.window),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        resource_id, body_hash = row
        create.require_body(body_hash)
        return str(resource_id)

    async def remember(self, create: CreateAttempt, resource_id: str) -> None:
        """Note the id of what this attempt made."""
        await self._connection.execute(
            """INSERT INTO idempotency (fingerprint, resource_id, body_hash, created_at)
               VALUES (%s, %s, %s, clock_timestamp())""",
            (create.fingerprint, resource_id, create.body_hash),
        )

    async def forget(self, older_than_seconds: int) -> None:
        """Delete the records that are too old for any retry."""
        await self._connection.execute(
            "DELETE FROM idempotency WHERE created_at < now() - make_interval(secs => %s)", (older_than_seconds,)
        )
