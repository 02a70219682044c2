"""When a shard's next step is due, and who may take it: the protocol of `manifold.store.batch_leases`, for shards."""

from collections.abc import Sequence
from typing import LiteralString

from manifold.store.batches import RELEASED, WOKEN
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all, fetch_one
from manifold.store.shards import COLUMNS, ShardRow

_CLAIMED: LiteralString = """lease = %(lease)s, leased_at = now(),
    leased_until = now() + make_interval(secs => %(seconds)s)"""

_FREE: LiteralString = "(s.leased_until IS NULL OR s.leased_until <= now())"


class ShardLeases:
    """Wakes and leases of shards. `Shards.end` and `Batches.end` release them for good."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def wake(self, shard_id: str) -> bool:
        """Make an open shard due now; false if it has ended."""
        changed = await self._connection.execute(
            f"UPDATE shards SET {WOKEN} WHERE id = %s AND due_at IS NOT NULL", (shard_id,)
        )
        return changed.rowcount == 1

    async def wake_batch(self, batch_id: str) -> list[str]:
        """Make every open shard of a batch due now; returns their ids."""
        cursor = await self._connection.execute(
            f"""WITH open AS (
                    SELECT id FROM shards WHERE batch_id = %s AND due_at IS NOT NULL ORDER BY id FOR UPDATE)
                UPDATE shards SET {WOKEN} WHERE id IN (SELECT id FROM open) RETURNING id""",
            (batch_id,),
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def wake_stale(self, batch_id: str, seconds: float) -> list[str]:
        """Make the shards of a running batch due now whose job was last polled longer ago; returns their ids."""
        cursor = await self._connection.execute(
            f"""WITH stale AS (
                    SELECT id FROM shards WHERE batch_id = %(id)s AND state = 'running' AND due_at > clock_timestamp()
                        AND EXISTS (SELECT 1 FROM jobs WHERE shard_id = shards.id AND state = 'running'
                            AND coalesce(polled_at, submitted_at)
                                < clock_timestamp() - make_interval(secs => %(seconds)s))
                    ORDER BY id FOR UPDATE)
                UPDATE shards SET {WOKEN} WHERE id IN (SELECT id FROM stale) RETURNING id""",
            {"id": batch_id, "seconds": seconds},
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def wake_waiting(self, file_id: str) -> list[str]:
        """Make every waiting shard of all lines of this file due: their input changed. Returns their ids."""
        cursor = await self._connection.execute(
            f"""WITH waiting AS (
                    SELECT shards.id FROM shards JOIN batches b ON b.id = batch_id
                    WHERE b.input_file_id = %s AND b.due_at IS NOT NULL AND state = 'waiting' AND selection = ''
                    ORDER BY shards.id FOR UPDATE OF shards)
                UPDATE shards SET {WOKEN} WHERE id IN (SELECT id FROM waiting) RETURNING id""",
            (file_id,),
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def claim(self, shard_id: str, lease: str, seconds: int) -> ShardRow | None:
        """Take a due shard for `seconds`; `None` if it has ended, is not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE shards SET {_CLAIMED}
            WHERE id = %(id)s AND due_at <= now() AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {COLUMNS}"""
        return await fetch_one(self._connection, ShardRow, query, {"id": shard_id, "lease": lease, "seconds": seconds})

    async def claim_due(self, lease: str, seconds: int, limit: int) -> list[ShardRow]:
        """Take up to `limit` due shards with a running job for this long; those due longest come first.

        The deployments take turns, each with the shard that has been due longest, so that none crowds out the others.
        Each CTE is read once, also where Postgres has no statistics of the tables yet and expects a single row.
        """
        query: LiteralString = f"""
            WITH due AS MATERIALIZED (
                SELECT s.id, s.due_at, row_number() OVER (PARTITION BY j.deployment_id ORDER BY s.due_at) AS turn
                FROM jobs j JOIN shards s ON s.id = j.shard_id
                WHERE j.state = 'running' AND s.due_at <= now() AND {_FREE}
            ), first AS MATERIALIZED (
                SELECT id FROM due ORDER BY turn, due_at LIMIT %(limit)s
            ), free AS MATERIALIZED (
                SELECT s.id FROM shards s WHERE s.id IN (SELECT id FROM first) AND s.due_at <= now() AND {_FREE}
                FOR UPDATE SKIP LOCKED
            )
            UPDATE shards SET {_CLAIMED} WHERE id IN (SELECT id FROM free) RETURNING {COLUMNS}"""
        rows = await fetch_all(self._connection, ShardRow, query, {"lease": lease, "seconds": seconds, "limit": limit})
        return sorted(rows, key=lambda row: row.due_for, reverse=True)

    async def due(self, limit: int) -> list[str]:
        """Shards without a running job that are 15 s overdue; `limit` ids at most.

        Their message was lost, or their worker died.
        """
        cursor = await self._connection.execute(
            """SELECT id FROM shards
               WHERE due_at <= now() - interval '15 seconds' AND (leased_until IS NULL OR leased_until <= now())
                   AND NOT EXISTS (SELECT 1 FROM jobs WHERE shard_id = shards.id AND state = 'running')
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def release(self, pauses: Sequence[tuple[ShardRow, float]]) -> set[str]:
        """Give the leases back; the next step of each shard is due after its pause in seconds.

        Returns the shards (ids) that are due now, by a pause of 0 or because they were woken meanwhile.
        """
        cursor = await self._connection.execute(
            f"""WITH held AS (
                    SELECT id, pause FROM unnest(%s::text[], %s::text[], %s::float8[]) AS given (shard_id, held, pause)
                    JOIN shards ON id = shard_id AND lease = held AND due_at IS NOT NULL
                    ORDER BY id FOR UPDATE OF shards)
                UPDATE shards SET {RELEASED},
                    due_at = CASE WHEN woken_at > leased_at THEN now() ELSE now() + make_interval(secs => pause) END
                FROM held WHERE shards.id = held.id RETURNING shards.id, due_at <= now()""",
            (
                [shard.id for shard, _ in pauses],
                [shard.lease for shard, _ in pauses],
                [float(pause) for _, pause in pauses],
            ),
        )
        return {shard_id for shard_id, is_due in await cursor.fetchall() if is_due}
