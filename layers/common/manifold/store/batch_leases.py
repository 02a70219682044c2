"""When a batch's own next step is due (to plan it, to join its results, to end it), and who may take it.

The steps of its shards are in `manifold.store.shard_leases`. The engine takes a step once `due_at` has come, under a
lease. Whoever wants a step taken sets `due_at` and `woken_at` first and sends a message second, so that a wake that
meets a held lease is seen when the lease is given back. `woken_at` is the time of the change itself, not of its
transaction: that may have begun before the lease was taken, and the holder has not seen it
(docs/decisions/0005-one-clock.md).
"""

from typing import LiteralString

from manifold.store.batches import COLUMNS, GRACE_SECONDS, RELEASED, WOKEN, BatchRow
from manifold.store.connection import Connection
from manifold.store.queries import changes_one, fetch_one

_CLAIMED: LiteralString = """lease = %(lease)s, leased_at = now(),
    leased_until = now() + make_interval(secs => %(seconds)s), overdue_at = coalesce(overdue_at,
        CASE WHEN expires_at < now() - make_interval(secs => %(grace)s) THEN now() END)"""


class BatchLeases:
    """Wakes and leases of batches. `Batches.cancel` wakes a batch, too, and `end` and `stop` release it for good."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def wake(self, batch_id: str) -> bool:
        """Make an open batch due now; false if it has ended."""
        changed = await self._connection.execute(
            f"UPDATE batches SET {WOKEN} WHERE id = %s AND due_at IS NOT NULL", (batch_id,)
        )
        return changed.rowcount == 1

    async def is_due(self, batch_id: str) -> bool:
        """Whether a step of the batch is due now and nobody takes it."""
        cursor = await self._connection.execute(
            """SELECT 1 FROM batches WHERE id = %s AND due_at <= clock_timestamp()
                   AND (leased_until IS NULL OR leased_until <= now())""",
            (batch_id,),
        )
        return await cursor.fetchone() is not None

    async def claim_join(self, batch_id: str, lease: str, seconds: int) -> BatchRow | None:
        """Take a batch whose shards have all ended for `seconds`, to join their results.

        `None` if it has ended, an open shard is left, or another worker has it.
        """
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id = %(id)s AND due_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= now())
                AND EXISTS (SELECT 1 FROM shards WHERE batch_id = batches.id)
                AND NOT EXISTS (SELECT 1 FROM shards WHERE batch_id = batches.id AND state <> 'ended')
            RETURNING {COLUMNS}"""
        parameters = {"id": batch_id, "lease": lease, "seconds": seconds, "grace": GRACE_SECONDS}
        return await fetch_one(self._connection, BatchRow, query, parameters)

    async def claim_retry(self, batch_id: str, lease: str, seconds: int) -> BatchRow | None:
        """Take a batch of another one's failed lines for `seconds`, to make its file.

        `None` if its file is there, it is no longer `validating`, or another worker has it.
        """
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id = %(id)s AND status = 'validating' AND (leased_until IS NULL OR leased_until <= now())
                AND retry_of IS NOT NULL AND EXISTS (
                    SELECT 1 FROM files WHERE id = input_file_id AND report IS NULL AND deleted_at > now())
            RETURNING {COLUMNS}"""
        parameters = {"id": batch_id, "lease": lease, "seconds": seconds, "grace": GRACE_SECONDS}
        return await fetch_one(self._connection, BatchRow, query, parameters)

    async def renew(self, batch: BatchRow, seconds: float) -> bool:
        """Keep the lease for `seconds` from now; false if it is lost."""
        return await changes_one(
            self._connection,
            """UPDATE batches SET leased_until = clock_timestamp() + make_interval(secs => %s)
               WHERE id = %s AND lease = %s AND due_at IS NOT NULL""",
            (seconds, batch.id, batch.lease),
        )

    async def claim(self, batch_id: str, lease: str, seconds: int) -> BatchRow | None:
        """Take a due batch for `seconds`; `None` if it has ended, is not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id = %(id)s AND due_at <= now() AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {COLUMNS}"""
        parameters = {"id": batch_id, "lease": lease, "seconds": seconds, "grace": GRACE_SECONDS}
        return await fetch_one(self._connection, BatchRow, query, parameters)

    async def due(self, limit: int) -> list[str]:
        """Batches that are 15 s overdue; `limit` ids at most.

        Their message was lost, or their worker died.
        """
        cursor = await self._connection.execute(
            """SELECT id FROM batches
               WHERE due_at <= now() - interval '15 seconds' AND (leased_until IS NULL OR leased_until <= now())
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [batch_id for (batch_id,) in await cursor.fetchall()]

    async def release(self, batch: BatchRow, pause: float) -> bool:
        """Give the lease back; the next step is due after `pause` seconds.

        Returns whether it is due now, by a pause of 0 or because the batch was woken meanwhile.
        """
        cursor = await self._connection.execute(
            f"""UPDATE batches SET {RELEASED}, due_at = CASE WHEN woken_at > leased_at THEN now()
                    ELSE now() + make_interval(secs => %s) END
                WHERE id = %s AND lease = %s AND due_at IS NOT NULL RETURNING due_at <= now()""",
            (float(pause), batch.id, batch.lease),
        )
        row = await cursor.fetchone()
        return bool(row and row[0])
