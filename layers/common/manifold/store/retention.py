"""The deletion of old rows: ended batches with their jobs and usage, then purged files with their inputs and uploads.

Each method is one statement. It locks the rows that it deletes, and skips those that another sweep has locked. A row
that is open, or that a remaining row refers to, is not deleted, nor a batch whose event is still to be sent, or whose
shards may have copies at providers, or whose cost is not in the sums of spend yet.
"""

from typing import LiteralString

from manifold.store.connection import Connection
from manifold.store.job_states import OPEN

_BATCHES: LiteralString = f"""
    WITH old AS (
        SELECT id FROM batches WHERE due_at IS NULL
            AND coalesce(completed_at, failed_at, expired_at, cancelled_at) < now() - make_interval(secs => %(seconds)s)
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = batches.id AND {OPEN})
            AND NOT EXISTS (SELECT 1 FROM shards s JOIN inputs i ON i.shard_id = s.id WHERE s.batch_id = batches.id
                AND (i.state <> 'discarded' OR i.doubtful_at IS NOT NULL))
            AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.batch_id = batches.id AND d.status = 'pending')
            AND NOT EXISTS (SELECT 1 FROM usage WHERE batch_id = batches.id
                AND usage.created_at >= spend_summed_until())
        ORDER BY coalesce(completed_at, failed_at, expired_at, cancelled_at) LIMIT %(many)s FOR UPDATE SKIP LOCKED
    ), spent AS (
        DELETE FROM usage USING old WHERE usage.batch_id = old.id
    ), submitted AS (
        DELETE FROM jobs USING old WHERE jobs.batch_id = old.id
    ), gone AS (
        DELETE FROM batches USING old WHERE batches.id = old.id RETURNING 1
    )
    SELECT count(*) FROM gone"""
_FILES: LiteralString = """
    WITH old AS (
        SELECT id FROM files f WHERE purged_at < now() - make_interval(secs => %(seconds)s)
            AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.input_file_id = f.id)
            AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.output_file_id = f.id)
            AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.error_file_id = f.id)
            AND NOT EXISTS (SELECT 1 FROM inputs i WHERE i.file_id = f.id AND (i.state <> 'discarded'
                OR i.doubtful_at IS NOT NULL OR EXISTS (SELECT 1 FROM jobs j WHERE j.input_id = i.id)))
            AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.file_id = f.id
                AND (u.status = 'pending' OR u.due_at IS NOT NULL))
        ORDER BY purged_at LIMIT %(many)s FOR UPDATE SKIP LOCKED
    ), brought AS (
        DELETE FROM inputs USING old WHERE inputs.file_id = old.id
    ), parts AS (
        DELETE FROM upload_parts USING uploads u, old WHERE upload_parts.upload_id = u.id AND u.file_id = old.id
    ), joined AS (
        DELETE FROM uploads USING old WHERE uploads.file_id = old.id
    ), gone AS (
        DELETE FROM files USING old WHERE files.id = old.id RETURNING 1
    )
    SELECT count(*) FROM gone"""


class Retention:
    """Deletes old rows. The schedule's sweep calls it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def forget_batches(self, older_than_seconds: float, many: int) -> int:
        """Delete up to `many` batches that ended longer ago; returns how many. Their cost stays in the spend."""
        return await self._forget(_BATCHES, older_than_seconds, many)

    async def forget_files(self, older_than_seconds: float, many: int) -> int:
        """Delete up to `many` files that were purged longer ago and that no batch names; returns how many."""
        return await self._forget(_FILES, older_than_seconds, many)

    async def _forget(self, query: LiteralString, seconds: float, many: int) -> int:
        cursor = await self._connection.execute(query, {"seconds": seconds, "many": many})
        row = await cursor.fetchone()
        return int(row[0]) if row else 0
