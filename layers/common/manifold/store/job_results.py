"""Fetching the results of ended jobs, by a worker that moves bytes, under a lease of the job's own: ended → stored."""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold import storable
from manifold.store.batches import WOKEN
from manifold.store.connection import Connection
from manifold.store.jobs import COLUMNS, JobRow
from manifold.store.queries import changes_one, fetch_one


class ResultFiles(NamedTuple):
    """The result files that a provider names (`…_ref`), the ids of our copies of them, and its count of results."""

    output_ref: str | None
    error_ref: str | None
    output_file_id: str | None
    error_file_id: str | None
    answers: int


class JobResults:
    """Leases on ended jobs, and what their holder writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def claim(self, job_id: str, lease: str, seconds: int) -> JobRow | None:
        """Take an ended job for `seconds`; `None` if its results are stored, not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE jobs SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = attempts + 1
            WHERE id = %(id)s AND state = 'ended' AND due_at <= now()
                AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {COLUMNS}"""
        return await fetch_one(self._connection, JobRow, query, {"id": job_id, "lease": lease, "seconds": seconds})

    async def renew(self, job: JobRow, seconds: float) -> bool:
        """Keep the lease for `seconds` from now; false if it is lost."""
        return await changes_one(
            self._connection,
            """UPDATE jobs SET leased_until = clock_timestamp() + make_interval(secs => %s)
               WHERE id = %s AND state = 'ended' AND lease = %s""",
            (seconds, job.id, job.lease),
        )

    async def stored(self, job: JobRow, results: Mapping[str, Any]) -> tuple[bool, bool]:
        """ended → stored, by the holder of the lease, and its shard is due. Returns whether it was stored, and whether
        its shard is open."""
        cursor = await self._connection.execute(
            f"""WITH job AS (
                    UPDATE jobs SET state = 'stored', results = %s, error = NULL, due_at = NULL, lease = NULL,
                        leased_until = NULL
                    WHERE id = %s AND state = 'ended' AND lease = %s RETURNING shard_id
                ), shard AS (
                    UPDATE shards SET {WOKEN} FROM job WHERE id = job.shard_id AND due_at IS NOT NULL RETURNING 1
                )
                SELECT EXISTS (SELECT 1 FROM job), EXISTS (SELECT 1 FROM shard)""",
            (Jsonb(storable.value(dict(results))), job.id, job.lease),
        )
        [(stored, woken)] = await cursor.fetchall()
        return stored, woken

    async def retry(
        self,
        job: JobRow,
        error: str,
        seconds: float,
        *,
        kept: Mapping[str, int] | None = None,
        mismatch: bool = False,
    ) -> bool:
        """Give the lease back; the next attempt is due after `seconds`.

        `kept` counts the lines that are in S3 by now; `mismatch`: the results are not what was announced.
        """
        return await changes_one(
            self._connection,
            """UPDATE jobs SET error = %s, due_at = now() + make_interval(secs => %s), lease = NULL,
                   leased_until = NULL, doubted_at = CASE WHEN %s THEN coalesce(doubted_at, now()) ELSE doubted_at END,
                   kept = coalesce(%s, kept)
               WHERE id = %s AND state = 'ended' AND lease = %s""",
            (storable.text(error), seconds, mismatch, Jsonb(dict(kept)) if kept else None, job.id, job.lease),
        )

    async def named(self, job: JobRow, files: ResultFiles) -> bool:
        """Note result files that the provider named late, and its new count. A file that was named before stays."""
        return await changes_one(
            self._connection,
            """UPDATE jobs SET answers = %(answers)s,
                   output_ref = coalesce(output_ref, %(output_ref)s), error_ref = coalesce(error_ref, %(error_ref)s),
                   output_file_id = coalesce(output_file_id, %(output)s),
                   error_file_id = coalesce(error_file_id, %(error)s)
               WHERE id = %(id)s AND state = 'ended' AND lease = %(lease)s""",
            {
                "answers": files.answers,
                "output_ref": files.output_ref,
                "error_ref": files.error_ref,
                "output": files.output_file_id,
                "error": files.error_file_id,
                "id": job.id,
                "lease": job.lease,
            },
        )

    async def due(self, limit: int) -> list[str]:
        """Jobs whose results are 15 s overdue and that nobody holds; `limit` ids at most."""
        cursor = await self._connection.execute(
            """SELECT id FROM jobs WHERE due_at <= now() - interval '15 seconds'
                   AND (leased_until IS NULL OR leased_until <= now())
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [job_id for (job_id,) in await cursor.fetchall()]
