"""When a batch's next step is due, and who may take it.

The engine takes a step once `due_at` has come, under a lease. Whoever wants a step taken sets `due_at` and `woken_at`
first and sends a message second, so that a wake that meets a held lease is seen when the lease is given back.
`woken_at` is the time of the change itself, not of its transaction: that may have begun before the lease was taken, and
the holder has not seen it (docs/decisions/0005-one-clock.md).
"""

from collections.abc import Sequence
from typing import LiteralString

from manifold.store.batches import COLUMNS, GRACE_SECONDS, RELEASED, WOKEN, BatchRow
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all, fetch_one

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

    async def wake_stale(self, batch_id: str, seconds: float) -> bool:
        """Make a running batch due now if its job was last polled longer ago than this; false if not."""
        changed = await self._connection.execute(
            f"""UPDATE batches SET {WOKEN}
               WHERE id = %(id)s AND status IN ('in_progress', 'cancelling') AND due_at > clock_timestamp()
                   AND EXISTS (SELECT 1 FROM jobs WHERE batch_id = %(id)s AND state = 'running'
                       AND coalesce(polled_at, submitted_at)
                           < clock_timestamp() - make_interval(secs => %(seconds)s))""",
            {"id": batch_id, "seconds": seconds},
        )
        return changed.rowcount == 1

    async def wake_waiting(self, file_id: str) -> list[str]:
        """Make every batch due that waits for an input of this file; returns their ids."""
        cursor = await self._connection.execute(
            f"""UPDATE batches SET {WOKEN}
               WHERE input_file_id = %s AND status = 'validating' RETURNING id""",
            (file_id,),
        )
        return [batch_id for (batch_id,) in await cursor.fetchall()]

    async def claim(self, batch_id: str, lease: str, seconds: int) -> BatchRow | None:
        """Take a due batch for `seconds`; `None` if it has ended, is not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id = %(id)s AND due_at <= now() AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {COLUMNS}"""
        parameters = {"id": batch_id, "lease": lease, "seconds": seconds, "grace": GRACE_SECONDS}
        return await fetch_one(self._connection, BatchRow, query, parameters)

    async def claim_due(self, lease: str, seconds: int, limit: int) -> list[BatchRow]:
        """Take up to `limit` due batches with a running job for this long; those due longest come first.

        The deployments take turns, each with the batch that has been due longest, so that none crowds out the others.
        A subquery in place of the CTE could run once for each row of `batches`, and claim as many as there are.
        """
        query: LiteralString = f"""
            WITH due AS MATERIALIZED (
                SELECT b.id FROM batches b JOIN (
                    SELECT batch_id, row_number() OVER (PARTITION BY deployment_id ORDER BY due.due_at) AS turn
                    FROM jobs JOIN batches due ON due.id = batch_id
                    WHERE state = 'running' AND due.due_at <= now()
                ) running ON running.batch_id = b.id
                WHERE b.due_at <= now() AND (b.leased_until IS NULL OR b.leased_until <= now())
                ORDER BY running.turn, b.due_at LIMIT %(limit)s FOR UPDATE OF b SKIP LOCKED)
            UPDATE batches SET {_CLAIMED} WHERE id IN (SELECT id FROM due)
            RETURNING {COLUMNS}"""
        parameters = {"lease": lease, "seconds": seconds, "limit": limit, "grace": GRACE_SECONDS}
        rows = await fetch_all(self._connection, BatchRow, query, parameters)
        return sorted(rows, key=lambda row: row.due_at or row.created_at)

    async def due(self, limit: int) -> list[str]:
        """Batches without a running job that are 15 s overdue; `limit` ids at most.

        Their message was lost, or their worker died.
        """
        cursor = await self._connection.execute(
            """SELECT id FROM batches
               WHERE due_at <= now() - interval '15 seconds' AND (leased_until IS NULL OR leased_until <= now())
                   AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = batches.id AND state = 'running')
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [batch_id for (batch_id,) in await cursor.fetchall()]

    async def release(self, pauses: Sequence[tuple[BatchRow, float]]) -> set[str]:
        """Give the leases back; the next step of each batch is due after its pause in seconds.

        Returns the batches (ids) that are due now, by a pause of 0 or because they were woken meanwhile.
        """
        cursor = await self._connection.execute(
            f"""UPDATE batches SET {RELEASED},
                    due_at = CASE WHEN woken_at > leased_at THEN now() ELSE now() + make_interval(secs => pause) END
                FROM unnest(%s::text[], %s::text[], %s::float8[]) AS given (batch_id, held, pause)
                WHERE id = batch_id AND lease = held AND due_at IS NOT NULL RETURNING id, due_at <= now()""",
            (
                [batch.id for batch, _ in pauses],
                [batch.lease for batch, _ in pauses],
                [float(pause) for _, pause in pauses],
            ),
        )
        return {batch_id for batch_id, is_due in await cursor.fetchall() if is_due}
